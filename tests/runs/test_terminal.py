"""What the terminal shows of a workflow: records of Snakemake's events in, lines out."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest

from pldrepro.runs import terminal
from pldrepro.runs.terminal import Terminal, duration, error_text, not_shown_here


def record(event: str | None, **fields: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": "text", **fields})
    made.event = event
    return made


def start(number: int, rule: str, **wildcards: str) -> logging.LogRecord:
    return record("job_info", jobid=number, rule_name=rule, wildcards=wildcards)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time [s], to be moved."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_a_line_names_the_job_how_many_are_done_and_the_time_left(clock: list[float]) -> None:
    stream = io.StringIO()
    shown = Terminal(stream)
    shown.emit(record("run_info", stats={"settings": 1, "pretrain": 6, "total": 7}))
    shown.emit(start(99, "pretrain"))  # nothing has begun: a dry run
    shown.begin([])
    for job in range(4):
        shown.emit(start(job, "pretrain", study="results/demo", arm="pld", seed=str(job)))
        clock[0] += 60
        shown.emit(record("job_finished", job_id=job))
    shown.emit(start(8, "settings", study="results/demo", job="data"))
    shown.emit(start(9, "finetune", study="results/demo/gpt", arm="pld", seed="2", checkpoint="ckp9", group="glue"))
    assert stream.getvalue().splitlines() == [
        "[0 of 7] pretrain pld seed 0",
        "[1 of 7] pretrain pld seed 1",
        "[2 of 7] pretrain pld seed 2",
        "[3 of 7 · about 3 min left] pretrain pld seed 3",
        "[4 of 7 · about 2 min left] finetune gpt pld seed 2 ckp9 glue",
    ]


def test_the_error_of_a_job_is_its_logs_last_one(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        "  5%|##\r 10%|####\rDataError: a.txt: line 1\n"
        "rank 0: LockedError: another process\nrank 1: RuntimeError: Connection closed by peer\n"
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \nroot cause\n"
    )
    job = {"rule_name": "pretrain", "log": [str(log)]}
    assert error_text(job) == f"pretrain failed: rank 0: LockedError: another process\n    log: {log}"
    log.write_text("Killed\n")
    assert str(log) in error_text(job)
    assert "none" in error_text({"rule_name": "pretrain", "log": []})


def test_a_job_that_the_cluster_did_not_take_says_why_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("DataError: of an earlier attempt\n")
    said = "SLURM sbatch failed. The error message was 'sbatch: error: one\nsbatch: error: two'."
    further = "For further error details see the cluster/cloud log."
    job = {"rule_name": "pretrain", "log": [str(log)], "output": ["a/summary.json"], "aux": {}}
    lines = error_text({**job, "rule_msg": f"{said}\n    sbatch call:\n        sbatch -p x\n{further}"}).splitlines()
    assert lines == [f"pretrain was not submitted: {' '.join(said.split())}", "    output: a/summary.json"]
    ended = {**job, "aux": {"external_jobid": "7"}, "rule_msg": f"SLURM status is: 'TIMEOUT'.{further}"}
    assert error_text(ended) == f"pretrain failed: DataError: of an earlier attempt\n    log: {log}"
    log.write_text("  5%|##\r")
    assert error_text(ended) == f"pretrain failed: SLURM status is: 'TIMEOUT'.\n    log: {log}"


def test_the_error_of_a_group_is_one_line_for_each_job(tmp_path: Path) -> None:
    stream = io.StringIO()
    shown = Terminal(stream)
    shown.begin([])
    shown.emit(record("group_error", job_error_info=[{"rule_name": name, "log": []} for name in ("probe", "early")]))
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["probe", "early"]


def test_other_handlers_leave_out_what_is_shown_here() -> None:
    for event in ("job_finished", "progress", "job_started"):
        assert not not_shown_here(record(event))
    assert not_shown_here(record(None))
    assert not_shown_here(record("job_error"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.016, "0.016 s"), (17, "17 s"), (119, "2 min"), (3 * 3600, "3 h"), (5 * 86400, "5 days"), (1.2e8, "3.8 years")],
)
def test_times_are_in_units_that_people_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text
