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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pldrepro.errors import LockedError
from pldrepro.files import write_json

PATIENCE_SECONDS = 10.0  # a refusal waits so long for a holder that has just taken the lock to write its note


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; a LockedError that names the holder when another process has it.

    Two files are next to the folder, so that one that does not exist yet can be locked and a copy of it is free: the
    lock, which stays (removing it would let two processes lock two files of one name), and the holder's note.
    """
    path = folder.absolute().with_name(f".{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never the library's soft lock: a killed holder would keep it for ever.
    lock, note = FileLock(path, fallback_to_soft=False), holder_path(folder)
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
    """Who works in a folder, in words; None where nobody does, as far as can be seen from this machine."""
    holder = _read(holder_path(folder))
    return None if _is_alive(holder) is False else _about(holder)


def _acquire(lock: FileLock, note: Path) -> None:
    """Take the lock, or be refused once the holder's note is there: it writes it just after it took the lock."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            holder = _read(note)
            if _is_alive(holder) is not False or time.monotonic() > deadline:
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
    """The holder's note; empty where there is none yet, or none any more."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
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
