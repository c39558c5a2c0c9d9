"""LAMBADA: how well a decoder predicts the last word of a passage from all that comes before it.

A word may be several tokens; each is predicted from the context and the tokens of the word before it (teacher forcing).
Accuracy counts the words all of whose tokens are the most probable ones; perplexity is exp(-mean log-probability of
the word), per word and not per token. Both as in Radford et al. 2019, section 3.3, and in lm-evaluation-harness's task
``lambada_openai``. Differs from Radford et al.: no stop-word filter.

Where no word is right, the ranks of ``pldrepro.evaluation.word_ranks`` still tell models apart: the summary has both.

A context longer than the sequences that the model was trained on is cut on the left: positions beyond them were never
trained.

Shape legend: B passages of a batch, S tokens, N predicted tokens of a batch, P passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm

from pldrepro.config.data import DataSettings
from pldrepro.config.model import ModelSettings
from pldrepro.config.run import ImplSettings
from pldrepro.data.corpus import Corpus, open_corpus
from pldrepro.data.lambada import Lambada
from pldrepro.data.tokenizers.encoders import make_encoder
from pldrepro.data.tokenizers.wordpiece import load_tokenizer
from pldrepro.errors import DivergedError, SettingsError
from pldrepro.evaluation.word_ranks import other_words, rank, word_log_probabilities
from pldrepro.files import atomic_path
from pldrepro.models.checkpoints.gpt2 import load_gpt
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import Gate, all_kept
from pldrepro.runs.finished import open_finished
from pldrepro.runs.manifest import begin_unless_complete, complete, entries
from pldrepro.runs.provenance import provenance
from pldrepro.runs.scored import CheckpointInputs, LambadaJob, LambadaScores, LambadaSummary
from pldrepro.training.device import autocast, describe, select_device

RANKED = 1000  # passages whose words are ranked: enough for a standard error of a point


@dataclass(frozen=True)
class LambadaResult:
    """What a model makes of each passage, in their order."""

    log_probabilities: np.ndarray  # (P,) float64, of the last word [nats]
    correct: np.ndarray  # (P,) bool, every token of the last word is the most probable one

    @property
    def accuracy(self) -> float:
        """Share of last words that are right."""
        return float(self.correct.mean())

    @property
    def perplexity(self) -> float:
        """exp(-mean log-probability of the last word)."""
        return float(np.exp(-self.log_probabilities.mean()))


@torch.no_grad()
def predict_last_words(
    model: Gpt,
    passages: Lambada,
    impl: ImplSettings,
    device: torch.device,
    gates: Sequence[Gate],
    max_tokens: int | None = None,
) -> LambadaResult:
    """Predict the last words, ``impl.micro_batch_size`` passages at a time, without dropout.

    A passage of more than max_tokens (none: the model's max_positions) is cut on the left; a last word that does not
    fit is a ValueError.
    """
    length = model.settings.max_positions if max_tokens is None else min(max_tokens, model.settings.max_positions)
    rows = [_cut(*passages.passage(index), length) for index in range(len(passages))]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))  # alike in length: little padding
    result = LambadaResult(np.zeros(len(rows)), np.zeros(len(rows), dtype=bool))
    was_training = model.training
    model.eval()
    for start in range(0, len(rows), impl.micro_batch_size):
        chosen = order[start : start + impl.micro_batch_size]
        with autocast(impl, device):
            logits, labels, owners = _predict(model, [rows[index] for index in chosen], device, gates)
        logits = logits.float()
        given = logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0].double().cpu().numpy()
        wrong = (logits.argmax(-1) != labels).cpu().numpy()
        result.log_probabilities[chosen] = np.bincount(owners, given)
        result.correct[chosen] = np.bincount(owners, wrong) == 0
    model.train(was_training)
    return result


def score_lambada(pretrain_folder: Path, corpus_folder: Path, folder: Path, progress: bool = True) -> None:
    """Score every checkpoint of a finished run on the corpus's passages and write the run folder.

    Raises RecordError (no finished run) and SettingsError (another family of models, another corpus, no passages).
    """
    finished = open_finished(pretrain_folder)
    run, points = finished.settings, finished.checkpoints
    if not isinstance(run.model, ModelSettings) or run.model.family != "gpt" or not isinstance(run.data, DataSettings):
        raise SettingsError(f"{pretrain_folder}: a model of family {run.model.family}; allowed: gpt")
    corpus = open_corpus(corpus_folder)
    finished.check_corpus(corpus)
    if corpus.lambada is None:
        raise SettingsError(f"{corpus_folder}: no LAMBADA passages; see data.lambada")
    device = select_device(run.impl)
    inputs = CheckpointInputs(weights=finished.weights(points), corpus=corpus.hash)
    length = run.data.sequence_length
    job = LambadaJob(**run.identity, max_tokens=length, inputs=inputs)
    files = begin_unless_complete(folder, job, provenance(describe(device, run.impl), corpus=corpus.manifest))
    if files is None:
        return
    asked = ranked_words(corpus, corpus.lambada, length)
    scores: dict[str, LambadaScores] = {}
    arrays: dict[str, np.ndarray] = {}
    for name in tqdm(points, desc=f"LAMBADA {run.arm} seed {run.seed}", disable=not progress):
        model = load_gpt(pretrain_folder / points[name].folder, run.model).to(device)
        gates = all_kept(run.model.num_layers)  # the saved weights hold what evaluation scales
        result = predict_last_words(model, corpus.lambada, run.impl, device, gates, length)
        if not np.isfinite(result.log_probabilities).all():
            raise DivergedError(f"{pretrain_folder}: {name}: a log-probability is not finite")
        model.eval()
        ranks = np.array(
            [rank(word_log_probabilities(model, *one, gates, length), one[1]) for one in asked], np.float32
        )
        scores[name] = LambadaScores(
            lambada_accuracy=result.accuracy,
            lambada_perplexity=result.perplexity,
            lambada_rank=float(ranks.mean(dtype=np.float64)) if len(ranks) else None,
        )
        arrays |= {f"{name}/log_probabilities": result.log_probabilities, f"{name}/correct": result.correct}
        arrays[f"{name}/ranks"] = ranks
    with atomic_path(folder / "predictions.safetensors") as temporary:
        save_file(arrays, temporary)
    summary = LambadaSummary(
        **run.identity,
        passages=len(corpus.lambada),
        ranked=len(asked),
        checkpoints=scores,
    )
    complete(folder, summary, files | entries(folder, ["predictions.safetensors"]))


def ranked_words(corpus: Corpus, passages: Lambada, max_tokens: int) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Context and words, the right one first, of up to RANKED passages evenly over all that have other words."""
    tokenizer = load_tokenizer(corpus.tokenizer_folder)
    encoder = make_encoder(tokenizer, corpus.train.dtype)

    def encode(text: str) -> np.ndarray:
        return np.frombuffer(encoder.encode(text), corpus.train.dtype).astype(np.int64)

    count = min(RANKED, len(passages))
    found = []
    for index in np.arange(count) * len(passages) // max(1, count):
        context, right = passages.passage(int(index))
        others = other_words(tokenizer.decode(context.tolist()), right, encode, max_tokens // 2)
        if others:
            found.append((context, [right, *others]))
    return found


def _cut(context: np.ndarray, word: np.ndarray, max_positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Input (the passage less its last token) and the tokens of the last word, which the end of the input predicts."""
    if len(word) > max_positions:
        raise ValueError(f"a last word of {len(word)} tokens; allowed with max_positions {max_positions}: as many")
    return np.concatenate([context, word[:-1]])[-max_positions:], word


def _predict(
    model: Gpt, rows: Sequence[tuple[np.ndarray, np.ndarray]], device: torch.device, gates: Sequence[Gate]
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Logits (N, V) at the positions before the tokens of the last words, these tokens (N,), and their row (N,).

    Rows are padded on the right, where a causal model does not look.
    """
    length = max(len(ids) for ids, _ in rows)
    padded = np.stack([np.pad(ids, (0, length - len(ids))) for ids, _ in rows])
    owners = np.repeat(np.arange(len(rows)), [len(word) for _, word in rows])
    places = np.concatenate([length * row + np.arange(len(i) - len(w), len(i)) for row, (i, w) in enumerate(rows)])
    labels = torch.from_numpy(np.concatenate([word for _, word in rows])).to(device)
    hidden = model.hidden(torch.from_numpy(padded).to(device), gates).flatten(0, 1)
    return model.logits(hidden[torch.from_numpy(places).to(device)]), labels, owners
