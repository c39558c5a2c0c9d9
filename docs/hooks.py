"""Hooks of the documentation site: files of the repository's root become pages, and links between all of them work.

Run by mkdocs (mkdocs.yml). Pages are read on the forge and on the site, so links in them are those of the repository.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
# File of the repository -> its place on the site.
PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "config/README.md": "configuration.md",
}
SOURCES = {place: source for source, place in PLACES.items()}
LINK = re.compile(r"(\]\(|src=\")(?!\w+:|#)([^)\s#\"]+)")


def on_files(files: Any, config: Any) -> Any:
    """Add the files of the root."""
    for source, place in PLACES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page with its links turned from places in the repository to places on the site."""
    here = page.file.src_uri
    folder = os.path.dirname(SOURCES.get(here, f"docs/{here}"))

    def turned(match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(folder, match[2]))
        place = PLACES.get(target, target.removeprefix("docs/"))
        return match[1] + os.path.relpath(place, os.path.dirname(here) or ".")

    return LINK.sub(turned, markdown)
