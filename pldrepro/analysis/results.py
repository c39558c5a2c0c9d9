"""The finished runs of a study: its arms by role, their costs and checkpoints, read from index.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from pldrepro.analysis import glue_scores
from pldrepro.analysis.interpolation import first_at_or_below, value_at
from pldrepro.config.arm import ArmTags, Role
from pldrepro.config.run import RunSettings
from pldrepro.runs.folder import (
    ContrastsRun,
    EarlyRun,
    FinetuneRun,
    LambadaRun,
    PretrainRun,
    ProbeRun,
)
from pldrepro.runs.schema import Costs, PretrainSummary
from pldrepro.runs.step_times import Calibration, InterleaveRun, StepTimes

AXES: dict[str, str] = {
    "samples": "samples",
    "flops": "FLOPs",
    "reference_time": "reference time",
    "measured_time": "measured time",
}
_FIELDS = {"samples": "samples", "flops": "flops", "measured_time": "train_seconds"}


@dataclass(frozen=True)
class Evidence:
    """All finished runs of a study; arms stand in the order in which their runs were given."""

    pretrain: tuple[PretrainRun, ...]
    finetune: tuple[FinetuneRun, ...] = ()
    calibration: Calibration | None = None
    scores: pd.DataFrame | None = None
    probes: tuple[ProbeRun, ...] = ()
    lambada: tuple[LambadaRun, ...] = ()
    contrasts: tuple[ContrastsRun, ...] = ()
    interleaved: tuple[InterleaveRun, ...] = ()
    """Processes in which steps of some arms were measured in turn."""
    early: tuple[EarlyRun, ...] = ()
    """Runs of their own that were probed early in training; of a depth of their own, too."""
    tags: Mapping[str, ArmTags] = field(default_factory=dict)
    """What the arms' YAML says of them, of arms without runs here, too; an arm that is not in it has no role."""
    others: tuple[Evidence, ...] = ()
    """The studies of other families of models that are shown with this one."""

    @property
    def family(self) -> str:
        """Family of models: bert, gpt, swinv2 or vit."""
        return self.pretrain[0].family

    def of(self, *families: str) -> Evidence | None:
        """The first study of one of these families, this one or one of the others; None where there is none."""
        return next(iter(self.all_of(*families)), None)

    def all_of(self, *families: str) -> list[Evidence]:
        """Every study of these families, this one and the others."""
        return [one for one in (self, *self.others) if one.family in families]

    @cached_property
    def arms(self) -> list[str]:
        """Names of the arms that were trained."""
        return list(dict.fromkeys(run.arm for run in self.pretrain if run.summary.steps))

    @cached_property
    def untrained(self) -> list[str]:
        """Names of the arms whose model stayed as initialised: what an evaluation gives without pre-training."""
        return list(dict.fromkeys(run.arm for run in self.pretrain if not run.summary.steps))

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return self.arm_with_role("baseline")

    @property
    def pld(self) -> str:
        """The arm that is PLD."""
        return self.arm_with_role("pld")

    @property
    def sbld(self) -> str:
        """The arm that is SBLD."""
        return self.arm_with_role("sbld")

    def arm_with_role(self, role: Role) -> str:
        """The arm of a role: of this study, else one without runs here, else an empty name."""
        return next(iter(self.arms_with_role(role)), "")

    def arms_with_role(self, role: Role) -> list[str]:
        """The arms of a role: those of this study, then those without runs here."""
        return [arm for arm in dict.fromkeys([*self.arms, *self.tags]) if self.role(arm) == role]

    def role(self, arm: str) -> str | None:
        """What an arm is in the comparisons of the papers."""
        return self.tags[arm].role if arm in self.tags else None

    def paper_arm(self, arm: str) -> str:
        """An arm's name in the papers' tables: this study's baseline and PLD stand for theirs."""
        return {self.baseline: "baseline", self.pld: "pld"}.get(arm, arm)

    def treatment(self, arm: str) -> str | None:
        """What an arm of a grid of epochs x treatment does against overfitting."""
        return self.tags[arm].treatment if arm in self.tags else None

    def shown_in(self, exhibit: str) -> dict[str, int]:
        """The arms of this study that name an exhibit, with their places in it, first to last."""
        return {arm: place for arm, place in self._naming("exhibits", exhibit).items() if arm in self.arms}

    def missing_in(self, exhibit: str) -> list[str]:
        """The arms that name an exhibit and have no runs here, by their places in it."""
        return [arm for arm in self._naming("exhibits", exhibit) if arm not in self.arms]

    def asked_in(self, question: str) -> list[str]:
        """The arms that a paper's question is about, by their places in its answer; of arms without runs here, too."""
        return list(self._naming("questions", question))

    def _naming(self, kind: Literal["exhibits", "questions"], name: str) -> dict[str, int]:
        named = {arm: getattr(self.tags[arm], kind) for arm in (*self.arms, *self.tags) if arm in self.tags}
        places = {arm: places[name] for arm, places in named.items() if name in places}
        return dict(sorted(places.items(), key=lambda item: item[1]))

    @property
    def scale(self) -> str:
        """Name of the scale."""
        return self.pretrain[0].summary.scale

    @property
    def methods(self) -> list[str]:
        """The arms that stand for methods: without those cut to another arm's budget and those on a cut corpus."""
        return [arm for arm in self.arms if self.budget(arm) is None and self.epochs(arm) is None]

    def budget(self, arm: str) -> tuple[str, str] | None:
        """(arm, checkpoint) at whose reference time this arm ends with its learning rate decayed; None: no such arm."""
        budget = self.runs(arm)[0].settings.budget
        return None if budget is None else (budget.arm, budget.checkpoint)

    def epochs(self, arm: str) -> float | None:
        """Epochs that an arm makes of a corpus cut for it; None: it reads the whole corpus."""
        return self.runs(arm)[0].settings.training.epochs

    def matched_depth(self, arm: str) -> str | None:
        """The arm whose mean kept depth this one was matched to."""
        return self.runs(arm)[0].settings.matched_depth

    def label(self, arm: str) -> str:
        """An arm's name for people."""
        return next(run.label for run in self.pretrain if run.arm == arm)

    def runs(self, arm: str) -> list[PretrainRun]:
        """The runs of an arm, by seed."""
        return list(self._runs.get(arm, ()))

    @cached_property
    def _runs(self) -> dict[str, list[PretrainRun]]:
        runs: dict[str, list[PretrainRun]] = {}
        for run in sorted(self.pretrain, key=lambda run: run.seed):
            runs.setdefault(run.arm, []).append(run)
        return runs

    def pairs(self, arm: str, other: str) -> list[tuple[PretrainRun, PretrainRun]]:
        """The runs of two arms that share a seed."""
        others = {run.seed: run for run in self.runs(other)}
        return [(run, others[run.seed]) for run in self.runs(arm) if run.seed in others]

    def checkpoints(self, arm: str) -> list[str]:
        """Names of an arm's checkpoints, in order of time."""
        points = self.runs(arm)[0].summary.checkpoints
        return sorted(points, key=lambda name: points[name].step)

    def final_checkpoint(self, arm: str) -> str:
        """Name of the checkpoint at the end of an arm's run."""
        return self.checkpoints(arm)[-1]

    def undropped_twin(self, arm: str) -> str | None:
        """The arm that differs from this one by not dropping layers, and in nothing else."""
        target = self.runs(arm)[0].settings
        for other in self.arms:
            settings = self.runs(other)[0].settings
            if settings.drop.schedule == "none" != target.drop.schedule and _but_drop(settings) == _but_drop(target):
                return other
        return None

    @property
    def theta_arms(self) -> dict[str, float]:
        """Arm -> theta_bar, smallest first: PLD and the arms that differ from it in theta_bar only."""
        if self.pld not in self.arms:
            return {}

        def but_theta(arm: str) -> tuple[Any, ...]:
            settings = self.runs(arm)[0].settings
            others = settings.drop.model_copy(update={"theta_bar": None})
            return *_but_drop(settings), others

        same = [arm for arm in self.methods if but_theta(arm) == but_theta(self.pld)]
        limits = {arm: float(self.runs(arm)[0].settings.drop.theta_bar) for arm in same}
        return dict(sorted(limits.items(), key=lambda item: item[1]))

    @cached_property
    def selected_scores(self) -> pd.DataFrame:
        """The scores at the selected learning rates (``glue_scores.selected``); no rows where nothing was scored."""
        return glue_scores.selected(
            pd.DataFrame(columns=list(glue_scores.COLUMNS)) if self.scores is None else self.scores
        )

    @cached_property
    def glue_values(self) -> dict[tuple[str, int, str], dict[str, float]]:
        """(arm, seed, checkpoint) -> name of the value -> median over fine-tuning seeds, in percent."""
        values: dict[tuple[str, int, str], dict[str, float]] = {}
        for row in glue_scores.cells(self.selected_scores).to_dict("records"):
            values.setdefault((row["arm"], row["seed"], row["checkpoint"]), {})[row["value_name"]] = row["value"]
        return values

    @cached_property
    def glue_sizes(self) -> dict[str, int]:
        """Name of each value of GLUE -> the number of examples that it is over."""
        if self.scores is None:
            return {}
        sizes = self.scores.groupby(["task", "split", "metric"])["n"].min().to_dict()
        return {name: int(sizes[parts]) for name, parts in glue_scores.VALUES.items() if parts in sizes}

    @cached_property
    def finetuned(self) -> list[tuple[str, str]]:
        """(arm, checkpoint) of everything that was fine-tuned, the untrained first, checkpoints in order of time."""
        there = {(arm, checkpoint) for arm, _, checkpoint in self.glue_values}
        arms = (*self.untrained, *self.arms)
        return [(arm, name) for arm in arms for name in self.checkpoints(arm) if (arm, name) in there]

    def quality(self, run: PretrainRun, name: str) -> float | None:
        """What a finished run is good for: a number of its last validation, or of LAMBADA; None where there is none.

        Names: loss, accuracy, top5; lambada_accuracy, lambada_perplexity. Accuracies are shares.
        """
        if not name.startswith("lambada_"):
            return getattr(run.summary, f"validation_{name}")
        for scored in self.lambada:
            if (scored.summary.arm, scored.summary.seed) == (run.arm, run.seed):
                return getattr(scored.summary.checkpoints[self.final_checkpoint(run.arm)], name)
        return None

    @property
    def probed(self) -> list[str]:
        """Names of the arms whose checkpoints were probed, as given."""
        there = {run.summary.arm for run in self.probes}
        return [arm for arm in self.arms if arm in there]

    @cached_property
    def probe_results(self) -> pd.DataFrame:
        """Every number of every probe (see ``pldrepro.evaluation.probe``), with its arm, seed and share of the run."""
        return _numbers(self.probes)

    @cached_property
    def early_results(self) -> pd.DataFrame:
        """Every number of the runs that were probed early in training, as in ``probe_results``."""
        return _numbers(self.early)

    def cost(self, run: PretrainRun, axis: str, checkpoint: str | None = None) -> float | None:
        """What a run had spent on an axis at a checkpoint (none: at its end); None where it was not measured."""
        return self.cost_at(run, axis, run.summary if checkpoint is None else run.summary.checkpoints[checkpoint])

    def measured(self, axis: str) -> bool:
        """Whether every run has its cost on an axis."""
        return all(self.cost(run, axis) is not None for run in self.pretrain)

    @cached_property
    def clock(self) -> str:
        """The axis of time that every run has: reference time, else measured time."""
        return "reference_time" if self.measured("reference_time") else "measured_time"

    def cost_at(self, run: PretrainRun, axis: str, point: Costs | PretrainSummary) -> float | None:
        """What a run had spent on an axis at a checkpoint, a line of its metrics, or its end."""
        if axis == "reference_time":
            return self.reference_seconds(run, point)
        return float(getattr(point, _FIELDS[axis]))

    def reference_seconds(self, run: PretrainRun, point: Costs | PretrainSummary) -> float | None:
        """Reference seconds of a run up to a point.

        The whole run costs sum over k of (passes with k layers) x tau(k), see ``StepTimes.price``. Up to a point inside
        it the linear fit of tau prices the layers kept so far, scaled so that the end of the run has exactly that
        cost; an analysis of sensitivity counts from where it was done. Without a calibration: what the run itself
        recorded, if anything.
        """
        if self.calibration is None or not run.summary.steps:
            return point.reference_seconds
        shape = self._shapes[run.arm, run.seed]
        counts = run.summary.passes_by_kept_layers
        passes, kept = sum(counts.values()), run.kept_layers[1][-1]
        fit, step, steps = shape.fit, point.step, run.summary.steps
        so_far = fit.intercept * passes * step / steps + fit.slope * np.interp(step, *run.kept_layers)
        training = shape.price(counts, run.summary.passes_by_layer)
        analysis = shape.price({}, [0] * shape.num_layers, point.analysis_passes)
        return float(training * so_far / (fit.intercept * passes + fit.slope * kept) + analysis)

    @cached_property
    def _shapes(self) -> dict[tuple[str, int], StepTimes]:
        """The step times of each run that was trained."""
        trained = [run for run in self.pretrain if run.summary.steps]
        return {(run.arm, run.seed): self.calibration.shape_of(run) for run in trained} if self.calibration else {}

    def first_at(self, run: PretrainRun, loss: float, axis: str) -> float | None:
        """Cost at which a run's validation loss first reaches ``loss``, linear between validations; None: never."""
        return first_at_or_below(((self.cost_at(run, axis, line), line.loss) for line in run.validation), loss)

    def loss_at(self, run: PretrainRun, cost: float | None, axis: str) -> float | None:
        """Validation loss of a run in mid-schedule, at a cost; linear between validations, None outside of them."""
        return value_at([(self.cost_at(run, axis, line), line.loss) for line in run.validation], cost)


def _but_drop(settings: RunSettings) -> tuple[Any, ...]:
    """What a run was made with but for its policy; GLUE's examples may differ, pre-training does not read them."""
    return settings.model, settings.data.without_glue, settings.training, settings.impl


def _numbers(probes: Sequence[ProbeRun | EarlyRun]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **{key: getattr(run.summary, key) for key in ("arm", "label", "seed", "norm", "num_layers")},
            "share": run.summary.checkpoints[row.checkpoint].share,
            **row.dump(),
        }
        for run in probes
        for row in run.results
    )
