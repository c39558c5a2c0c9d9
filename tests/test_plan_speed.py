"""Planning stays fast: a benchmark that runs from end to end, and limits twice as wide as its goals."""

from __future__ import annotations

import pytest

from benchmarks.plan_speed import GOALS, main


@pytest.mark.slow
def test_a_thousand_runs_are_planned_in_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = main(["--runs", "1000", "--repetitions", "1"])
    assert "goal 10 s" in capsys.readouterr().out
    assert list(seconds) == ["plan", "dry run", "nothing to do"]
    for name, goal in GOALS.items():
        assert seconds[name][1] < 2 * goal, name  # CPU: a shared machine may be slow


@pytest.mark.slow
def test_fine_tuning_is_planned_with_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--runs", "10", "--finetune", "--repetitions", "1"])
    text = capsys.readouterr().out
    assert "10 pre-training runs with fine-tuning and probes" in text
    assert "goal" not in text
