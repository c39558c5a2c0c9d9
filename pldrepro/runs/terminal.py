"""What the terminal shows of a workflow: a line for each job that starts, how many are done, the time left, errors.

Snakemake tells its loggers of every event in records with an ``event`` and its own fields. This handler prints them in
one line each; Snakemake's own lines of the same events are left out.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

TRIVIAL = frozenset({"settings", "index", "index_part"})  # rules that only write a list of what is to be done
SHOWN_HERE = frozenset({"job_finished", "progress", "job_started"})
ERROR = re.compile(r"^(?:rank \d+: )?[A-Z]\w*(?:Error|Exception|Interrupt)\b:? ?.*$", re.MULTILINE)
PEER_LEFT = re.compile(r"Connection (closed|reset) by peer|heartbeat", re.IGNORECASE)  # what the other ranks say
MIN_JOBS = 3  # whose times are known before a time left is given
MAX_TAIL = 100_000  # characters of a log that are searched for an error


class Terminal(logging.Handler):
    """Prints the events of a workflow that has begun, see ``begin``; before it only counts its jobs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self.stream = stream or sys.stderr
        self.begun: float | None = None
        self.all: Counter[str] = Counter()  # jobs of each rule
        self.done: Counter[str] = Counter()
        self.running: dict[int, tuple[str, float]] = {}  # job -> its rule and when it started
        self.seconds: dict[str, list[float]] = {}  # of each rule's finished jobs

    def begin(self, others: list[logging.Handler]) -> None:
        """From now on print; ``others`` leave out what is shown here."""
        self.begun = time.monotonic()
        for handler in others:
            if handler is not self:
                handler.addFilter(not_shown_here)

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of an event, and print what is to be seen of it."""
        try:
            line = self._line(str(getattr(record, "event", "")), vars(record))
            if line is not None and self.begun is not None:
                self.stream.write(line + "\n")
                self.stream.flush()
        except Exception:  # as every handler of logging: an event that cannot be shown ends nothing
            self.handleError(record)

    def _line(self, event: str, values: dict[str, Any]) -> str | None:
        if event == "run_info":
            self.all = Counter({rule: count for rule, count in values["stats"].items() if rule != "total"})
        elif event == "job_info":
            self.running[values["jobid"]] = (values["rule_name"], time.monotonic())
            if values["rule_name"] not in TRIVIAL:
                return f"{self.so_far()} {job_name(values['rule_name'], values['wildcards'])}"
        elif event == "job_finished":
            rule, started = self.running.pop(values["job_id"], ("", 0.0))
            self.done[rule] += 1
            self.seconds.setdefault(rule, []).append(time.monotonic() - started)
            if self.done.total() == self.all.total() and self.begun is not None:
                return f"{self.so_far()} done in {duration(time.monotonic() - self.begun)}"
        elif event == "job_error":
            return error_text(values)
        elif event == "group_error":
            return "\n".join(error_text(one) for one in values["job_error_info"])
        return None

    def so_far(self) -> str:
        """How many jobs are done, and the time that the others will take."""
        total = self.all.total()
        left = self.seconds_left()
        about = f" · about {duration(left)} left" if left is not None else ""
        return f"[{self.done.total():>{len(str(total))}} of {total}{about}]" if total else "[job]"

    def seconds_left(self) -> float | None:
        """By the mean time of a rule's finished jobs, one without any by that of all; None while few are known."""
        known = {rule: times for rule, times in self.seconds.items() if rule not in TRIVIAL}
        times = [one for own in known.values() for one in own]
        left = {rule: count - self.done[rule] for rule, count in self.all.items() if rule not in TRIVIAL}
        if self.begun is None or len(times) < MIN_JOBS or not any(left.values()):
            return None
        at_once = max(1.0, sum(times) / (time.monotonic() - self.begun))
        return sum(count * fmean(known.get(rule, times)) for rule, count in left.items()) / at_once


def not_shown_here(record: logging.LogRecord) -> bool:
    """Whether a record is for Snakemake's own handler."""
    text = str(record.msg)
    return (
        str(getattr(record, "event", "")) not in SHOWN_HERE
        and text != "Select jobs to execute..."
        and "CalledProcessError in file" not in text  # the whole command of a failed job
    )


def job_name(rule: str, wildcards: dict[str, str]) -> str:
    """A job in words: its rule, then whose it is; the study only where it is a companion."""
    words = [rule]
    for key, value in wildcards.items():
        if key in ("study", "results"):
            if value.count("/") > 1:
                words.append(value.rpartition("/")[2])
        else:
            words.append(f"{key} {value}" if key in ("seed", "process") else value)
    return " ".join(words)


def error_text(job: dict[str, Any]) -> str:
    """What a failed job says: the last error of its log in one line, and where the log is.

    Of a job that its cluster did not take, what the cluster says: a log would be that of an earlier attempt. The same
    where a job ended without an error of its own: killed, or out of time or memory.
    """
    logs, said = [str(path) for path in job["log"]], scheduler_message(job.get("rule_msg") or "")
    if said and "external_jobid" not in job.get("aux", {}):
        return f"{job['rule_name']} was not submitted: {said}\n    output: {', '.join(map(str, job['output']))}"
    found = next(filter(None, (last_error(Path(path)) for path in logs)), None) or said
    where = ", ".join(logs)
    if not found:
        return f"{job['rule_name']} failed without a word of its own; its log: {where or 'none'}"
    return f"{job['rule_name']} failed: {found}\n    log: {where}"


def scheduler_message(text: str) -> str:
    """What an executor says of a failed job in one line, without the call that it made and where else to look."""
    return " ".join(re.split(r"\n +sbatch call:|For further error details", text)[0].split())


def last_error(log: Path) -> str | None:
    """The last line of a log that names an error, rather not that of a rank whose peer left; None: no such line."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")[-MAX_TAIL:]
    except OSError:
        return None
    lines = ERROR.findall(text.replace("\r", "\n"))
    return next((line for line in reversed(lines) if not PEER_LEFT.search(line)), lines[-1] if lines else None)


def duration(seconds: float) -> str:
    """A time as people say it, with two or three digits."""
    for unit, size, until in (
        ("s", 1, 90),
        ("min", 60, 90 * 60),
        ("h", 3600, 100 * 3600),
        ("days", 86400, 700 * 86400),
    ):
        if seconds < until:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
    return f"{seconds / (365.25 * 86400):,.3g} years"
