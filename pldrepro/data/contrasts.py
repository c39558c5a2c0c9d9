"""What models are scored on without fine-tuning, prepared once: the minimal pairs and cloze items that all arms see."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pldrepro.config.contrasts import ContrastSettings, PairsSettings, Paradigms, read_paradigms
from pldrepro.config.data import DataSettings
from pldrepro.data.cloze import Cloze, find_cloze, load_cloze, save_cloze
from pldrepro.data.corpus import Corpus, open_corpus
from pldrepro.data.manifests import ContrastsManifest, ItemsEntry, TaskEntry, read_prepared, write_prepared
from pldrepro.data.minimal_pairs import MinimalPairs, Paradigm, encode_pairs, load_pairs, sampled_pairs, save_pairs
from pldrepro.data.sources.source import Source, open_source
from pldrepro.errors import DataError

CLOZE = "cloze"  # name of the task of all cloze contrasts; the others are sets of minimal pairs
FRAME = {"wordpiece": 2, "bpe": 1}  # special tokens around a sentence: [CLS] and [SEP], or the end of the one before
BPE_SPACE = "Ġ"  # how a byte-pair vocabulary writes the space before a word


@dataclass(frozen=True)
class Contrasts:
    """The prepared tasks."""

    manifest: ContrastsManifest
    pairs: dict[str, MinimalPairs]
    cloze: Cloze | None


@dataclass(frozen=True)
class Words:
    """A vocabulary as the items need it."""

    ids: dict[str, int]  # word that is a single token -> its id
    continues: np.ndarray  # (V,) bool, whether a token goes on with the word before it


def prepare_contrasts(
    settings: ContrastSettings, data: DataSettings, corpus_folder: Path, out: Path
) -> ContrastsManifest:
    """Write the items of every task to ``out`` with the corpus's tokenizer; returns the manifest.

    A set of pairs or a contrast that the data do not have is left out, with the reason in the manifest.
    """
    corpus = open_corpus(corpus_folder)
    words = words_of(corpus)
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)  # until the new one is written, nothing is prepared here
    tasks: dict[str, TaskEntry] = {}
    missing: dict[str, str] = {}
    for name, pairs in settings.pairs.items():
        found = _prepare_pairs(name, pairs, open_source(data), corpus, words, out)
        if isinstance(found, str):
            missing[name] = found
        else:
            tasks[name] = found
    if settings.cloze:
        cloze, reasons = _prepare_cloze(settings, data.sequence_length, corpus, words, out)
        missing |= reasons
        if cloze is not None:
            tasks[CLOZE] = cloze
    digest = hashlib.sha256("".join(f"{name} {tasks[name].sha256}\n" for name in tasks).encode()).hexdigest()
    return write_prepared(out, ContrastsManifest(tasks=tasks, missing=missing, corpus=corpus.hash, hash=digest))


def words_of(corpus: Corpus) -> Words:
    """The words that are single tokens of a corpus's vocabulary, and which tokens go on with a word."""
    from pldrepro.data.tokenizers.wordpiece import load_tokenizer

    vocabulary: dict[str, int] = load_tokenizer(corpus.tokenizer_folder).get_vocab()
    continues = np.zeros(corpus.vocab_size, dtype=bool)
    if corpus.manifest.tokenizer == "wordpiece":
        continues[[number for token, number in vocabulary.items() if token.startswith("##")]] = True
        return Words({token: number for token, number in vocabulary.items() if not token.startswith("##")}, continues)
    continues[[n for token, n in vocabulary.items() if token[0].isalnum() and not token.startswith(BPE_SPACE)]] = True
    return Words({token[1:]: n for token, n in vocabulary.items() if token.startswith(BPE_SPACE)}, continues)


def _prepare_pairs(
    name: str, settings: PairsSettings, source: Source, corpus: Corpus, words: Words, out: Path
) -> TaskEntry | str:
    """A set of minimal pairs, or why there is none."""
    from pldrepro.data.tokenizers.encoders import make_encoder
    from pldrepro.data.tokenizers.wordpiece import load_tokenizer

    listed = read_paradigms(Path(settings.paradigms))
    found = source.minimal_pairs(settings, (*listed.judging, *listed.not_judging))
    if isinstance(found, str):
        return found
    strange = [one.name for one in found if one.name not in {*listed.judging, *listed.not_judging}]
    if strange:
        raise DataError(f"{settings.paradigms}: does not say whether these judge: {', '.join(strange)}")
    # In a byte-pair vocabulary the first word of a text, which has no space before it, is another token than elsewhere.
    space = "" if corpus.manifest.tokenizer == "wordpiece" else " "
    paradigms = [
        Paradigm(one.name, [(space + bad, space + good) for bad, good in sampled_pairs(one.pairs, settings.max_pairs)])
        for one in found
    ]
    encoder = make_encoder(load_tokenizer(corpus.tokenizer_folder), corpus.train.dtype)
    separator = corpus.special_tokens["[SEP]" if corpus.manifest.tokenizer == "wordpiece" else "<|endoftext|>"]
    pairs = encode_pairs(paradigms, encoder, corpus.train.dtype, words.continues, np.asarray(corpus.train), separator)
    save_pairs(pairs, out / f"{name}.safetensors")
    items = [_paradigm_entry(pairs, place, one.name, listed) for place, one in enumerate(paradigms)]
    return TaskEntry(items=items, sha256=pairs.sha256)


def _paradigm_entry(pairs: MinimalPairs, place: int, name: str, listed: Paradigms) -> ItemsEntry:
    own = pairs.paradigm == place
    lengths = pairs.lengths[own]
    return ItemsEntry(
        name=name,
        items=int(own.sum()),
        judges=name in listed.judging,
        reason=listed.not_judging.get(name, ""),
        unigram=float(pairs.unigram[own].mean()),
        trigram=float(pairs.trigram[own].mean()),
        longer=float((lengths[:, 1] - lengths[:, 0]).mean()),
    )


def _prepare_cloze(
    settings: ContrastSettings, sequence_length: int, corpus: Corpus, words: Words, out: Path
) -> tuple[TaskEntry | None, dict[str, str]]:
    """The contrasts that held-out text has items of, and why it has none of the others."""
    length = sequence_length - FRAME[corpus.manifest.tokenizer]
    validation = np.asarray(corpus.validation)
    cloze, absent = find_cloze(validation, settings.cloze, words.ids, words.continues, length, settings.max_cloze)
    reasons = {cloze_name(pair): reason for pair, reason in absent.items()}
    if not len(cloze):
        return None, reasons
    save_cloze(cloze, out / f"{CLOZE}.safetensors")
    entries = [
        ItemsEntry(name=cloze_name(pair), items=int((cloze.contrast == place).sum()), judges=True)
        for place, pair in enumerate(settings.cloze)
        if pair not in absent
    ]
    return TaskEntry(items=entries, sha256=cloze.sha256), reasons


def cloze_name(pair: Sequence[str]) -> str:
    """A contrast as people write it: is/are."""
    return "/".join(pair)


def load_contrasts(folder: Path) -> Contrasts:
    """Read the prepared tasks and check them against the manifest."""
    manifest = read_prepared(folder, ContrastsManifest, "prepare contrasts")
    pairs = {
        name: load_pairs(folder / f"{name}.safetensors", task.sha256)
        for name, task in manifest.tasks.items()
        if name != CLOZE
    }
    task = manifest.tasks.get(CLOZE)
    return Contrasts(manifest, pairs, load_cloze(folder / f"{CLOZE}.safetensors", task.sha256) if task else None)
