"""The lock of a folder: one holder at a time, named to the others; a dead holder's lock is free."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pldrepro.errors import LockedError
from pldrepro.files import read_json, write_json
from pldrepro.runs import lock
from pldrepro.runs.lock import holder_path, locked

FORK = multiprocessing.get_context("fork")
DEADLINE = 120  # s; reached only by a process that hangs


def hold(folder: Path, taken: Event, go_on: Event) -> None:
    with locked(folder):
        taken.set()
        go_on.wait(DEADLINE)


@contextmanager
def another_holder(folder: Path) -> Iterator[multiprocessing.Process]:
    """A process that holds the lock until it is told to go on."""
    taken, go_on = FORK.Event(), FORK.Event()
    process = FORK.Process(target=hold, args=(folder, taken, go_on))
    process.start()
    assert taken.wait(DEADLINE)
    yield process  # type: ignore[misc]
    if process.is_alive():  # an event waits for the answer of a killed process for ever
        go_on.set()
    process.join(DEADLINE)


def test_the_note_is_next_to_the_folder_and_goes_with_its_holder(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "seed1"
    with locked(folder):
        assert holder_path(folder) == tmp_path / "runs/.seed1.holder.json"
        assert read_json(holder_path(folder))["pid"] == os.getpid()
        assert not folder.exists()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".seed1.lock"]


def test_a_live_lock_is_refused_with_the_name_of_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "417")
    with another_holder(tmp_path / "run") as process:
        with pytest.raises(LockedError, match=rf"run\.lock: .*host .*pid {process.pid}, since .*slurm_job 417"):
            locked(tmp_path / "run").__enter__()
        with locked(tmp_path / "other run"):
            pass
    with locked(tmp_path / "run"):
        pass


def test_a_killed_holder_leaves_a_lock_that_is_free(tmp_path: Path) -> None:
    with another_holder(tmp_path / "run") as process:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert read_json(holder_path(tmp_path / "run"))["pid"] == process.pid
        with locked(tmp_path / "run"):
            assert read_json(holder_path(tmp_path / "run"))["pid"] == os.getpid()


@pytest.mark.parametrize("stale", [None, {"pid": 2**22 + 1}])
def test_a_refusal_waits_for_the_note_of_a_holder_that_has_just_begun(
    tmp_path: Path, stale: dict[str, int] | None
) -> None:
    """No note yet, or that of a killed holder before: never an unnamed or a dead one."""
    note = holder_path(tmp_path / "run")
    with another_holder(tmp_path / "run") as process:
        written = read_json(note)
        note.unlink()
        if stale is not None:
            write_json(note, {**written, **stale})
        later = threading.Timer(0.1, write_json, (note, written))
        later.start()
        with pytest.raises(LockedError, match=f"pid {process.pid}"):
            locked(tmp_path / "run").__enter__()
        later.join()


@pytest.mark.parametrize("note", [None, {"pid": 2**22 + 1}, {"host": "elsewhere"}, {"host": "elsewhere", "pid": 1}])
def test_a_note_that_may_be_a_dead_holders_is_not_taken_for_the_holders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: dict[str, object] | None
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.0)
    with another_holder(tmp_path / "run"):
        path = holder_path(tmp_path / "run")
        written = read_json(path)
        path.unlink()
        if note is not None:
            write_json(path, {**written, **note})
        with pytest.raises(LockedError, match="not known") as refused:
            locked(tmp_path / "run").__enter__()
    assert ("host elsewhere" in str(refused.value)) == ("host" in (note or {}))
    assert str(2**22 + 1) not in str(refused.value)


def test_of_many_that_start_at_once_one_gets_it_and_the_others_name_it(tmp_path: Path) -> None:
    start, done, results = FORK.Barrier(8), FORK.Event(), FORK.Queue()

    def compete() -> None:
        start.wait()
        try:
            with locked(tmp_path / "run"):
                results.put(str(os.getpid()))
                done.wait(DEADLINE)
        except LockedError as error:
            results.put(re.sub(r".*pid (\d+).*", r"refused by \1", str(error)))

    processes = [FORK.Process(target=compete) for _ in range(8)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=DEADLINE) for _ in processes)
    done.set()
    for process in processes:
        process.join()
    assert found == [found[0]] + [f"refused by {found[0]}"] * 7
