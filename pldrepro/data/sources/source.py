"""Where text, GLUE and LAMBADA come from: three sources behind one interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from pldrepro.config.contrasts import PairsSettings
from pldrepro.config.data import DataSettings
from pldrepro.data.minimal_pairs import Paradigm
from pldrepro.data.tasks import Example


class Source(Protocol):
    """A corpus of documents, the GLUE tasks and LAMBADA passages, always in the same order."""

    def documents(self) -> Iterator[list[str]]:
        """The documents, each a list of non-empty paragraphs."""

    def glue(self, task: str, split: str) -> list[Example] | str:
        """Examples of one split (train, dev, dev_mismatched), or the reason in words why the split does not exist."""

    def lambada(self) -> Iterator[str]:
        """LAMBADA passages, whose last word is to be predicted; none where the source has none."""

    def minimal_pairs(self, settings: PairsSettings, paradigms: Sequence[str]) -> list[Paradigm] | str:
        """A set of minimal pairs, by paradigm, or the reason in words why there is none.

        ``paradigms``: their names, for a source that must be asked for each.
        """

    def describe(self) -> dict[str, Any]:
        """What the data are, for the manifest: no text and no path of this machine."""


def open_source(settings: DataSettings) -> Source:
    """The source that the settings name."""
    if settings.source == "miniature":
        from pldrepro.data.sources.miniature import MiniatureSource

        return MiniatureSource(settings.miniature)
    if settings.source == "files":
        from pldrepro.data.sources.text_files import FilesSource

        return FilesSource(settings)
    from pldrepro.data.sources.hub import HubSource

    return HubSource(settings.hub)
