"""What the papers' policies save by arithmetic: computed from policy and shape, nothing measured, nothing typed."""

from __future__ import annotations

from functools import cache

from pldrepro.analysis.measurement import join_notes
from pldrepro.analysis.reported import Claim, Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import number
from pldrepro.config.data import DataSettings
from pldrepro.config.model import ModelSettings
from pldrepro.config.run import TrainingSettings
from pldrepro.costs.flops import run_flops, step_flops
from pldrepro.policy.drop import DropSettings, expected_depth, mean_expected_depth

NAMES = {"paper_alg1": "Algorithm 1", "paper_eq": "the printed equation", "sbld": "our reading of SBLD"}


@cache
def layers_saved(dialect: str, num_layers: int, num_steps: int, at_the_limit: bool = False) -> float:
    """Percent of the layer executions that a policy is expected to skip: of a run, or of its last step."""
    return _skipped_of(DropSettings(dialect=dialect), num_layers, num_steps, at_the_limit)


def _skipped_of(drop: DropSettings, num_layers: int, num_steps: int, at_the_limit: bool) -> float:
    if at_the_limit:
        return 100 * (1 - expected_depth(drop, num_steps, num_steps, num_layers) / num_layers)
    return 100 * (1 - mean_expected_depth(drop, num_steps, num_layers) / num_layers)


def flops_saved(paper: Paper, dialect: str, at_the_limit: bool = False) -> float:
    """Percent of the FLOPs of PLD's own run that a policy saves: BERT-base, the head at the masked positions only."""
    layers, hidden, length, steps = (
        int(paper.settings[name].value) for name in ("num_layers", "hidden_size", "sequence_length", "num_steps")
    )
    model = ModelSettings(num_layers=layers, hidden_size=hidden)
    cost = step_flops(model, TrainingSettings(num_steps=steps), DataSettings(sequence_length=length))
    return _percent_of_flops(cost.of(0), cost.of(layers), layers_saved(dialect, layers, steps, at_the_limit))


def flops_saved_here(study: Evidence, arm: str, at_the_limit: bool = False) -> float:
    """Percent of the FLOPs that an arm's policy is expected to save at this study's own shape."""
    run = study.runs(arm)[0]
    cost, layers = run_flops(run.settings), run.summary.num_layers
    skipped = _skipped_of(run.settings.drop, layers, run.summary.steps, at_the_limit)
    return _percent_of_flops(cost.of(0), cost.of(layers), skipped)


def _percent_of_flops(fixed: float, whole: float, layers: float) -> float:
    """Percent of all FLOPs, from the percent of the layers' own."""
    return layers * (1 - fixed / whole)


def saving_text(paper: Paper, dialects: tuple[str, ...], at_the_limit: bool = False) -> str:
    """The savings of some policies at the paper's own shape; empty without a policy."""
    if not dialects:
        return ""
    layers, hidden = (int(paper.settings[name].value) for name in ("num_layers", "hidden_size"))
    if "sequence_length" not in paper.settings:  # without it the share of the head is not known
        parts = [f"{NAMES[name]} skips {number(_skipped(paper, name), 1)} % of the layers" for name in dialects]
        return f"by arithmetic at {layers} layers {' and '.join(parts)}, at most as much of the time"
    saved = {name: flops_saved(paper, name, at_the_limit) for name in dialects}
    parts = [f"{NAMES[name]} saves {number(value, 1)} %" for name, value in saved.items()]
    when = " where the schedule ends," if at_the_limit else ""
    return f"by arithmetic{when} at the paper's own {layers} layers × {hidden} {' and '.join(parts)} of the FLOPs"


# Steps at which the share of skipped layers is worked out where a paper's own number of steps is not known; the
# schedules are functions of the share of the run.
STEPS = 10_000


def _skipped(paper: Paper, dialect: str) -> float:
    return layers_saved(dialect, int(paper.settings["num_layers"].value), STEPS)


def arithmetic_note(paper: Paper, claim: Claim, study: Evidence | None) -> str:
    """What a claim's policies save at the paper's own shape, and PLD's own at this study's."""
    here = ""
    if claim.dialects and paper.key == "pld" and study is not None and study.pld in study.arms:
        layers = study.runs(study.pld)[0].summary.num_layers
        saved = flops_saved_here(study, study.pld, claim.at_the_limit)
        here = f"PLD's policy at this study's {layers} layers {number(saved, 1)} %"
    return join_notes(saving_text(paper, claim.dialects, claim.at_the_limit), here)


THETA_BAR = DropSettings(dialect="paper_alg1").theta_bar


def algorithm_limit() -> float:
    """Percent of the FLOPs that Algorithm 1 stays below, whatever the number of layers and the share of the head.

    It drops layer l with (l - 1)/L (1 - theta), on average (1 - theta_bar)/2 x (L - 1)/L of the layers.
    """
    return 50 * (1 - THETA_BAR)


def finding(paper: Paper) -> str:
    """Which of PLD's two policies the reported saving of FLOPs fits, for readers."""
    reported = next(claim for claim in paper.claims if claim.id == "flops").reported
    equation, algorithm = (flops_saved(paper, name) for name in ("paper_eq", "paper_alg1"))
    return (
        f"The paper's {reported:g} % fewer FLOPs fits its printed equation, not its Algorithm 1. At the paper's own "
        f"shape and theta_bar {THETA_BAR:g} the equation saves {number(equation, 1)} %, Algorithm 1 "
        f"{number(algorithm, 1)} %. At this theta_bar Algorithm 1 saves less than {algorithm_limit():g} % at any "
        "scale: it always keeps the first layer, and part of each step is not in the layers. Where the reported number "
        "comes from is not known to us."
    )
