"""A finished pre-training run, as the jobs open it that go on from its checkpoints. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pldrepro.data.corpus import Corpus
from pldrepro.errors import SettingsError
from pldrepro.records import read_record
from pldrepro.runs.manifest import checked_weights, data_of, settings_of, verified
from pldrepro.runs.schema import Checkpoint, PretrainJob, PretrainSummary


@dataclass(frozen=True)
class FinishedRun:
    """A finished pre-training run whose records are what its manifest says."""

    folder: Path
    settings: PretrainJob
    checkpoints: dict[str, Checkpoint]

    def ordered(self, names: Iterable[str]) -> dict[str, Checkpoint]:
        """Some of its checkpoints, in order of steps."""
        return {name: self.checkpoints[name] for name in sorted(names, key=lambda name: self.checkpoints[name].step)}

    def weights(self, names: Iterable[str]) -> dict[str, str]:
        """Checkpoint -> SHA-256 of its weights; a RecordError where a file is not what the manifest says."""
        return {name: checked_weights(self.folder, self.checkpoints[name].folder) for name in names}

    def check_corpus(self, corpus: Corpus) -> None:
        """A corpus that the run was not trained on is a SettingsError."""
        if data_of(self.folder) != corpus.hash:
            raise SettingsError(f"{corpus.folder}: not the corpus that {self.folder} was trained on")


def open_finished(folder: Path) -> FinishedRun:
    """The run in a folder; a missing, incomplete or damaged one is a RecordError."""
    verified(folder, weights=False)
    summary = read_record(folder / "summary.json", PretrainSummary)
    return FinishedRun(folder, settings_of(folder), summary.checkpoints)
