"""Settings: strict, typed, and the only way in which a study is described.

A *study* is one file (``config/<study>.yaml``) over the experiments of a folder in ``config/experiments`` (an arm or a
grid of arms each). ``load_study`` resolves both into a ``Study``; ``Study.run`` gives the complete ``RunSettings`` of
one pre-training run. Unknown keys are refused with their path and the names that are allowed there. Five groups make up
a run: model, data, training, drop (the science) and impl (how it is executed).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pldrepro.config.arm import ROLES, Role
from pldrepro.config.base import merge, read_mapping, validate
from pldrepro.config.contrasts import ContrastSettings, read_paradigms
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.experiment import EXPERIMENTS_FOLDER, BudgetOf, DepthMatch, arm_tags, experiment_chain
from pldrepro.config.model import VisionSettings
from pldrepro.config.narrow import narrowed
from pldrepro.config.recorded import ResultSet, StudyRuns
from pldrepro.config.run import (
    Budget,
    CalibrationJob,
    EarlyRunSettings,
    EarlySettings,
    FinetuneSettings,
    ImplSettings,
    InterleaveJob,
    RunSettings,
)
from pldrepro.config.scale import StudySettings
from pldrepro.errors import SettingsError
from pldrepro.policy.drop import is_analysed, match_depth, mean_expected_depth, warmup_steps

ONE_PROCESS = {"impl": {"ranks": 1, "nodes": 1}}


class Study:
    """A study's file resolved over its experiments: knows every run and its settings."""

    def __init__(self, settings: StudySettings) -> None:
        self.results = settings.results or f"results/{settings.scale}"
        self.runs = f"{self.results}/runs"
        self._experiments = EXPERIMENTS_FOLDER / settings.experiments
        settings, self.notes = narrowed(settings, self._experiments)
        self.settings = settings
        self._arms: dict[str, RunSettings] = {}
        self._runs: dict[tuple[str, int], RunSettings] = {}
        self.companions = tuple(self._companion(name, Path(file)) for name, file in settings.companions.items())
        self._roles = {arm: experiment_chain(arm, self._experiments)[-1].role for arm in settings.arms}
        self._check_roles()
        for arm in settings.arms:
            self._check_arm(arm)
        self._check_finetuned()
        for arm, seed in self.early_runs():
            self.early_run(arm, seed)
        if settings.interleave is not None:
            self._check_interleaved()
        self._check_contrasts()

    def _check_interleaved(self) -> None:
        """Steps are measured without training: of arms whose gates follow from their settings."""
        for run in self.interleave_job().runs:
            if is_analysed(run.drop, warmup_steps(run.drop, run.training.num_steps), run.training.num_steps):
                raise SettingsError(f"interleave.arms: {run.arm} ranks its layers while it trains; allowed: other arms")

    def _check_roles(self) -> None:
        """A baseline is needed, and an arm of another role can be there once."""
        for role in ROLES:
            arms = [arm for arm, own in self._roles.items() if own == role]
            if len(arms) > 1 and role != "control":
                raise SettingsError(f"arms: expected one arm of role {role}, got {', '.join(arms)}")
        if self.arm_with_role("baseline") is None:
            raise SettingsError(f"arms: expected one of role baseline, got {', '.join(self.settings.arms)}")

    def _check_finetuned(self) -> None:
        """What the study fine-tunes exists: a name that no arm has would leave fine-tuning out without a word."""
        chosen = self.settings.finetune_checkpoints or ()
        names = {name for own in chosen.values() for name in own} if isinstance(chosen, dict) else set(chosen)
        first = self.settings.seeds[0]
        known = {name for arm in self.settings.arms for name in self.run(arm, first).training.checkpoint_steps()}
        if unknown := sorted(names - known):
            raise SettingsError(f"finetune_checkpoints: {', '.join(unknown)} not among {', '.join(sorted(known))}")

    def arm_with_role(self, role: Role) -> str | None:
        """The arm that has a role in the comparisons of the papers."""
        return next((arm for arm, own in self._roles.items() if own == role), None)

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return self.arm_with_role("baseline") or ""

    def _companion(self, name: str, file: Path) -> Study:
        """The study of another family of models, with its results and its data next to those of this one."""
        values = {**read_study(file), "results": f"{self.results}/{name}"}
        if self.settings.data_root is not None:
            values["data_root"] = self.settings.data_root
        if values.get("companions"):
            raise SettingsError(f"{file}: a companion has companions of its own; allowed: none")
        return Study(validate(StudySettings, values, str(file)))

    @property
    def all(self) -> tuple[Study, ...]:
        """This study and its companions."""
        return (self, *self.companions)

    def _check_arm(self, arm: str) -> None:
        run = self.run(arm, self.settings.seeds[0])
        known = run.training.checkpoint_steps()
        unknown = set(self.finetune_checkpoints(arm)) - set(known)
        if unknown:
            raise SettingsError(
                f"experiment {arm}: finetune_checkpoints: {', '.join(sorted(unknown))} not among {', '.join(known)}"
            )
        if isinstance(run.data, ImageDataSettings) or isinstance(run.model, VisionSettings):
            return
        lengths = {"data": run.data.sequence_length}
        if run.model.family == "bert":
            lengths["finetune"] = self.settings.finetune.sequence_length
        for group, length in lengths.items():
            if length > run.model.max_positions:
                raise SettingsError(
                    f"{group}.sequence_length {length} exceeds model.max_positions {run.model.max_positions}"
                )
        if run.data.vocabulary is None and run.data.vocab_size > run.model.vocab_size:
            raise SettingsError(
                f"data.vocab_size {run.data.vocab_size} does not fit model.vocab_size {run.model.vocab_size}"
            )

    def _check_contrasts(self) -> None:
        """Contrasts are for models of text; their lists of paradigms and their checkpoints must be there."""
        contrasts = self.settings.contrasts
        if contrasts is None:
            return
        if self.data().kind != "text":
            raise SettingsError("contrasts: allowed for models of text")
        known = self.run(self.baseline, self.settings.seeds[0]).training.checkpoints
        if unknown := sorted(set(contrasts.checkpoints or ()) - set(known)):
            raise SettingsError(f"contrasts.checkpoints: {', '.join(unknown)} not among {', '.join(known)}")
        for name in contrasts.lists:
            read_paradigms(Path(name))

    def run(self, arm: str, seed: int) -> RunSettings:
        """The settings of one pre-training run; complete, but for the steps of an arm with a budget (see Budget).

        An arm is resolved once: its runs differ only by their seeds, and a plan asks for thousands of them.
        """
        if (arm, seed) not in self._runs:
            if arm not in self._arms:
                self._arms[arm] = self._resolve(arm, seed)
            if seed < 0:  # a copy is not validated
                raise SettingsError(f"{self._origin(arm)}: seed: allowed: 0 or more, got {seed}")
            self._runs[arm, seed] = self._arms[arm].model_copy(update={"seed": seed})
        return self._runs[arm, seed]

    def _origin(self, arm: str) -> str:
        return f"study {self.settings.scale}, experiment {arm}"

    def early_run(self, arm: str, seed: int) -> EarlyRunSettings:
        """The settings of a run that is probed early in training; one process trains it."""
        early = self.settings.early
        assert early is not None
        own = {"model": early.model, "training": early.training, **ONE_PROCESS}
        run = self._resolve(arm, seed, own)
        settings = {name: getattr(early, name) for name in EarlySettings.model_fields}
        return validate(EarlyRunSettings, {**run.model_dump(), "early": settings}, self._origin(arm))

    def _resolve(self, arm: str, seed: int, own: Mapping[str, Any] | None = None) -> RunSettings:
        """The settings of an arm: those of the scale, of its experiments, and what follows from other arms.

        own: groups of settings that are laid over those of the scale.
        """
        chain = experiment_chain(arm, self._experiments)
        merged: dict[str, Any] = {**merge(self.settings.settings.model_dump(), own or {}), "drop": {}}
        for experiment in chain:
            merged = merge(merged, {"model": experiment.model, "training": experiment.training})
            merged["drop"] = experiment.drop or merged["drop"]
        about = {"scale": self.settings.scale, "arm": arm, "label": chain[-1].label, "seed": seed}
        origin = self._origin(arm)
        run = validate(RunSettings, {**about, **merged}, origin)
        changes: dict[str, Any] = {}
        if match := chain[-1].match_depth:
            changes |= self._match(run, match, origin)
        if budget := chain[-1].budget:
            changes |= self._budget(run, budget, origin)
        return validate(RunSettings, run.model_copy(update=changes).model_dump(), origin)

    def _match(self, run: RunSettings, match: DepthMatch, origin: str) -> dict[str, Any]:
        """What changes in a run so that it keeps as many layers on average as another arm."""
        other = self._other(match.arm, run.seed, origin)
        depth = mean_depth(other.drop, other.training.num_steps, other.model.num_layers)
        if match.by == "num_layers":
            if isinstance(run.model, VisionSettings):
                raise SettingsError(f"{origin}: match_depth.by num_layers: allowed for models of text")
            model = run.model.model_copy(update={"num_layers": max(1, round(depth))})
            return {"model": model, "matched_depth": match.arm}
        try:
            drop = match_depth(run.drop, depth, run.training.num_steps, run.model.num_layers)
        except ValueError as error:
            raise SettingsError(f"{origin}: match_depth: {error}") from None
        return {"drop": drop, "matched_depth": match.arm}

    def _budget(self, run: RunSettings, budget: BudgetOf, origin: str) -> dict[str, Any]:
        """The budget of a run, and a first guess of its steps: those of the other arm."""
        other = self._other(budget.arm, run.seed, origin)
        steps = other.training.checkpoint_steps()
        if budget.checkpoint not in steps:
            raise SettingsError(f"{origin}: budget.checkpoint: allowed: {', '.join(steps)}")
        until, layers = steps[budget.checkpoint], other.model.num_layers
        kept = mean_depth(other.drop, other.training.num_steps, layers, until)
        whole = Budget(
            arm=budget.arm, checkpoint=budget.checkpoint, model=other.model, num_steps=until, kept_layers=kept
        )
        return {"budget": whole, "training": run.training.model_copy(update={"num_steps": until})}

    def _other(self, arm: str, seed: int, origin: str) -> RunSettings:
        """The run that another one is matched to."""
        chain = experiment_chain(arm, self._experiments)
        if chain[-1].match_depth or chain[-1].budget:
            raise SettingsError(f"{origin}: {arm} is itself matched to another arm; allowed: an arm that is not")
        return self.run(arm, seed)

    def data(self) -> DataSettings | ImageDataSettings:
        """The data settings, which all arms share, with the folder and the hashes that only the preparation needs."""
        data, study = self.run(self.baseline, self.settings.seeds[0]).data, self.settings
        own = {"root": study.data_root, "hash": study.data_hash, "glue_hash": study.glue_hash}
        given = {key: value for key, value in own.items() if value is not None and key in type(data).model_fields}
        return data.model_copy(update=given)

    def calibration_job(self) -> CalibrationJob:
        """A run of every model shape: that of the first arm which has it, so that an arm more measures nothing anew."""
        runs: dict[Any, RunSettings] = {}
        for arm in self.settings.arms:
            run = self.run(arm, self.settings.seeds[0])
            runs.setdefault(run.model, run)
        return CalibrationJob(runs=tuple(runs.values()), calibration=self.settings.calibration)

    def interleave_job(self) -> InterleaveJob:
        """The runs whose steps are measured in turn; one process takes the steps of each."""
        settings = self.settings.interleave
        assert settings is not None
        runs = tuple(self._resolve(arm, self.settings.seeds[0], ONE_PROCESS) for arm in settings.arms)
        return InterleaveJob(runs=runs, interleave=settings)

    @property
    def prepared(self) -> str:
        """Name of the folder of prepared data that the runs are trained on."""
        return "images" if self.data().kind == "images" else "corpus"

    @property
    def impl(self) -> ImplSettings:
        """How the runs are executed, the same for all arms."""
        return self.run(self.baseline, self.settings.seeds[0]).impl

    @property
    def contrasts(self) -> ContrastSettings:
        """The settings of contrasts; a study without them is a SettingsError."""
        if self.settings.contrasts is None:
            raise SettingsError(f"study {self.settings.scale}: no contrasts")
        return self.settings.contrasts

    @property
    def finetune(self) -> FinetuneSettings:
        """The settings of fine-tuning; without next-sentence prediction, which trains [CLS], tokens are averaged."""
        own, training = self.settings.finetune, self.run(self.baseline, self.settings.seeds[0]).training
        if self.family != "bert" or training.next_sentence or "pooling" in own.model_fields_set:
            return own
        values = {**own.model_dump(exclude_unset=True), "pooling": "mean"}
        return validate(FinetuneSettings, values, f"study {self.settings.scale}, finetune")

    def finetune_checkpoints(self, arm: str) -> tuple[str, ...]:
        """Names of the checkpoints of an arm that are fine-tuned."""
        names: tuple[str, ...] = (self.run(arm, self.settings.seeds[0]).training.final_checkpoint,)
        for experiment in reversed(experiment_chain(arm, self._experiments)):
            if experiment.finetune_checkpoints is not None:
                names = experiment.finetune_checkpoints
                break
        only = self.settings.finetune_checkpoints
        if isinstance(only, dict):
            only = only.get(arm, ())
        return names if only is None else tuple(name for name in names if name in only)

    def pretrain_runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every pre-training run."""
        return [(arm, seed) for seed in self.settings.seeds for arm in self.settings.arms]

    def result_set(self) -> ResultSet:
        """The runs of this study and of its companions, finished or to be."""
        return ResultSet(self.results, tuple(study.study_runs() for study in self.all))

    def early_runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run that is probed early in training; the probes are for BERT only."""
        early = self.settings.early
        if self.family != "bert" or early is None:
            return []
        return [(arm, seed) for seed in early.seeds for arm in early.arms]

    def interleave_processes(self) -> list[int]:
        """Numbers of the processes that measure steps in turn, from 1."""
        settings = self.settings.interleave
        return [] if settings is None else list(range(1, settings.processes + 1))

    def study_runs(self) -> StudyRuns:
        """The runs of this study, without its companions."""
        return StudyRuns(
            family=self.family,
            pretrain=[f"{self.runs}/pretrain/{arm}/seed{seed}/summary.json" for arm, seed in self.pretrain_runs()],
            finetune=[
                f"{self.runs}/finetune/{arm}/seed{seed}/{checkpoint}/{group}/summary.json"
                for arm, seed, checkpoint, group in self.finetune_runs()
            ],
            probes=[f"{self.runs}/probe/{arm}/seed{seed}/summary.json" for arm, seed in self.probe_runs()],
            lambada=[f"{self.runs}/lambada/{arm}/seed{seed}/summary.json" for arm, seed in self.lambada_runs()],
            contrasts=[f"{self.runs}/contrasts/{arm}/seed{seed}/summary.json" for arm, seed in self.contrast_runs()],
            early=[f"{self.runs}/early/{arm}/seed{seed}/summary.json" for arm, seed in self.early_runs()],
            interleaved=[
                f"{self.runs}/interleave/process{process}/summary.json" for process in self.interleave_processes()
            ],
            calibration=f"{self.runs}/calibration/summary.json",
            arms=arm_tags(self._experiments),
        )

    @property
    def family(self) -> str:
        """Family of models, the same for all arms."""
        return self.run(self.baseline, self.settings.seeds[0]).model.family

    def finetune_runs(self) -> list[tuple[str, int, str, str]]:
        """(arm, seed, checkpoint, group) of every fine-tuning job; GLUE is for BERT only."""
        if self.family != "bert":
            return []
        return [
            (arm, seed, checkpoint, group)
            for arm, seed in self.pretrain_runs()
            for checkpoint in self.finetune_checkpoints(arm)
            for group in self.settings.finetune.groups
        ]

    def lambada_runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run that is scored on LAMBADA: all runs of a GPT whose data have passages."""
        data = self.data()
        if self.family != "gpt" or not isinstance(data, DataSettings):
            return []
        passages = {"miniature": data.miniature.lambada_passages, "files": data.lambada, "hub": data.hub.lambada}
        return self.pretrain_runs() if passages[data.source] else []

    def contrast_runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run that is scored on minimal pairs and cloze items."""
        asked, arms = self.settings.contrasts is not None, self.settings.contrast_arms
        return [(arm, seed) for arm, seed in self.pretrain_runs() if asked and (arms is None or arm in arms)]

    def probe_runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run whose checkpoints are probed: of BERT, where the arm was trained."""
        if self.family != "bert":
            return []
        arms = self.settings.arms if self.settings.probe_arms is None else self.settings.probe_arms
        return [
            (arm, seed) for seed in self.settings.seeds for arm in arms if self.run(arm, seed).training.num_steps > 0
        ]


# Cached, because several arms are matched to the same one, and a plan asks for all of them again.
mean_depth = cache(mean_expected_depth)


def load_study(source: Mapping[str, Any] | Path) -> Study:
    """A study from its file, or from the mapping that Snakemake made of one."""
    if isinstance(source, Path):
        return Study(validate(StudySettings, read_study(source), str(source)))
    return Study(validate(StudySettings, with_base(source), "configuration"))


def read_study(path: Path) -> dict[str, Any]:
    """The keys of a study's file, complete with those of the files that it is based on."""
    return with_base(read_mapping(path), str(path))


def with_base(values: Mapping[str, Any], *files: str) -> dict[str, Any]:
    """The keys of a study merged over those of the study that ``base`` names, and so on.

    files: those that led here; a circle is a SettingsError.
    """
    base = values.get("base")
    own = {key: value for key, value in values.items() if key != "base"}
    if base is None:
        return merge({}, own)  # null removes a key here, too
    origin = files[-1] if files else "configuration"
    if not isinstance(base, str):
        raise SettingsError(f"{origin}: base: expected the path of a study's file, got {base!r}")
    if base in files:
        raise SettingsError(f"{' -> '.join([*files, base])}: `base` runs in a circle")
    try:
        below = read_mapping(Path(base))
    except SettingsError as error:
        raise SettingsError(f"{origin}: base: {error}; expected a study, such as config/demo.yaml") from None
    return merge(with_base(below, *files, base), own)
