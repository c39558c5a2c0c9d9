"""Two results folders side by side: what moved, what only changed, what one of them lacks, and damaged files."""

from pathlib import Path

import pandas as pd
import pytest

from pldrepro.__main__ import main
from pldrepro.analysis import claims, glue_scores
from pldrepro.analysis.moved import compare_exhibit
from pldrepro.analysis.reported import load_papers
from pldrepro.errors import RecordError
from pldrepro.exhibits import tables
from pldrepro.exhibits.compare import compare
from tests.support import runs
from tests.support.runs import load_evidence

COLUMNS = ("arm", "label", "quantity", "measured", "low", "high", "n", "note")


def table(path: Path, *rows: tuple[object, ...]) -> Path:
    """A tidy table of rows (arm, quantity, measured, low, high)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    full = [
        (arm, f"label of {path}", quantity, value, low, high, 2, str(path)) for arm, quantity, value, low, high in rows
    ]
    pd.DataFrame(full, columns=list(COLUMNS)).to_csv(path, index=False)
    return path


def folder(
    root: Path, verdict: str = "reproduced", measured: float = 24.0, **exhibits: list[tuple[object, ...]]
) -> Path:
    """A results folder with these tables and one claim."""
    for name, rows in exhibits.items():
        table(root / "tables" / f"{name}.csv", *rows)
    claim = {
        "claim": "pld.time", "paper": "PLD", "statement": f"said in {root.name}", "measured": measured,
        "low": measured - 1, "high": measured + 1, "n": 2, "unit": "%", "verdict": verdict, "exhibit": "table1",
        "note": "",
    }  # fmt: skip
    pd.DataFrame([claim]).to_csv(root / "claims.csv", index=False)
    return root


@pytest.mark.parametrize(
    ("second", "moved"),
    [
        (("pld", "x", 14.9, 10.9, 18.9), False),  # 4.9 < hypot(3, 4) = 5
        (("pld", "x", 15.1, 11.1, 19.1), True),
        (("pld", "x", 4.9, 0.9, 8.9), True),
        (("pld", "x", 15.1, 11.1, 16.0), True),  # the half widths that face each other count
        (("pld", "x", 15.1, 7.0, 15.2), False),
    ],
)
def test_a_row_moves_when_the_difference_lies_outside_the_combined_interval(
    tmp_path: Path, second: tuple[object, ...], moved: bool
) -> None:
    files = table(tmp_path / "a.csv", ("pld", "x", 10.0, 7.0, 13.0)), table(tmp_path / "b.csv", second)
    for one in (compare_exhibit(*files), compare_exhibit(*reversed(files))):
        assert one["happened"].tolist() == ["moved" if moved else ""]
        assert one["limit"].notna().all()
    if moved and second[2] == 15.1 and second[3] == 11.1:
        (change,) = compare_exhibit(*files).to_dict("records")
        assert (change["row"], change["measured_a"], change["measured_b"]) == ("pld · x", 10.0, 15.1)
        assert change["limit"] == pytest.approx(5)


def happened(first: Path, second: Path) -> dict[str, str]:
    """Row -> what happened to it, of the rows to which something did."""
    rows = compare_exhibit(first, second)
    return {row: what for row, what in zip(rows["row"], rows["happened"], strict=True) if what}


def test_numbers_without_an_interval_are_only_said_to_change(tmp_path: Path) -> None:
    first = [
        ("pld", name, value, low, high)
        for name, value, low, high in (
            ("little", 100.0, None, None),
            ("much", 100.0, None, None),
            ("half", 100.0, 99.0, 101.0),
            ("zero", 0.0, None, None),
        )
    ]
    second = [
        ("pld", name, value, None, None)
        for name, value in (("little", 104.0), ("much", 106.0), ("half", 50.0), ("zero", 0.0))
    ]
    files = table(tmp_path / "a.csv", *first), table(tmp_path / "b.csv", *second)
    assert compare_exhibit(*files)["limit"].isna().all()
    assert happened(*files) == {"pld · much": "changed", "pld · half": "changed"}


def test_numbers_that_do_not_vary_are_compared_exactly_and_no_chance_moves_them(tmp_path: Path) -> None:
    rounding = 0.1 + 0.2  # not 0.3
    same, others = [("pld", "same", 0.3, 0.3, 0.3)], [("pld", "same", rounding, rounding, 0.3)]
    first = folder(tmp_path / "a", x=[*same, ("pld", "other", 640, 640, 640)])
    second = folder(tmp_path / "b", x=[*others, ("pld", "other", 641, 641, 641)])
    assert happened(first / "tables/x.csv", second / "tables/x.csv") == {"pld · other": "moved"}
    assert "| x | 2 | 1 | 0.0 |" in compare(first, second)


def test_rows_of_one_side_are_named(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", ("pld", "x", 1, 0, 2), ("pld", "y", 1, 0, 2), ("pld", "z", None, None, None))
    second = table(tmp_path / "b.csv", ("pld", "x", 1, 0, 2), ("pld", "y", None, None, None), ("sbld", "x", 1, 0, 2))
    assert happened(first, second) == {"pld · y": "only A", "sbld · x": "only B"}


def test_an_empty_table_and_a_new_key_column_are_no_damage(tmp_path: Path) -> None:
    first, empty = table(tmp_path / "a.csv", ("pld", "x", 1, 0, 2)), tmp_path / "b.csv"
    pd.DataFrame().to_csv(empty, index=False)
    assert happened(first, empty) == {"pld · x": "only A"}
    assert happened(empty, first) == {"pld · x": "only B"}
    assert happened(empty, empty) == {}
    wider = tmp_path / "c.csv"
    pd.read_csv(first).assign(against="").to_csv(wider, index=False)
    assert compare_exhibit(first, wider)["limit"].notna().sum() == 1


def test_a_folder_and_itself(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", table1=[("pld", "x", 1, 0, 2), ("pld", "y", 1, None, None)])
    text = compare(one, one)
    assert "0 of 2 compared rows moved (0.1 expected by chance), 0 verdicts changed.\n" in text
    assert "##" not in text


def test_a_whole_study_and_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pldrepro.analysis.significance.RESAMPLES", 100)
    paths = runs.write_study(tmp_path, seeds=(1, 2))
    glue_scores.write_scores(paths["finetune"], tmp_path / "scores.csv")
    evidence = load_evidence(**paths, scores=tmp_path / "scores.csv")
    papers = load_papers()
    for name in tables.TABLES:
        tables.write_table(name, evidence, papers, tmp_path / "tables" / name)
    claims.write_claims(evidence, papers, tmp_path / "claims.csv")
    text = compare(tmp_path, tmp_path)
    assert "\n0 of " in text
    assert " 0 verdicts changed." in text
    assert all(f"| {name} |" in text for name in (*tables.TABLES, "claims"))


def test_what_moved_changed_or_is_missing_is_said_exhibit_by_exhibit(tmp_path: Path) -> None:
    first = folder(
        tmp_path / "one", table1=[("pld", "x", 1, 0, 2), ("pld", "y", 1, None, None), ("pld", "z", 1, 0, 2)], table2=[]
    )
    second = folder(
        tmp_path / "two",
        verdict="inconclusive",
        table1=[("pld", "x", -9, -10, -8), ("pld", "y", 2, None, None)],
        seeds=[],
    )
    text = compare(first, second)
    assert "1 of 2 compared rows moved (0.1 expected by chance), 1 verdicts changed." in text
    assert "| table1 | 1 | 1 | 0.1 | 1 | 1 | 1 | 0 | 0 |" in text
    assert "| claims | 1 | 0 | 0.1 | 0 | 0 | 0 | 0 | 1 |" in text
    assert "| pld · x | 1 | −9 | −10 | 1.414 |" in text
    assert "| pld · y | 1 | 2 | 1 | none |" in text
    assert "Measured in A only: pld · z." in text
    assert "| pld.time · % | reproduced | inconclusive |" in text
    assert "Only A has table2." in text
    assert "Only B has seeds." in text


def test_claims_that_are_worded_anew_are_the_same_claims(tmp_path: Path) -> None:
    first, second = (
        folder(tmp_path / name, table1=[], measured=value) for name, value in (("one", 24.0), ("two", 30.0))
    )
    text = compare(first, second)
    assert "| pld.time · % | 24 | 30 | 6 | 1.414 |" in text
    assert "only:" not in text


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    whole = folder(tmp_path / "whole", table1=[("pld", "x", 1, 0, 2)])
    for other in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RecordError, match=other.name):
            compare(whole, other)
    (whole / "claims.csv").unlink()
    with pytest.raises(RecordError, match=r"claims\.csv"):
        compare(whole, whole)


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    good, bad = table(tmp_path / "a.csv", ("pld", "x", 1, 0, 2)), tmp_path / "b.csv"
    table(bad, ("pld", "x", 1, 0, 2), ("pld", "x", 2, 0, 3))
    with pytest.raises(RecordError, match=r"b\.csv: .*'pld · x'"):
        compare_exhibit(good, bad)
    table(bad, ("pld", "x", "many", 0, 2))
    with pytest.raises(RecordError, match=r"b\.csv: .*pld · x: .*many"):
        compare_exhibit(good, bad)
    bad.write_text("arm,quantity\npld,x\n")
    with pytest.raises(RecordError, match=r"b\.csv: column high, low, measured, n"):
        compare_exhibit(good, bad)
    bad.write_text('arm,measured,low,high,n\n"pld,1,0,2,2\n')
    with pytest.raises(RecordError, match=r"b\.csv"):
        compare_exhibit(good, bad)


def test_the_verb_prints_or_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = folder(tmp_path / "one", table1=[("pld", "x", 1, 0, 2)])
    assert main(["study", "compare", str(one), str(one)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# What moved\n")
    assert main(["study", "compare", str(one), str(one), "--out", str(tmp_path / "moved.md")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "moved.md").read_text() == printed
    assert main(["study", "compare", str(one), str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith(f"RecordError: {tmp_path / 'nowhere'}: ")
