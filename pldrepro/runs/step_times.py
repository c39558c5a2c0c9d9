"""tau(k), the measured seconds of a training step with k active layers, and the price of a run in reference time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pldrepro.errors import RecordError
from pldrepro.runs.folder import PretrainRun, _folder
from pldrepro.runs.schema import CalibrationSummary

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


def load_calibration(folder: Path) -> Calibration:
    """The measured tau(k); a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, _ = _folder(folder, CalibrationSummary)
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
