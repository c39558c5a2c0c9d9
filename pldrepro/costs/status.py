"""How far a study is: jobs done, running and missing by stage and arm, who works where, and the time that is left."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pldrepro.config.recorded import arm_of
from pldrepro.config.study import Study
from pldrepro.runs.folder import begun_pretrain
from pldrepro.runs.lock import about_holder
from pldrepro.runs.schema import AnyLine
from pldrepro.runs.terminal import duration

# Stage -> its runs' field of StudyRuns, and the folder of the workflow's measurements of its jobs.
STAGES = {
    "calibration": ("calibration", "calibrate.tsv"),
    "steps in turn": ("interleaved", "interleave-*.tsv"),
    "early probes": ("early", "early/{arm}-*.tsv"),
    "pre-training": ("pretrain", "pretrain/{arm}-*.tsv"),
    "fine-tuning": ("finetune", "finetune/{arm}-*.tsv"),
    "probes": ("probes", "probe/{arm}-*.tsv"),
    "LAMBADA": ("lambada", "lambada/{arm}-*.tsv"),
    "contrasts": ("contrasts", "contrasts/{arm}-*.tsv"),
}


@dataclass(frozen=True)
class RunningJob:
    """A job that runs: its folder, who works there, and of pre-training what it has written last of its steps."""

    folder: Path
    holder: str
    last: AnyLine | None = None
    steps: int = 0

    @property
    def share(self) -> float:
        """How much of it is done, where it says so."""
        return self.last.step / self.steps if self.last and self.steps else 0.0


@dataclass(frozen=True)
class StageJobs:
    """The jobs of a stage, of one arm where it has arms."""

    stage: str
    arm: str
    jobs: int
    done: int
    running: tuple[RunningJob, ...]
    seconds: float | None
    """What is left of them, one after another [s]; None: no such job has ended yet."""

    @property
    def missing(self) -> int:
        """Jobs that have not begun, or wait to go on."""
        return self.jobs - self.done - len(self.running)


def rows(study: Study) -> list[StageJobs]:
    """The jobs of a study by stage and arm, in the order in which they run."""
    runs, found = study.study_runs(), []
    for stage, (field, pattern) in STAGES.items():
        files: list[str] = [runs.calibration] if field == "calibration" else getattr(runs, field)
        by_arm: dict[str, list[str]] = {}
        for file in files:
            by_arm.setdefault(arm_of(file) if "{arm}" in pattern else "", []).append(file)
        for arm, own in by_arm.items():
            found.append(_row(study, stage, arm, own, pattern))
    return found


def _row(study: Study, stage: str, arm: str, files: Sequence[str], pattern: str) -> StageJobs:
    done = [file for file in files if Path(file).exists()]
    open_ = [Path(file).parent for file in files if file not in done]
    running = tuple(_job(folder, holder) for folder in open_ if (holder := about_holder(folder)) is not None)
    untrained = stage == "pre-training" and study.run(arm, study.settings.seeds[0]).training.num_steps == 0
    price = 0.0 if untrained else _seconds(study, pattern, arm)
    if price is None:  # by a run's own speed
        rates = [one.last.train_seconds / one.share for one in running if one.last and one.share]
        price = fmean(rates) if rates else None
    left = float(len(open_) - len(running)) + sum(1 - one.share for one in running)
    return StageJobs(
        stage, arm, len(files), len(done), running, 0.0 if not open_ else None if price is None else price * left
    )


def _seconds(study: Study, pattern: str, arm: str) -> float | None:
    """Mean time of a stage's finished jobs by the workflow's clock [s]: of this arm, else of all; None: none ended."""
    for name in (arm, "*"):
        times = list(_measured(Path(study.results, "benchmarks").glob(pattern.replace("{arm}", name))))
        if times:
            return fmean(times)
    return None


def _measured(files: Iterator[Path]) -> Iterator[float]:
    for file in files:
        with file.open(encoding="utf-8", newline="") as lines:
            for line in csv.DictReader(lines, delimiter="\t"):
                if None not in line.values():  # else it is being written
                    yield float(line["s"])


def _job(folder: Path, holder: str) -> RunningJob:
    begun = begun_pretrain(folder)
    return (
        RunningJob(folder, holder)
        if begun is None
        else RunningJob(folder, holder, begun[1], begun[0].training.num_steps)
    )


def render_status(study: Study) -> str:
    """The state of a study and its companions as text."""
    return "\n\n".join(_study_text(one) for one in study.all)


def _study_text(study: Study) -> str:
    """A line for each stage, below it the arms that are not done: in one line those that have not begun."""
    found = rows(study)
    lines = [
        f"{study.settings.scale}: {study.settings.description} ({study.results})",
        f"{'':<26}{'done':>14}{'running':>9}{'missing':>9}  left, one after another",
    ]
    for stage in dict.fromkeys(row.stage for row in found):
        own = [row for row in found if row.stage == stage]
        lines.append(_counts(stage, own))
        begun = [row for row in own if row.arm and row.done < row.jobs and (row.done or row.running)]
        lines += [_counts(f"  {row.arm}", [row]) for row in begun] if len(own) > 1 else []
        waiting = [row.arm for row in own if row.arm and row.missing == row.jobs]
        if waiting and len(waiting) < len(own):
            lines += textwrap.wrap(
                f"not begun: {', '.join(waiting)}", 98, initial_indent="  ", subsequent_indent="    "
            )
    for job in (one for row in found for one in row.running):
        step = f", step {job.last.step:,} of {job.steps:,}" if job.last else ""
        lines.append(f"running: {job.folder.relative_to(study.runs)}{step}; {job.holder}")
    return "\n".join([*lines, _counts("in all", found)])


def _counts(name: str, own: Sequence[StageJobs]) -> str:
    """A line of the jobs of some rows."""
    jobs, done = sum(row.jobs for row in own), sum(row.done for row in own)
    running, missing = sum(len(row.running) for row in own), sum(row.missing for row in own)
    known = [row.seconds for row in own if row.seconds is not None]
    left = duration(sum(known)) if sum(known) else "not known yet"
    more = " and more" if sum(known) and len(known) < len(own) else ""
    text = f"{name:<26}{f'{done:,} of {jobs:,}':>14}{running or '':>9}{missing or '':>9}"
    return f"{text}  {left}{more}" if done < jobs else text.rstrip()
