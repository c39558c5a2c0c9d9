"""Numbers as text: estimates with their intervals, reported values with their marks."""

from __future__ import annotations

from collections.abc import Sequence

from pldrepro.analysis.reported import Reported
from pldrepro.stats import Estimate

DASH = "–"
FAMILIES = {"bert": "BERT", "gpt": "GPT", "swinv2": "SwinV2", "vit": "ViT"}
INTERVAL_NOTE = (
    "Measured: mean over n pre-training seeds, [95 % t interval]; times and ratios: geometric mean, interval on the "
    "log scale; ratios are paired by seed and, in reference time, hold the calibration's own error. One seed has no "
    "interval."
)


# ---- text of numbers ----


def number(value: float, digits: int) -> str:
    """A number with a true minus sign and without a negative zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def estimate_text(estimate: Estimate | None, digits: int) -> str:
    """1.18 [1.14, 1.22]; without an interval only the number; a dash for nothing."""
    if estimate is None:
        return DASH
    if estimate.low is None or estimate.high is None:
        return number(estimate.value, digits)
    return f"{number(estimate.value, digits)} [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def marked_number(reported: Reported | None, digits: int) -> str:
    """A reported value with the mark of its provenance; a dash for nothing."""
    return DASH if reported is None else number(reported.value, digits) + reported.mark


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """Unit and seconds per unit in which these times read well."""
    longest = max(seconds, default=0.0)
    return ("h", 3600.0) if longest >= 2 * 3600 else ("min", 60.0) if longest >= 300 else ("s", 1.0)
