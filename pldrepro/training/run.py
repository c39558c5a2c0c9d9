"""A pre-training run in progress: its model, optimizer, data and clock, and one training step."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pldrepro.config.run import RunSettings
from pldrepro.costs.flops import run_flops
from pldrepro.data.batches.rows import Batch
from pldrepro.errors import DivergedError, RankError, RecordError
from pldrepro.files import append_jsonl
from pldrepro.policy import drop
from pldrepro.records import MAX_LOSS, FileEntry
from pldrepro.runs.manifest import entries
from pldrepro.runs.schema import Checkpoint, Costs, SensitivityLine, TrainLine, ValidationLine
from pldrepro.runs.step_times import StepTimes
from pldrepro.training.checkpoint import load_state, save_state
from pldrepro.training.distributed import ProcessGroup
from pldrepro.training.gradient_sum import GradientSum
from pldrepro.training.objectives import Data, Objective, blocks_of
from pldrepro.training.optim import MAX_GRADIENT_NORM, adamw, learning_rate, set_learning_rate, zero_missing_gradients
from pldrepro.training.seeding import seed_dropout
from pldrepro.training.sensitivity import Analysis, layer_sensitivity
from pldrepro.training.stopwatch import Stopwatch


@dataclass
class Progress:
    """How far a run has come; what a resume checkpoint holds besides weights and optimizer."""

    step: int = 0  # optimizer steps done
    train_seconds: float = 0.0
    warmup_seconds: float = 0.0
    passes_by_kept_layers: Counter[int] = field(default_factory=Counter)  # forward passes (micro steps)
    passes_by_layer: list[int] = field(default_factory=list)  # forward passes that each layer was kept in
    reduced_bytes: int = 0  # of gradients that each rank gave to the all-reduce
    flops: float = 0.0  # of training and of the analysis of sensitivity
    analysis_seconds: float = 0.0
    analysis_passes: float = 0.0  # the analysis by its FLOPs, in training passes of a micro-batch at full depth
    sensitivity: list[float] | None = None  # of each layer, as last measured
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    losses: list[list[float]] = field(default_factory=list)  # of each step since the last training line, see flush
    metrics: FileEntry | None = None  # the part of metrics.jsonl that belongs to this state
    files: dict[str, FileEntry] = field(default_factory=dict)  # of the checkpoints, as they were written

    @classmethod
    def restore(cls, values: dict[str, Any]) -> Progress:
        """From the JSON of a resume checkpoint."""
        passes = Counter({int(k): n for k, n in values["passes_by_kept_layers"].items()})
        checkpoints = {name: Checkpoint.model_validate(point) for name, point in values["checkpoints"].items()}
        files = {name: FileEntry.model_validate(entry) for name, entry in values["files"].items()}
        metrics = FileEntry.model_validate(values["metrics"])
        typed = {"passes_by_kept_layers": passes, "checkpoints": checkpoints, "files": files, "metrics": metrics}
        return cls(**{**values, **typed})

    def dump(self) -> dict[str, Any]:
        """As JSON, for a resume checkpoint."""
        passes = {str(k): n for k, n in self.passes_by_kept_layers.items()}
        checkpoints = {name: point.dump() for name, point in self.checkpoints.items()}
        files = {name: entry.dump() for name, entry in self.files.items()}
        plain = {"passes_by_kept_layers": passes, "checkpoints": checkpoints, "files": files}
        return {**vars(self), **plain, "metrics": None if self.metrics is None else self.metrics.dump()}

    @property
    def kept_layers(self) -> int:
        """Layers passed so far, summed over forward passes."""
        return sum(k * n for k, n in self.passes_by_kept_layers.items())


@dataclass(frozen=True)
class Validation:
    """What a model reaches on held-out data; of accuracies those that its objective counts."""

    loss: float
    accuracy: float | None = None
    top5: float | None = None


class Run:
    """One pre-training run: its settings, model, optimizer, data and progress."""

    def __init__(
        self,
        settings: RunSettings,
        objective: Objective,
        data: Data,
        tau: StepTimes | None,
        folder: Path,
        world: ProcessGroup,
    ) -> None:
        self.settings, self.objective, self.data, self.tau, self.folder = settings, objective, data, tau, folder
        self.world = world
        self.device = objective.device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.model = objective.build().to(self.device)
        self.num_layers = settings.model.num_layers
        training = settings.training
        self.optimizer = adamw(
            self.model,
            weight_decay=training.weight_decay,
            betas=training.betas,
            bias_correction=training.bias_correction,
        )
        self.gradients = GradientSum(world, self.model)
        self.train_batches = objective.training(data)
        # All arms and seeds are validated on the same samples, masked alike.
        self.validation = objective.validation(data)
        self.flops = run_flops(settings)
        self.progress = Progress(passes_by_layer=[0] * self.num_layers)
        # No waiting for the device at each step: reading the losses does it, before anything else is timed.
        self.clock = Stopwatch()
        self.metrics = folder / "metrics.jsonl"
        self.recorded = hashlib.sha256()  # of what was written to it
        self.begun: dict[str, FileEntry] = {}  # settings and provenance

    def resume(self) -> None:
        """Go on from the resume checkpoint when there is one; forget metrics that were written after it.

        A checkpoint or metrics that are not what they were when they were written are a RecordError, but for the
        checkpoint of the very step that the resume checkpoint holds, which is written again.
        """
        values = load_state(self.folder / "resume", self.model, self.optimizer)
        if values is not None:
            if "files" not in values:
                raise RecordError(f"{self.folder / 'resume'}: of an earlier version; delete it to start this run again")
            self.progress = Progress.restore(values)
            self.clock.seconds = self.progress.train_seconds
        if self.world.is_first:
            self._cut_metrics()
            self._check_checkpoints()
        if self.settings.impl.compile:
            self.objective.compile(self.model)

    def _cut_metrics(self) -> None:
        """Take metrics.jsonl back to the resume checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self.progress.metrics
        size = 0 if known is None else known.bytes
        with self.metrics.open("a+b") as file:
            file.seek(0)
            self.recorded = hashlib.sha256(file.read(size))
            if known is not None and self.recorded.hexdigest() != known.sha256:
                raise RecordError(
                    f"{self.metrics}: its first {size} bytes are not what they were when the resume checkpoint was "
                    f"written; delete {self.folder} to start this run again"
                )
            file.truncate(size)

    def _check_checkpoints(self) -> None:
        """Compare the checkpoints with what was written; that of the step that the run is at is written again."""
        for name, point in self.progress.checkpoints.items():
            files = {file: entry for file, entry in self.progress.files.items() if file.startswith(f"{point.folder}/")}
            damaged = [file for file, entry in files.items() if not entry.describes(self.folder / file)]
            if damaged and point.step == self.progress.step:
                self._write_model(point.folder)
                damaged = [file for file, entry in files.items() if not entry.describes(self.folder / file)]
            if damaged:
                raise RecordError(
                    f"{self.folder / damaged[0]}: missing, or not the file that was written at step {point.step} "
                    f"({name}); put it back, or delete {self.folder} to start this run again"
                )

    def record(self, line: TrainLine | ValidationLine | SensitivityLine) -> None:
        """Append a line to metrics.jsonl."""
        if self.world.is_first:
            self.recorded.update(append_jsonl(self.metrics, line.dump()))

    @property
    def files(self) -> dict[str, FileEntry]:
        """What the files of the run were when they were written."""
        metrics = FileEntry(bytes=self.metrics.stat().st_size, sha256=self.recorded.hexdigest())
        return {**self.begun, self.metrics.name: metrics, **self.progress.files}

    def compare_ranks(self) -> None:
        """RankError when the ranks are not at the same step with the same weights."""
        if self.world.size > 1:
            sums = [parameter.detach().double().sum().cpu() for parameter in self.model.parameters()]
            if not self.world.all_equal(torch.stack([torch.tensor(float(self.progress.step)), *sums])):
                raise RankError(f"{self.folder}: the ranks hold different models at step {self.progress.step}")

    def save(self) -> None:
        """Write the resume checkpoint."""
        if not self.world.is_first:
            return
        self.progress.train_seconds = self.clock.seconds
        with self.metrics.open("rb") as file:  # on disk before the state that counts on it
            os.fsync(file.fileno())
        self.progress.metrics = self.files[self.metrics.name]
        save_state(self.folder / "resume", self.model, self.optimizer, self.progress.dump())

    @property
    def ranks(self) -> tuple[int, ...] | None:
        """Ranks of the layers of a policy by rank; None before they are known."""
        return drop.rank_layers(self.settings.drop, self.num_layers, self.progress.sensitivity, self.settings.seed)

    def train_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """One optimizer step; returns loss, main loss and gradient norm as tensors, so that no device waits."""
        settings, step = self.settings, self.progress.step
        self._join_layers(step)
        if drop.is_analysed(settings.drop, step, settings.training.num_steps):
            self.analyse(step)
        batch = self.train_batches.batch(step, settings.training.batch_size)
        self.model.train()
        losses, main_losses = [], []
        parts = list(batch.micro_batches(settings.impl.micro_batch_size))
        for micro_step, part in enumerate(parts):
            gates = drop.draw_gates(
                settings.drop,
                seed=settings.seed,
                step=step,
                micro_step=micro_step,
                num_steps=settings.training.num_steps,
                num_layers=self.num_layers,
                ranks=self.ranks,
            )
            seed_dropout(settings.seed, step, micro_step, self.world.rank)
            loss, main_loss = self.objective.loss(self.model, self.world.shard(part), batch, gates)
            if micro_step == len(parts) - 1:
                self.gradients.start(gates)
            loss.backward()
            losses.append(loss.detach())
            main_losses.append(main_loss.detach())
            self._count(gates, len(part))
        return torch.stack(losses).sum(), torch.stack(main_losses).sum(), self._update(step)

    def _count(self, gates: Sequence[drop.Gate], samples: int) -> None:
        """Add a forward and backward pass to the progress."""
        kept = [layer for layer, gate in enumerate(gates) if gate.keep]
        self.progress.passes_by_kept_layers[len(kept)] += 1
        for layer in kept:
            self.progress.passes_by_layer[layer] += 1
        self.progress.flops += self.flops.through(kept, samples)

    def analyse(self, step: int) -> None:
        """Measure the sensitivity of the layers, charge it to the run, and record it."""
        settings = self.settings.drop.sensitivity
        # As many samples as a calibrated step has.
        size = min(self.settings.impl.micro_batch_size, self.settings.training.batch_size)
        # Always the same samples: the first ones of the run.
        batch = self.train_batches.batch(0, settings.batches * size)
        analysis = Analysis(self.model, self.objective, batch, self.flops, settings, self._trial, self.world)
        started = time.perf_counter()  # inside a step, which the run's clock measures
        scores = self.world.broadcast(layer_sensitivity(analysis))
        if not np.isfinite(scores).all():
            raise diverged(self, "sensitivity", step)
        earlier, weight = self.progress.sensitivity, settings.moving_average
        if earlier is not None:
            scores = [weight * old + (1 - weight) * new for old, new in zip(earlier, scores, strict=True)]
        self.progress.sensitivity = scores
        self.progress.flops += analysis.flops
        self.progress.analysis_passes += analysis.flops / self.flops.of(self.num_layers, size)
        self.progress.analysis_seconds += time.perf_counter() - started
        ranks = list(self.ranks or ())
        self.record(
            SensitivityLine(
                kind="sensitivity", measure=settings.measure, scores=scores, ranks=ranks, **dict(self.costs(step))
            )
        )

    def _trial(self, parts: Sequence[Batch], gates: Sequence[drop.Gate]) -> list[float]:
        """Training losses of an optimizer step on each of some micro-batches, which are then taken back."""
        model = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        self.model.train()
        losses = []
        for number, part in enumerate(parts):
            seed_dropout(self.settings.seed, self.progress.step, -1 - number, self.world.rank)
            loss, _ = self.objective.loss(self.model, self.world.shard(part), part, gates)
            loss.backward()
            losses.append(float(self.world.sum(loss.detach())))
            self._update(self.progress.step)
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        return losses

    @torch.no_grad()
    def _join_layers(self, step: int) -> None:
        """Give layers that join a growing stack at this step the weights that they are to start from."""
        blocks = blocks_of(self.model)
        for layer, source in drop.joins(
            self.settings.drop, step, self.settings.training.num_steps, len(blocks)
        ).items():
            blocks[layer].load_state_dict(blocks[source].state_dict())

    def _update(self, step: int) -> Tensor:
        """Sum the gradients of all ranks, clip and apply them; returns their norm before clipping."""
        self.progress.reduced_bytes += self.gradients.finish()
        if self.settings.drop.dropped_gradients == "zero":
            zero_missing_gradients(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        set_learning_rate(self.optimizer, learning_rate(self.settings.training, step))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def validate(self) -> Validation:
        """Loss, accuracy and, for images, top-5 accuracy on held-out data; all layers kept."""
        self.model.eval()
        loss, correct = 0.0, Counter[str]()
        for part in self.validation_parts():
            sums = self.objective.sums(self.model, part, self.evaluation_gates)
            loss += float(sums.loss)
            correct.update({name: int(count) for name, count in sums.correct.items()})
        names = self.objective.counted
        totals = self.world.sum(torch.tensor([loss, *(correct[name] for name in names)], dtype=torch.float64))
        loss, *rights = totals.tolist()
        count = self.objective.count(self.validation)
        if not loss / count < MAX_LOSS:  # which NaN is not, either
            raise diverged(self, "validation loss", self.progress.step - 1)
        return Validation(loss / count, **{name: right / count for name, right in zip(names, rights, strict=True)})

    def validation_parts(self) -> Iterator[Batch]:
        """This rank's parts of the validation's micro-batches; one without samples is left out."""
        for whole in self.validation.micro_batches(self.settings.impl.micro_batch_size):
            if part := self.world.shard(whole):
                yield part

    @property
    def evaluation_gates(self) -> tuple[drop.Gate, ...]:
        """Gates with which the model of the last step is evaluated."""
        return tuple(drop.Gate(scale > 0, scale) for scale in self._evaluation_scales())

    def _evaluation_scales(self) -> tuple[float, ...]:
        """Factors of the blocks for the model of the last step that was done."""
        num_steps, step = self.settings.training.num_steps, self.progress.step - 1
        return drop.evaluation_scales(self.settings.drop, step, num_steps, self.num_layers, self.ranks)

    def costs(self, step: int) -> Costs:
        """What the run has cost at a step."""
        progress = self.progress
        samples = progress.step * self.settings.training.batch_size
        price = None
        if self.tau is not None:
            price = self.tau.price(progress.passes_by_kept_layers, progress.passes_by_layer, progress.analysis_passes)
        return Costs(
            step=step,
            samples=samples,
            tokens=samples * (self.settings.data.sequence_length if self.settings.data.kind == "text" else 0),
            kept_layers=progress.kept_layers,
            flops=progress.flops,
            train_seconds=self.clock.seconds,
            reference_seconds=price,
            analysis_seconds=progress.analysis_seconds,
            analysis_passes=progress.analysis_passes,
            reduced_bytes=progress.reduced_bytes,
        )

    def save_checkpoint(self, name: str, validation: Validation) -> None:
        """Save the model for fine-tuning, in the layout of transformers."""
        place = f"checkpoints/{name}"
        if self.world.is_first:
            self._write_model(place)
            self.progress.files |= entries(self.folder, [f"{place}/*"])
        self.progress.checkpoints[name] = Checkpoint(
            share=self.settings.training.checkpoints[name],
            folder=place,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            validation_top5=validation.top5,
            **dict(self.costs(self.progress.step)),
        )

    def _write_model(self, place: str) -> None:
        """Write the model of the step that the run is at; nothing of an earlier start stays with it."""
        shutil.rmtree(self.folder / place, ignore_errors=True)
        self.objective.save(self.model, self.data, self.folder / place, self._evaluation_scales())


def spread(count: int, num_steps: int) -> set[int]:
    """``count`` step numbers spread evenly over 1..num_steps, the last one included."""
    return {max(1, round(i * num_steps / count)) for i in range(1, count + 1)}


def diverged(run: Run, what: str, step: int) -> DivergedError:
    """The error that says where a run diverged, and what is left of it."""
    rate = learning_rate(run.settings.training, step)
    good = list(run.progress.checkpoints) or ["none"]
    resume = run.folder / "resume"
    return DivergedError(
        f"{run.folder}: the {what} is not finite at step {step}, learning rate {rate:.3g}; last good checkpoint: "
        f"{good[-1]}" + (f", resume state in {resume}" if resume.exists() else "")
    )
