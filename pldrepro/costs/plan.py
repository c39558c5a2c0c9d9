"""What a study will cost before it runs: FLOPs, hours on devices, disk.

A device is priced in one of two ways. An *assumed* one has the peak of its data sheet and a share of it that training
is taken to reach, so that its hours are FLOPs over both. A *reference card* has calibrations: a run costs the passes
that its policy expects at each depth times tau(k), as finished runs are priced (``runs.step_times``); what was not
calibrated is scaled by FLOPs from the nearest shape that was, and marked.

Fine-tuning's examples count as if each were as long as its limit: an upper bound. What is short is priced roughly, see
``costs.stages``. Not counted: validation, probes of finished checkpoints and LAMBADA, the analysis of sensitivity,
writing checkpoints, and what needs no device (data, scores, exhibits).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import Field

from pldrepro.config.base import Strict, read_yaml, validate
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.run import RunSettings
from pldrepro.config.study import Study, mean_depth
from pldrepro.costs.flops import BACKWARD_FACTOR, parameter_count, run_flops, step_flops
from pldrepro.data.tasks import TASKS
from pldrepro.errors import SettingsError
from pldrepro.files import shipped
from pldrepro.policy.drop import keep_probabilities
from pldrepro.runs.step_times import StepTimes, load_calibration

DEVICES_FILE = Path("config/devices.yaml")
REFERENCE_CARDS = "reference_cards"  # key of that file
BYTES_PER_PARAMETER = 4  # checkpoints are float32
STATES = 3  # a resume checkpoint holds weights and two moments
SAMPLED_STEPS = 1000  # of a run, at which its expected passes are worked out

# Task -> examples of the training set, and of all development sets together.
GLUE_EXAMPLES = {name: (task.train_examples, task.dev_examples) for name, task in TASKS.items()}
# Roughly, for the disk: bytes of text; images of training and validation.
HUB_TEXT_BYTES = {"wikimedia/wikipedia": 20.2e9, "bookcorpus/bookcorpus": 4.85e9}
HUB_IMAGES = {"ILSVRC/imagenet-1k": 1_281_167 + 50_000, "uoft-cs/cifar10": 60_000}
# Bytes of English text a token, roughly: 1.96 with the 512 types of the recorded runs.
SMALL_VOCABULARY = 8_000
TEXT_BYTES_PER_TOKEN = {"small": 2.0, "large": 4.0}
MINIATURE_TOKENS = 140  # of a generated document, roughly


class Price(NamedTuple):
    """Seconds of a device; extrapolated: from FLOPs, by the speed of another shape than the run's own."""

    seconds: float
    extrapolated: bool = False


class AssumedDevice(Strict):
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


AnyDevice: TypeAlias = AssumedDevice | ReferenceCard


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
        return load_card([shipped(Path(folder)) for folder in cards[name]])
    if name not in devices:
        raise SettingsError(f"device {name!r} is not in {path}; allowed: {', '.join([*devices, *cards])}")
    return validate(AssumedDevice, devices[name], f"{path}: {name}")


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
    if not steps:
        return by_kept_layers, by_layer
    for keep, times in Counter(keep_probabilities(run.drop, step, num_steps, layers) for step in steps).items():
        chances = kept_layers_chances(keep)
        none = 0.0
        if run.drop.empty_draw == "run_all":
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


# ---- fine-tuning and disk ----


def glue_examples(study: Study) -> dict[str, tuple[int, int]]:
    """Task -> examples that are trained on and examples that are predicted."""
    finetune, data = study.settings.finetune, study.data()
    strange = [task for task in finetune.tasks if task not in GLUE_EXAMPLES]
    if strange:
        raise SettingsError(
            f"finetune.groups: no such task: {', '.join(strange)}; expected: {', '.join(GLUE_EXAMPLES)}"
        )
    sizes = {task: GLUE_EXAMPLES[task] for task in finetune.tasks}
    if isinstance(data, DataSettings) and data.source == "miniature":
        made = data.miniature
        sizes = {task: (made.train_examples, made.dev_examples * len(TASKS[task].dev)) for task in sizes}
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


def checkpoint_bytes(run: RunSettings) -> int:
    """Of the checkpoints of a run that stay."""
    return parameter_count(run.model) * BYTES_PER_PARAMETER * len(run.training.checkpoint_steps())


def resume_bytes(run: RunSettings) -> int:
    """Of the state from which a run goes on, until it is complete."""
    return parameter_count(run.model) * BYTES_PER_PARAMETER * STATES


def data_bytes(data: DataSettings | ImageDataSettings) -> int | None:
    """Bytes of the prepared corpus or images, roughly; None where only the data themselves can tell."""
    if isinstance(data, ImageDataSettings):
        images = {"shapes": data.shapes.train_images + data.shapes.validation_images, "files": None}
        count = images.get(data.source, HUB_IMAGES.get(data.hub.path) if data.hub else None)
        return None if count is None else count * (3 * data.image_size**2 + 8)
    tokens = corpus_tokens(data)
    return None if tokens is None else round(tokens) * (2 if data.vocab_size <= 1 << 16 else 4)


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
