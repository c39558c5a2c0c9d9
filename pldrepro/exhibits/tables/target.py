"""How soon each arm has what the baseline has at its end, and which part of PLD's speedup is PLD's."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from pldrepro.analysis import comparisons
from pldrepro.analysis.reported import Paper, mark_notes
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.analysis.text import DASH, INTERVAL_NOTE, estimate_text, reported_text
from pldrepro.analysis.tidy import cell, estimate_of
from pldrepro.analysis.time_to_target import CHANGES, TARGETS, chain, decompose, reported_factors, time_to_target
from pldrepro.exhibits.layout import Panel

# ---- their panels ----


def time_to_target_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """One panel per target, and PLD's speedup step by step."""
    frame = time_to_target(evidence, paper)
    return [*(_target_panel(evidence, frame, paper, target) for target in TARGETS), _steps_panel(evidence, paper)]


def _target_panel(evidence: Evidence, frame: pd.DataFrame, paper: Paper, target: str) -> Panel:
    reported = reported_factors(paper, target)
    rows = []
    for arm in evidence.methods:
        final = evidence.final_checkpoint(arm)
        reached = cell(frame, arm, final, f"reached_{target}")
        if reached is None:
            continue
        bound = "" if reached.value == reached.n else "≤ "
        speedups = [cell(frame, arm, final, f"speedup_to_{target}", axis) for axis in AXES]
        own = reported if arm == evidence.pld else {}
        rows.append(
            (
                evidence.label(arm),
                f"{reached.value:.0f} of {reached.n}",
                *(reported_text(own.get(axis), digits) for axis, digits in (("samples", 2), ("reference_time", 1))),
                *(bound + estimate_text(one, 2) if one else DASH for one in speedups),
                str(reached.n),
            )
        )
    name, _ = TARGETS[target]
    return Panel(
        caption=f"How soon {name} is reached: the baseline's whole run over the arm's run up to there [x], at scale "
        f"{evidence.scale}",
        columns=("arm", "runs that reach it", "reported, samples", "reported, time", *AXES.values(), "n"),
        rows=tuple(rows),
        notes=(
            *_target_notes(evidence, target),
            INTERVAL_NOTE,
            *mark_notes(one.provenance for one in reported.values()),
        ),
    )


def _target_notes(evidence: Evidence, target: str) -> list[str]:
    notes = [
        "A run that never gets there counts with its whole run, so that the true speedup is at most the one shown (≤); "
        "above 1 it says only that the run was cheaper, not that it was as good. The baseline is in mid-schedule when "
        "another arm passes its final loss: what it reaches in the same time with its learning rate decayed stands in "
        "the table of fair budgets."
    ]
    if target == "loss":
        return [*notes, "The loss is linear between validations."]
    notes.append(
        "The score is linear between the checkpoints that were fine-tuned; a run whose first one is already there "
        "counts with that checkpoint."
    )
    convention = comparisons.glue_convention(evidence)[1]
    return [*notes, *_tuned_once(evidence, evidence.methods), *([f"GLUE {convention}."] if convention else [])]


def _tuned_once(evidence: Evidence, arms: Iterable[str]) -> list[str]:
    """A note on the arms whose GLUE score is known at one checkpoint alone."""
    tuned = [arm for arm, _ in evidence.finetuned]
    once = [evidence.label(arm) for arm in arms if tuned.count(arm) == 1]
    if not once:
        return []
    return [f"Fine-tuned at one checkpoint alone, where alone its GLUE score can be reached: {'; '.join(once)}."]


def _steps_panel(evidence: Evidence, paper: Paper) -> Panel:
    rows: list[tuple[str, ...]] = []
    provenances: list[str] = []
    for target, (name, _) in TARGETS.items():
        steps = decompose(evidence, target)
        for step in steps:
            factors = [estimate_text(estimate_of(factor), 2) for factor in step.factors.values()]
            rows.append((name, step.change, evidence.label(step.arm), *factors, f"{step.reached} of {step.n}"))
        reported = reported_factors(paper, target)
        if steps and reported:
            provenances += [one.provenance for one in reported.values()]
            cells = (reported_text(one, 2) for one in reported.values())
            rows.append((name, "all of it, reported", paper.label, *cells, DASH))
    return Panel(
        caption=f"PLD's speedup, step by step from the baseline, at scale {evidence.scale}",
        columns=("target", "what changes", "arm", "fewer samples [x]", "cheaper samples [x]", "both [x]", "reached"),
        rows=tuple(rows),
        notes=(*_steps_notes(evidence), *mark_notes(provenances)),
    )


def _steps_notes(evidence: Evidence) -> list[str]:
    if evidence.pld not in evidence.arms:
        return [f"Not measured here: no arm {evidence.pld!r} in this study."]
    notes = [
        "Fewer samples: samples until the target, the arm before over this arm. Cheaper samples: reference time per "
        "sample up to there, likewise. Both is their product, and the steps multiply to the last line of each target. "
        "PLD's own part is its last step. Where an arm reaches the target in some runs only, the others count with "
        "their whole run: such an arm's step is at most as large as shown, and the step after it at least."
    ]
    missing = [arm for arm in CHANGES if arm not in evidence.arms]
    if missing:
        notes.append(
            f"Not in this study: {', '.join(missing)}; what it would have separated is one step together with the next."
        )
    return [*notes, *_tuned_once(evidence, chain(evidence))]
