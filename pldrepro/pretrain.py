"""Pre-training of one arm with one seed: config in, run folder out.

``setup -> resume -> loop -> finish``. The loop is explicit: gates, batch, loss, backward, clip, step, record.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from pldrepro import drop
from pldrepro.checkpoint import load_state, save_state
from pldrepro.config import RunSettings, SettingsError, validate
from pldrepro.data.batches import IGNORED, Batch, BatchMaker
from pldrepro.data.corpus import Corpus, open_corpus
from pldrepro.device import autocast, describe, peak_memory_bytes, select_device
from pldrepro.flops import masked_positions, parameter_count, step_flops
from pldrepro.models.bert import BertForPreTraining, initialise
from pldrepro.models.transformers_format import save_pretraining
from pldrepro.optim import adamw, learning_rate, set_learning_rate, zero_missing_gradients
from pldrepro.records import (
    RecordError,
    TauShape,
    append_jsonl,
    load_calibration,
    provenance,
    read_json,
    write_json,
)
from pldrepro.timing import Stopwatch


class DivergedError(RuntimeError):
    """The loss is not finite any more."""


class OutOfTimeError(RuntimeError):
    """The time allowed by --max-seconds is over; the same command goes on from the resume checkpoint."""


@dataclass
class Progress:
    """How far a run has come; what a resume checkpoint holds beside weights and optimizer."""

    step: int = 0  # optimizer steps done
    train_seconds: float = 0.0
    passes_by_kept_layers: Counter[int] = field(default_factory=Counter)  # forward passes (micro steps)
    flops: float = 0.0
    checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    losses: list[list[float]] = field(default_factory=list)  # of each step since the last training line, see flush
    metrics_bytes: int = 0  # length of metrics.jsonl that belongs to this state

    @classmethod
    def restore(cls, values: dict[str, Any]) -> Progress:
        """From the JSON of a resume checkpoint."""
        passes = Counter({int(k): n for k, n in values["passes_by_kept_layers"].items()})
        return cls(**{**values, "passes_by_kept_layers": passes})

    def dump(self) -> dict[str, Any]:
        """As JSON, for a resume checkpoint."""
        return {**vars(self), "passes_by_kept_layers": {str(k): n for k, n in self.passes_by_kept_layers.items()}}

    @property
    def kept_layers(self) -> int:
        """Layers passed so far, summed over forward passes."""
        return sum(k * n for k, n in self.passes_by_kept_layers.items())


class Run:
    """One pre-training run: its settings, model, optimizer, data and progress."""

    def __init__(self, settings: RunSettings, corpus: Corpus, tau: TauShape | None, folder: Path) -> None:
        self.settings, self.corpus, self.tau, self.folder = settings, corpus, tau, folder
        self.device = select_device(settings.impl)
        self.model = BertForPreTraining(settings.model)
        initialise(self.model, settings.seed)
        self.model.to(self.device)
        training = settings.training
        self.optimizer = adamw(
            self.model,
            weight_decay=training.weight_decay,
            betas=training.betas,
            epsilon=training.epsilon,
            bias_correction=training.bias_correction,
        )
        self.train_batches = batch_maker(settings, corpus, training_tokens(settings, corpus), settings.seed)
        # All arms and seeds are validated on the same sequences, masked alike.
        self.validation = batch_maker(settings, corpus, corpus.validation, 0).fixed(training.validation_sequences)
        self.flops = step_flops(settings.model, training, settings.data.sequence_length)
        self.progress = Progress()
        # No waiting for the device at each step: reading the losses does it, before anything else is timed.
        self.clock = Stopwatch()
        self.metrics = folder / "metrics.jsonl"

    def resume(self) -> None:
        """Go on from the resume checkpoint when there is one; forget metrics that were written after it."""
        values = load_state(self.folder / "resume", self.model, self.optimizer)
        if values is not None:
            self.progress = Progress.restore(values)
            self.clock.seconds = self.progress.train_seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.metrics.open("ab") as file:
            if file.tell() < self.progress.metrics_bytes:
                raise RecordError(
                    f"{self.metrics}: {file.tell()} bytes, the resume checkpoint knows {self.progress.metrics_bytes}; "
                    "delete the folder to start this run again"
                )
            file.truncate(self.progress.metrics_bytes)
        if self.settings.impl.compile:
            self.model.compile_blocks()

    def save(self) -> None:
        """Write the resume checkpoint."""
        self.progress.train_seconds = self.clock.seconds
        self.progress.metrics_bytes = self.metrics.stat().st_size
        save_state(self.folder / "resume", self.model, self.optimizer, self.progress.dump())

    def train_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """One optimizer step; returns loss, MLM loss and gradient norm as tensors, so that no device waits."""
        settings, step = self.settings, self.progress.step
        size = settings.training.batch_size
        self._join_layers(step)
        batch = self.train_batches.batch(step, size)
        num_labels = int((batch.labels != IGNORED).sum())
        self.model.train()
        losses, mlm_losses = [], []
        for micro_step, part in enumerate(batch.micro_batches(settings.impl.micro_batch_size)):
            gates = drop.draw_gates(
                settings.drop,
                seed=settings.seed,
                step=step,
                micro_step=micro_step,
                num_steps=settings.training.num_steps,
                num_layers=settings.model.num_layers,
            )
            seed_dropout(settings.seed, step, micro_step)
            mlm_sum, _, next_sum = self._forward(part, gates)
            mlm_loss = mlm_sum / num_labels
            loss = mlm_loss + next_sum / size
            loss.backward()
            losses.append(loss.detach())
            mlm_losses.append(mlm_loss.detach())
            kept = sum(gate.keep for gate in gates)
            self.progress.passes_by_kept_layers[kept] += 1
            self.progress.flops += self.flops.of(kept, len(part))
        return torch.stack(losses).sum(), torch.stack(mlm_losses).sum(), self._update(step)

    @torch.no_grad()
    def _join_layers(self, step: int) -> None:
        """Give layers that join a growing stack at this step the weights that they are to start from."""
        drop_, steps = self.settings.drop, self.settings.training.num_steps
        blocks = self.model.bert.blocks
        for layer, source in drop.joins(drop_, step, steps, len(blocks)).items():
            blocks[layer].load_state_dict(blocks[source].state_dict())

    def _update(self, step: int) -> Tensor:
        """Clip and apply the gradients; returns their norm before clipping."""
        if self.settings.drop.dropped_gradients == "zero":
            zero_missing_gradients(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.training.max_gradient_norm)
        set_learning_rate(self.optimizer, learning_rate(self.settings.training, step))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _forward(self, batch: Batch, gates: tuple[drop.Gate, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over the batch: MLM loss, correct MLM predictions, next-sentence loss."""
        inputs = {name: self._tensor(getattr(batch, name)) for name in ("input_ids", "token_types", "positions")}
        labels = torch.from_numpy(batch.labels).to(self.device, non_blocking=True).view(-1)
        with autocast(self.settings.impl, self.device):
            logits, next_logits = self.model(**inputs, gates=gates)
            mlm_sum = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
            next_sum = torch.zeros((), device=self.device)
            if batch.is_random_next is not None:
                target = torch.from_numpy(batch.is_random_next).to(self.device, non_blocking=True)
                next_sum = functional.cross_entropy(next_logits, target, reduction="sum")
        with torch.no_grad():
            correct = (logits.argmax(-1) == labels).sum() if not self.model.training else torch.zeros(())
        return mlm_sum, correct, next_sum

    def _tensor(self, array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array).to(self.device, non_blocking=True)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """MLM loss and accuracy on held-out text with all layers kept."""
        self.model.eval()
        gates = tuple(drop.Gate(scale > 0, scale) for scale in self._evaluation_scales())
        loss_sum, correct = 0.0, 0
        for part in self.validation.micro_batches(self.settings.impl.micro_batch_size):
            mlm_sum, right, _ = self._forward(part, gates)
            loss_sum += float(mlm_sum)
            correct += int(right)
        if not math.isfinite(loss_sum):
            raise diverged(self, "validation loss", self.progress.step - 1)
        num_labels = int((self.validation.labels != IGNORED).sum())
        return {"loss": loss_sum / num_labels, "accuracy": correct / num_labels}

    def _evaluation_scales(self) -> tuple[float, ...]:
        """Factors of the blocks for the model of the last step that was done."""
        training, layers = self.settings.training, self.settings.model.num_layers
        return drop.evaluation_scales(self.settings.drop, self.progress.step - 1, training.num_steps, layers)

    def costs(self) -> dict[str, Any]:
        """What the run has cost so far, on every axis."""
        samples = self.progress.step * self.settings.training.batch_size
        passes = self.progress.passes_by_kept_layers
        return {
            "samples": samples,
            "tokens": samples * self.settings.data.sequence_length,
            "kept_layers": self.progress.kept_layers,
            "flops": self.progress.flops,
            "train_seconds": self.clock.seconds,
            "reference_seconds": None if self.tau is None else self.tau.price(passes),
        }

    def save_checkpoint(self, name: str, validation: dict[str, float]) -> None:
        """Save the model for fine-tuning, in the layout of transformers."""
        place = f"checkpoints/{name}"
        save_pretraining(
            self.model,
            self.settings.model,
            self.folder / place,
            self.corpus.tokenizer_folder,
            scales=self._evaluation_scales(),
        )
        self.progress.checkpoints[name] = {
            "step": self.progress.step,
            "share": self.settings.training.checkpoints[name],
            "validation_loss": validation["loss"],
            "validation_accuracy": validation["accuracy"],
            "folder": place,
            **self.costs(),
        }


def seed_dropout(seed: int, step: int, micro_step: int) -> None:
    """Make dropout a function of (seed, step, micro step), so that a resumed run draws the same masks."""
    number = int(drop.uniform_draw("dropout", seed, step, micro_step) * 2**53)
    # torch.manual_seed would seed every kind of device, present or not, which takes 0.4 ms.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


def batch_maker(settings: RunSettings, corpus: Corpus, tokens: np.ndarray, seed: int) -> BatchMaker:
    """The batches of a split of the corpus."""
    length = settings.data.sequence_length
    return BatchMaker(
        tokens=tokens,
        sequence_length=length,
        num_masked=masked_positions(settings.training, length),
        vocab_size=corpus.vocab_size,
        special_tokens=corpus.special_tokens,
        next_sentence=settings.training.next_sentence,
        seed=seed,
    )


def training_tokens(settings: RunSettings, corpus: Corpus) -> np.ndarray:
    """The tokens that a run trains on: all of them, or the first part of the corpus that makes its number of epochs."""
    training = settings.training
    if training.epochs is None:
        return corpus.train
    everything = batch_maker(settings, corpus, corpus.train, settings.seed)
    sequences = round(training.num_steps * training.batch_size / training.epochs)
    if not 1 <= sequences <= everything.num_sequences:
        raise SettingsError(
            f"training.epochs {training.epochs:g}: {sequences} sequences an epoch; allowed here: 1 to "
            f"{everything.num_sequences}, what the corpus holds"
        )
    return corpus.train[: sequences * everything.body]


def spread(count: int, num_steps: int) -> set[int]:
    """``count`` step numbers spread evenly over 1..num_steps, the last one included."""
    return {max(1, round(i * num_steps / count)) for i in range(1, count + 1)}


def pretrain(
    settings: RunSettings,
    corpus_folder: Path,
    folder: Path,
    calibration: Path | None = None,
    max_seconds: float | None = None,
    progress: bool = True,
) -> None:
    """Pre-train one arm and write its run folder; an interrupted run goes on where its last checkpoint stands.

    A run that is complete is left alone. Raises SettingsError, RecordError (a damaged resume checkpoint),
    DivergedError or OutOfTimeError.
    """
    settings = within_budget(settings, calibration, folder)
    check_same_run(folder, settings, open_corpus(corpus_folder))
    if (folder / "summary.json").exists():
        return
    run = setup(settings, corpus_folder, folder, calibration)
    run.resume()
    fit(run, max_seconds, progress)
    finish(run)


def within_budget(settings: RunSettings, calibration: Path | None, folder: Path) -> RunSettings:
    """Set the number of steps so that the run ends at its budget of reference time, where it has one.

    Both runs are priced with the linear fit of tau(k) at the layers that their policies are expected to keep. A run
    that has begun keeps its steps, whatever a newer calibration says.
    """
    budget = settings.budget
    if budget is None:
        return settings
    if calibration is None:
        raise SettingsError(f"{settings.arm}: a run with a budget of reference time needs a calibration")
    if (folder / "resume").exists() or (folder / "summary.json").exists():
        earlier = read_json(folder / "settings.json")
        if earlier.get("budget") == budget.model_dump(mode="json"):
            return with_steps(settings, earlier["training"]["num_steps"])
    taus, layers = load_calibration(calibration), settings.model.num_layers
    other = settings.model_copy(update={"arm": budget.arm, "model": budget.model})
    own, others = (taus.shape(run.model_dump(mode="json")) for run in (settings, other))
    seconds = budget.num_steps * others.expected(budget.kept_layers)
    steps = settings.training.num_steps
    for _ in range(10):  # the depth that a policy keeps hardly depends on the number of steps
        steps = round(seconds / own.expected(drop.mean_expected_depth(settings.drop, steps, layers)))
    return with_steps(settings, steps)


def with_steps(settings: RunSettings, num_steps: int) -> RunSettings:
    """The same run with another number of steps; its checkpoints and its schedules keep their shares."""
    training = settings.training.model_copy(update={"num_steps": num_steps})
    return validate(RunSettings, settings.model_copy(update={"training": training}).model_dump(), settings.arm)


def setup(settings: RunSettings, corpus_folder: Path, folder: Path, calibration: Path | None) -> Run:
    """Open the data, build the model, and write what the run is before it starts."""
    corpus = open_corpus(corpus_folder)
    if corpus.vocab_size > settings.model.vocab_size:
        raise SettingsError(
            f"{corpus_folder}: its vocabulary of {corpus.vocab_size} does not fit model.vocab_size "
            f"{settings.model.vocab_size}"
        )
    tau = None if calibration is None else load_calibration(calibration).shape(settings.model_dump(mode="json"))
    run = Run(settings, corpus, tau, folder)
    write_json(folder / "settings.json", settings.model_dump(mode="json"))
    write_json(
        folder / "provenance.json",
        provenance(describe(run.device, settings.impl), corpus=corpus.manifest),
    )
    return run


def check_same_run(folder: Path, settings: RunSettings, corpus: Corpus) -> None:
    """Refuse a folder that holds a run, complete or not, with other settings or on another corpus."""
    if not ((folder / "resume").exists() or (folder / "summary.json").exists()):
        return
    earlier, now = read_json(folder / "settings.json"), settings.model_dump(mode="json")
    keys = [(group, key) for group in ("model", "data", "training", "drop") for key in now[group]]
    keys += [("impl", key) for key in ("precision", "micro_batch_size")]  # what can change the result
    changed = [f"{group}.{key}" for group, key in keys if earlier.get(group, {}).get(key) != now[group][key]]
    if earlier["seed"] != settings.seed:
        changed.append("seed")
    if read_json(folder / "provenance.json")["corpus"]["hash"] != corpus.hash:
        changed.append("corpus")
    if changed:
        raise SettingsError(
            f"{folder}: holds a run with other settings ({', '.join(changed)}); delete it to start anew"
        )


def fit(run: Run, max_seconds: float | None = None, progress: bool = True) -> None:
    """Train from the current step to the end, with validation, checkpoints and records at fixed steps."""
    training, impl = run.settings.training, run.settings.impl
    log_steps = spread(impl.log_points, training.num_steps)
    checkpoint_steps = {step: name for name, step in training.checkpoint_steps().items()}
    validation_steps = spread(training.validation_points, training.num_steps) | set(checkpoint_steps)
    started = saved = time.monotonic()
    pending: list[tuple[Tensor, Tensor, Tensor]] = []
    with bar(run, progress) as display:
        while run.progress.step < training.num_steps:
            with run.clock.running():
                pending.append(run.train_step())
                run.progress.step += 1
                step = run.progress.step
                now = time.monotonic()
                stop = max_seconds is not None and now - started >= max_seconds
                due = stop or now - saved >= impl.save_every_seconds
                if due or step in log_steps or step in validation_steps:
                    flush(run, pending)
            display.update()
            if step in log_steps:
                loss = log(run)
                display.set_postfix(loss=f"{loss:.3f}", samples_s=round(samples_per_second(run)), refresh=False)
            if step in validation_steps:
                validation = run.validate()
                append_jsonl(run.metrics, {"kind": "validation", "step": step, **validation, **run.costs()})
                if step in checkpoint_steps:
                    run.save_checkpoint(checkpoint_steps[step], validation)
                    due = True
            if due:
                run.save()
                saved = time.monotonic()
            if stop and step < training.num_steps:
                raise OutOfTimeError(f"stopped after {max_seconds:g} s at step {step} of {training.num_steps}")


def flush(run: Run, pending: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Read the losses since the last flush (the only place that waits for the device); stop if one is not finite."""
    values = torch.stack([torch.stack(list(row)).float() for row in pending]).cpu()
    finite = torch.isfinite(values).all(dim=1)
    if not bool(finite.all()):
        raise diverged(run, "loss", run.progress.step - len(pending) + int((~finite).nonzero()[0]))
    pending.clear()
    run.progress.losses += values.tolist()


def diverged(run: Run, what: str, step: int) -> DivergedError:
    """The error that says where a run diverged, and what is left of it."""
    rate = learning_rate(run.settings.training, step)
    good = list(run.progress.checkpoints) or ["none"]
    resume = run.folder / "resume"
    return DivergedError(
        f"{run.folder}: the {what} is not finite at step {step}, learning rate {rate:.3g}; last good checkpoint: "
        f"{good[-1]}" + (f", resume state in {resume}" if resume.exists() else "")
    )


def log(run: Run) -> float:
    """One training line of metrics.jsonl; losses are means since the last line. Returns the mean loss."""
    step, training = run.progress.step, run.settings.training
    names = ("loss", "mlm_loss", "gradient_norm")
    means = dict(zip(names, np.mean(run.progress.losses, axis=0).tolist(), strict=True))
    run.progress.losses = []
    schedule = {
        "learning_rate": learning_rate(training, step - 1),
        "theta": drop.theta(run.settings.drop, step - 1, training.num_steps),
    }
    append_jsonl(run.metrics, {"kind": "train", "step": step, **means, **schedule, **run.costs()})
    return means["loss"]


def bar(run: Run, visible: bool) -> Any:
    """The progress bar: loss, samples per second, time left; on a log file a line every half minute."""
    return tqdm(
        total=run.settings.training.num_steps,
        initial=run.progress.step,
        desc=f"{run.settings.arm} seed {run.settings.seed}",
        unit="step",
        disable=not visible,
        mininterval=0.5 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
    )


def samples_per_second(run: Run) -> float:
    """Speed of training alone, without validation and saving."""
    return run.progress.step * run.settings.training.batch_size / max(run.clock.seconds, 1e-9)


def finish(run: Run) -> None:
    """Write the summary, last and atomically, and remove the resume checkpoint."""
    settings, progress = run.settings, run.progress
    last = progress.checkpoints[settings.training.final_checkpoint]
    passes = sum(progress.passes_by_kept_layers.values())
    summary = {
        "arm": settings.arm,
        "label": settings.label,
        "seed": settings.seed,
        "scale": settings.scale,
        "norm": settings.model.norm,
        "steps": progress.step,
        **{key: last[key] for key in ("samples", "tokens", "validation_loss", "validation_accuracy")},
        "parameters": parameter_count(settings.model),
        "num_layers": settings.model.num_layers,
        "train_seconds": last["train_seconds"],
        "reference_seconds": last["reference_seconds"],
        "flops": progress.flops,
        "mean_kept_layers": progress.kept_layers / passes,
        "steps_by_kept_layers": {str(k): n for k, n in sorted(progress.passes_by_kept_layers.items())},
        "peak_memory_bytes": peak_memory_bytes(run.device),
        "checkpoints": progress.checkpoints,
    }
    write_json(run.folder / "summary.json", summary)
    for file in (run.folder / "resume").glob("*"):
        file.unlink()
    (run.folder / "resume").rmdir()
