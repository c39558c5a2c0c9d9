"""What a study will cost before it runs: parameters, steps, tokens, FLOPs, kept depth, hours on a device, disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pldrepro.config import DataSettings, RunSettings, SettingsError, Strict, Study, read_yaml, validate
from pldrepro.drop import mean_expected_depth
from pldrepro.flops import parameter_count, run_flops, step_flops

DEVICES_FILE = Path("config/devices.yaml")
BYTES_PER_PARAMETER = 4  # checkpoints are float32
STATES = 3  # a resume checkpoint holds weights and two moments


class Device(Strict):
    """A device as the plan sees it."""

    peak: float  # dense matrix throughput [FLOP/s]
    utilisation: float  # assumed share of the peak that training reaches
    note: str


@dataclass(frozen=True)
class ArmPlan:
    """The cost of one arm with one seed."""

    arm: str
    parameters: int
    steps: int
    tokens: int  # 0: images
    kept_depth: float  # expected, mean over the run
    num_layers: int
    flops: float
    hours: float  # of one device
    disk_bytes: int  # checkpoints and, while it runs, the resume state


def load_device(name: str, path: Path = DEVICES_FILE) -> Device:
    """A device of config/devices.yaml."""
    devices = read_yaml(path)
    if name not in devices:
        raise SettingsError(f"device {name!r} is not in {path}; allowed: {', '.join(devices)}")
    return validate(Device, devices[name], f"{path}: {name}")


def planned_steps(run: RunSettings) -> int:
    """Steps of a run; one with a budget of reference time has as many as the other arm's FLOPs pay for."""
    training, budget = run.training, run.budget
    if budget is None:
        return training.num_steps
    other = step_flops(budget.model, training, run.data).of(budget.kept_layers)
    own = mean_expected_depth(run.drop, training.num_steps, run.model.num_layers)
    return round(budget.num_steps * other / run_flops(run).of(own))


def plan_arm(run: RunSettings, device: Device) -> ArmPlan:
    """Cost of one pre-training run on one device."""
    training = run.training
    depth = mean_expected_depth(run.drop, training.num_steps, run.model.num_layers)
    num_steps = planned_steps(run)
    samples = num_steps * training.batch_size
    flops = run_flops(run).of(depth, samples)
    parameters = parameter_count(run.model)
    return ArmPlan(
        arm=run.arm,
        parameters=parameters,
        steps=num_steps,
        tokens=samples * (run.data.sequence_length if isinstance(run.data, DataSettings) else 0),
        kept_depth=depth,
        num_layers=run.model.num_layers,
        flops=flops,
        hours=flops / (device.peak * device.utilisation) / 3600,
        disk_bytes=parameters * BYTES_PER_PARAMETER * (len(training.checkpoints) + STATES),
    )


def render_plan(study: Study, device_name: str, device: Device) -> str:
    """The plan of a study as a text table, with the sum over all pre-training runs."""
    plans = [plan_arm(study.run(arm, study.settings.seeds[0]), device) for arm in study.settings.arms]
    seeds = len(study.settings.seeds)
    lines = [
        f"{study.settings.scale}: {study.settings.description}",
        f"{len(plans)} arms x {seeds} seeds = {len(study.pretrain_runs())} pre-training runs, "
        f"{len(study.finetune_runs())} fine-tuning jobs of {finetune_count(study)} runs in all",
        f"device {device_name}: {device.peak / 1e12:g} TFLOP/s peak, {device.utilisation:.0%} of it assumed "
        f"({device.note})",
        "",
        f"{'arm':<24}{'parameters':>12}{'steps':>10}{'tokens':>12}{'kept depth':>14}{'FLOPs':>11}{'hours':>10}"
        f"{'disk':>10}",
    ]
    for p in plans:
        tokens = f"{p.tokens:.3g}" if p.tokens else "-"
        lines.append(
            f"{p.arm:<24}{p.parameters:>12,}{p.steps:>10,}{tokens:>12}{p.kept_depth:>8.2f} of {p.num_layers:<3}"
            f"{p.flops:>10.3g}{p.hours:>10.3g}{p.disk_bytes / 1e9:>7.2f} GB"
        )
    total_hours, total_disk = seeds * sum(p.hours for p in plans), seeds * sum(p.disk_bytes for p in plans)
    lines += ["", f"all seeds: {total_hours:.3g} device hours of pre-training, {total_disk / 1e9:.2f} GB of disk"]
    return "\n".join(lines)


def finetune_count(study: Study) -> int:
    """Fine-tuning runs of the study: checkpoints x tasks x learning rates x seeds."""
    finetune = study.settings.finetune
    checkpoints = len({(arm, seed, checkpoint) for arm, seed, checkpoint, _ in study.finetune_runs()})
    return checkpoints * len(finetune.tasks) * len(finetune.learning_rates) * len(finetune.seeds)
