"""The run folder: the only thing that training and analysis share. No torch here.

A pre-training run, ``<results>/runs/pretrain/<arm>/seed<seed>/``::

    settings.json      the resolved RunSettings
    provenance.json    commit, versions, device, data manifest
    metrics.jsonl      one line per logged training step, per validation and per analysis of sensitivity
    checkpoints/NAME/  a model that plain transformers can load
    resume/            state to continue from; undeclared, removed at the end
    summary.json       written last and atomically: the run is complete

A fine-tuning run, ``<results>/runs/finetune/<arm>/seed<seed>/<checkpoint>/<group>/``, has settings, provenance,
``results.jsonl`` (one line per task, learning rate, seed and split), ``predictions.safetensors`` and the summary.

The LAMBADA scores of a run's checkpoints, ``<results>/runs/lambada/<arm>/seed<seed>/``, have settings, provenance,
``predictions.safetensors`` (each passage's log-probability and whether it is right) and the summary.

A probe of a run's checkpoints, ``<results>/runs/probe/<arm>/seed<seed>/``, has settings, provenance, ``results.jsonl``
(one line per number) and the summary.
"""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError

from pldrepro import formats
from pldrepro.config import explain

if TYPE_CHECKING:
    import pandas as pd

REPOSITORY = Path(__file__).resolve().parent.parent
RECORDED_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "transformers", "datasets", "evaluate", "snakemake")


class RecordError(RuntimeError):
    """A run folder that is missing, incomplete or damaged; the message names the run."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well, and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # by a process that was killed
        abandoned.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _naming(path.parent):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except SafetensorError as error:  # how a full disk looks to the writer of tensors
        raise RecordError(f"{path}: not written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming(place: Path) -> Iterator[None]:
    """A full disk does not say which: its error gets the name of what was written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(place)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; a value that is not finite is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or damaged file is a RecordError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: damaged JSON: {error}") from None


def sha256(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_jsonl(path: Path, value: Any) -> None:
    """Append one JSON line and flush it."""
    with _naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, allow_nan=False) + "\n")


def provenance(device: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """Where a record comes from: commit, versions, machine, device, and what the caller adds."""
    return {
        "commit": commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "device": device,
        "argv": sys.argv[1:2],
        **extra,
    }


def commit() -> str:
    """The commit of the code, with "+changes" when tracked files differ from it; "unknown" outside a checkout."""
    try:
        head = subprocess.run(
            ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if status.strip() else "")


def _versions() -> dict[str, str]:
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


# ---- reading runs back: the only entry of the analysis half ----


def read_checked(path: Path, kind: type[BaseModel], hint: str = "") -> Any:
    """The values of a JSON file that is what a class says; otherwise a RecordError with file, key and the hint."""
    return _checked(_content(path, hint), kind, f"{path}", hint)


def read_checked_lines(path: Path, kind: type[BaseModel], hint: str = "") -> list[dict[str, Any]]:
    """The values of a JSON-lines file whose lines are what a class says; a RecordError names the line, too."""
    lines = _content(path, hint).splitlines()
    return [_checked(line, kind, f"{path}: line {number}", hint) for number, line in enumerate(lines, start=1)]


def _content(path: Path, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise RecordError(f"{path}: {reason}{hint}") from None


def _checked(content: bytes, kind: type[BaseModel], where: str, hint: str) -> Any:
    """The values as they are written, once they have been found to be what the class says."""
    try:
        kind.model_validate_json(content)
        return json.loads(content)
    except ValidationError as error:
        damaged = "damaged JSON: " if error.errors()[0]["type"] == "json_invalid" else ""
        raise RecordError(f"{where}: {damaged}{explain(kind, error)}{hint}") from None
    except ValueError as error:
        raise RecordError(f"{where}: damaged JSON: {error}{hint}") from None


@dataclass(frozen=True)
class PretrainRun:
    """A finished pre-training run."""

    folder: Path
    settings: dict[str, Any]
    summary: dict[str, Any]
    provenance: dict[str, Any]
    metrics: list[dict[str, Any]]

    @property
    def arm(self) -> str:
        """Name of the experiment."""
        return str(self.summary["arm"])

    @property
    def label(self) -> str:
        """Name for people."""
        return str(self.summary["label"])

    @property
    def seed(self) -> int:
        """Pre-training seed."""
        return int(self.summary["seed"])

    @property
    def family(self) -> str:
        """Family of models: bert, gpt, swinv2 or vit."""
        return str(self.summary.get("family", "bert"))  # early records are of BERT and do not say so

    @property
    def validation(self) -> list[dict[str, Any]]:
        """The validation lines, in order of steps."""
        return [line for line in self.metrics if line["kind"] == "validation"]

    @property
    def sensitivity(self) -> list[dict[str, Any]]:
        """The lines of the analyses of sensitivity, in order of steps; empty for policies that need none."""
        return [line for line in self.metrics if line["kind"] == "sensitivity"]


@dataclass(frozen=True)
class FinetuneRun:
    """A finished fine-tuning job; its predictions stay on disk until ``score`` reads them."""

    folder: Path
    settings: dict[str, Any]
    summary: dict[str, Any]
    results: list[dict[str, Any]]

    @property
    def missing(self) -> dict[str, dict[str, str]]:
        """task -> split -> why the data had none."""
        return dict(self.settings.get("missing", {}))


@dataclass(frozen=True)
class ProbeRun:
    """The probes of a finished pre-training run's checkpoints; ``pldrepro.probe`` says what the results are."""

    folder: Path
    settings: dict[str, Any]
    summary: dict[str, Any]
    results: list[dict[str, Any]]


@dataclass(frozen=True)
class LambadaRun:
    """The LAMBADA scores of a finished pre-training run's checkpoints; ``pldrepro.lambada`` says what they are."""

    folder: Path
    summary: dict[str, Any]


# Settings of a model that its step time depends on; each family has some of them.
TIMED_SETTINGS = (
    "norm", "num_layers", "hidden_size", "num_heads", "ffn_size", "vocab_size", "dropout", "attention_dropout",
    "image_size", "patch_size", "num_classes", "stages", "ffn_ratio", "window_size", "drop_path_rate",
)  # fmt: skip


@dataclass(frozen=True)
class TauShape:
    """tau(k), the seconds of a training step of one micro-batch with k active layers, of one model shape."""

    norm: str
    num_layers: int
    model: dict[str, Any]
    micro_batch_size: int
    sequence_length: int | None  # None: images
    ranks: int
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]
    intercept: float
    slope: float
    r2: float
    seconds: tuple[tuple[float, ...], ...] = ()
    """Every round: (rounds, L + 1); all shapes of a calibration were measured in the same rounds."""

    @property
    def layer_share(self) -> float:
        """Share of a full step that the layers take, by the linear fit: L slope / (intercept + L slope)."""
        layers = self.num_layers * self.slope
        return layers / (self.intercept + layers)

    @property
    def relative_errors(self) -> tuple[float, ...]:
        """Standard errors of tau(k) relative to tau(k), from the 95 % intervals; k = 0..L."""
        limits = zip(self.low, self.high, self.median, strict=True)
        return tuple((high - low) / (2 * 1.96 * median) for low, high, median in limits)

    @property
    def layer_seconds(self) -> tuple[float, ...]:
        """What each layer adds to a step; (L,): the mean over its stage of tau(k) - tau(k - 1), k in order of depth."""
        seconds: list[float] = []
        for depth in self.model.get("stages", [self.num_layers]):
            first = len(seconds)
            seconds += [(self.median[first + depth] - self.median[first]) / depth] * depth
        return tuple(seconds)

    def price(
        self, passes_by_kept_layers: Mapping[Any, int], passes_by_layer: Sequence[int] = (), analysis_passes: float = 0
    ) -> float:
        """Reference seconds of a run: sum over k of (forward passes with k layers) x tau(k), and its analysis.

        Layers of several stages do not cost the same: there each pass costs tau(0), and each layer it kept its own
        ``layer_seconds``. An analysis of sensitivity costs what as many FLOPs of training at full depth do
        (``analysis_passes`` micro-batches). Source: reference system time of "No Train No Gain" (arXiv 2307.06440).
        """
        analysis = analysis_passes * self.median[-1]
        if len(self.model.get("stages", ())) > 1:
            layers = zip(passes_by_layer, self.layer_seconds, strict=True)
            fixed = sum(passes_by_kept_layers.values()) * self.median[0]
            return fixed + math.fsum(count * seconds for count, seconds in layers) + analysis
        return math.fsum(count * self.median[int(kept)] for kept, count in passes_by_kept_layers.items()) + analysis

    def expected(self, kept_layers: float) -> float:
        """Seconds of a step with this many active layers on average, by the linear fit."""
        return self.intercept + self.slope * kept_layers

    def fits(self, settings: Mapping[str, Any]) -> bool:
        """Whether a run with these settings takes this shape's time: same sizes, dropout, micro-batch and length."""
        micro_batch = min(settings["impl"]["micro_batch_size"], settings["training"]["batch_size"])
        return (
            all(self.model.get(key) == settings["model"].get(key) for key in ("family", *TIMED_SETTINGS))
            and self.micro_batch_size == micro_batch
            and self.ranks == settings["impl"].get("ranks", 1)
            and self.sequence_length == settings["data"].get("sequence_length")
        )


@dataclass(frozen=True)
class Calibration:
    """tau(k) of every model shape of a study, measured on one machine."""

    folder: Path
    device: dict[str, Any]
    threads: int
    shapes: tuple[TauShape, ...]

    def shape(self, settings: Mapping[str, Any]) -> TauShape:
        """The shape of a run with these settings; a RecordError when it was not calibrated."""
        for shape in self.shapes:
            if shape.fits(settings):
                return shape
        raise RecordError(
            f"{self.folder}: no step times for the model of {settings['arm']}, seed {settings['seed']}; "
            "run `calibrate` again"
        )

    def shape_of(self, run: PretrainRun) -> TauShape:
        """The shape of a finished run."""
        return self.shape(run.settings)


def log_path(folder: Path) -> Path:
    """Where the workflow keeps the log of a run folder: runs/finetune/A/B/C -> logs/finetune/A/B-C.log."""
    parts = folder.parts
    if "runs" not in parts:
        return folder.with_name(f"{folder.name}.log")
    at = len(parts) - 1 - parts[::-1].index("runs")
    kind, *rest = parts[at + 1 :]
    logs = Path(*parts[:at], "logs")
    return logs / kind / rest[0] / f"{'-'.join(rest[1:])}.log" if len(rest) > 1 else logs / "calibrate.log"


NUMBER = r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?"


def read_table(
    path: Path, columns: Sequence[str], numbers: Mapping[str, type], verb: str, optional: Sequence[str] = ()
) -> pd.DataFrame:
    """A csv table of the analysis; one that is missing or damaged is a RecordError with row and column.

    ``numbers``: the columns of integers and of finite numbers, all others are text; ``optional``: may be empty.
    """
    import pandas as pd

    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
        texts = {name: str for name in columns if name not in numbers}
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise RecordError(f"{path}: no such table; run `{verb}` first") from None
    except (OSError, ValueError, csv.Error) as error:
        raise RecordError(f"{path}: damaged: {error}; run `{verb}` again") from None
    absent = sorted(set(columns) - set(header))
    if len(set(header)) < len(header):
        raise RecordError(f"{path}: a column stands there twice; run `{verb}` again")
    if absent:
        raise RecordError(f"{path}: column {', '.join(absent)} is missing; run `{verb}` again")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise RecordError(f"{path}: row {number}: {len(row)} fields; allowed: {len(header)}; run `{verb}` again")
        for name, text in zip(header, row, strict=True):
            if name in columns and not _fits(text, numbers.get(name, str), name in optional):
                raise RecordError(f"{path}: row {number}: {name} {text!r}; run `{verb}` again")
    if len(frame) != len(rows):
        raise RecordError(f"{path}: damaged: {len(frame)} rows read of {len(rows)}; run `{verb}` again")
    return frame


def _fits(text: str, kind: type, optional: bool) -> bool:
    """Whether a field of a csv is text, an integer or a finite number."""
    if not text:
        return optional
    if kind is int:
        return re.fullmatch(r"-?[0-9]{1,18}", text) is not None
    return kind is str or (re.fullmatch(NUMBER, text) is not None and math.isfinite(float(text)))


def _folder(path: Path, kind: type[BaseModel]) -> tuple[Path, dict[str, Any], str]:
    """A finished run folder (its summary.json is accepted too), its summary, and where its log is, for messages."""
    folder = path.parent if path.name == "summary.json" else path
    log = log_path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such run; its log would be {log}")
    if not (folder / "summary.json").exists():
        raise RecordError(f"{folder}: the run is not complete (no summary.json); see its log, {log}")
    hint = f"; see its log, {log}"
    return folder, read_checked(folder / "summary.json", kind, hint), hint


def load_pretrain(folder: Path) -> PretrainRun:
    """A finished pre-training run; a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, hint = _folder(folder, formats.PretrainSummary)
    run = PretrainRun(
        folder=folder,
        settings=read_checked(folder / "settings.json", formats.SettingsRecord, hint),
        summary=summary,
        provenance=read_checked(folder / "provenance.json", formats.ProvenanceRecord, hint),
        metrics=read_checked_lines(folder / "metrics.jsonl", formats.MetricsLine, hint),
    )
    _check_one_run(run, hint)
    return run


def _check_one_run(run: PretrainRun, hint: str) -> None:
    """The files of a folder are of one run, and its metrics reach its end."""
    model, summary = run.settings["model"], run.summary
    said = {key: run.settings[key] for key in ("scale", "arm", "label", "seed")}
    said |= {"num_layers": model.get("num_layers") or sum(model["stages"]), "family": model.get("family", "bert")}
    found = {key: summary[key] for key in said if key != "family"} | {"family": run.family}
    differing = [key for key in said if said[key] != found[key]]
    if differing:
        raise RecordError(f"{run.folder}: summary.json and settings.json differ in {', '.join(differing)}{hint}")
    metrics = run.folder / "metrics.jsonl"
    if not run.validation or run.validation[-1]["step"] != summary["steps"]:
        raise RecordError(f"{metrics}: no validation line at the end of the run, step {summary['steps']}{hint}")
    for kind in ("train", "validation", "sensitivity"):
        steps = [line["step"] for line in run.metrics if line["kind"] == kind]
        if steps != sorted(set(steps)) or (steps and steps[-1] > summary["steps"]):
            raise RecordError(f"{metrics}: {kind}: allowed: steps that rise to at most {summary['steps']}{hint}")
    if any(len(line["ranks"]) != summary["num_layers"] for line in run.sensitivity):
        raise RecordError(f"{metrics}: sensitivity: allowed: a rank for each of {summary['num_layers']} layers{hint}")


def load_finetune(folder: Path) -> FinetuneRun:
    """A finished fine-tuning job; a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, hint = _folder(folder, formats.FinetuneSummary)
    if not (folder / "predictions.safetensors").is_file():
        raise RecordError(f"{folder}: no predictions.safetensors{hint}")
    return FinetuneRun(
        folder=folder,
        settings=read_checked(folder / "settings.json", formats.FinetuneSettingsRecord, hint),
        summary=summary,
        results=read_checked_lines(folder / "results.jsonl", formats.FinetuneLine, hint),
    )


def load_probe(folder: Path) -> ProbeRun:
    """A finished probe; a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, hint = _folder(folder, formats.ProbeSummary)
    run = ProbeRun(
        folder=folder,
        settings=read_checked(folder / "settings.json", formats.AnyRecord, hint),
        summary=summary,
        results=read_checked_lines(folder / "results.jsonl", formats.ProbeLine, hint),
    )
    checkpoints, layers = summary["checkpoints"], summary["num_layers"]
    for number, line in enumerate(run.results, start=1):
        if line["checkpoint"] not in checkpoints or max([line.get("layer", 1), *line.get("kept", ())]) > layers:
            raise RecordError(
                f"{folder / 'results.jsonl'}: line {number}: allowed: checkpoints {', '.join(checkpoints)} and layers "
                f"1 to {layers}{hint}"
            )
    return run


def load_lambada(folder: Path) -> LambadaRun:
    """Finished LAMBADA scores; missing, incomplete or damaged ones are a RecordError naming file and log."""
    folder, summary, _ = _folder(folder, formats.LambadaSummary)
    return LambadaRun(folder, summary)


def load_calibration(folder: Path) -> Calibration:
    """The measured tau(k); a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, _ = _folder(folder, formats.CalibrationSummary)
    shapes = tuple(_tau_shape(shape) for shape in summary["shapes"])
    return Calibration(folder=folder, device=summary["device"], threads=summary["threads"], shapes=shapes)


def _tau_shape(shape: Mapping[str, Any]) -> TauShape:
    tau = [shape["tau"][str(kept)] for kept in range(shape["num_layers"] + 1)]
    return TauShape(
        norm=shape["norm"],
        num_layers=shape["num_layers"],
        model=shape["model"],
        micro_batch_size=shape["micro_batch_size"],
        sequence_length=shape["sequence_length"],
        ranks=shape.get("ranks", 1),
        median=tuple(point["median"] for point in tau),
        low=tuple(point["low"] for point in tau),
        high=tuple(point["high"] for point in tau),
        n=tuple(point["n"] for point in tau),
        seconds=tuple(map(tuple, shape.get("seconds", ()))),
        **{name: shape["fit"][name] for name in ("intercept", "slope", "r2")},
    )
