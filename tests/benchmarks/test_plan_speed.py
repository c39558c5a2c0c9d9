"""Planning stays fast: a benchmark that runs from end to end, and limits twice as wide as its goals."""

from __future__ import annotations

import pytest

from benchmarks.plan_speed import GOALS, main


def test_a_thousand_runs_are_planned_in_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = main(["--runs", "1000", "--repetitions", "1", "--no-rerun"])
    assert "goal 10 s" in capsys.readouterr().out
    assert seconds["dry run"][1] < 2 * GOALS["dry run"]  # CPU: a shared machine may be slow


def test_a_run_with_nothing_to_do_and_fine_tuning(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = main(["--runs", "10", "--finetune", "--repetitions", "1"])
    assert list(seconds) == ["plan", "dry run", "nothing to do"]
    assert seconds["nothing to do"][1] < 2 * GOALS["nothing to do"]
    text = capsys.readouterr().out
    assert "10 pre-training runs with fine-tuning and probes" in text
    assert "goal" not in text
