"""Probes on the checkpoints of a finished pre-training run: gradients, hidden states, lesions and depth.

The text is the start of the run's own validation sequences, masked alike, so that all arms and seeds of a study are
probed on the same. Models are in evaluation mode (no dropout). Factors that a policy puts on its blocks at evaluation
are part of the saved weights, so blocks run with scale 1. Layers are 1..L in the records, 0..L-1 in the code.

``results.jsonl`` has one line per number: checkpoint, step, quantity, value, and what tells it from its like:

gradient_norm               layer, part (block, or one of PARTS)  L2 norm of the loss gradient of the weights
gradient_ratio              layer                                 |dL/dx| at the block's input over its output
distance relative_distance  layer                                 |y - x|, |y - x| / |x| of block input x, output y
cosine angle [degrees]      layer                                 between block input and output
loss [nats]                 selection, kept, text (draw)          MLM loss with only the kept layers (see ``depth``)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pldrepro.config.run import ProbeSettings
from pldrepro.data.batches.masked import MaskedBatch
from pldrepro.data.corpus import Corpus
from pldrepro.errors import DivergedError, RecordError, SettingsError
from pldrepro.files import write_text
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.checkpoints.bert import load_pretraining
from pldrepro.models.losses import masked_sums
from pldrepro.policy import drop
from pldrepro.records import FileEntry
from pldrepro.runs.finished import FinishedRun, open_finished
from pldrepro.runs.manifest import begin_unless_complete, complete, entries
from pldrepro.runs.provenance import provenance
from pldrepro.runs.schema import Checkpoint
from pldrepro.runs.scored import (
    CheckpointInputs,
    LayersSummary,
    ProbedPoint,
    ProbeJob,
    ProbeNumber,
    ProbeResult,
    ProbeSummary,
)
from pldrepro.training.device import autocast, describe, select_device
from pldrepro.training.objectives import MaskedLanguage, open_objective

PARTS = ("qkv", "attention_output", "ffn_up", "ffn_down")  # of a block, whose gradient norms are recorded, too
LESION_KEEP = 0.5  # probability with which a lesion keeps a layer (PLD, Figure 4)


def probe(
    pretrain_folder: Path, corpus_folder: Path, settings: ProbeSettings, folder: Path, progress: bool = True
) -> None:
    """Probe the checkpoints of a finished run and write the run folder; the depth of the last of them only.

    Raises RecordError (no finished run, or no such checkpoint) and SettingsError (another corpus, too little text).
    """
    started = time.perf_counter()
    finished = open_finished(pretrain_folder)
    run, points = finished.settings, chosen_checkpoints(finished, settings)
    device = select_device(run.impl)
    objective = open_objective(run, device)
    if not isinstance(objective, MaskedLanguage):
        raise SettingsError(f"{pretrain_folder}: a model of family {run.model.family}; allowed: bert")
    corpus = objective.open(corpus_folder)
    finished.check_corpus(corpus)
    text = held_out(objective, corpus, settings.sequences)
    inputs = CheckpointInputs(weights=finished.weights(points), corpus=corpus.hash)
    job = ProbeJob(**run.identity, probe=settings, inputs=inputs)
    files = begin_unless_complete(folder, job, provenance(describe(device, run.impl), corpus=corpus.manifest))
    if files is None:
        return
    results: list[ProbeResult] = []
    for name in tqdm(points, desc=f"probe {run.arm} seed {run.seed}", disable=not progress):
        model = load_pretraining(pretrain_folder / points[name].folder, objective.model).to(device).eval()
        found = probe_checkpoint(Subject(model, objective), text, settings, last=name == list(points)[-1])
        results += results_at(pretrain_folder, name, points[name].step, found)
    summary = ProbeSummary(
        **run.identity,
        norm=run.model.norm,
        num_layers=run.model.num_layers,
        checkpoints={
            name: ProbedPoint(step=point.step, share=point.share, validation_loss=point.validation_loss)
            for name, point in points.items()
        },
        sequences=len(text),
        lesion_keep=LESION_KEEP,
        seconds=time.perf_counter() - started,
    )
    complete_probe(folder, results, summary, files)


def complete_probe(
    folder: Path, results: Iterable[ProbeResult], summary: LayersSummary, files: Mapping[str, FileEntry]
) -> None:
    """Write what a probe found, and with its summary that it is complete; ``files``: what it began with."""
    write_text(folder / "results.jsonl", "".join(json.dumps(line.dump()) + "\n" for line in results))
    complete(folder, summary, {**files, **entries(folder, ["results.jsonl"])})


def chosen_checkpoints(run: FinishedRun, settings: ProbeSettings) -> dict[str, Checkpoint]:
    """The checkpoints to probe, in order of steps: name -> what the run's summary says of it."""
    unknown = set(settings.checkpoints or ()) - set(run.checkpoints)
    if unknown:
        raise RecordError(
            f"{run.folder}: no checkpoint {', '.join(sorted(unknown))}; there are {', '.join(run.checkpoints)}"
        )
    return run.ordered(settings.checkpoints or run.checkpoints)


def held_out(objective: MaskedLanguage, corpus: Corpus, count: int) -> MaskedBatch:
    """The first ``count`` sequences of a run's validation batch, or all of it; fewer than two are a SettingsError."""
    # Cut from the whole batch, because masks depend on how many sequences are drawn together.
    text = objective.validation(corpus).rows(0, count)
    if len(text) < 2:
        raise SettingsError(f"{corpus.folder}: {len(text)} validation sequence; a probe needs at least two")
    return text


def probe_checkpoint(subject: Subject, text: MaskedBatch, settings: ProbeSettings, last: bool) -> list[ProbeNumber]:
    """All numbers of one checkpoint; ``last``: depth, too."""
    numbers = [*layers(subject, text, settings.gradient_batches), *lesions(subject, text, settings.lesion_draws)]
    return numbers + depth(subject, text) if last else numbers


def results_at(folder: Path, checkpoint: str, step: int, numbers: Iterable[ProbeNumber]) -> list[ProbeResult]:
    """The numbers of a run's checkpoint; one that is not finite is a DivergedError that says where it is."""
    results = []
    for number in numbers:
        if not math.isfinite(number.value):
            about = number.model_dump(include={"layer", "part", "selection", "kept"}, exclude_none=True)
            where = ", ".join(f"{key} {value}" for key, value in about.items())
            raise DivergedError(f"{folder}: {checkpoint}: {number.quantity} is not finite: {where}")
        results.append(ProbeResult(**dict(number), checkpoint=checkpoint, step=step))
    return results


@dataclass(frozen=True)
class Subject:
    """The model of a checkpoint, in evaluation mode, and how it is run."""

    model: BertForPreTraining
    objective: MaskedLanguage

    @property
    def num_layers(self) -> int:
        """L, the number of blocks of the model."""
        return len(self.model.bert.blocks)

    def numbers(self, kept: Iterable[int]) -> list[int]:
        """Indices of layers as numbers 1..L."""
        return [drop.layer_numbers(self.num_layers)[layer] for layer in kept]

    @torch.no_grad()
    def loss(self, text: MaskedBatch, kept: Iterable[int]) -> float:
        """MLM loss per masked position [nats] with only the kept layers (0..L-1), none of them rescaled."""
        chosen = set(kept)
        gates = [drop.Gate(layer in chosen) for layer in range(self.num_layers)]
        total = 0.0
        for part in text.micro_batches(self.objective.run.impl.micro_batch_size):
            total += float(self.objective.sums(self.model, part, gates).loss)
        return total / self.objective.count(text)

    def trace(self, part: MaskedBatch, whole: MaskedBatch) -> tuple[list[Tensor], Tensor]:
        """Input and output of every block, L + 1 tensors (B, S, H), and the part's share of the training loss.

        The training loss of a batch is MLM loss per masked position plus next-sentence loss per sequence, if any.
        """
        encoder, inputs, labels = self.model.bert, self.objective.inputs(part), self.objective.labels(part)
        with autocast(self.objective.run.impl, self.objective.device):
            states = [encoder.embed(inputs["input_ids"], inputs["token_types"])]
            for block in encoder.blocks:
                states.append(block(states[-1], None, 1.0))
            sums = masked_sums(self.model, encoder.final_norm(states[-1]), inputs["positions"], *labels, count=False)
        return states, sums.loss / self.objective.count(whole) + sums.auxiliary / len(whole)


# ---- layer by layer, all layers kept: PLD, Figures 1 to 3 ----


def layers(subject: Subject, text: MaskedBatch, num_batches: int) -> list[ProbeNumber]:
    """Gradient norms and ratios (PLD, Figures 1 and 2), and how far each block moves its input (Figure 3).

    Gradients are those of the training loss of a batch, all layers kept; norms and ratios are means over
    ``num_batches`` batches, distances and cosines means over tokens, and the angle is that of the mean cosine.
    """
    bounds = np.linspace(0, len(text), min(num_batches, len(text)) + 1).round().astype(int).tolist()
    batches = [text.rows(start, stop) for start, stop in pairwise(bounds)]
    profiles = [profile(subject, batch) for batch in batches]
    mean = {
        key: np.average([one[key] for one in profiles], axis=0, weights=[len(batch) for batch in batches])
        for key in profiles[0]
    }
    mean["cosine"] = 1 - mean["one_minus_cosine"]
    # sin^2(angle/2) = (1 - cosine)/2, which keeps its precision where the cosine is almost 1.
    mean["angle"] = np.degrees(2 * np.arcsin(np.sqrt(np.minimum(mean.pop("one_minus_cosine") / 2, 1))))
    found: list[ProbeNumber] = []
    for key, values in mean.items():
        quantity, _, part = key.partition("/")
        found += [
            ProbeNumber(quantity=quantity, layer=layer, part=part or None, value=float(value))
            for layer, value in zip(subject.numbers(range(subject.num_layers)), values, strict=True)
        ]
    return found


def profile(subject: Subject, batch: MaskedBatch) -> dict[str, np.ndarray]:
    """The quantities of ``layers`` for one batch: name (and /part) -> (L,) float64."""
    blocks = subject.model.bert.blocks
    parameters = [dict(block.named_parameters()) for block in blocks]
    flat = [parameter for named in parameters for parameter in named.values()]
    sums = [torch.zeros_like(parameter) for parameter in flat]
    state_squares, moved = np.zeros(len(blocks) + 1), np.zeros((3, len(blocks)))
    for part in batch.micro_batches(subject.objective.run.impl.micro_batch_size):
        states, loss = subject.trace(part, batch)
        gradients = torch.autograd.grad(loss, [*states, *flat])
        state_squares += [squares(gradient) for gradient in gradients[: len(states)]]
        for total, gradient in zip(sums, gradients[len(states) :], strict=True):
            total += gradient
        moved += movement([state.detach() for state in states]) * len(part) / len(batch)
    norms: dict[str, np.ndarray] = {}
    remaining = iter(sums)
    weights = [{name: squares(next(remaining)) for name in named} for named in parameters]
    for name in ("block", *PARTS):
        chosen = [sum(s for key, s in w.items() if name in ("block", key.partition(".")[0])) for w in weights]
        norms[f"gradient_norm/{name}"] = np.sqrt(chosen)
    names = ("distance", "relative_distance", "one_minus_cosine")
    ratio = np.sqrt(state_squares[:-1] / state_squares[1:])
    return {**norms, "gradient_ratio": ratio, **dict(zip(names, moved, strict=True))}


def squares(tensor: Tensor) -> float:
    """Sum of squares, in float64."""
    return float(tensor.double().square().sum())


def movement(states: Sequence[Tensor]) -> np.ndarray:
    """From x to y, input and output of each block (B, S, H): |y - x|, |y - x| / |x|, 1 - cosine.

    Means over tokens; (3, L) float64.
    """
    columns = []
    for before, after in pairwise(states):
        x, y = before.double(), after.double()
        distance, norm = (y - x).norm(dim=-1), x.norm(dim=-1)
        # |u - v|^2 / 2 of unit vectors: exactly 0 where x and y are the same.
        apart = (x / norm[..., None] - y / y.norm(dim=-1, keepdim=True)).square().sum(-1) / 2
        columns.append([float(value.mean()) for value in (distance, distance / norm, apart)])
    return np.array(columns).T


# ---- layers taken out: PLD, Figure 4, and depth robustness ----


def lesions(subject: Subject, text: MaskedBatch, draws: int) -> list[ProbeNumber]:
    """Loss of the intact model, and with each layer kept with probability 1/2, not rescaled (PLD, Figure 4).

    The sets of layers depend only on the draw, so that all arms, seeds and checkpoints are lesioned alike.
    """
    every = range(subject.num_layers)
    losses = [loss_with(subject, text, "all", "all", every)]
    for draw in range(draws):
        kept = [layer for layer in every if drop.uniform_draw("lesion", draw, layer) < LESION_KEEP]
        losses.append(loss_with(subject, text, "all", "lesion", kept, draw))
    return losses


def depth(subject: Subject, text: MaskedBatch) -> list[ProbeNumber]:
    """Loss with fewer layers: the first k, the last k, every other, all but one, and the least important taken out.

    A layer's importance is what the loss rises by without it, measured on the first half of the text (text "order");
    all losses are those of the second half ("report"), so that the choice is not made on what is reported.
    """
    every, half = tuple(range(subject.num_layers)), len(text) // 2
    order_text, report_text = text.rows(0, half), text.rows(half, len(text))
    without = [tuple(layer for layer in every if layer != one) for one in every]
    ordering = [loss_with(subject, order_text, "order", "without_one", kept) for kept in without]
    importance = [one.value for one in ordering]
    order = sorted(every, key=importance.__getitem__)
    counts = range(len(every) + 1)
    selections: dict[str, list[tuple[int, ...]]] = {
        "all": [every],
        "first": [every[:k] for k in counts],
        "last": [every[len(every) - k :] for k in counts],
        "odd": [every[0::2]],
        "even": [every[1::2]],
        "without_one": without,
        "least_important_removed": [tuple(sorted(order[removed:])) for removed in counts],
    }
    losses = [loss_with(subject, order_text, "order", "all", every), *ordering]
    known: dict[tuple[int, ...], ProbeNumber] = {}
    for selection, sets in selections.items():
        for kept in sets:
            if kept not in known:
                known[kept] = loss_with(subject, report_text, "report", selection, kept)
            losses.append(known[kept].model_copy(update={"selection": selection}))
    return losses


def loss_with(
    subject: Subject, text: MaskedBatch, name: str, selection: str, kept: Iterable[int], draw: int | None = None
) -> ProbeNumber:
    """One loss; name: of the text, selection: of the rule that the kept layers (0..L-1) follow."""
    kept = list(kept)
    return ProbeNumber(
        quantity="loss", selection=selection, kept=subject.numbers(kept), text=name, value=subject.loss(text, kept),
        draw=draw,
    )  # fmt: skip
