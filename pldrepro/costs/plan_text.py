"""The plan of a study as text: its arms, time by stage and device, disk."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from pldrepro.config.data import DataSettings
from pldrepro.config.study import Study, mean_depth
from pldrepro.costs.flops import parameter_count
from pldrepro.costs.plan import (
    AnyDevice,
    Price,
    checkpoint_bytes,
    data_bytes,
    planned_steps,
    resume_bytes,
    training_flops,
)
from pldrepro.costs.stages import SENTENCE_TOKENS, stage_jobs, study_prices, sum_prices
from pldrepro.runs.terminal import duration


def render_plan(studies: Sequence[Study], devices: Mapping[str, AnyDevice]) -> str:
    """The plan of some studies as text: the arms of each with its companions, then time and disk of all."""
    every = [one for study in studies for one in study.all]
    first = next(iter(devices))
    parts = [_arms_text(one, first, devices[first]) for one in every]
    return "\n\n".join([*parts, _time_table(every, devices), _disk_text(every)])


def _arms_text(study: Study, device_name: str, device: AnyDevice) -> str:
    settings, jobs, runs = study.settings, len(study.finetune_runs()), len(study.pretrain_runs())
    tuned = f", {jobs:,} fine-tuning jobs of {finetune_count(study):,} runs in all" if jobs else ""
    lines = [
        f"{settings.scale}: {settings.description}",
        f"{len(settings.arms)} arms x {len(settings.seeds)} seeds = {runs:,} pre-training runs{tuned}",
        f"one seed, on {device_name}:",
        f"{'arm':<22}{'parameters':>11}{'steps':>9}{'tokens':>10}{'kept depth':>13}{'FLOPs':>10}{'time':>10}"
        f"{'disk':>10}",
    ]
    for arm in settings.arms:
        run = study.run(arm, settings.seeds[0])
        steps, layers = planned_steps(run), run.model.num_layers
        length = run.data.sequence_length if isinstance(run.data, DataSettings) else 0
        tokens = f"{steps * run.training.batch_size * length:.2e}" if length else "-"
        depth = f"{mean_depth(run.drop, run.training.num_steps, layers):.2f} of {layers}"
        lines.append(
            f"{arm:<22}{_count(parameter_count(run.model)):>11}{steps:>9,}{tokens:>10}{depth:>13}"
            f"{training_flops(run):>10.2e}{time_text(device.training(run)):>10}{_size(checkpoint_bytes(run)):>10}"
        )
    return "\n".join(lines)


def _time_table(studies: Sequence[Study], devices: Mapping[str, AnyDevice]) -> str:
    every = [stage_jobs(study) for study in studies]
    stages = dict.fromkeys(stage for order in sorted(every, key=len, reverse=True) for stage in order)
    jobs = {stage: sum(one.get(stage, 0) for one in every) for stage in stages}
    prices = {name: [study_prices(study, device) for study in studies] for name, device in devices.items()}
    widths = {name: max(12, len(name) + 2) for name in devices}
    lines = [
        f"{'device time, all of it':<26}{'jobs':>8}" + "".join(f"{name:>{width}}" for name, width in widths.items())
    ]
    for stage, count in {**jobs, "total": sum(jobs.values())}.items():
        wanted = jobs if stage == "total" else (stage,)
        totals = {
            name: sum_prices(one[key] for one in own for key in wanted if key in one) for name, own in prices.items()
        }
        cells = (f"{time_text(totals[name]):>{width}}" for name, width in widths.items())
        lines.append(f"{stage:<26}{count:>8,}" + "".join(cells))
    notes = [f"{name}: {device.describe()}" for name, device in devices.items()]
    if any(price.extrapolated for own in prices.values() for one in own for price in one.values()):
        notes.append("~ by FLOPs, at the speed of the nearest shape that was measured")
    if "fine-tuning" in jobs:
        notes.append("Fine-tuning: at most, with every example as long as its limit.")
    notes.append(
        "Roughly, without starting, compiling and probing: calibration at half depth, what is measured in turn "
        "or probed early by its share of a whole run's steps."
    )
    if "contrasts" in jobs:
        notes.append(f"Contrasts: roughly, with {SENTENCE_TOKENS} tokens a sentence.")
    wrap = textwrap.TextWrapper(98, subsequent_indent="  ", break_on_hyphens=False).wrap
    return "\n".join([*lines, *(line for note in notes for line in wrap(note))])


def time_text(price: Price) -> str:
    """A time in a unit that reads well; ~ where it is extrapolated."""
    return f"{'~' if price.extrapolated else ''}{duration(price.seconds)}"


def _disk_text(studies: Sequence[Study]) -> str:
    runs = [study.run(arm, seed) for study in studies for arm, seed in study.pretrain_runs()]
    data = [data_bytes(study.data()) for study in studies]
    known = [size for size in data if size is not None]
    states = [resume_bytes(run) for run in runs]
    arrays = _size(sum(known)) if len(known) == len(data) else "not known before they are made"
    resume = f"{_size(max(states))} of the largest run, twice that while replaced; of all {_size(sum(states))}"
    return "\n".join([
        "disk",
        f"{'checkpoints that stay':<26}{_size(sum(map(checkpoint_bytes, runs)))}",
        f"{'prepared data, roughly':<26}{arrays}",
        f"{'resume states':<26}{resume}",
    ])  # fmt: skip


def _size(size: float) -> str:
    """Bytes with three digits."""
    power = min(4, int(math.log10(size) // 3)) if size >= 1 else 0
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _count(number: int) -> str:
    """A number of parameters with four digits."""
    return f"{number / 1e6:,.4g} M" if number >= 1e6 else f"{number:,}"


def finetune_count(study: Study) -> int:
    """Fine-tuning runs of the study: checkpoints x tasks x learning rates x seeds."""
    finetune = study.settings.finetune
    checkpoints = len({(arm, seed, checkpoint) for arm, seed, checkpoint, _ in study.finetune_runs()})
    return checkpoints * len(finetune.tasks) * len(finetune.learning_rates) * len(finetune.seeds)
