"""An exclusive lock on a folder that names its holder, so that two processes never write one run.

After the main process of a workflow is killed, its jobs may go on, here or on a node of a cluster; a second start
must not write what they write. The lock is ``filelock``'s, on Unix the kernel's ``flock``, which ends with its
process, however that ends. It keeps several machines apart only where the file system shares ``flock`` among them
(NFS does; Lustre with the mount option ``flock``).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pldrepro.errors import LockedError
from pldrepro.files import write_json

WORKFLOWS = Path(".snakemake/pldrepro")  # of each workflow that was started in a folder
GLANCE_SECONDS = 0.1  # longer than whoever asks only who holds a lock has it
PATIENCE_SECONDS = 10.0  # a refusal waits so long for a holder that has just taken the lock to write its note


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; a LockedError that names the holder when another process has it.

    Two files are next to the folder, so that one that does not exist yet can be locked and a copy of it is free: the
    lock, which stays (removing it would let two processes lock two files of one name), and the holder's note.
    """
    lock, note = _lock_of(folder), holder_path(folder)
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    _acquire(lock, note)
    try:
        write_json(note, _this_process())
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def holder_path(folder: Path) -> Path:
    """The note in which the holder of a folder's lock names itself: FOLDER -> .FOLDER.holder.json."""
    return folder.absolute().with_name(f".{folder.name}.holder.json")


def about_holder(folder: Path) -> str | None:
    """Who works in a folder, in words; None where nobody does: the lock tells, a note may be a dead holder's."""
    lock, holder = _lock_of(folder), _read(holder_path(folder))
    if not Path(lock.lock_file).exists():
        return None
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return _about(holder)
    except (OSError, NotImplementedError):  # a folder that is not ours, or without locks
        return None if _is_alive(holder) is False else _about(holder)
    lock.release()
    return None


@contextmanager
def workflow_runs() -> Iterator[None]:
    """Hold the lock of this workflow among those that run in the current folder, whatever configuration each has."""
    with locked(WORKFLOWS / f"{socket.gethostname()}-{os.getpid()}"):
        yield


@contextmanager
def no_workflow_runs() -> Iterator[None]:
    """Hold the locks of all workflows that were started in the current folder; LockedError names one that runs."""
    with ExitStack() as held:
        for path in sorted(WORKFLOWS.glob(".*.lock")):
            held.enter_context(locked(path.with_name(path.name[1:].removesuffix(".lock"))))
        yield


def _lock_of(folder: Path) -> FileLock:
    """Never the library's soft lock: a killed holder would keep it for ever."""
    return FileLock(folder.absolute().with_name(f".{folder.name}.lock"), fallback_to_soft=False)


def _acquire(lock: FileLock, note: Path) -> None:
    """Take the lock, or be refused once the holder's note is there: it writes it just after it took the lock."""
    begun = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            holder = _read(note)
            waited = time.monotonic() - begun
            if waited > PATIENCE_SECONDS or (waited > GLANCE_SECONDS and _is_alive(holder) is not False):
                raise LockedError(
                    f"{lock.lock_file}: another process works on this folder ({_about(holder)}); wait for it or end "
                    "it, then start again"
                ) from None
        except (OSError, NotImplementedError) as error:
            raise LockedError(
                f"{lock.lock_file}: its file system has no locks ({error}); expected one with flock, on Lustre the "
                "mount option of that name"
            ) from None
        time.sleep(0.01)


def _this_process() -> dict[str, str | int]:
    """What a holder says of itself."""
    job = {"slurm_job": os.environ["SLURM_JOB_ID"]} if "SLURM_JOB_ID" in os.environ else {}
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z"), **job}


def _read(note: Path) -> Any:
    """The holder's note; empty where there is none yet, none any more, or a damaged one."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _about(holder: dict[str, str | int]) -> str:
    """The holder in words: as its note says where that is sure, else that it is not known.

    A killed holder leaves its note, which the next one replaces just after it took the lock; whether a process of
    another machine still lives cannot be seen from here.
    """
    note = ", ".join(f"{key} {value}" for key, value in holder.items())
    if _is_alive(holder):
        return note
    last = f"; the last note, which may be an earlier holder's: {note}" if _is_alive(holder) is None else ""
    return f"which one is not known{last}"


def _is_alive(holder: dict[str, str | int]) -> bool | None:
    """Whether the process of a note lives; False without a note, None of another machine, where nobody can tell."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname():
        return None
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        pass
    return True
