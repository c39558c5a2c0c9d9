"""What travels: the parcel to the machine (prepared data, commit, list of wheels), and the records back from it."""

from __future__ import annotations

import lzma
import os
import subprocess
import tarfile
from importlib import metadata
from io import BytesIO
from pathlib import Path

import torch

from pldrepro.config.base import merge
from pldrepro.config.data import DataSettings
from pldrepro.config.run import RunSettings
from pldrepro.config.study import load_study, read_study
from pldrepro.data.contrasts import prepare_contrasts
from pldrepro.data.corpus import prepare_corpus
from pldrepro.data.glue import prepare_glue
from pldrepro.errors import SettingsError
from pldrepro.files import atomic_path
from pldrepro.runs.manifest import MANIFEST, SUMMARY, read_manifest, without_weights
from pldrepro.runs.provenance import commit
from pldrepro.runs.schema import RunManifest
from pldrepro.training.objectives import open_objective

STUDY = Path("config/gpu_text.yaml")
# Pure Python or small: what a bare machine with torch and transformers lacks.
WHEELS = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection")
# Token ids are 16 bits wide: two positions, and no literal context.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 1, "pb": 1}]
LEFT_BEHIND = {"checkpoints", "models", "resume", "parts", "smoke"}
RECORDS, PART_BYTES = "records", 15 * 10**6


# ---- to the machine ----


def prepare(parcel: Path, data_root: Path | None, limit: float, study_file: Path = STUDY) -> int:
    """Prepare the data of the study on text and pack them; the bytes that travel, SettingsError above ``limit`` MB."""
    values = read_study(study_file)
    if data_root is not None:
        values = merge(values, {"data_root": str(data_root)})
    study = load_study(values)
    data, tuning, folder = study.data(), study.finetune, parcel / "data"
    assert isinstance(data, DataSettings)
    prepare_corpus(data, folder / "corpus", workers=os.cpu_count() or 1, progress=False)
    prepare_glue(data, tuning.tasks, tuning.sequence_length, folder / "corpus", folder / "glue", progress=False)
    names = ["corpus", "glue"]
    if study.settings.contrasts is not None:
        prepare_contrasts(study.contrasts, data, folder / "corpus", folder / "contrasts")
        names.append("contrasts")
    check_validation(study.run(study.baseline, study.settings.seeds[0]), folder / "corpus")
    with (
        atomic_path(parcel / "data.tar.xz") as temporary,
        lzma.open(temporary, "wb", filters=FILTERS) as file,
        tarfile.open(fileobj=file, mode="w") as archive,
    ):
        for name in names:
            archive.add(folder / name, name)
    (parcel / "commit").write_text(commit() + "\n")
    (parcel / "wheels.txt").write_text("".join(f"{name}=={metadata.version(name)}\n" for name in WHEELS))
    sizes = {"data": (parcel / "data.tar.xz").stat().st_size, "repository": tracked_bytes()}
    total = sum(sizes.values())
    print(", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()) + f": {total / 1e6:.1f} MB")
    if total > limit * 1e6:
        raise SettingsError(f"{parcel}: {total / 1e6:.1f} MB with the repository; allowed: {limit:g} MB (--limit)")
    return total


def check_validation(run: RunSettings, folder: Path) -> None:
    """SettingsError where the held-out text has fewer sequences than a run validates on."""
    objective = open_objective(run, torch.device("cpu"))
    found, wanted = len(objective.validation(objective.open(folder))), run.training.validation_sequences
    if found < wanted:
        raise SettingsError(
            f"{folder}: {found} validation sequences; training.validation_sequences asks for {wanted}: lower "
            "data.validation_ratio or read more text"
        )


def tracked_bytes() -> int:
    """Bytes of the files that git tracks here, as they travel."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    return sum(Path(name).stat().st_size for name in listed.split("\0") if name and Path(name).is_file())


# ---- back from it ----


def pack(out: Path) -> list[Path]:
    """Archives of all that is finished, without weights: records.tar, and records-2.tar ... where they are large.

    At any time, from any process: each archive is replaced as a whole. Runs in progress are left out.
    """
    archives: list[Path] = []
    for files in _portions(finished_files(out)):
        number = len(archives) + 1
        target = out / f"{RECORDS}{'' if number == 1 else f'-{number}'}.tar"
        with atomic_path(target) as temporary, tarfile.open(temporary, "w") as archive:
            for path in files:
                if is_of_a_run(path):
                    add_text(archive, str(path.relative_to(out)), without_weights(read_manifest(path.parent)))
                else:
                    archive.add(path, str(path.relative_to(out)))
        archives.append(target)
    return archives


def is_of_a_run(path: Path) -> bool:
    """Whether a file is the manifest of a finished job; that of an archive says that the weights are left out."""
    return path.name == MANIFEST and (path.parent / SUMMARY).is_file()


def add_text(archive: tarfile.TarFile, name: str, manifest: RunManifest) -> None:
    """Add a manifest to an archive."""
    content = manifest.model_dump_json(indent=1).encode()
    about = tarfile.TarInfo(name)
    about.size = len(content)
    archive.addfile(about, BytesIO(content))


def finished_files(out: Path) -> list[Path]:
    """Every record of a finished job, and of the session."""
    files = []
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        inside = path.relative_to(out)
        in_progress = (path.parent / "provenance.json").exists() and not (path.parent / "summary.json").exists()
        left = LEFT_BEHIND & set(inside.parts) or path.name.startswith(".")
        if not (left or in_progress or inside.match(f"{RECORDS}*.tar")):
            files.append(path)
    return files


def _portions(files: list[Path]) -> list[list[Path]]:
    """Files in portions of PART_BYTES at most, headers included; one that is larger has a portion of its own."""
    portions: list[list[Path]] = [[]]
    size = 0
    for path in files:
        one = path.stat().st_size + 1536
        if portions[-1] and size + one > PART_BYTES:
            portions.append([])
            size = 0
        portions[-1].append(path)
        size += one
    return portions
