"""Finished runs as records, to be committed: an archive for each run, without its models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pldrepro.archives import SUFFIX, read_archive, write_archive
from pldrepro.errors import RecordError
from pldrepro.runs.manifest import MANIFEST, SUMMARY, is_weights, read_manifest, verified, without_weights

# Where the runs of each stage are, below a study's runs. Pre-training first: what is made from a checkpoint is checked
# against it.
LAYOUT = {
    "pretrain": "*/seed*", "early": "*/seed*", "interleave": "process*", "finetune": "*/seed*/*/*", "probe": "*/seed*",
    "lambada": "*/seed*", "contrasts": "*/seed*",
}  # fmt: skip


def record_runs(runs: Path, out: Path) -> list[Path]:
    """Archive the finished runs below ``runs`` at the same places below ``out``; returns the new archives.

    Each run is compared with its manifest first; where another run or calibration is recorded already, that is a
    RecordError. A calibration, which prices other studies, too, stays a folder.
    """
    found = [
        summary.parent
        for kind, pattern in LAYOUT.items()
        for summary in sorted(runs.glob(f"{kind}/{pattern}/{SUMMARY}"))
    ]
    if not found:
        raise RecordError(f"{runs}: no finished run; allowed: the runs of a study, with pretrain/ARM/seedN")
    new = []
    for run in found:
        archive = archive_of(out / run.relative_to(runs))
        files = _files(run)
        if not archive.exists():
            write_archive(archive, files)
            new.append(archive)
        elif read_archive(archive) != files:
            raise RecordError(f"{archive}: holds another run; delete it to record this one")
    calibration = runs / "calibration"
    if (calibration / SUMMARY).is_file():
        _record_calibration(calibration, out / "calibration")
    return new


def _record_calibration(calibration: Path, target: Path) -> None:
    verified(calibration)
    files = {name: (calibration / name).read_bytes() for name in _names(calibration)}
    if not target.exists():
        _write(target, files)
    elif any(not (target / name).is_file() or (target / name).read_bytes() != files[name] for name in files):
        raise RecordError(f"{target}: holds another calibration; delete it to record this one")


def archive_of(run: Path) -> Path:
    """The archive of a run folder."""
    return run.with_name(run.name + SUFFIX)


def recorded_runs(records: Path) -> Iterator[tuple[Path, Path]]:
    """Each archive below a folder of records, with the place of its run there."""
    for path in sorted(records.rglob(f"*{SUFFIX}")):
        yield path, path.relative_to(records).with_name(path.name.removesuffix(SUFFIX))


def unpack_runs(records: Path, out: Path) -> list[Path]:
    """Write the run folders of all archives below a folder, each compared with its manifest; returns the folders."""
    folders = []
    for archive, place in recorded_runs(records):
        _write(out / place, read_archive(archive))
        verified(out / place)
        folders.append(out / place)
    if not folders:
        raise RecordError(f"{records}: no archive of a run")
    return folders


def _files(run: Path) -> dict[str, bytes]:
    verified(run)
    manifest = read_manifest(run)
    files = {name: (run / name).read_bytes() for name in _names(run) if not is_weights(name)}
    if any(map(is_weights, manifest.files)) and not manifest.left_out:
        files[MANIFEST] = without_weights(manifest).model_dump_json(indent=1).encode()
    return files


def _names(run: Path) -> list[str]:
    """The files of a run that its manifest lists and that are there, the manifest and the summary."""
    listed = [name for name in read_manifest(run).files if (run / name).is_file()]
    return [*listed, MANIFEST, SUMMARY]


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """The summary last: a folder with one is whole."""
    for name in sorted(files, key=lambda name: name == SUMMARY):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])
