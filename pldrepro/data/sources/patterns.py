"""The files that a pattern names below a folder. What looks like one of them and is not read is refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pldrepro.errors import DataError, SettingsError

TEXT_SUFFIXES = (".txt", ".jsonl", ".gz", ".xz", ".zst")


def matching(root: Path, pattern: str, key: str) -> list[Path]:
    """The files below ``root`` that match, sorted; links are followed. ``key``: the setting that holds the pattern.

    Refused with a DataError: a link that leads nowhere, a folder named as a text file, a pipe or device, a file of
    which only the case of the name differs, a linked folder that ``**`` does not enter. A pattern that leaves ``root``
    is a SettingsError.
    """
    parts = Path(pattern).parts
    if Path(pattern).is_absolute() or ".." in parts:
        raise SettingsError(f"{key}: {pattern}: allowed: patterns below {root}, without '..'")
    for depth in range(1, len(parts)):
        folders = "/".join(parts[:depth])
        for path in root.glob(f"{folders}/*" if parts[depth - 1] == "**" else folders):
            _refuse_lost(path)
            if parts[depth - 1] == "**" and path.is_symlink() and path.is_dir():
                raise DataError(f"{path}: a link to a folder, which ** does not enter; name it in a pattern of its own")
    found = sorted(root.glob(pattern))
    spelled = set(found)
    for path in sorted(root.glob("/".join([*parts[:-1], _any_case(parts[-1])]))):
        _refuse_lost(path)
        if path not in spelled and path.is_file():
            raise DataError(f"{path}: {key}: {pattern} has another case; rename the file, or add a pattern for it")
        if path.is_dir() and path.suffix.lower() in TEXT_SUFFIXES:
            raise DataError(f"{path}: a folder; {key}: {pattern} names files")
    return [path for path in found if path.is_file()]


def refuse_twice(paths: Iterable[Path]) -> None:
    """A DataError where two paths are links to one file, which would count twice."""
    seen: dict[tuple[int, int], Path] = {}
    for path in paths:
        about = path.stat()
        other = seen.setdefault((about.st_dev, about.st_ino), path)
        if other != path:
            raise DataError(f"{other} and {path} are one file, which would count twice; remove one of the two")


def _refuse_lost(path: Path) -> None:
    """A DataError for a link that leads nowhere, and for what is neither a file nor a folder."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path}: a link that leads nowhere; mount what it leads to, or remove it")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(f"{path}: neither a file nor a folder; remove it, or name the files")


def _any_case(pattern: str) -> str:
    """The pattern with every letter outside of brackets in both cases."""
    result, inside = "", False
    for letter in pattern:
        inside = (inside or letter == "[") and letter != "]"
        both = letter.isalpha() and not inside and letter.lower() != letter.upper()
        result += f"[{letter.lower()}{letter.upper()}]" if both else letter
    return result
