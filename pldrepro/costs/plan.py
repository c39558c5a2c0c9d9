"""What a study will cost before it runs: jobs, hours on devices, disk.

A device is priced in one of two ways. An *assumed* one has the peak of its data sheet and a share of it that training
is taken to reach, so that its hours are FLOPs over both. A *reference card* has calibrations: a run costs the passes
that its policy expects at each depth times tau(k), as finished runs are priced (``records.StepTimes``); what was not
calibrated is scaled by FLOPs from the nearest shape that was, and marked.

Counted beside training: validation, fine-tuning with its predictions, probes, LAMBADA, calibration. Examples and
passages count as if each were as long as its limit, so that these hours are upper bounds. Not counted: the analysis of
sensitivity, writing checkpoints, and what needs no device (data, scores, exhibits).
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import Field

from pldrepro.config.base import Strict, read_yaml, validate
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.run import RunSettings
from pldrepro.config.study import Study, mean_depth
from pldrepro.costs.flops import BACKWARD_FACTOR, StepFlops, parameter_count, run_flops, step_flops
from pldrepro.errors import SettingsError
from pldrepro.policy.drop import keep_probabilities
from pldrepro.runs.step_times import StepTimes, load_calibration

DEVICES_FILE = Path("config/devices.yaml")
REFERENCE_CARDS = "reference_cards"  # key of that file
BYTES_PER_PARAMETER = 4  # checkpoints are float32
STATES = 3  # a resume checkpoint holds weights and two moments
SAMPLED_STEPS = 1000  # of a run, at which its expected passes are worked out

# Examples of each task: training set, and all development sets together (Wang et al. 2019, GLUE).
GLUE_EXAMPLES = {
    "rte": (2_490, 277), "mrpc": (3_668, 408), "stsb": (5_749, 1_500), "cola": (8_551, 1_043), "sst2": (67_349, 872),
    "qnli": (104_743, 5_463), "qqp": (363_846, 40_430), "mnli": (392_702, 9_815 + 9_832),
}  # fmt: skip
LAMBADA_PASSAGES = 5_153  # of the test set (Paperno et al. 2016)
# Roughly, for the disk: bytes of text; images of training and validation.
HUB_TEXT_BYTES = {"wikimedia/wikipedia": 20.2e9, "bookcorpus/bookcorpus": 4.85e9}
HUB_IMAGES = {"ILSVRC/imagenet-1k": 1_281_167 + 50_000, "uoft-cs/cifar10": 60_000}
# Bytes of English text a token, roughly: 1.96 with the 512 types of the recorded runs.
SMALL_VOCABULARY = 8_000
TEXT_BYTES_PER_TOKEN = {"small": 2.0, "large": 4.0}
MINIATURE_TOKENS = 140  # of a generated document, roughly
GLUE_TOKEN_BYTES = 5  # an int32 id and an int8 type


class Price(NamedTuple):
    """Seconds of a device; extrapolated: from FLOPs, by the speed of another shape than the run's own."""

    seconds: float
    extrapolated: bool = False


class Device(Strict):
    """A device of which the data sheet is known: its hours are assumed."""

    peak: float = Field(gt=0, description="dense matrix throughput [FLOP/s]")
    utilisation: float = Field(gt=0, description="assumed share of the peak that training reaches")
    note: str

    def training(self, run: RunSettings) -> Price:
        """Of the training steps of a run."""
        return self.other(run, training_flops(run))

    def other(self, run: RunSettings, flops: float) -> Price:
        """Of anything else that is done with the run's model."""
        return Price(flops / (self.peak * self.utilisation))

    def describe(self) -> str:
        """A line for people."""
        return f"assumed: {self.peak / 1e12:g} TFLOP/s peak, {self.utilisation:.0%} of it ({self.note})"


@dataclass(frozen=True)
class ReferenceCard:
    """A device on which the step times of some shapes were measured."""

    shapes: tuple[StepTimes, ...]
    note: str

    def training(self, run: RunSettings) -> Price:
        """Of the training steps of a run: its expected passes at each depth, each at tau(k)."""
        own = self._own(run)
        if own is None:
            return self.other(run, training_flops(run))
        by_kept_layers, by_layer = expected_passes(run)
        return Price(own.ranks * own.price(dict(enumerate(by_kept_layers)), by_layer))

    def other(self, run: RunSettings, flops: float) -> Price:
        """Of anything else that is done with the run's model, at the speed of its full training step or the nearest."""
        shape = self._own(run) or self._nearest(run)
        return Price(flops / _speed(shape, run), extrapolated=True)

    def _own(self, run: RunSettings) -> StepTimes | None:
        return next((shape for shape in self.shapes if shape.fits(run)), None)

    def _nearest(self, run: RunSettings) -> StepTimes:
        """Of the same family if there is one, the shape whose sample costs the most similar number of FLOPs."""
        own = run_flops(run).of(run.model.num_layers)
        family = [shape for shape in self.shapes if shape.model.family == run.model.family]
        return min(family or self.shapes, key=lambda s: abs(math.log(_sample_flops(s, run) / own)))

    def describe(self) -> str:
        """A line for people."""
        return f"measured: {self.note}"


AnyDevice: TypeAlias = Device | ReferenceCard


def _sample_flops(shape: StepTimes, run: RunSettings) -> float:
    """FLOPs of a sample that passed all layers of a calibrated shape, with the run's objective."""
    length = shape.sequence_length
    data = ImageDataSettings(kind="images") if length is None else DataSettings(sequence_length=length)
    return step_flops(shape.model, run.training, data).of(shape.num_layers)


def _speed(shape: StepTimes, run: RunSettings) -> float:
    """FLOP/s of a device for a calibrated shape, in a training step at full depth; of several ranks, each has one."""
    return shape.micro_batch_size * _sample_flops(shape, run) / shape.median[-1] / shape.ranks


# ---- devices ----


class _Cards(Strict):
    cards: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]]


def load_device(name: str, path: Path = DEVICES_FILE) -> AnyDevice:
    """A device of config/devices.yaml, or one of its reference cards."""
    devices = dict(read_yaml(path))
    cards = validate(_Cards, {"cards": devices.pop(REFERENCE_CARDS, {})}, f"{path}: {REFERENCE_CARDS}").cards
    if name in cards:
        return load_card([Path(folder) for folder in cards[name]])
    if name not in devices:
        raise SettingsError(f"device {name!r} is not in {path}; allowed: {', '.join([*devices, *cards])}")
    return validate(Device, devices[name], f"{path}: {name}")


def load_card(folders: Iterable[Path]) -> ReferenceCard:
    """The calibrations in some folders, of one machine, as a device."""
    calibrations = [load_calibration(folder) for folder in folders]
    shapes = [shape for one in calibrations for shape in one.shapes]
    first = calibrations[0].summary
    kind = first.device.name or first.device.type
    threads = f", {first.threads} thread{'s' if first.threads > 1 else ''}" if first.device.type == "cpu" else ""
    places = ", ".join(str(one.folder) for one in calibrations)
    return ReferenceCard(tuple(shapes), f"{kind}{threads}; {len(shapes)} shapes in {places}")


# ---- one arm ----


@dataclass(frozen=True)
class ArmPlan:
    """The training of one arm with one seed."""

    arm: str
    parameters: int
    steps: int
    tokens: int  # 0: images
    kept_depth: float  # expected, mean over the run
    num_layers: int
    flops: float
    price: Price
    checkpoint_bytes: int  # of the checkpoints that stay
    resume_bytes: int  # of the state to continue from, until the run is complete

    @property
    def hours(self) -> float:
        """Of one device."""
        return self.price.seconds / 3600


def planned_steps(run: RunSettings) -> int:
    """Steps of a run; one with a budget of reference time has as many as the other arm's FLOPs pay for."""
    training, budget = run.training, run.budget
    if budget is None:
        return training.num_steps
    other = step_flops(budget.model, training, run.data).of(budget.kept_layers)
    own = mean_depth(run.drop, training.num_steps, run.model.num_layers)
    return round(budget.num_steps * other / run_flops(run).of(own))


def training_flops(run: RunSettings) -> float:
    """FLOPs of the training steps of a run, as its policy expects them."""
    depth = mean_depth(run.drop, run.training.num_steps, run.model.num_layers)
    return run_flops(run).of(depth, planned_steps(run) * run.training.batch_size)


def expected_passes(run: RunSettings) -> tuple[list[float], list[float]]:
    """Forward passes of a run that its policy expects to keep k layers, k = 0..L; and to keep each layer, (L,).

    The layers of a pass are kept independently of each other, so that their number is Poisson binomial.
    """
    num_steps, layers = run.training.num_steps, run.model.num_layers
    steps = range(0, num_steps, max(1, num_steps // SAMPLED_STEPS))
    by_kept_layers, by_layer = [0.0] * (layers + 1), [0.0] * layers
    for keep, times in Counter(keep_probabilities(run.drop, step, num_steps, layers) for step in steps).items():
        chances = kept_layers_chances(keep)
        none = 0.0
        if run.drop.if_all_dropped == "run_all":
            none, chances[0] = chances[0], 0.0
            chances[-1] += none
        by_kept_layers = [total + times * chance for total, chance in zip(by_kept_layers, chances, strict=True)]
        by_layer = [total + times * (p + none) for total, p in zip(by_layer, keep, strict=True)]
    micro_batch_size = min(run.impl.micro_batch_size, run.training.batch_size)
    passes = planned_steps(run) * -(-run.training.batch_size // micro_batch_size) / len(steps)
    return [passes * total for total in by_kept_layers], [passes * total for total in by_layer]


def kept_layers_chances(keep: Sequence[float]) -> list[float]:
    """Probability that k layers are kept, k = 0..L, for layers kept with these probabilities."""
    chances = [1.0]
    for p in keep:
        with_it, without = [0.0, *chances], [*chances, 0.0]
        chances = [p * a + (1 - p) * b for a, b in zip(with_it, without, strict=True)]
    return chances


def plan_arm(run: RunSettings, device: AnyDevice) -> ArmPlan:
    """One pre-training run on one device."""
    training = run.training
    samples = planned_steps(run) * training.batch_size
    parameters = parameter_count(run.model)
    return ArmPlan(
        arm=run.arm,
        parameters=parameters,
        steps=planned_steps(run),
        tokens=samples * (run.data.sequence_length if isinstance(run.data, DataSettings) else 0),
        kept_depth=mean_depth(run.drop, training.num_steps, run.model.num_layers),
        num_layers=run.model.num_layers,
        flops=training_flops(run),
        price=device.training(run),
        checkpoint_bytes=parameters * BYTES_PER_PARAMETER * len(training.checkpoints),
        resume_bytes=parameters * BYTES_PER_PARAMETER * STATES,
    )


# ---- the whole study ----


@dataclass(frozen=True)
class Work:
    """What a rule does for one arm and seed, or once for the study (arm None)."""

    rule: str
    arm: str | None
    jobs: int
    run: RunSettings | None = None  # None: no work for a device
    trains: bool = False
    flops: float = 0.0  # beside training

    def price(self, device: AnyDevice) -> Price:
        """On a device; it must have work for one."""
        assert self.run is not None
        other = device.other(self.run, self.flops) if self.flops else Price(0.0)
        if not self.trains:
            return other
        training = device.training(self.run)
        return Price(training.seconds + other.seconds, training.extrapolated)


EXHIBITS = ("score", "evidence", "set_tables", "draw_figures", "judge", "answer", "page", "all")


def study_work(study: Study) -> list[Work]:
    """The work of a study, without its companions: of one seed of every arm, and what is done once."""
    settings, seed = study.settings, study.settings.seeds[0]
    first = study.run(study.baseline, seed)
    work = [Work("images" if study.prepared == "images" else "corpus", None, 1)]
    finetune, probes, lambada = study.finetune_runs(), study.probe_runs(), study.lambada_runs()
    if finetune:
        work.append(Work("glue", None, 1))
    work.append(Work("calibrate", None, 1, first, flops=calibration_flops(study)))
    for arm in settings.arms:
        run = study.run(arm, seed)
        work += [
            Work("settings", arm, 1),
            Work("pretrain", arm, 1, run, trains=True, flops=validation_flops(run)),
        ]
        if jobs := sum((arm, seed) == key[:2] for key in finetune):
            flops = len(study.finetune_checkpoints(arm)) * finetune_flops(study, run)
            work.append(Work("finetune", arm, jobs, run, flops=flops))
        if (arm, seed) in probes:
            work.append(Work("probe", arm, 1, run, flops=probe_flops(study, run)))
        if (arm, seed) in lambada:
            work.append(Work("lambada", arm, 1, run, flops=lambada_flops(study, run)))
    return work


def count_jobs(study: Study) -> Counter[str]:
    """Rule -> jobs of a study and its companions, with the exhibits: what `snakemake -n` plans."""
    jobs = Counter(dict.fromkeys(EXHIBITS, 1))
    for one in study.all:
        for work in study_work(one):
            jobs[work.rule] += work.jobs * repetitions(one, work)
    return jobs


def repetitions(study: Study, work: Work) -> int:
    """How often a study does some work."""
    return 1 if work.arm is None else len(study.settings.seeds)


def rule_prices(study: Study, device: AnyDevice) -> dict[str, Price]:
    """Rule -> price on a device of all its jobs in a study and its companions; only of rules that need a device."""
    prices: dict[str, Price] = {}
    for one in study.all:
        for work in study_work(one):
            if work.run is not None:
                price, before = work.price(device), prices.get(work.rule, Price(0.0))
                seconds = before.seconds + repetitions(one, work) * price.seconds
                prices[work.rule] = Price(seconds, before.extrapolated or price.extrapolated)
    return prices


def _forward(flops: StepFlops, kept_layers: float, samples: float) -> float:
    """FLOPs of samples that pass forward alone."""
    return samples * flops.of(kept_layers) / BACKWARD_FACTOR


def calibration_flops(study: Study) -> float:
    """FLOPs of the steps with 0..L layers of every model shape."""
    settings = study.settings.calibration
    shapes = {run.model: run for run in study.calibration_job().runs}.values()
    return (settings.warmup_rounds + settings.rounds) * math.fsum(
        run_flops(run).of(kept, min(run.impl.micro_batch_size, run.training.batch_size))
        for run in shapes
        for kept in range(run.model.num_layers + 1)
    )


def validation_flops(run: RunSettings) -> float:
    """FLOPs of the validations of a run."""
    samples = run.training.validation_points * run.training.validation_sequences
    return _forward(run_flops(run), run.model.num_layers, samples)


def glue_examples(study: Study) -> dict[str, tuple[int, int]]:
    """Task -> examples that are trained on and examples that are predicted."""
    finetune, data = study.settings.finetune, study.data()
    strange = [task for task in finetune.tasks if task not in GLUE_EXAMPLES]
    if strange:
        raise SettingsError(f"finetune.groups: no such task: {', '.join(strange)}; allowed: {', '.join(GLUE_EXAMPLES)}")
    sizes = {task: GLUE_EXAMPLES[task] for task in finetune.tasks}
    if isinstance(data, DataSettings) and data.source == "miniature":
        made = data.miniature
        sizes = {task: (made.train_examples, made.dev_examples * (2 if task == "mnli" else 1)) for task in sizes}
    most = finetune.max_train_examples
    return {task: (min(train, most or train), dev) for task, (train, dev) in sizes.items()}


def finetune_flops(study: Study, run: RunSettings) -> float:
    """FLOPs of fine-tuning one checkpoint on all tasks, with every learning rate and seed; at most (see the module)."""
    finetune = study.settings.finetune
    assert isinstance(run.data, DataSettings)
    data = run.data.model_copy(update={"sequence_length": finetune.sequence_length})
    encoder = math.fsum(step_flops(run.model, run.training, data).layers)
    passes = math.fsum(finetune.epochs * train + dev / BACKWARD_FACTOR for train, dev in glue_examples(study).values())
    return len(finetune.learning_rates) * len(finetune.seeds) * passes * encoder


def probe_flops(study: Study, run: RunSettings) -> float:
    """FLOPs of the probes of one run; see ``pldrepro.evaluation.probe`` for what they are."""
    probe, flops, layers = study.settings.probe, run_flops(run), run.model.num_layers
    texts = min(probe.sequences, run.training.validation_sequences)
    checkpoints = len(probe.checkpoints or run.training.checkpoints)
    each = texts * flops.of(layers) + _forward(flops, layers, texts)
    each += probe.lesion_draws * _forward(flops, layers / 2, texts)
    # Half of the text: all layers and all but one, to order them; then the same, every other, and three times 0..L.
    kept = [layers, layers - 1, layers, layers - 1, layers / 2, layers / 2, *([layers / 2] * 3)]
    times = [1, layers, 1, layers, 1, 1, *([layers + 1] * 3)]
    depth = math.fsum(n * _forward(flops, k, texts / 2) for k, n in zip(kept, times, strict=True))
    return checkpoints * each + depth


def lambada_passages(study: Study) -> int:
    """Passages that a GPT is scored on."""
    data = study.data()
    assert isinstance(data, DataSettings)
    return data.miniature.lambada_passages if data.source == "miniature" else LAMBADA_PASSAGES


def lambada_flops(study: Study, run: RunSettings) -> float:
    """FLOPs of scoring all checkpoints of a run; at most (see the module)."""
    layers = math.fsum(run_flops(run).layers) / BACKWARD_FACTOR  # the head sees the last words alone
    return len(run.training.checkpoints) * lambada_passages(study) * layers


# ---- disk ----


@dataclass(frozen=True)
class Disk:
    """Bytes of a study and its companions."""

    checkpoints: int  # that stay
    models: int  # fine-tuned, where they are kept
    predictions: int
    data: int | None  # token and pixel arrays; None: not known before they are made
    resume: int  # states to continue from, if all runs are under way at once
    largest_resume: int  # the largest of them

    @property
    def stays(self) -> int:
        """What is there when all is done, as far as it is known."""
        return self.checkpoints + self.models + self.predictions + (self.data or 0)


def study_disk(study: Study) -> Disk:
    """The disk of a study and its companions."""
    parts = [_own_disk(one) for one in study.all]
    return add_disks(parts)


def add_disks(parts: Sequence[Disk]) -> Disk:
    """The disk of several studies."""
    known = [part.data for part in parts if part.data is not None]
    return Disk(
        checkpoints=sum(part.checkpoints for part in parts),
        models=sum(part.models for part in parts),
        predictions=sum(part.predictions for part in parts),
        data=sum(known) if len(known) == len(parts) else None,
        resume=sum(part.resume for part in parts),
        largest_resume=max(part.largest_resume for part in parts),
    )


def _own_disk(study: Study) -> Disk:
    settings = study.settings
    seeds, runs = len(settings.seeds), [study.run(arm, settings.seeds[0]) for arm in settings.arms]
    weights = {run.arm: parameter_count(run.model) * BYTES_PER_PARAMETER for run in runs}
    finetuned = {
        arm: sum(key[:2] == (arm, settings.seeds[0]) for key in study.finetune_runs()) for arm in settings.arms
    }
    groups, predictions, models = len(settings.finetune.groups), 0, 0
    if any(finetuned.values()):
        finetune = settings.finetune
        combinations = len(finetune.learning_rates) * len(finetune.seeds)
        labels = sum(dev * (4 if task == "stsb" else 8) for task, (_, dev) in glue_examples(study).items())
        checkpoints = {arm: seeds * jobs // groups for arm, jobs in finetuned.items()}
        predictions += sum(checkpoints.values()) * (combinations + 1) * labels
        if finetune.save_models:
            models = sum(n * combinations * len(finetune.tasks) * weights[arm] for arm, n in checkpoints.items())
    if study.lambada_runs():
        scored = sum(len(run.training.checkpoints) for run in runs)
        predictions += seeds * scored * lambada_passages(study) * 9  # a float64 and a flag
    return Disk(
        checkpoints=seeds * sum(weights[run.arm] * len(run.training.checkpoints) for run in runs),
        models=models,
        predictions=predictions,
        data=data_bytes(study),
        resume=seeds * STATES * sum(weights.values()),
        largest_resume=STATES * max(weights.values()),
    )


def data_bytes(study: Study) -> int | None:
    """Bytes of the prepared arrays, roughly; None where only the data themselves can tell."""
    data = study.data()
    if isinstance(data, ImageDataSettings):
        images = {"shapes": data.shapes.train_images + data.shapes.validation_images, "files": None}
        hub = HUB_IMAGES.get(data.hub.path) if data.hub else None
        count = images.get(data.source, hub)
        return None if count is None else count * (3 * data.image_size**2 + 8)
    tokens = corpus_tokens(data)
    if tokens is None:
        return None
    glue = 0
    if study.finetune_runs():
        length = study.settings.finetune.sequence_length
        glue = sum(sum(sizes) for sizes in glue_examples(study).values()) * (length * GLUE_TOKEN_BYTES + 16)
    return round(tokens * (2 if data.vocab_size <= 1 << 16 else 4)) + glue


def corpus_tokens(data: DataSettings) -> float | None:
    """Tokens of the corpus, roughly; None where only the text itself can tell."""
    if data.source == "miniature":
        return data.miniature.num_documents * MINIATURE_TOKENS
    sizes = [HUB_TEXT_BYTES.get(text.path) for text in data.hub.text] if data.source == "hub" else [None]
    known = [size for size in sizes if size is not None]
    text = math.fsum(known) if len(known) == len(sizes) else math.inf
    if data.max_megabytes is not None:
        text = min(text, data.max_megabytes * 1e6)
    if math.isinf(text):
        return None
    return text / TEXT_BYTES_PER_TOKEN["small" if data.vocab_size < SMALL_VOCABULARY else "large"]


# ---- for people ----

WIDTH = 10  # of a column of hours, at least


def render_plan(studies: Sequence[Study], devices: Mapping[str, AnyDevice]) -> str:
    """The plan of some studies as text: the arms of each with its companions, then jobs, hours and disk of all."""
    every = [one for study in studies for one in study.all]
    first = next(iter(devices))
    parts = [_arms_text(one, first, devices[first]) for one in every]
    jobs = sum((count_jobs(study) for study in studies), Counter[str]())
    prices = {name: sum_prices([rule_prices(study, device) for study in studies]) for name, device in devices.items()}
    runs = sum(len(one.pretrain_runs()) for one in every)
    title = f"all of it: {runs:,} pre-training runs, {sum(jobs.values()):,} jobs"
    return "\n\n".join([*parts, f"{title}\n{_rules_text(jobs, prices)}", _notes(devices, prices), _disk_text(studies)])


def sum_prices(parts: Iterable[Mapping[str, Price]]) -> dict[str, Price]:
    """Rule -> price of several studies together."""
    total: dict[str, Price] = {}
    for part in parts:
        for rule, price in part.items():
            before = total.get(rule, Price(0.0))
            total[rule] = Price(before.seconds + price.seconds, before.extrapolated or price.extrapolated)
    return total


def _arms_text(study: Study, device_name: str, device: AnyDevice) -> str:
    seeds = study.settings.seeds
    plans = [plan_arm(study.run(arm, seeds[0]), device) for arm in study.settings.arms]
    jobs = len(study.finetune_runs())
    tuned = f", {jobs:,} fine-tuning jobs of {finetune_count(study):,} runs in all" if jobs else ""
    lines = [
        f"{study.settings.scale}: {study.settings.description}",
        f"{len(plans)} arms x {len(seeds)} seeds = {len(study.pretrain_runs()):,} pre-training runs{tuned}",
        f"one seed, on {device_name}:",
        f"{'arm':<22}{'parameters':>11}{'steps':>9}{'tokens':>10}{'kept depth':>13}{'FLOPs':>10}{'hours':>10}"
        f"{'disk':>10}",
    ]
    for p in plans:
        tokens = f"{p.tokens:.2e}" if p.tokens else "-"
        depth = f"{p.kept_depth:.2f} of {p.num_layers}"
        lines.append(
            f"{p.arm:<22}{_count(p.parameters):>11}{p.steps:>9,}{tokens:>10}{depth:>13}"
            f"{p.flops:>10.2e}{hours_text(p.price):>10}{_size(p.checkpoint_bytes):>10}"
        )
    return "\n".join(lines)


def _rules_text(jobs: Counter[str], prices: Mapping[str, Mapping[str, Price]]) -> str:
    """A line for each rule: its jobs, and its hours on every device."""
    widths = {name: max(WIDTH, len(name) + 2) for name in prices}
    lines = [f"{'rule':<22}{'jobs':>11}" + "".join(f"{name:>{width}}" for name, width in widths.items())]
    order = ["corpus", "images", "glue", "calibrate", "settings", "pretrain", "finetune", "probe", "lambada", *EXHIBITS]
    for rule in (rule for rule in order if jobs[rule]):
        cells = (f"{hours_text(prices[name].get(rule)):>{width}}" for name, width in widths.items())
        lines.append(f"{rule:<22}{jobs[rule]:>11,}" + "".join(cells))
    totals = (f"{hours_text(_sum(prices[name].values())):>{width}}" for name, width in widths.items())
    return "\n".join([*lines, f"{'total, device hours':<22}{sum(jobs.values()):>11,}" + "".join(totals)])


def _sum(prices: Iterable[Price]) -> Price:
    prices = list(prices)
    return Price(math.fsum(price.seconds for price in prices), any(price.extrapolated for price in prices))


def hours_text(price: Price | None) -> str:
    """Hours with three digits; ~ where they are extrapolated."""
    if price is None:
        return "-"
    hours = price.seconds / 3600
    return f"{'~' if price.extrapolated else ''}{f'{hours:,.0f}' if hours >= 100 else f'{hours:.3g}'}"


def _notes(devices: Mapping[str, AnyDevice], prices: Mapping[str, Mapping[str, Price]]) -> str:
    lines = [f"{name}: {device.describe()}" for name, device in devices.items()]
    if any(price.extrapolated for own in prices.values() for price in own.values()):
        lines.append("~ by FLOPs, at the speed of the nearest shape that was measured")
    lines.append("Fine-tuning and LAMBADA: at most, with every example as long as its limit; - needs no device.")
    return "\n".join(wrapped(lines))


def wrapped(lines: Iterable[str]) -> list[str]:
    """Lines of at most 98 columns; an empty one stays."""
    wrap = textwrap.TextWrapper(98, subsequent_indent="  ", break_on_hyphens=False).wrap
    return [part for line in lines for part in (wrap(line) or [""])]


def _disk_text(studies: Sequence[Study]) -> str:
    disk = add_disks([study_disk(study) for study in studies])
    rows = [
        ("checkpoints that stay", _size(disk.checkpoints)),
        ("fine-tuned models", _size(disk.models)),
        ("prepared arrays, roughly", "not known before they are made" if disk.data is None else _size(disk.data)),
        ("predictions", _size(disk.predictions)),
        (
            "resume states",
            f"{_size(disk.largest_resume)} of the largest run, twice that while replaced; of all {_size(disk.resume)}",
        ),
    ]
    lines = [f"{name:<26}{text}" for name, text in rows if text != "0 B"]
    return "\n".join(["disk", *lines])


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
