"""How far a study is: from the files that its jobs leave."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from pldrepro.config.base import read_mapping
from pldrepro.config.study import load_study
from pldrepro.costs.status import render_status, rows
from pldrepro.errors import LockedError
from pldrepro.records import write_record
from pldrepro.runs.lock import holder_path, locked
from pldrepro.runs.schema import PretrainJob, ValidationLine


def test_jobs_are_done_running_or_missing_and_the_rest_is_timed(tmp_path: Path) -> None:
    study = load_study({**read_mapping(Path("config/smoke.yaml")), "results": str(tmp_path), "companions": None})
    summary = Path(study.runs, "pretrain/pld/seed1/summary.json")
    summary.parent.mkdir(parents=True)
    summary.touch()
    measured = tmp_path / "benchmarks/pretrain/pld-seed1.tsv"
    measured.parent.mkdir(parents=True)
    measured.write_text("s\th:m:s\tmax_rss\n30.0\t0:00:30\t1\n")
    running = Path(study.runs, "pretrain/baseline/seed2")
    running.mkdir(parents=True)
    write_record(running / "settings.json", PretrainJob.model_validate(study.run("baseline", 2).model_dump()))
    line = ValidationLine(kind="validation", step=20, samples=8, flops=1.0, train_seconds=5.0, loss=6.0)
    (running / "metrics.jsonl").write_text(json.dumps(line.dump()) + '\n{"step": 3')
    with locked(running):
        found = {(row.stage, row.arm): row for row in rows(study)}
        text = render_status(study)
    pld, baseline = found["pre-training", "pld"], found["pre-training", "baseline"]
    assert (pld.done, len(pld.running), pld.missing, pld.seconds) == (1, 0, 1, 30.0)
    assert (baseline.done, len(baseline.running), baseline.missing, baseline.seconds) == (0, 1, 1, 45.0)
    assert found["fine-tuning", "pld"].seconds is None
    assert "pretrain/baseline/seed2, step 20 of 40; host " in text
    assert not [row for row in rows(study) if row.running]
    with holder_path(running).open("w") as note:  # of a dead process whose number another one has by now
        json.dump({"host": socket.gethostname(), "pid": os.getpid()}, note)
    measured.write_text("s\th:m:s\tmax_rss\n3")  # it is being written
    assert not [row for row in rows(study) if row.running]
    holder_path(running).write_text("")
    with pytest.raises(LockedError), locked(running), locked(running):
        pass
