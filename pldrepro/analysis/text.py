"""Numbers as text: estimates with their intervals."""

from __future__ import annotations

from pldrepro.stats import Estimate

DASH = "–"
FAMILIES = {"bert": "BERT", "gpt": "GPT", "swinv2": "SwinV2", "vit": "ViT"}


def number(value: float, digits: int) -> str:
    """A number with a true minus sign and without a negative zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def estimate_text(estimate: Estimate | None, digits: int) -> str:
    """1.18 [1.14, 1.22]; without an interval only the number; of two values these, 1.17 / 1.19; a dash for nothing."""
    if estimate is None:
        return DASH
    if len(estimate.values) > 1:
        return " / ".join(number(value, digits) for value in estimate.values)
    if estimate.low is None or estimate.high is None:
        return number(estimate.value, digits)
    return f"{number(estimate.value, digits)} [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


DIGITS = {"x": 2, "nats": 3, "1": 3, "runs": 0}  # after the point, by unit; else 1


def quantity_text(estimate: Estimate | None, unit: str) -> str:
    """16.3 % [12.9, 19.6]; of two values 16.0 / 16.6 %; a dash for nothing. The unit 1 is not written."""
    text, _, limits = estimate_text(estimate, DIGITS.get(unit, 1)).partition(" [")
    shown = text if unit == "1" or estimate is None else f"{text} {unit}"
    return f"{shown} [{limits}" if limits else shown
