"""Tables 1 and 2 from synthetic runs: values, intervals only where they exist, marks, words for what is missing."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pldrepro.analysis import glue_scores, text
from pldrepro.analysis.arms import repriced
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits import latex, layout, tables
from pldrepro.exhibits.text import time_unit
from pldrepro.stats import Estimate
from tests.support import runs
from tests.support.runs import load_evidence
from tests.support.tables import shown

PAPERS = load_papers()
PLD = PAPERS["pld"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("study")
    paths = runs.write_study(root, seeds=(1, 2))
    glue_scores.write_scores(paths["finetune"], root / "scores.csv")
    return {**paths, "scores": root / "scores.csv"}


@pytest.fixture(scope="module")
def evidence(study: dict[str, Any]) -> Evidence:
    return load_evidence(**study)


def cell(frame: pd.DataFrame, **keys: str) -> Any:
    for name, value in keys.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_table_1_has_measured_and_reported_beside_each_other(evidence: Evidence) -> None:
    frame = tables.table1(evidence, PLD)
    cost = cell(frame, arm="baseline", checkpoint="ckp186", quantity="cost", cost_axis="reference_time")
    assert cost["measured"] == pytest.approx(5.6)
    assert (cost["unit"], cost["n"], cost["reported"], cost["reported_unit"]) == ("s", 2, 38.45, "h")
    speedup = cell(frame, arm="pld", checkpoint="ckp87", quantity="speedup", cost_axis="reference_time")
    assert (speedup["reported"], speedup["provenance"]) == (2.8, "verified")
    reduction = cell(frame, arm="pld", checkpoint="ckp87", quantity="sample_reduction")
    assert reduction["measured"] == pytest.approx(55.0)
    saving = cell(frame, arm="pld", checkpoint="ckp186", quantity="saving_per_sample", cost_axis="flops")
    assert saving["reported"] == 25
    assert saving["low"] < saving["measured"] < saving["high"]


def test_the_twin_without_dropping_saves_nothing(evidence: Evidence) -> None:
    frame = tables.table1(evidence, PLD)
    saving = cell(
        frame, arm="preln_higher", checkpoint="ckp186", quantity="saving_per_sample", cost_axis="reference_time"
    )
    assert saving["measured"] == pytest.approx(0)


def test_unverified_numbers_keep_their_mark_and_footnote(evidence: Evidence) -> None:
    time, _ = shown("table1", evidence)
    rows = {row[0]: row for row in time.rows}
    assert rows["PLD ckp87"][1] == "13.53†"
    assert rows["PLD ckp186"][1] == "29.22"
    assert "† reported value not checked against the paper itself." in time.footnotes


def test_early_checkpoints_stand_in_table_1_where_the_paper_has_them(evidence: Evidence) -> None:
    time, _ = shown("table1", evidence)
    assert [row[0] for row in time.rows] == [
        "PostLN baseline ckp186", "PreLN, higher learning rate ckp186", "PLD ckp87", "PLD ckp100", "PLD ckp186",
    ]  # fmt: skip


def test_one_seed_shows_no_interval(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, arm, 1) for arm in ("baseline", "pld")]
    evidence = load_evidence(pretrain, calibration=runs.write_calibration(tmp_path))
    frame = tables.table1(evidence, PLD)
    assert frame["low"].isna().all()
    assert frame["high"].isna().all()
    assert all("[" not in value for table in shown("table1", evidence) for row in table.rows for value in row)


def test_table_1_does_without_reference_time(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, arm, seed) for arm in ("baseline", "pld") for seed in (1, 2)]
    for folder in pretrain:
        text = (folder / "summary.json").read_text()
        text = "\n".join(
            line.split(":")[0] + ": null," if "reference_seconds" in line else line for line in text.splitlines()
        )
        (folder / "summary.json").write_text(text)
    frame = tables.table1(load_evidence(pretrain), PLD)
    assert cell(frame, arm="pld", checkpoint="ckp186", quantity="speedup", cost_axis="reference_time")["n"] == 0
    assert cell(frame, arm="pld", checkpoint="ckp186", quantity="speedup", cost_axis="measured_time")["n"] == 2


@pytest.mark.parametrize(("slowdown", "named"), [(1.4, False), (1.6, True)])
def test_arms_whose_runs_other_work_slowed_down_are_named(tmp_path: Path, slowdown: float, named: bool) -> None:
    """Runs of one arm do the same work in every step; seed 2 took longer."""
    pretrain = [
        runs.write_pretrain(tmp_path, arm, seed, slowdown=slowdown if (arm, seed) == ("pld", 2) else 1.0)
        for arm in ("baseline", "pld")
        for seed in (1, 2)
    ]
    evidence = load_evidence(pretrain)
    factor = max(own := [run.summary.train_seconds / run.summary.steps for run in evidence.runs("pld")]) / min(own)
    assert (factor > 1.5) == named
    for table in shown("table1", evidence):
        (note,) = [one for one in table.notes if one.startswith("Measured time is that of the runs themselves")]
        assert note.endswith(f"as the quickest in: PLD ({factor:.1f})." if named else "as another of its arm.")


def test_a_price_that_a_run_noted_by_another_calibration_is_told(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, arm, 1) for arm in ("baseline", "pld")]
    evidence = load_evidence(pretrain, calibration=runs.write_calibration(tmp_path))
    assert repriced(evidence) == (0, 1.0)
    first, *rest = evidence.pretrain
    other = replace(
        first,
        summary=first.summary.model_copy(update={"reference_seconds": (first.summary.reference_seconds or 0) / 2}),
    )
    changed = replace(evidence, pretrain=(other, *rest))
    assert repriced(changed) == (1, pytest.approx(2.0))
    assert any("summaries of 1 of 2 runs" in note for note in shown("table1", changed)[1].notes)
    assert not any("summaries of" in note for note in shown("table1", evidence)[1].notes)


def test_table_2_has_every_value_and_all_three_scores(evidence: Evidence) -> None:
    frame = tables.table2(evidence, PLD)
    part = frame[(frame["arm"] == "pld") & (frame["checkpoint"] == "ckp186")]
    medians = part[part["statistic"] == "median"]
    assert list(medians["quantity"]) == [
        *glue_scores.VALUES,
        "glue_paper",
        "glue_nine",
        "glue_official",
        "tasks_above_floor",
    ]
    assert set(medians["n"][:-1]) == {2}
    assert medians["n"].iloc[-1] == 0  # without an arm from scratch no task is above its floor
    glue = cell(part, quantity="glue_paper", statistic="median")
    assert (glue["reported"], glue["provenance"], glue["note"]) == (83.2, "unverified", "12 of 12 values")
    time = cell(part, quantity="training_time", cost_axis="measured_time")
    assert time["measured"] > 0


def test_reported_scores_in_the_other_conventions_are_derived(evidence: Evidence) -> None:
    frame = tables.table2(evidence, PLD)
    nine = cell(frame, arm="baseline", checkpoint="ckp186", quantity="glue_nine")
    assert nine["reported"] == pytest.approx(81.2, abs=0.05)
    assert nine["provenance"] == "derived"
    assert cell(frame, arm="pld", checkpoint="ckp87", quantity="glue_nine")["provenance"] == "unverified"


def test_an_arm_outside_table_2_is_compared_with_the_ablation(evidence: Evidence) -> None:
    frame = tables.table2(evidence, PLD)
    glue = cell(frame, arm="preln_higher", checkpoint="ckp186", quantity="glue_paper")
    assert (glue["reported"], glue["reported_where"]) == (82.6, "Table 3")


def test_missing_tasks_and_splits_are_said_in_words(tmp_path: Path) -> None:
    missing = {"mnli": {"dev_mismatched": "the source has no dev_mismatched.tsv"}}
    pretrain, finetune = [], []
    for arm in ("baseline", "pld"):
        pretrain.append(runs.write_pretrain(tmp_path, arm, 1))
        finetune.append(runs.write_finetune(tmp_path, arm, 1, tasks=["rte", "mnli"], missing=missing))
    glue_scores.write_scores(finetune, tmp_path / "scores.csv")
    (table,) = shown("table2", load_evidence(pretrain, finetune, scores=tmp_path / "scores.csv"))
    notes = " ".join(table.notes)
    assert "MNLI-mm (the source has no dev_mismatched.tsv)" in notes
    assert "QNLI, QQP F1, QQP Acc (task not fine-tuned at this scale)" in notes
    assert "over 2 of 12 values" in notes


def test_an_undefined_geometric_mean_is_said_in_words(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, "baseline", 1)]
    finetune = [runs.write_finetune(tmp_path, "baseline", 1, tasks=["rte", "cola"])]
    frame = glue_scores.score(finetune)
    frame.loc[frame["task"] == "cola", "value"] = 0.0
    frame.to_csv(tmp_path / "scores.csv", index=False)
    (table,) = shown("table2", load_evidence(pretrain, finetune, scores=tmp_path / "scores.csv"))
    assert table.rows[-1][table.headers.index("GLUE (paper)")] == "undefined"
    expected = "GLUE (paper) is undefined where a value is not positive (CoLA): PostLN baseline ckp186."
    assert expected in table.notes


def test_without_fine_tuning_table_2_is_the_papers_row_alone(study: dict[str, Any]) -> None:
    evidence = load_evidence(study["pretrain"])
    assert tables.table2(evidence, PLD).empty
    (table,) = shown("table2", evidence)
    assert [row[0] for row in table.rows] == ["BERT-base original"]


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_a_table_is_written_in_every_format(evidence: Evidence, tmp_path: Path, name: str) -> None:
    tables.write_table(name, evidence, PAPERS, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{suffix}" for suffix in ("csv", "html", "md", "paper.tex", "tex")
    ]
    tidy = pd.read_csv(tmp_path / f"{name}.csv")
    assert {
        "arm",
        "checkpoint",
        "cost_axis",
        "statistic",
        "measured",
        "low",
        "high",
        "n",
        "reported",
        "provenance",
    } <= set(tidy)
    header, rule, *_ = [line for line in (tmp_path / f"{name}.md").read_text().splitlines() if line.startswith("|")]
    assert header.count("|") == rule.count("|")
    text = (tmp_path / f"{name}.tex").read_text()
    assert r"$^\dagger$" in text
    assert "†" not in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}")
    assert rf"\label{{tab:{name}-paper}}" in (tmp_path / f"{name}.paper.tex").read_text()


def test_an_unknown_table_is_refused(evidence: Evidence, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'table9'"):
        tables.write_table("table9", evidence, PAPERS, tmp_path / "x")


def test_numbers_as_text() -> None:
    assert text.number(-0.04, 1) == "0.0"
    assert text.number(-1.25, 2) == "−1.25"
    assert text.estimate_text(Estimate(1.0, 0.5, 1.5, 2, ""), 2) == "1.00 [0.50, 1.50]"
    assert text.estimate_text(Estimate(1.0, None, None, 1, ""), 2) == "1.00"
    assert time_unit([10, 30]) == ("s", 1.0)
    assert time_unit([400]) == ("min", 60.0)
    assert time_unit([90000]) == ("h", 3600.0)


ROW = {
    "quantity": "speedup", "statistic": "", "measured": 1.234, "low": 1.1, "high": 1.368, "n": 3, "values": "",
    "reported": 2.8, "provenance": "unverified", "note": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("show", "text", "interval"),
    [
        (layout.interval, "1.23", "[1.10, 1.37]"),
        (layout.plus_minus, "1.23", "±0.13"),
        (layout.value, "1.23", ""),
        (layout.reported, "2.80†", ""),
        (layout.count, "3", ""),
    ],
)
def test_a_column_shows_a_tidy_row_in_its_own_way(show: layout.Show, text: str, interval: str) -> None:
    cell = layout.Line({}, [ROW]).cell(layout.ColumnLayout("x", "speedup", 2, show))
    assert (cell.text, cell.interval) == (text, interval)


@pytest.mark.parametrize("show", [layout.interval, layout.plus_minus])
def test_two_values_are_shown_themselves(show: layout.Show) -> None:
    two = {**ROW, "n": 2, "values": "0.5 0.25", "reported": None}
    cell = layout.Line({}, [two]).cell(layout.ColumnLayout("x", "speedup", 1, show, of=lambda value: 100 * value))
    assert (cell.text, cell.interval) == ("50.0 / 25.0", "")


def test_what_is_not_measured_is_a_dash_or_the_columns_own_word() -> None:
    nothing = {**ROW, "measured": None, "low": None, "high": None}
    line = layout.Line({}, [nothing])
    assert str(line.cell(layout.ColumnLayout("x", "speedup"))) == "–"
    assert str(line.cell(layout.ColumnLayout("x", "speedup", absent="undefined"))) == "undefined"
    assert str(line.cell(layout.ColumnLayout("x", "loss"))) == "–"


def test_two_rows_for_one_column_are_refused() -> None:
    with pytest.raises(ValueError, match="'x'"):
        layout.Line({}, [ROW, ROW]).cell(layout.ColumnLayout("x", "speedup"))


def test_a_column_of_words_needs_them() -> None:
    assert layout.Line({"arm": "PLD"}).cell(layout.ColumnLayout("arm")).text == "PLD"
    with pytest.raises(ValueError, match="'arm'"):
        layout.Line({}).cell(layout.ColumnLayout("arm"))


SMALL = layout.TableLayout(
    "a_b & 5 %",
    (
        layout.ColumnLayout("arm"),
        layout.ColumnLayout("speedup", "speedup", 1),
        layout.ColumnLayout("reported", "speedup", 1, layout.reported),
    ),
    (layout.Line({"arm": "PLD <1>"}, [ROW]),),
    ("A note.",),
)


def test_one_declaration_is_set_in_every_format() -> None:
    assert SMALL.rows == (("PLD <1>", "1.2 [1.1, 1.4]", "2.8†"),)
    assert "| PLD <1> | 1.2 [1.1, 1.4] | 2.8† |" in SMALL.markdown()
    text = latex.latex([SMALL], "small")
    assert r"\caption{A\_b \& 5 \%}" in text
    assert r"\label{tab:small}" in text
    assert r"PLD $<$1$>$ & " in text
    assert r"1.2 \\ {\scriptsize {[}1.1, 1.4{]}}" in text
    assert r"2.8$^\dagger$ \\" in text
    assert text.index(r"\end{tabular}" + "\n\\par") < text.index("A note.")
    assert "resizebox" not in text
    page = layout.html([SMALL], "table-small")
    assert '<h3 id="table-small">a_b &amp; 5 %</h3>' in page
    assert "<td>PLD &lt;1&gt;</td>" in page
    assert '<td class="number">1.2<small>[1.1, 1.4]</small></td>' in page
    assert '<td class="number reported">2.8†</td>' in page


def test_a_mark_brings_its_footnote() -> None:
    assert SMALL.footnotes == ("A note.", "† reported value not checked against the paper itself.")


# ---- what has no value ----

EMPTY = {**ROW, "measured": None, "low": None, "high": None, "n": 0}
GAPS = layout.TableLayout(
    "Table 3: gaps",
    (
        layout.ColumnLayout("arm"),
        layout.ColumnLayout("speedup", "speedup", 1),
        layout.ColumnLayout("loss", "loss", 1),
        layout.ColumnLayout("n", "speedup", show=layout.count),
    ),
    (layout.Line({"arm": "PLD"}, [ROW]), layout.Line({"arm": "other"}, [EMPTY]), layout.Line({"arm": ""}, [EMPTY])),
)


def test_lines_and_columns_without_a_number_are_left_out_and_named() -> None:
    trimmed = GAPS.trimmed()
    assert trimmed.headers == ("arm", "speedup", "n")
    assert trimmed.rows == (("PLD", "1.2 [1.1, 1.4]", "3"),)
    assert trimmed.notes == ("Without a number here: other.",)
    assert SMALL.trimmed() == SMALL


def test_a_line_without_a_name_stays_with_the_one_before_it() -> None:
    lines = (layout.Line({"arm": "PLD"}, [EMPTY]), layout.Line({"arm": ""}, [ROW]))
    assert len(replace(GAPS, lines=lines).trimmed().lines) == 2


def test_the_papers_own_columns_are_those_in_which_it_reports() -> None:
    more = replace(SMALL, columns=(*SMALL.columns, layout.ColumnLayout("loss", "loss", 1)))
    own = more.papers_own()
    assert own is not None
    assert own.headers == ("arm", "speedup", "reported")
    assert GAPS.papers_own() is None


def test_the_papers_own_table_has_its_lines_and_the_notes_of_its_columns() -> None:
    """An arm that the paper does not have, and what is said of a column that is dropped, are not in it."""
    columns = (*SMALL.columns, layout.ColumnLayout("loss", "loss", 1, note="Of the loss."))
    other = layout.Line({"arm": "another"}, [{**ROW, "reported": None}])
    own = replace(SMALL, columns=columns, lines=(*SMALL.lines, other)).papers_own()
    assert own is not None
    assert (own.lines, own.footnotes) == (SMALL.lines, SMALL.footnotes)
    assert "Of the loss." in replace(SMALL, columns=columns).footnotes


def test_table_1_as_the_paper_has_it_shows_the_time_of_the_claim(evidence: Evidence) -> None:
    frame, found = tables.build("table1", evidence, PAPERS)
    savings = found[1].papers_own()
    assert savings is not None
    turn = frame[(frame["cost_axis"] == "measured_in_turn") & frame["measured"].notna()]
    shown = {"measured in turn", "reference time"} & set(savings.headers)
    assert shown == ({"measured in turn"} if len(turn) else {"reference time"})
    assert {line.words["arm"] for line in savings.lines} == {"PLD"}


@pytest.mark.parametrize(
    ("title", "caption"),
    [
        ("Table 3 of the PLD paper: cost and loss, study demo", "PLD paper: cost and loss, study demo"),
        ("Table 1, continued: saving per sample", "Saving per sample"),
        ("SBLD (our reading), table 1: layer dropping on GPT", "SBLD (our reading): layer dropping on GPT"),
    ],
)
def test_captions_have_no_number_but_latexs(title: str, caption: str) -> None:
    assert rf"\caption{{{caption}}}" in latex.latex([replace(SMALL, title=title)], "small")


# ---- LaTeX ----


def test_a_wide_table_is_set_as_several_with_one_number_and_notes_below_the_last() -> None:
    columns = [layout.ColumnLayout(f"a long header of column {place}", "speedup", 1) for place in range(12)]
    wide = replace(SMALL, title="Table 7: wide", columns=(layout.ColumnLayout("arm"), *columns))
    text = latex.latex([wide], "wide")
    assert text.count(r"\begin{table}") > 1
    assert r"\caption{Wide}" in text
    assert r"\caption{Wide, continued}" in text
    assert text.count("A note.") == 1
    assert r"\label{tab:wide-2}" in text
    assert text.count("PLD $<$1$>$") == text.count(r"\begin{table}")


LONG = replace(
    SMALL, title="Table 8: long", notes=("A note. " * 150,),
    lines=tuple(layout.Line({"arm": f"PLD of a long name, number {place}"}, [ROW]) for place in range(70)),
)  # fmt: skip


def test_a_long_table_is_set_as_several_with_every_line_once_and_notes_below_the_last() -> None:
    text = latex.latex([LONG], "long")
    assert text.count(r"\begin{table}") > 2
    assert text.count(r"\caption{Long, continued}") == text.count(r"\begin{table}") - 1
    assert [int(place) for place in re.findall(r"number (\d+)", text.replace(r" \\ ", " "))] == list(range(70))
    assert text.count("A note. A note.") == 75
    assert text.rindex(r"\bottomrule") < text.index("A note. A note.")


def test_lines_of_one_name_stay_on_one_page() -> None:
    lines = [layout.Line({"arm": name}, [ROW]) for _ in range(40) for name in ("PLD", "")]
    parts = latex.latex([replace(LONG, lines=tuple(lines))], "long").split(r"\begin{table}")[1:]
    assert len(parts) > 2
    assert all(re.search(r"\\midrule\nPLD &", part) for part in parts)


def test_pdflatex_sets_every_table_within_the_line_and_the_page(evidence: Evidence, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here: install texlive-latex-recommended")
    names = list(tables.TABLES)
    for name in names:
        tables.write_table(name, evidence, PAPERS, tmp_path / name)
    texts = [(tmp_path / f"{name}.{suffix}").read_text() for name in names for suffix in ("tex", "paper.tex")]
    texts.append(latex.latex([LONG], "long"))
    (tmp_path / "all.tex").write_text(latex.document(texts), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.findall(r"Overfull \\hbox \(([0-9]{2,})", done.stdout)
    assert "Float too large" not in done.stdout
