"""The contrasts of a finished run: every checkpoint is scored on the prepared minimal pairs and cloze items.

Everything in float32, in evaluation mode, with all layers. The hits of single items are kept, so that arms can be
compared item by item.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pldrepro.config.contrasts import ContrastSettings
from pldrepro.config.data import DataSettings
from pldrepro.config.model import ModelSettings
from pldrepro.data.contrasts import CLOZE, Contrasts, load_contrasts
from pldrepro.data.corpus import open_corpus
from pldrepro.errors import SettingsError
from pldrepro.evaluation.contrasts import cloze_hits, pair_hits
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.checkpoints.bert import load_pretraining
from pldrepro.models.checkpoints.gpt2 import load_gpt
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import all_kept
from pldrepro.runs.finished import FinishedRun, open_finished
from pldrepro.runs.hits import FILE, save_hits
from pldrepro.runs.manifest import begin_unless_complete, complete, entries
from pldrepro.runs.provenance import provenance
from pldrepro.runs.schema import Checkpoint
from pldrepro.runs.scored import ContrastInputs, ContrastItems, ContrastsJob, ContrastsSummary
from pldrepro.training.device import describe, select_device


def score_contrasts(
    pretrain_folder: Path, settings: ContrastSettings, corpus_folder: Path, items_folder: Path, folder: Path,
    progress: bool = True,
) -> None:  # fmt: skip
    """Score the checkpoints of a finished run on the prepared items and write the run folder.

    Raises RecordError (no finished run) and SettingsError (a model of images, another corpus).
    """
    started = time.perf_counter()
    finished = open_finished(pretrain_folder)
    run = finished.settings
    if not isinstance(run.model, ModelSettings) or not isinstance(run.data, DataSettings):
        raise SettingsError(f"{pretrain_folder}: a model of family {run.model.family}; allowed: bert, gpt")
    corpus, items = open_corpus(corpus_folder), load_contrasts(items_folder)
    finished.check_corpus(corpus)
    if items.manifest.corpus != corpus.hash:
        raise SettingsError(f"{corpus.folder}: not the corpus that the contrasts of {run.scale} were prepared with")
    points = chosen_checkpoints(finished, settings)
    device = select_device(run.impl)
    inputs = ContrastInputs(weights=finished.weights(points), corpus=corpus.hash, items=items.manifest.hash)
    job = ContrastsJob(**run.identity, contrasts=settings, inputs=inputs)
    files = begin_unless_complete(folder, job, provenance(describe(device, run.impl), corpus=corpus.manifest))
    if files is None:
        return
    hits: dict[str, np.ndarray] = {}
    for name in tqdm(points, desc=f"contrasts {run.arm} seed {run.seed}", disable=not progress):
        model = load_model(pretrain_folder / points[name].folder, run.model).to(device)
        found = hits_of(model, items, corpus.special_tokens, run.data.sequence_length, settings.batch_size)
        hits |= {f"{name}/{task}": values for task, values in found.items()}
    save_hits(folder / FILE, hits)
    tasks = {task: items_of(items, task, hits[f"{next(iter(points))}/{task}"]) for task in items.manifest.tasks}
    summary = ContrastsSummary(
        **run.identity,
        tasks=tasks,
        missing=items.manifest.missing,
        checkpoints={name: {task: shares(tasks[task], hits[f"{name}/{task}"]) for task in tasks} for name in points},
        seconds=time.perf_counter() - started,
    )
    complete(folder, summary, files | entries(folder, [FILE]))


def chosen_checkpoints(run: FinishedRun, settings: ContrastSettings) -> dict[str, Checkpoint]:
    """The checkpoints to score, in order of steps: those of the settings that the run has, and always its last."""
    wanted = None if settings.checkpoints is None else (*settings.checkpoints, run.settings.training.final_checkpoint)
    return run.ordered(name for name in run.checkpoints if wanted is None or name in wanted)


def load_model(folder: Path, settings: ModelSettings) -> BertForPreTraining | Gpt:
    """The model of a checkpoint, in float32 and evaluation mode."""
    model = load_pretraining(folder, settings) if settings.family == "bert" else load_gpt(folder, settings)
    return model.eval()


def hits_of(
    model: BertForPreTraining | Gpt, items: Contrasts, special_tokens: dict[str, int], max_tokens: int, batch_size: int
) -> dict[str, np.ndarray]:
    """Task -> (N,) hits of its items; sentences of more than max_tokens, special ones included, are nan."""
    asked = special_tokens if isinstance(model, BertForPreTraining) else {"": special_tokens["<|endoftext|>"]}
    gates = all_kept(len(model.blocks))  # the saved weights hold what evaluation scales
    found = {name: pair_hits(model, pairs, asked, max_tokens, batch_size, gates) for name, pairs in items.pairs.items()}
    if items.cloze is not None:
        found[CLOZE] = cloze_hits(model, items.cloze, asked, batch_size, gates)
    return {name: found[name] for name in items.manifest.tasks}


def items_of(items: Contrasts, task: str, hits: np.ndarray) -> dict[str, ContrastItems]:
    """What the summary says of the paradigms of a task; which items are left out is the same at every checkpoint."""
    about, start = {}, 0
    for entry in items.manifest.tasks[task].items:
        left_out = int(np.isnan(hits[start : start + entry.items]).sum())
        about[entry.name] = ContrastItems(**entry.model_dump(exclude={"name"}), left_out=left_out)
        start += entry.items
    return about


def shares(tasks: dict[str, ContrastItems], hits: np.ndarray) -> dict[str, float]:
    """Paradigm -> mean of the hits of its scored items."""
    found, start = {}, 0
    for name, about in tasks.items():
        own = hits[start : start + about.items]
        if about.scored:
            found[name] = float(np.nanmean(own, dtype=np.float64))
        start += about.items
    return found
