"""An exclusive lock on a folder that names its holder, so that two processes never write one run.

After the main process of a workflow is killed, its jobs may go on, here or on a node of a cluster; a second start
must not write what they write. The lock is the kernel's (``flock``), which ends with its process, however that ends.
Some shared file systems keep ``flock`` to one machine: the holder touches the file every few seconds, and a lock left
by another machine is taken only when it has not been touched for some beats.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pldrepro.records import RecordError

BEAT_SECONDS = 10.0
SILENT_BEATS = 3.5  # after so many without a touch a holder on another machine is taken for dead


class LockedError(RecordError):
    """Another process works in this folder; the message names it."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, a file beside it; LockedError, at once or after some beats, when another has it."""
    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _acquire(path) as file:
        holder = _read(file)
        if holder is not None and holder.get("host") != socket.gethostname() and _is_alive(path):
            raise LockedError(_refusal(path, holder))
        _write(file)
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(file.fileno(), ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            path.unlink(missing_ok=True)


def lock_path(folder: Path) -> Path:
    """The lock of a folder: FOLDER -> .FOLDER.lock, beside it."""
    return folder.absolute().with_name(f".{folder.name}.lock")


def _acquire(path: Path) -> IO[str]:
    """The lock file, open and locked; it is closed, and so unlocked, by the caller."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(file)
            file.close()
            raise LockedError(_refusal(path, holder)) from None
        except OSError:
            file.close()
            raise
        # The holder before may have removed the file between our opening and our locking it.
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()


def _read(file: IO[str]) -> dict[str, object] | None:
    """The holder that the file names; None where it names none, as before the first line is written."""
    file.seek(0)
    try:
        holder = json.loads(file.read())
    except ValueError:
        return None
    return holder if isinstance(holder, dict) else None


def _write(file: IO[str]) -> None:
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    if "SLURM_JOB_ID" in os.environ:
        holder["slurm_job"] = os.environ["SLURM_JOB_ID"]
    file.seek(0)
    file.truncate()
    file.write(json.dumps(holder) + "\n")
    file.flush()


def _beat(descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        os.utime(descriptor)


def _is_alive(path: Path) -> bool:
    """Whether the holder on another machine touches its lock while we watch."""
    seen, until = path.stat().st_mtime_ns, time.monotonic() + SILENT_BEATS * BEAT_SECONDS
    while time.monotonic() < until:
        time.sleep(BEAT_SECONDS / 10)
        if path.stat().st_mtime_ns != seen:
            return True
    return False


def _refusal(path: Path, holder: dict[str, object] | None) -> str:
    about = "" if holder is None else " (" + ", ".join(f"{key} {value}" for key, value in holder.items()) + ")"
    return f"{path}: another process works on this folder{about}; wait for it, or end it, then start again"
