"""What the files of a run are: noted when written, listed when the job is complete, compared when they are read.

``manifest.json`` holds size and SHA-256 of every file of the run and a copy of the summary. Whoever reads a run
compares what it reads with it: a changed digit is a RecordError that names the file. A workflow that removes
``summary.json``, as Snakemake does before it runs a job again, does not cost the run: the summary comes back from the
manifest once the files have been checked.

A job lists what it wrote, not what is there at its end. What an interrupted job keeps for the next start is noted in
``written.json`` (fine-tuning) or in the resume checkpoint (pre-training).

A record of a run may do without its weights: the manifest still says what they were, and names them in ``left_out``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pldrepro.config.run import RunSettings
from pldrepro.errors import RecordError
from pldrepro.files import read_json, write_json
from pldrepro.records import (
    FileEntry,
    Versioned,
    read_record,
    read_sealed,
    sealed,
    stamped,
    write_record,
    write_sealed,
)
from pldrepro.runs.schema import PretrainJob, Provenance, RunManifest, WrittenFiles

MANIFEST, SUMMARY, WRITTEN = "manifest.json", "summary.json", "written.json"
ALWAYS = ("settings.json", "provenance.json")
WEIGHTS = {"checkpoints", "models"}  # folders of a run that a record of it may leave out
UNFINISHED = {"resume", "parts"}  # folders of a job that is not complete

# ---- writing ----


def begin(folder: Path, job: Versioned, about: Provenance) -> dict[str, FileEntry]:
    """Forget an earlier job in this folder, and write what the new one is before it starts; returns its files."""
    for name in (SUMMARY, MANIFEST):
        (folder / name).unlink(missing_ok=True)
    write_record(folder / "settings.json", job)
    write_record(folder / "provenance.json", about)
    return entries(folder, ALWAYS)


def begin_unless_complete(folder: Path, job: Versioned, about: Provenance) -> dict[str, FileEntry] | None:
    """As ``begin``; None where the folder holds just this job and it is complete, which stays as it is."""
    return None if is_same_job(folder, job) and is_complete(folder) else begin(folder, job, about)


def entries(folder: Path, patterns: Iterable[str]) -> dict[str, FileEntry]:
    """What the files of a folder that match some patterns are now, by name."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): FileEntry.of(path) for path in sorted(paths)}


def complete(folder: Path, summary: Versioned, files: Mapping[str, FileEntry]) -> None:
    """Write the manifest of the files that a job wrote, then the summary: the job is complete.

    One that is not what it was when it was written is a RecordError; the job is not complete then.
    """
    for name, entry in files.items():
        if not entry.describes(folder / name):
            raise RecordError(
                f"{folder / name}: not the file that this run wrote (missing, or its size or SHA-256 differs); delete "
                f"{folder} to start this run again"
            )
    summary = stamped(summary)
    manifest = RunManifest(files=dict(sorted(files.items())), summary=summary.model_dump(mode="json"))
    write_sealed(folder / MANIFEST, manifest)
    write_record(folder / SUMMARY, summary)
    (folder / WRITTEN).unlink(missing_ok=True)


def note(folder: Path, files: Mapping[str, FileEntry]) -> None:
    """Note what the files of an unfinished job were when they were written, for the next start."""
    write_sealed(folder / WRITTEN, WrittenFiles(files=dict(files)))


def noted(folder: Path) -> dict[str, FileEntry]:
    """What an interrupted job noted; nothing where that is missing or damaged, so that all is made again."""
    try:
        return read_sealed(folder / WRITTEN, WrittenFiles).files
    except RecordError:
        return {}


def seal(folder: Path) -> None:
    """Write the manifest of a finished run that has none: of an earlier version, or a record.

    It lists what is there now: from now on, and not before, a change is noticed.
    """
    found = entries(folder, ["**/*"])
    files = {
        name: entry
        for name, entry in found.items()
        if name not in (SUMMARY, MANIFEST, WRITTEN)
        and not UNFINISHED & set(Path(name).parts)
        and not any(part.startswith(".") for part in Path(name).parts)
    }
    write_sealed(folder / MANIFEST, RunManifest(files=files, summary=read_json(folder / SUMMARY)))


# ---- comparing ----


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a complete job; its summary is written again where only that is missing.

    A file that is not what the manifest says is a RecordError, and so is a summary without a manifest.
    """
    if not (folder / SUMMARY).is_file() and not (folder / MANIFEST).is_file():
        return False
    summary = verified(folder)
    check(folder, read_manifest(folder), ALWAYS)
    if not (folder / SUMMARY).is_file():
        write_json(folder / SUMMARY, summary)
    return True


def verified(folder: Path, *, weights: bool = True) -> dict[str, Any]:
    """The summary of a complete job, every file compared with the manifest; else RecordError naming the first.

    weights: the models, too, which only those who load them need. Files that a record leaves out need not be there.
    """
    manifest = read_manifest(folder)
    names = [name for name in manifest.files if weights or not is_weights(name)]
    left_out = {name for name in manifest.left_out if not (folder / name).exists()}
    check(folder, manifest, [name for name in names if name not in left_out])
    if (folder / SUMMARY).is_file() and read_json(folder / SUMMARY) != manifest.summary:
        raise RecordError(
            f"{folder / SUMMARY}: not the summary that {folder / MANIFEST} holds; delete it, and run the same command: "
            "it comes back"
        )
    return manifest.summary


def read_manifest(folder: Path) -> RunManifest:
    """The manifest of a finished job; a missing or damaged one is a RecordError."""
    path = folder / MANIFEST
    if (folder / SUMMARY).is_file() and not path.is_file():
        raise RecordError(
            f"{path}: no such file, so that nothing tells whether this run is what it was; make it again, or, if you "
            f"trust it: python -m pldrepro study seal {folder}"
        )
    return read_sealed(path, RunManifest)


def check(folder: Path, manifest: RunManifest, names: Collection[str]) -> None:
    """Compare some files of a complete job with its manifest; RecordError naming the first that differs."""
    path = folder / MANIFEST
    for name in names:
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise RecordError(f"{path}: {name}: allowed: files of this folder")
        if name not in manifest.files:
            raise RecordError(f"{path}: does not list {name}; make or copy the run again")
        if not file.is_file():
            why = "left out of this record" if name in manifest.left_out else f"missing, though {path} lists it"
            raise RecordError(f"{file}: {why}; delete {folder} to make it again, or copy it again")
        if not manifest.files[name].describes(file):
            raise RecordError(
                f"{file}: not the file that {path} lists (its size or SHA-256 differs); delete {folder} to "
                "make it again, or copy it again"
            )


def checked_weights(folder: Path, place: str) -> str:
    """SHA-256 of the weights of a finished run's checkpoint, all of whose files are what the manifest says."""
    manifest = read_manifest(folder)
    weights = f"{place}/model.safetensors"
    check(folder, manifest, [weights, *(name for name in manifest.files if name.startswith(f"{place}/"))])
    return manifest.files[weights].sha256


def weights_of(folder: Path) -> dict[str, str]:
    """Checkpoint -> SHA-256 of its weights, as far as the manifest of a pre-training run says."""
    files = read_manifest(folder).files
    return {Path(name).parent.name: files[name].sha256 for name in files if Path(name).name == "model.safetensors"}


def is_weights(name: str) -> bool:
    """Whether a file of a run belongs to one of its models."""
    return Path(name).parts[0] in WEIGHTS


def without_weights(manifest: RunManifest) -> RunManifest:
    """The manifest of a record that leaves out the models of a run; it still says what they were."""
    return sealed(manifest.model_copy(update={"left_out": [name for name in manifest.files if is_weights(name)]}))


# ---- whether a folder holds this job ----


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
        if getattr(_read(earlier, group), key, None) != getattr(_read(settings, group), key)
    ]
    if earlier.seed != settings.seed:
        changed.append("seed")
    return changed


def _read(settings: RunSettings, group: str) -> Any:
    """A group of settings as pre-training reads it: where GLUE comes from changes nothing of it."""
    return settings.data.without_glue if group == "data" else getattr(settings, group)


def settings_of(folder: Path) -> PretrainJob:
    """The settings of the pre-training run in a folder; a RecordError where they are not those of today's version."""
    hint = "; made by another version: delete the folder to start anew"
    return read_record(folder / "settings.json", PretrainJob, hint, unknown="forbid")


def data_of(folder: Path) -> str | None:
    """Hash of the data that a pre-training run was made from."""
    corpus = read_record(folder / "provenance.json", Provenance).corpus
    return None if corpus is None else corpus.hash
