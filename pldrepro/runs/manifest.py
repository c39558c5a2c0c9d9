"""The end of a run folder: a manifest of its files, then its summary; and what follows from both later on.

``manifest.json`` holds size and SHA-256 of every file of the run and a copy of the summary. A workflow that removes
``summary.json``, as Snakemake does before it runs a job again, does not cost the run: the summary comes back from the
manifest once the files have been checked against it. A run folder from another machine is checked in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pldrepro.config.run import RunSettings
from pldrepro.errors import RecordError
from pldrepro.files import sha256, write_json
from pldrepro.records import Versioned, read_record, stamped, write_record
from pldrepro.runs.schema import FileEntry, PretrainJob, Provenance, RunManifest

MANIFEST, SUMMARY = "manifest.json", "summary.json"
ALWAYS = ("settings.json", "provenance.json")


def begin(folder: Path, job: Versioned, about: Provenance) -> None:
    """Forget an earlier job in this folder, and write what the new one is before it starts."""
    for name in (SUMMARY, MANIFEST):
        (folder / name).unlink(missing_ok=True)
    write_record(folder / "settings.json", job)
    write_record(folder / "provenance.json", about)


def complete(folder: Path, summary: Versioned, patterns: Iterable[str]) -> None:
    """Write the manifest of the files that match the patterns, then the summary: the job is complete."""
    paths = {path for pattern in (*ALWAYS, *patterns) for path in folder.glob(pattern) if path.is_file()}
    files = {
        path.relative_to(folder).as_posix(): FileEntry(bytes=path.stat().st_size, sha256=sha256(path))
        for path in sorted(paths)
    }
    summary = stamped(summary)
    write_record(folder / MANIFEST, RunManifest(files=files, summary=summary.model_dump(mode="json")))
    write_record(folder / SUMMARY, summary)


def is_same_job(folder: Path, job: Versioned) -> bool:
    """Whether a job with just these settings left something in the folder."""
    path = folder / "settings.json"
    return path.is_file() and stamped(read_record(path, type(job))) == stamped(job)


def differences(folder: Path, settings: RunSettings, data_hash: str) -> list[str]:
    """What can change the result and differs between the pre-training run in a folder and this one; empty: nothing."""
    changed = changed_settings(settings_of(folder), settings)
    return [*changed, "corpus"] if data_of(folder) != data_hash else changed


def changed_settings(earlier: RunSettings, settings: RunSettings) -> list[str]:
    """The settings of two runs that can change the result and differ."""
    keys = [
        (group, key)
        for group in ("model", "data", "training", "drop")
        for key in type(getattr(settings, group)).model_fields
    ]
    keys += [("impl", key) for key in ("precision", "residual", "micro_batch_size", "ranks")]
    changed = [
        f"{group}.{key}"
        for group, key in keys
        if getattr(getattr(earlier, group), key, None) != getattr(getattr(settings, group), key)
    ]
    if earlier.seed != settings.seed:
        changed.append("seed")
    return changed


def settings_of(folder: Path) -> PretrainJob:
    """The settings of the pre-training run in a folder; a RecordError where they are not those of today's version."""
    hint = "; made by another version: delete the folder to start anew"
    return read_record(folder / "settings.json", PretrainJob, hint, unknown="forbid")


def data_of(folder: Path) -> str | None:
    """Hash of the data that a pre-training run was made from."""
    corpus = read_record(folder / "provenance.json", Provenance).corpus
    return None if corpus is None else corpus.hash


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a complete job; its summary is written again where it alone is missing.

    A file that is not what the manifest says is a RecordError.
    """
    if (folder / SUMMARY).is_file():
        return True
    if not (folder / MANIFEST).is_file():
        return False
    write_json(folder / SUMMARY, verified(folder))
    return True


def read_manifest(folder: Path) -> RunManifest:
    """The manifest of a finished job; a missing or damaged one is a RecordError."""
    return read_record(folder / MANIFEST, RunManifest)


def verified(folder: Path) -> dict[str, Any]:
    """The summary of a complete job, its files checked against the manifest; else RecordError naming the first."""
    path = folder / MANIFEST
    manifest = read_manifest(folder)
    for name, about in manifest.files.items():
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise RecordError(f"{path}: {name}: allowed: files of this folder")
        if not file.is_file():
            raise RecordError(f"{file}: missing, though {path} lists it; make or copy it again")
        if FileEntry(bytes=file.stat().st_size, sha256=sha256(file)) != about:
            raise RecordError(
                f"{file}: not the file that {path} lists (its size or SHA-256 differs); make or copy it again"
            )
    absent = [name for name in ALWAYS if name not in manifest.files]
    if absent:
        raise RecordError(f"{path}: does not list {', '.join(absent)}")
    return manifest.summary
