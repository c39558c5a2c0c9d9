"""Claims of the papers, measured: one row each in claims.csv, with a verdict that is computed, never typed.

A claim names its measure, a function of this module that turns the evidence into a ``Measurement``. Time claims are
judged in reference time (the machine's noise does not decide them); measured time stands in the note.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import pandas as pd

from pldrepro import evidence as ev
from pldrepro import records, score, stats
from pldrepro.config import SettingsError
from pldrepro.evidence import Evidence, Paired
from pldrepro.papers import MARKS, Claim, Paper, mark_notes
from pldrepro.stats import Estimate
from pldrepro.tables.panel import DASH, estimate_text

Verdict = Literal[
    "reproduced", "same direction", "inconclusive", "contradicted", "not measured at this scale"
]  # fmt: skip
VERDICTS: dict[str, str] = {
    "reproduced": "the interval lies on the claimed side of no effect, and the reported value is inside or surpassed",
    "same direction": "the interval lies on the claimed side of no effect, but the reported size is not reached",
    "inconclusive": "the interval includes no effect, or there is none (one seed)",
    "contradicted": "the interval lies on the other side of no effect",
    "not measured at this scale": "this study has nothing that measures it",
}
COLUMNS = (
    "claim", "paper", "statement", "reported", "provenance", "measured", "low", "high", "n", "unit", "verdict",
    "exhibit", "note",
)  # fmt: skip
# "Similar accuracy": not more than this many GLUE points below the baseline, by the lower limit of the interval.
SIMILAR_GLUE_POINTS = 1.0


def verdict(
    measured: float | None,
    low: float | None,
    high: float | None,
    reported: float | None,
    null: float,
    direction: Literal["higher", "lower"],
    n: int,
) -> Verdict:
    """The verdict on a claim that an effect lies on one side of ``null``; see VERDICTS.

    ``reported`` None means that the claim is the direction alone, which is reproduced when it is established.
    """
    if measured is None:
        return "not measured at this scale"
    if n < 2 or low is None or high is None:
        return "inconclusive"
    if direction == "lower":
        low, high, null = -high, -low, -null
        reported = None if reported is None else -reported
    if high < null:
        return "contradicted"
    if low <= null:
        return "inconclusive"
    return "reproduced" if reported is None or high >= reported else "same direction"


@dataclass(frozen=True)
class Measurement:
    """What a measure found.

    ``premise``: what the claim takes for granted (e.g. that the loss is reached at all) holds, is open, or fails.
    """

    paired: Paired | None = None
    note: str = ""
    premise: Literal["holds", "open", "fails"] = "holds"


def judge(claim: Claim, measurement: Measurement) -> tuple[Verdict, str]:
    """Verdict and note: a premise that fails contradicts the claim, an open one leaves it inconclusive."""
    paired, notes = measurement.paired, [measurement.note, claim.note]
    estimate = paired.estimate if paired else None
    if estimate is None:
        found = verdict(None, None, None, claim.reported, claim.null_value, claim.direction, 0)
    else:
        found = verdict(
            estimate.value, estimate.low, estimate.high, claim.reported, claim.null_value, claim.direction, estimate.n
        )
    if found == "inconclusive" and paired:
        notes.insert(0, seeds_note(paired))
    if measurement.premise == "fails":
        found = "contradicted"
    elif measurement.premise == "open" and found in ("reproduced", "same direction"):
        found = "inconclusive"
    return found, _notes(*notes)


def seeds_note(paired: Paired) -> str:
    """How many seeds would settle an inconclusive claim, if mean and spread stayed as they are."""
    if paired.estimate.n < 2:
        return "one seed has no interval: at least two are needed"
    needed = stats.seeds_needed(paired.effects, 0.0)
    if needed is None:
        return "more than 1,000 seeds would be needed to settle it"
    if needed > paired.estimate.n:
        return f"about {needed} seeds would settle the direction"
    return "the seeds agree; the error of the calibration leaves it open"


# ---- measures ----


def _pld_missing(evidence: Evidence) -> str:
    return "" if evidence.pld in evidence.arms else f"no arm {evidence.pld!r} in this study"


def _estimate_note(name: str, paired: Paired | None, digits: int, unit: str) -> str:
    return "" if paired is None else f"{name}: {estimate_text(paired.estimate, digits)} {unit}"


def _notes(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _undropped_note(evidence: Evidence, measure: Callable[[str], Paired | None], digits: int, unit: str) -> str:
    """What the same model reaches without dropping: that part of the effect is not PLD's."""
    twin = evidence.undropped_twin(evidence.pld)
    if twin is None or twin == evidence.baseline:
        return ""
    return _estimate_note(f"without dropping ({evidence.label(twin)})", measure(twin), digits, unit)


def _skipping_note(evidence: Evidence) -> str:
    """What skipping alone saves: the comparison with the same model without dropping."""
    twin = evidence.undropped_twin(evidence.pld)
    if twin is None:
        return ""
    saving = ev.saving_per_sample(evidence, evidence.pld, "reference_time", against=twin)
    return _estimate_note("against the same model without dropping", saving, 1, "%")


def time_saving(evidence: Evidence) -> Measurement:
    """Percent less reference time per sample than the baseline."""
    return Measurement(
        ev.saving_per_sample(evidence, evidence.pld, "reference_time"),
        _notes(
            "reference time",
            _estimate_note("measured time", ev.saving_per_sample(evidence, evidence.pld, "measured_time"), 1, "%"),
            _skipping_note(evidence),
        ),
    )


def flops_saving(evidence: Evidence) -> Measurement:
    """Percent fewer FLOPs per sample than the baseline."""
    return Measurement(ev.saving_per_sample(evidence, evidence.pld, "flops"))


def speedup_equal_samples(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over that of PLD's run with as many samples."""
    return Measurement(
        ev.speedup(evidence, evidence.pld, "reference_time"),
        _notes(
            "reference time",
            _estimate_note("measured time", ev.speedup(evidence, evidence.pld, "measured_time"), 2, "x"),
            _undropped_note(evidence, lambda arm: ev.speedup(evidence, arm, "reference_time"), 2, "x"),
        ),
    )


def speedup_to_baseline_loss(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over PLD's up to where it first reaches the baseline's final loss."""
    return _to_baseline_loss(evidence, "reference_time", percent=False)


def sample_saving_to_baseline_loss(evidence: Evidence) -> Measurement:
    """Percent fewer samples than the baseline's run until PLD first reaches the baseline's final loss."""
    return _to_baseline_loss(evidence, "samples", percent=True)


def _to_baseline_loss(evidence: Evidence, axis: str, percent: bool) -> Measurement:
    reach = ev.reach_loss(evidence, evidence.pld, axis)
    paired, reached, pairs = _sooner(evidence, evidence.pld, axis, percent), reach.reached, len(reach.costs)
    undropped = _undropped_note(
        evidence, lambda arm: _sooner(evidence, arm, axis, percent), *((1, "%") if percent else (2, "x"))
    )
    if reached == pairs:
        return Measurement(paired, undropped)
    gap = ev.loss_difference(evidence, evidence.pld, evidence.baseline)
    worse = gap is not None and gap.estimate.low is not None and gap.estimate.low > 0
    note = (
        f"the baseline's final loss was reached in {reached} of {pairs} runs; the others count with their whole run, "
        f"a bound; {_estimate_note('final loss minus baseline', gap, 3, 'nats')}"
    )
    return Measurement(paired, _notes(note, undropped), "fails" if worse and not reached else "open")


def _sooner(evidence: Evidence, arm: str, axis: str, percent: bool) -> Paired | None:
    """What an arm saves until it reaches the baseline's final loss: in percent, or as a speedup."""
    reach = ev.reach_loss(evidence, arm, axis)
    if percent:
        return ev.ratio(((own, base) for base, own in reach.costs.values()), ev.percent_less)
    return ev.reach_speedup(evidence, arm, axis, reach)


def _glue_gain(evidence: Evidence, checkpoint: str, other: str) -> Measurement:
    if (evidence.pld, checkpoint) not in evidence.finetuned:
        return Measurement(note=f"{evidence.pld} {checkpoint} was not fine-tuned")
    final = evidence.final_checkpoint(other)
    convention, note = ev.glue_convention(evidence)
    paired = ev.glue_gain(evidence, evidence.pld, checkpoint, other, final, convention)
    count = len(common_values(evidence, checkpoint, other, final))
    if not count:
        return Measurement(note=f"{other} {final} was not fine-tuned on the same tasks")
    missing = "" if count == len(score.VALUES) else f"over {count} of {len(score.VALUES)} values"
    return Measurement(paired, _notes(missing, note))


def common_values(evidence: Evidence, checkpoint: str, other: str, final: str) -> set[str]:
    """Names of the values that PLD and another arm both have."""
    first, second = (
        {name for (arm, _, at), values in evidence.glue_values.items() if (arm, at) == key for name in values}
        for key in ((evidence.pld, checkpoint), (other, final))
    )
    return first & second


def glue_gain_final(evidence: Evidence) -> Measurement:
    """GLUE points above the baseline at the end of both runs."""
    return _glue_gain(evidence, evidence.final_checkpoint(evidence.pld), evidence.baseline)


def glue_gain_ckp100(evidence: Evidence) -> Measurement:
    """GLUE points above the finished baseline at PLD's checkpoint 100 of 186."""
    return _glue_gain(evidence, "ckp100", evidence.baseline)


def glue_gain_over_undropped(evidence: Evidence) -> Measurement:
    """GLUE points above the same model that drops nothing."""
    twin = evidence.undropped_twin(evidence.pld)
    if twin is None:
        return Measurement(note="no arm that differs from PLD by not dropping layers alone")
    return _glue_gain(evidence, evidence.final_checkpoint(evidence.pld), twin)


def speedup_at_similar_glue(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over PLD's up to checkpoint 100, given that its GLUE score is similar."""
    gain = glue_gain_ckp100(evidence)
    if gain.paired is None:
        return gain
    estimate = gain.paired.estimate
    if estimate.low is not None and estimate.low >= -SIMILAR_GLUE_POINTS:
        premise: Literal["holds", "open", "fails"] = "holds"
    elif estimate.high is not None and estimate.high < -SIMILAR_GLUE_POINTS:
        premise = "fails"
    else:
        premise = "open"
    note = (
        f"similar: the GLUE difference is not below −{SIMILAR_GLUE_POINTS:g} point by its lower limit; "
        f"here {estimate_text(estimate, 1)}"
    )
    speedup = ev.speedup(evidence, evidence.pld, "reference_time", "ckp100")
    return Measurement(speedup, _notes(note, gain.note), premise)


MEASURES: dict[str, Callable[[Evidence], Measurement]] = {
    measure.__name__: measure
    for measure in (
        time_saving, flops_saving, speedup_equal_samples, speedup_to_baseline_loss, sample_saving_to_baseline_loss,
        glue_gain_final, glue_gain_ckp100, glue_gain_over_undropped, speedup_at_similar_glue,
    )
}  # fmt: skip


# ---- claims.csv ----


def claims(evidence: Evidence, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """One row per claim of every paper: reported, measured with interval, verdict and why."""
    rows = []
    for paper in papers.values():
        for claim in paper.claims:
            measurement = measure(evidence, claim)
            found, note = judge(claim, measurement)
            estimate = measurement.paired.estimate if measurement.paired else None
            rows.append(
                {
                    "claim": f"{paper.key}.{claim.id}", "paper": paper.label, "statement": claim.statement,
                    "reported": claim.reported, "provenance": claim.provenance, **_limits(estimate),
                    "unit": claim.unit, "verdict": found, "exhibit": claim.exhibit, "note": note,
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measure(evidence: Evidence, claim: Claim) -> Measurement:
    """Measure a claim; without a measure, or without the arm, a Measurement of nothing that says why."""
    if claim.measure is None:
        return Measurement()
    if claim.measure not in MEASURES:
        raise SettingsError(f"claim {claim.id}: unknown measure {claim.measure!r}; allowed: {', '.join(MEASURES)}")
    missing = _pld_missing(evidence)
    return Measurement(note=missing) if missing else MEASURES[claim.measure](evidence)


def _limits(estimate: Estimate | None) -> dict[str, float | int | None]:
    if estimate is None:
        return {"measured": None, "low": None, "high": None, "n": 0}
    return {"measured": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def write_claims(evidence: Evidence, papers: Mapping[str, Paper], out: Path) -> pd.DataFrame:
    """Write claims.csv and return what was written."""
    frame = claims(evidence, papers)
    with records.atomic_path(out) as temporary:
        frame.to_csv(temporary, index=False)
    return frame


def read_claims(path: Path) -> pd.DataFrame:
    """claims.csv; a missing file is a RecordError that names it."""
    try:
        return pd.read_csv(path, keep_default_na=True).astype({"note": object}).fillna({"note": ""})
    except FileNotFoundError:
        raise records.RecordError(f"{path}: no claims here; run `claims` first") from None


def reported_text(row: Mapping[Any, Any]) -> str:
    """The reported value of a row of claims.csv with unit and mark; in words where there is no number."""
    value, unit = row["reported"], str(row["unit"])
    mark = MARKS[str(row["provenance"])]
    if pd.isna(value):
        return f"direction{mark}"
    return f"{value:g} {unit}{mark}"


def measured_text(row: Mapping[Any, Any]) -> str:
    """The measured value of a row of claims.csv with its interval; a dash where nothing was measured."""
    if pd.isna(row["measured"]):
        return DASH
    digits = 2 if row["unit"] == "x" else 1
    limits = [None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high")]
    estimate = Estimate(row["measured"], limits[0], limits[1], int(row["n"]), "")
    return estimate_text(estimate, digits)


def format_claims(frame: pd.DataFrame) -> str:
    """The claims as a plain text table, 118 columns wide: first those that were measured."""
    lines = [f"{'claim':<48} {'reported':>12} {'measured':>21} {'n':>2}  verdict", "-" * 118]
    for row in _measured_first(frame):
        paper, statement = row["paper"], row["statement"]
        named = statement if statement.startswith("PLD") or paper == "PLD" else f"{paper}: {statement}"
        first, *more = wrap(named, 48)
        numbers = f"{reported_text(row):>12} {measured_text(row):>21} {row['n'] or '':>2}"
        lines += [f"{first:<48} {numbers}  {row['verdict']}", *(f"  {line}" for line in more)]
    lines += ["-" * 118, *mark_notes(frame["provenance"])]
    lines.append(
        "Measured: mean over n pre-training seeds [95 % interval]. claims.csv and the report say more on each."
    )
    return "\n".join(lines)


def markdown_claims(frame: pd.DataFrame) -> str:
    """The measured claims as a Markdown table, for README."""
    rows = ["| claim | reported | measured [95 % interval] | n | verdict |", "|---|---|---|---|---|"]
    for row in _measured_first(frame):
        if not pd.isna(row["measured"]):
            numbers = f"{reported_text(row)} | {measured_text(row)} | {row['n']}"
            rows.append(f"| {row['statement']} | {numbers} | {row['verdict']} |")
    return "\n".join([*rows, "", *mark_notes(frame.loc[frame["measured"].notna(), "provenance"])])


def _measured_first(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.sort_values("measured", key=lambda column: column.isna(), kind="stable").to_dict("records")
