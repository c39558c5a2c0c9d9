"""What the tests share: one small corpus and one small GLUE, made once, and the settings of a tiny run.

Everything is generated; no test reads data from elsewhere or needs a network.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before anything imports torch or tokenizers: a test uses one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

from pldrepro.config.base import merge
from pldrepro.config.data import DataSettings
from pldrepro.config.run import RunSettings

# The same examples in every run, and no limit on the time of one: a shared machine may be slow.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The study as a whole comes first: it is the longest, and other files run beside it."""
    items.sort(key=lambda item: item.path.name != "test_workflow.py")


TINY_DATA = {
    "source": "miniature",
    "miniature": {"num_documents": 120, "train_examples": 32, "dev_examples": 16},
    "vocab_size": 128,
    "sequence_length": 24,
    "validation_ratio": 10,
}
TINY_TASKS = ("rte", "stsb", "cola", "mnli")
TINY_RUN: dict[str, Any] = {
    "scale": "tiny",
    "arm": "pld",
    "label": "PLD",
    "seed": 1,
    "model": {
        "norm": "pre", "num_layers": 4, "hidden_size": 16, "num_heads": 2, "ffn_size": 32, "vocab_size": 128,
        "max_positions": 32, "dropout": 0.1, "attention_dropout": 0.1, "init_std": 0.1,
    },
    "data": TINY_DATA,
    "training": {
        "num_steps": 16, "batch_size": 8, "learning_rates": {"baseline": 1e-3, "higher": 5e-3},
        "learning_rate": "higher", "warmup": 0.1, "validation_points": 3, "validation_sequences": 16,
        "checkpoints": {"ckp87": "87/186", "ckp100": "100/186", "ckp186": 1},
    },
    "drop": {"dialect": "paper_alg1"},
    "impl": {"device": "cpu", "threads": 1, "micro_batch_size": 4, "log_points": 5},
}  # fmt: skip


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of about 7,000 training tokens."""
    from pldrepro.data.corpus import prepare_corpus

    folder = tmp_path_factory.mktemp("data") / "corpus"
    prepare_corpus(DataSettings.model_validate(TINY_DATA), folder, workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def glue(corpus: Path) -> Path:
    """Four prepared GLUE tasks: a pair, a regression, a single sentence, and one with two evaluation splits."""
    from pldrepro.data.glue import prepare_glue

    folder = corpus.parent / "glue"
    prepare_glue(DataSettings.model_validate(TINY_DATA), TINY_TASKS, 32, corpus, folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def tiny_run() -> Callable[..., RunSettings]:
    """A function that gives complete settings of a run of seconds: PLD with dropout, NSP and two micro batches."""

    def make(**changes: Any) -> RunSettings:
        return RunSettings.model_validate(merge(TINY_RUN, changes))

    return make
