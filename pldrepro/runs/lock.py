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
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pldrepro.errors import LockedError

BEAT_SECONDS = 10.0
SILENT_BEATS = 3.5  # after so many without a touch a holder on another machine is taken for dead


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, a file beside it; LockedError, at once or after some beats, when another has it."""
    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _acquire_from_all(path) as file:
        mine = _write(file)
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, mine, ended), daemon=True)
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


def _acquire_from_all(path: Path) -> IO[str]:
    """The lock file, open and locked, and left by a holder on another machine, if there was one."""
    while True:
        file = _acquire(path)
        holder = _read(file)
        if holder is None or holder.get("host") == socket.gethostname():
            return file
        found = _watch(path)
        if found == "silent":
            return file
        file.close()
        if found == "alive":
            raise LockedError(_refusal(path, holder))


def _acquire(path: Path) -> IO[str]:
    """The lock file, open and locked on this machine; it is closed, and so unlocked, by the caller."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(file)
            file.close()
            raise LockedError(_refusal(path, holder)) from None
        except OSError as error:
            file.close()
            raise LockedError(
                f"{path}: its file system has no locks ({error.strerror}); allowed: one with flock, on Lustre the "
                "mount option of that name"
            ) from None
        # The holder before may have removed the file between our opening and our locking it.
        if os.fstat(file.fileno()).st_nlink:
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


def _write(file: IO[str]) -> str:
    """Name this process in the file; returns what it holds."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    if "SLURM_JOB_ID" in os.environ:
        holder["slurm_job"] = os.environ["SLURM_JOB_ID"]
    file.seek(0)
    file.truncate()
    text = json.dumps(holder) + "\n"
    file.write(text)
    file.flush()
    return text


def _beat(path: Path, mine: str, ended: threading.Event) -> None:
    """Touch the lock; end this process when the file names another one, which ``flock`` did not keep away."""
    while not ended.wait(BEAT_SECONDS):
        if path.read_text(encoding="utf-8") != mine:
            print(f"{path}: another process has taken this folder; this one ends at once", file=sys.stderr, flush=True)
            os._exit(1)
        os.utime(path)


def _watch(path: Path) -> str:
    """What a holder on another machine does while we watch: alive (it touches its lock), silent, or gone."""
    until, seen = time.monotonic() + SILENT_BEATS * BEAT_SECONDS, None
    while time.monotonic() < until:
        if not path.exists():
            return "gone"
        touched = os.stat(path).st_mtime_ns
        if seen is not None and touched != seen:
            return "alive"
        seen = touched
        time.sleep(BEAT_SECONDS / 10)
    return "silent"


def _refusal(path: Path, holder: dict[str, object] | None) -> str:
    about = "" if holder is None else " (" + ", ".join(f"{key} {value}" for key, value in holder.items()) + ")"
    return (
        f"{path}: another process works on this folder{about}; wait for it, or end it, then start again; if its "
        "machine is lost, delete this file"
    )
