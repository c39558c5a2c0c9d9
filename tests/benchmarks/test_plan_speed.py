"""The benchmark of planning runs from end to end; its seconds are not judged here."""

from __future__ import annotations

import pytest

from benchmarks.plan_speed import main


def test_a_plan_a_dry_run_and_a_run_with_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(main(["--runs", "10", "--finetune", "--repetitions", "1"])) == ["plan", "dry run", "nothing to do"]
    text = capsys.readouterr().out
    assert "10 pre-training runs with fine-tuning and probes" in text
    assert "goal" not in text
