"""The lock of a folder: one holder at a time, named to the others; a dead holder's lock is free."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pldrepro.errors import LockedError
from pldrepro.runs import lock as module
from pldrepro.runs.lock import lock_path, locked

FORK = multiprocessing.get_context("fork")


def hold(folder: Path, taken: Event) -> None:
    with locked(folder):
        taken.set()
        time.sleep(60)


@contextmanager
def another_holder(folder: Path) -> Iterator[multiprocessing.Process]:
    """A process that holds the lock."""
    taken = FORK.Event()
    process = FORK.Process(target=hold, args=(folder, taken))
    process.start()
    assert taken.wait(10)
    yield process  # type: ignore[misc]
    process.kill()
    process.join()


def test_the_lock_lies_beside_the_folder_and_goes_with_its_holder(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "seed1"
    with locked(folder):
        assert lock_path(folder) == tmp_path / "runs/.seed1.lock"
        assert json.loads(lock_path(folder).read_text())["pid"] == os.getpid()
        assert not folder.exists()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_live_lock_is_refused_with_the_name_of_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "417")
    with another_holder(tmp_path / "run") as process:
        with pytest.raises(LockedError, match=rf"\.run\.lock: another process .*pid {process.pid}.*slurm_job 417"):
            locked(tmp_path / "run").__enter__()
        with locked(tmp_path / "other run"):
            pass
    with locked(tmp_path / "run"):
        pass


def test_a_killed_holder_leaves_a_lock_that_is_free(tmp_path: Path) -> None:
    with another_holder(tmp_path / "run") as process:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert lock_path(tmp_path / "run").exists()
        with locked(tmp_path / "run"):
            assert json.loads(lock_path(tmp_path / "run").read_text())["pid"] == os.getpid()


def test_of_many_that_start_at_once_one_gets_it(tmp_path: Path) -> None:
    start, results = FORK.Barrier(8), FORK.Queue()

    def compete() -> None:
        start.wait()
        try:
            with locked(tmp_path / "run"):
                results.put("held")
                time.sleep(0.5)
        except LockedError:
            results.put("refused")

    processes = [FORK.Process(target=compete) for _ in range(8)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=30) for _ in processes)
    for process in processes:
        process.join()
    assert found == ["held"] + ["refused"] * 7


def left_by_another_machine(folder: Path) -> Path:
    """A lock file whose holder's ``flock`` this machine does not see."""
    path = lock_path(folder)
    path.write_text(json.dumps({"host": "node17", "pid": 1}))
    return path


def test_a_lock_of_another_machine_is_taken_when_nobody_touches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.1)
    left_by_another_machine(tmp_path / "run")
    started = time.monotonic()
    with locked(tmp_path / "run"):
        assert time.monotonic() - started >= 0.35


def test_a_lock_that_another_machine_touches_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.5)
    path = left_by_another_machine(tmp_path / "run")
    touch = threading.Timer(0.3, lambda: os.utime(path, ns=(1, 1)))
    touch.start()
    with pytest.raises(LockedError, match="host node17, pid 1"):
        locked(tmp_path / "run").__enter__()
    touch.join()


def test_a_lock_of_another_machine_that_goes_while_it_is_watched_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.5)
    path = left_by_another_machine(tmp_path / "run")
    end = threading.Timer(0.3, path.unlink)
    end.start()
    with locked(tmp_path / "run"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    end.join()


def test_a_holder_whose_lock_names_another_one_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``flock`` is kept to one machine two may start at the same moment: the last to write stays."""
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.1)
    with another_holder(tmp_path / "run") as process:
        left_by_another_machine(tmp_path / "run")
        process.join(10)
        assert process.exitcode == 1


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    with pytest.raises(LockedError, match=r"run\.lock: its file system has no locks \(Function not implemented\)"):
        locked(tmp_path / "run").__enter__()


def test_the_holder_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    with locked(tmp_path / "run"):
        path = lock_path(tmp_path / "run")
        os.utime(path, ns=(1, 1))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime_ns > 1


def test_a_lock_file_without_a_name_in_it_is_free(tmp_path: Path) -> None:
    lock_path(tmp_path / "run").write_text("half of a li")
    with locked(tmp_path / "run"):
        pass
