"""Tables 1 and 2: tidy data first (csv, full precision), then the paper's wide layout (md, tex, and the report).

``table1`` and ``table2`` give one row per number; a ``Panel`` is a table of text that is ready to be set. Reported
values carry the mark of their provenance wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pldrepro import evidence as ev
from pldrepro import records, score, stats
from pldrepro.evidence import Evidence
from pldrepro.papers import MARKS, Paper, Reported, mark_notes
from pldrepro.stats import Estimate

DASH = "–"
INTERVAL_NOTE = (
    "Measured: mean over n pre-training seeds, [95 % t interval]; times and ratios: geometric mean, interval on the "
    "log scale; ratios are paired by seed and, in reference time, hold the calibration's own error. One seed has no "
    "interval."
)


@dataclass(frozen=True)
class Panel:
    """A table as text: caption, header, rows and notes."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The panel as a GitHub-flavoured Markdown table."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return "\n\n".join([f"**{self.caption}**", table, *self.notes]) + "\n"

    def latex(self) -> str:
        """The panel as a LaTeX table (booktabs, graphicx)."""
        lines = ["\\toprule", _latex_row(self.columns), "\\midrule", *map(_latex_row, self.rows), "\\bottomrule"]
        return "\n".join(
            [
                "\\begin{table*}",
                "\\centering",
                f"\\caption{{{_latex(self.caption)}}}",
                "\\resizebox{\\textwidth}{!}{%",
                f"\\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
                *lines,
                "\\end{tabular}}",
                *(f"\\par\\footnotesize {_latex(note)}" for note in self.notes),
                "\\end{table*}",
            ]
        )


_LATEX = {
    "\\": r"\textbackslash{}", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"$^\S$", "±": r"$\pm$", "×": r"$\times$", "−": "$-$",
    "≥": r"$\ge$", "≤": r"$\le$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


# ---- text of numbers ----


def number(value: float, digits: int) -> str:
    """A number with a true minus sign and without a negative zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def estimate_text(estimate: Estimate | None, digits: int) -> str:
    """1.18 [1.14, 1.22]; without an interval the number alone; a dash for nothing."""
    if estimate is None:
        return DASH
    if estimate.low is None or estimate.high is None:
        return number(estimate.value, digits)
    return f"{number(estimate.value, digits)} [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def plus_minus(estimate: Estimate | None, digits: int) -> str:
    """87.1 ±0.4, for symmetric intervals; without an interval the number alone; a dash for nothing."""
    if estimate is None:
        return DASH
    half = "" if estimate.high is None else f" ±{number(estimate.high - estimate.value, digits)}"
    return number(estimate.value, digits) + half


def reported_text(reported: Reported | None, digits: int) -> str:
    """A reported value with the mark of its provenance; a dash for nothing."""
    return DASH if reported is None else number(reported.value, digits) + reported.mark


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """Unit and seconds per unit in which these times read well."""
    longest = max(seconds, default=0.0)
    return ("h", 3600.0) if longest >= 2 * 3600 else ("min", 60.0) if longest >= 300 else ("s", 1.0)


# ---- Table 1 ----


def _row(
    evidence: Evidence, arm: str, checkpoint: str, quantity: str, axis: str, unit: str,
    measured: Estimate | None, reported: Reported | None = None, note: str = "",
) -> dict[str, Any]:  # fmt: skip
    """One tidy row."""
    return {
        "arm": arm,
        "label": evidence.label(arm),
        "checkpoint": checkpoint,
        "quantity": quantity,
        "axis": axis,
        "unit": unit,
        "measured": measured.value if measured else None,
        "low": measured.low if measured else None,
        "high": measured.high if measured else None,
        "n": measured.n if measured else 0,
        "method": measured.method if measured else "",
        "reported": reported.value if reported else None,
        "reported_unit": reported.unit if reported else "",
        "reported_where": reported.where if reported else "",
        "provenance": reported.provenance if reported else "",
        "note": note,
    }


def role(evidence: Evidence, arm: str) -> str:
    """The arm's name in the papers' tables: this study's baseline and PLD arm stand for theirs."""
    return {evidence.baseline: "baseline", evidence.pld: "pld"}.get(arm, arm)


def claimed(paper: Paper, claim_id: str) -> Reported | None:
    """The reported value of a claim."""
    for claim in paper.claims:
        if claim.id == claim_id and claim.reported is not None:
            return Reported(
                value=claim.reported, unit=claim.unit, where=claim.where, provenance=claim.provenance, note=claim.note
            )
    return None


def cost_estimate(evidence: Evidence, arm: str, axis: str, checkpoint: str) -> Estimate | None:
    """Cost of an arm up to a checkpoint on an axis: geometric mean over its seeds."""
    costs = [evidence.cost(run, axis, checkpoint) for run in evidence.runs(arm)]
    known = [cost for cost in costs if cost is not None]
    return stats.geometric_interval(known) if known else None


def table1(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Training cost, one row per arm, checkpoint, quantity and axis; savings are against the baseline's whole run.

    Quantities: cost, saving_per_sample [%], speedup [x], sample_reduction [%] (all paired by seed), validation_loss
    and its difference to the baseline's final one [nats], kept_layers, and the bound on the saving.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.arms:
        for checkpoint in evidence.checkpoints(arm):
            rows += _cost_rows(evidence, paper, arm, checkpoint)
            rows += _loss_rows(evidence, arm, checkpoint)
        rows += _depth_rows(evidence, arm)
    return pd.DataFrame(rows)


def _cost_rows(evidence: Evidence, paper: Paper, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    table = paper.tables["table1"]
    reported = table.row(role(evidence, arm), checkpoint)
    final = checkpoint == evidence.final_checkpoint(arm) and arm == evidence.pld
    savings = {"flops": "flops", "reference_time": "time_per_sample", "measured_time": "time_per_sample"}
    rows = []
    for axis, unit in {"samples": "samples", "flops": "FLOPs", "reference_time": "s", "measured_time": "s"}.items():
        hours = table.reported(reported, "hours") if unit == "s" else None
        cost = cost_estimate(evidence, arm, axis, checkpoint)
        rows.append(_row(evidence, arm, checkpoint, "cost", axis, unit, cost, hours))
        if arm == evidence.baseline:
            continue
        if axis == "samples":
            less = ev.ratio(
                (
                    (evidence.cost(run, axis, checkpoint), evidence.cost(base, axis))
                    for run, base in evidence.pairs(arm, evidence.baseline)
                ),
                ev.percent_less,
            )
            value = table.reported(reported, "sample_reduction")
            rows.append(_row(evidence, arm, checkpoint, "sample_reduction", axis, "%", _estimate(less), value))
            continue
        saving = _estimate(ev.saving_per_sample(evidence, arm, axis, checkpoint))
        value = claimed(paper, savings[axis]) if final else None
        rows.append(_row(evidence, arm, checkpoint, "saving_per_sample", axis, "%", saving, value))
        speedup = _estimate(ev.speedup(evidence, arm, axis, checkpoint))
        value = table.reported(reported, "speedup") if unit == "s" else None
        rows.append(_row(evidence, arm, checkpoint, "speedup", axis, "x", speedup, value))
    return rows


def _estimate(paired: ev.Paired | None) -> Estimate | None:
    return None if paired is None else paired.estimate


def _loss_rows(evidence: Evidence, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    losses = [run.summary["checkpoints"][checkpoint]["validation_loss"] for run in evidence.runs(arm)]
    rows = [_row(evidence, arm, checkpoint, "validation_loss", "", "nats", stats.mean_interval(losses))]
    gap = ev.difference(
        (run.summary["checkpoints"][checkpoint]["validation_loss"], base.summary["validation_loss"])
        for run, base in evidence.pairs(arm, evidence.baseline)
    )
    if (arm, checkpoint) != (evidence.baseline, evidence.final_checkpoint(evidence.baseline)):
        rows.append(
            _row(evidence, arm, checkpoint, "validation_loss_difference", "", "nats", _estimate(gap),
                 note="minus the baseline's final one")
        )  # fmt: skip
    return rows


def _depth_rows(evidence: Evidence, arm: str) -> list[dict[str, Any]]:
    final = evidence.final_checkpoint(arm)
    kept = stats.mean_interval([run.summary["mean_kept_layers"] for run in evidence.runs(arm)])
    layers = evidence.runs(arm)[0].summary["num_layers"]
    bound = ev.saving_bound(evidence, arm)
    note = "1 - mean kept / L, times the layers' share of a full step"
    return [
        _row(evidence, arm, final, "kept_layers", "", "layers", kept, note=f"of {layers}"),
        _row(evidence, arm, final, "saving_bound", "reference_time", "%", bound, note=note),
    ]


def table1_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """Table 1 as the paper prints it, with the measured values beside, and the saving per sample on each axis."""
    frame = table1(evidence, paper)
    return [_training_time(evidence, paper, frame), _savings(evidence, paper, frame)]


def _cell(frame: pd.DataFrame, arm: str, checkpoint: str, quantity: str, axis: str = "") -> Estimate | None:
    """The estimate in a tidy table."""
    found = frame[
        (frame["arm"] == arm)
        & (frame["checkpoint"] == checkpoint)
        & (frame["quantity"] == quantity)
        & (frame["axis"] == axis)
    ]
    if found.empty or pd.isna(found["measured"].iloc[0]):
        return None
    row = found.iloc[0]
    low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high"))
    return Estimate(float(row["measured"]), low, high, int(row["n"]), str(row["method"]))


def _training_time(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> Panel:
    table = paper.tables["table1"]
    times = frame[(frame["quantity"] == "cost") & (frame["unit"] == "s")]["measured"].dropna()
    unit, seconds = time_unit(times.tolist())
    digits = 2 if times.max() < 10 * seconds else 1
    rows, provenances = [], []
    for arm in evidence.arms:
        for checkpoint in evidence.checkpoints(arm):
            row = table.row(role(evidence, arm), checkpoint)
            if row is None and checkpoint != evidence.final_checkpoint(arm):
                continue
            provenances.append(row.provenance if row else "")
            cost = {axis: _cell(frame, arm, checkpoint, "cost", axis) for axis in ("reference_time", "measured_time")}
            time = {axis: c.map(lambda value: value / seconds) if c else None for axis, c in cost.items()}
            speedup = {axis: _cell(frame, arm, checkpoint, "speedup", axis) for axis in cost}
            reduction = _cell(frame, arm, checkpoint, "sample_reduction", "samples")
            rows.append(
                (
                    f"{evidence.label(arm)} {checkpoint}",
                    reported_text(table.reported(row, "hours"), 2),
                    estimate_text(time["reference_time"], digits),
                    estimate_text(time["measured_time"], digits),
                    reported_text(table.reported(row, "sample_reduction"), 0),
                    DASH if reduction is None else number(reduction.value, 0),
                    reported_text(table.reported(row, "speedup"), 1),
                    estimate_text(speedup["reference_time"], 2),
                    estimate_text(speedup["measured_time"], 2),
                    estimate_text(_cell(frame, arm, checkpoint, "validation_loss"), 3),
                    estimate_text(_cell(frame, arm, checkpoint, "validation_loss_difference"), 3),
                    str(len(evidence.runs(arm))),
                )
            )
    return Panel(
        caption=f"Table 1: training time ({paper.label} paper, {table.where}) at scale {evidence.scale}",
        columns=(
            "run", "reported time [h]", f"reference time [{unit}]", f"measured time [{unit}]",
            "reported sample reduction [%]", "sample reduction [%]", "reported speedup [x]",
            "speedup, reference time [x]", "speedup, measured time [x]", "validation loss [nats]",
            "loss minus baseline's final", "n",
        ),
        rows=tuple(rows),
        notes=(
            "Speedup: the baseline's whole run over the run up to the checkpoint; it is a speedup to equal quality "
            "only where the validation loss (or Table 2) is no worse. Sample reduction is set by the checkpoint.",
            INTERVAL_NOTE,
            *mark_notes(provenances),
        ),
    )  # fmt: skip


def _savings(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> Panel:
    rows, provenances = [], []
    for arm in evidence.arms:
        if arm == evidence.baseline:
            continue
        final = evidence.final_checkpoint(arm)
        time, flops = (claimed(paper, claim) if arm == evidence.pld else None for claim in ("time_per_sample", "flops"))
        provenances += [reported.provenance for reported in (time, flops) if reported]
        rows.append(
            (
                evidence.label(arm),
                estimate_text(_cell(frame, arm, final, "kept_layers"), 2),
                str(evidence.runs(arm)[0].summary["num_layers"]),
                reported_text(time, 0),
                estimate_text(_cell(frame, arm, final, "saving_per_sample", "reference_time"), 1),
                estimate_text(_cell(frame, arm, final, "saving_per_sample", "measured_time"), 1),
                estimate_text(_cell(frame, arm, final, "saving_bound", "reference_time"), 1),
                reported_text(flops, 0),
                estimate_text(_cell(frame, arm, final, "saving_per_sample", "flops"), 1),
                str(len(evidence.pairs(arm, evidence.baseline))),
            )
        )
    return Panel(
        caption="Table 1, continued: saving per sample against the baseline, on each axis [%]",
        columns=(
            "arm", "mean kept layers", "of L", "reported time", "reference time", "measured time",
            "bound (kept depth)", "reported FLOPs", "FLOPs", "n",
        ),
        rows=tuple(rows),
        notes=(
            "Bound: (1 - mean kept layers / L) times the share of the layers in a full step of the same model; the "
            "rest of a step (embeddings, head, optimizer) cannot be dropped. Measured time is noisy where the machine "
            "did other work; reference time is not.",
            *mark_notes(provenances),
        ),
    )  # fmt: skip


# ---- Table 2 ----


def table2(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """GLUE, one row per arm, checkpoint, value and statistic (median, as in the paper, or mean over fine-tuning seeds).

    Values: the 12 of the paper, the three GLUE scores (from the medians), and the time up to the checkpoint [s].
    """
    rows: list[dict[str, Any]] = []
    cells = score.cells(evidence.scores) if evidence.scores is not None else pd.DataFrame()
    for arm, checkpoint in finetuned(evidence):
        part = cells[(cells["arm"] == arm) & (cells["checkpoint"] == checkpoint)]
        rows += _value_rows(evidence, paper, arm, checkpoint, part)
        rows += _glue_rows(evidence, paper, arm, checkpoint)
        rows += [
            _row(evidence, arm, checkpoint, "training_time", axis, "s", cost_estimate(evidence, arm, axis, checkpoint))
            for axis in ("reference_time", "measured_time")
        ]
    return pd.DataFrame(rows)


def finetuned(evidence: Evidence) -> list[tuple[str, str]]:
    """(arm, checkpoint) of everything that was fine-tuned, arms as given, checkpoints in order of time."""
    there = {(arm, checkpoint) for arm, _, checkpoint in evidence.glue_values}
    return [(arm, name) for arm in evidence.arms for name in evidence.checkpoints(arm) if (arm, name) in there]


def reported_glue(paper: Paper, arm: str, checkpoint: str, column: str) -> Reported | None:
    """What the paper reports for an arm at a checkpoint: from Table 2, else from the ablation in Table 3."""
    for name in ("table2", "table3"):
        value = paper.tables[name].reported(paper.tables[name].row(arm, checkpoint), column)
        if value is not None:
            return value
    return None


def _value_rows(
    evidence: Evidence, paper: Paper, arm: str, checkpoint: str, cells: pd.DataFrame
) -> list[dict[str, Any]]:
    rows = []
    for name in score.VALUES:
        found = cells[cells["value_name"] == name]
        reported = reported_glue(paper, role(evidence, arm), checkpoint, name)
        for statistic in ("median", "mean") if len(found) else ("median",):
            measured = stats.mean_interval(found[statistic].tolist()) if len(found) else None
            rows.append(_row(evidence, arm, checkpoint, name, statistic, "%", measured, reported))
    return rows


def _glue_rows(evidence: Evidence, paper: Paper, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    rows = []
    for convention in score.CONVENTIONS:
        scores = [ev.glue(evidence, arm, run.seed, checkpoint, convention) for run in evidence.runs(arm)]
        scores = [one for one in scores if one.count]
        values = [one.value for one in scores if one.value is not None]
        measured = stats.mean_interval(values) if len(values) == len(scores) else None
        note = "; ".join(sorted({one.note for one in scores}))
        reported = reported_convention(paper, role(evidence, arm), checkpoint, convention)
        rows.append(_row(evidence, arm, checkpoint, f"glue_{convention}", "median", "points", measured, reported, note))
    return rows


def reported_convention(paper: Paper, arm: str, checkpoint: str, convention: str) -> Reported | None:
    """The paper's GLUE score; in the other conventions derived from the paper's own cells."""
    glue = reported_glue(paper, arm, checkpoint, "glue")
    if glue is None or convention == "paper":
        return glue
    cells = {name: reported_glue(paper, arm, checkpoint, name) for name in score.VALUES}
    value = score.glue_scores({name: cell.value for name, cell in cells.items() if cell})[convention].value
    if value is None:
        return None
    # A score that is derived from values nobody checked is as unverified as they are.
    provenance = "derived" if glue.provenance == "verified" else glue.provenance
    return glue.model_copy(update={"value": value, "provenance": provenance, "note": "from the paper's own cells"})


def table2_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """Table 2 as the paper prints it: per run a line of reported and a line of measured values."""
    frame = table2(evidence, paper)
    times = [] if frame.empty else frame[frame["quantity"] == "training_time"]["measured"].dropna().tolist()
    unit, seconds = time_unit(times)
    labels = {name: paper.tables["table2"].columns[name].label for name in score.VALUES}
    rows: list[tuple[str, ...]] = [_original_row(paper)]
    provenances = ["derived"]
    for arm, checkpoint in finetuned(evidence):
        name = f"{evidence.label(arm)} {checkpoint}"
        if reported_glue(paper, role(evidence, arm), checkpoint, "glue"):
            cells = _reported_cells(paper, role(evidence, arm), checkpoint)
            provenances += [cell.provenance for cell in cells.values() if cell]
            hours = paper.tables["table1"].reported(
                paper.tables["table1"].row(role(evidence, arm), checkpoint), "hours"
            )
            time = DASH if hours is None else f"{reported_text(hours, 2)} h"
            rows.append((name, "reported", time, *(reported_text(cell, 1) for cell in cells.values()), ""))
        rows.append(_measured_row(evidence, frame, arm, checkpoint, name, unit, seconds))
    return [
        Panel(
            caption=f"Table 2: GLUE ({paper.label} paper, {paper.tables['table2'].where}) at scale {evidence.scale}",
            columns=("run", "", "training time", *labels.values(), *score.CONVENTIONS.values(), "n"),
            rows=tuple(rows),
            notes=(*_glue_notes(evidence, frame, labels), *mark_notes(provenances)),
        )
    ]


def _reported_cells(paper: Paper, arm: str, checkpoint: str) -> dict[str, Reported | None]:
    values = {name: reported_glue(paper, arm, checkpoint, name) for name in score.VALUES}
    scores = {name: reported_convention(paper, arm, checkpoint, name) for name in score.CONVENTIONS}
    return {**values, **scores}


def _original_row(paper: Paper) -> tuple[str, ...]:
    """BERT as published, on the test sets."""
    table = paper.tables["table2"]
    row = next(row for row in table.rows if row.key == "original")
    values = {name: row.values[name] for name in score.VALUES}
    scores = {name: one.value for name, one in score.glue_scores(values).items()}
    derived = [number(scores[name] or 0.0, 1) + MARKS["derived"] for name in score.CONVENTIONS if name != "paper"]
    cells = [reported_text(table.reported(row, name), 1) for name in (*score.VALUES, "glue")]
    return (row.label, "reported", DASH, *cells, *derived, "")


def _measured_row(
    evidence: Evidence, frame: pd.DataFrame, arm: str, checkpoint: str, name: str, unit: str, seconds: float
) -> tuple[str, ...]:
    time = _cell(frame, arm, checkpoint, "training_time", "reference_time") or _cell(
        frame, arm, checkpoint, "training_time", "measured_time"
    )
    values = [_cell(frame, arm, checkpoint, value, "median") for value in score.VALUES]
    scores = [_cell(frame, arm, checkpoint, f"glue_{convention}", "median") for convention in score.CONVENTIONS]
    n = max((cell.n for cell in values if cell), default=0)
    return (
        name,
        "measured",
        DASH if time is None else f"{number(time.value / seconds, 1)} {unit}",
        *(plus_minus(cell, 1) for cell in values),
        *("undefined" if cell is None else plus_minus(cell, 1) for cell in scores),
        str(n),
    )


def _glue_notes(evidence: Evidence, frame: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """What the table holds and lacks, in words."""
    notes = [
        "Measured: per pre-training seed the median over fine-tuning seeds at the learning rate with the best median "
        "on the development set (selected on the set that is reported, the same way for every arm); then the mean "
        "over n pre-training seeds, ± half of the 95 % t interval. One seed has no interval. Reported rows are the "
        "paper's; BERT-base original is on the test sets. Training time: reference time up to the checkpoint.",
        f"{score.CONVENTIONS['paper']}: geometric mean of the 12 values. {score.CONVENTIONS['nine']}: RTE, SST-2, "
        "QNLI, MNLI-m, MNLI-mm accuracy, MRPC and QQP F1, STS-B Spearman, CoLA Matthews. "
        f"{score.CONVENTIONS['official']}: mean over tasks of the mean over a task's values, without WNLI and AX.",
    ]
    if frame.empty:
        return notes
    measured = set(frame[frame["measured"].notna()]["quantity"])
    absent = [name for name in score.VALUES if name not in measured]
    if absent:
        reasons: dict[str, list[str]] = {}
        for name in absent:
            reasons.setdefault(_why_missing(evidence, name), []).append(labels[name])
        texts = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
        left = len(score.VALUES) - len(absent)
        notes.append(
            f"Not measured here: {'; '.join(texts)}. The measured GLUE scores are over {left} of 12 values, the "
            "reported ones over all: compare measured with measured."
        )
    undefined = frame[frame["quantity"].str.startswith("glue_") & frame["measured"].isna()]
    for convention, part in undefined.groupby("quantity", sort=False):
        where = ", ".join(f"{row['label']} {row['checkpoint']}" for row in part.to_dict("records"))
        guilty = [labels[name] for name in score.VALUES if any(name in note for note in part["note"])]
        notes.append(
            f"{score.CONVENTIONS[str(convention)[5:]]} is undefined where a value is not positive "
            f"({', '.join(guilty)}): {where}."
        )
    return notes


def _why_missing(evidence: Evidence, name: str) -> str:
    task, split, _ = score.VALUES[name]
    for run in evidence.finetune:
        reason = run.missing.get(task, {}).get(split)
        if reason:
            return reason
    if any(task in run.summary["tasks"] for run in evidence.finetune):
        return "not in the data"
    return "task not fine-tuned at this scale"


TABLES = {"table1": (table1, table1_panels), "table2": (table2, table2_panels)}


def write_table(name: str, evidence: Evidence, paper: Paper, out_prefix: Path) -> None:
    """Write ``out_prefix``.csv (tidy, full precision), .md and .tex of a table."""
    if name not in TABLES:
        raise ValueError(f"unknown table {name!r}; allowed: {', '.join(TABLES)}")
    tidy, panels = TABLES[name]
    rendered = panels(evidence, paper)
    with records.atomic_path(out_prefix.with_name(out_prefix.name + ".csv")) as temporary:
        tidy(evidence, paper).to_csv(temporary, index=False)
    markdown = "\n".join(panel.markdown() for panel in rendered)
    records.write_text(out_prefix.with_name(out_prefix.name + ".md"), markdown)
    latex = "\n\n".join(panel.latex() for panel in rendered)
    records.write_text(out_prefix.with_name(out_prefix.name + ".tex"), latex + "\n")
