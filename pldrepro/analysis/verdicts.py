"""The rule that turns an estimate into a verdict, and the words that are printed for it.

The rule looks at where the interval stands, where the estimate stands and how wide the interval is. For one and the
same estimate a wider interval never gives a better verdict: closeness to the reported value is a fixed share of the
reported effect. Were it enough that the interval holds the reported value, noise could help to hold it.
"""

from __future__ import annotations

from typing import Literal, get_args

from pldrepro.analysis.reported import Claim
from pldrepro.stats import Estimate

Verdict = Literal[
    "reproduced", "exceeded", "same direction", "inconclusive", "contradicted", "premise fails", "by construction",
    "not measured at this scale",
]  # fmt: skip
MIN_SEEDS = 3
# Of the reported effect, |reported - no effect|: how far from it the estimate may be, and how wide half the interval.
CLOSE, NARROW = 1 / 6, 1 / 3
ERROR_RATE = 0.05

_DIRECTION = "the interval is on the claimed side of no effect, also after the adjustment for all claims"
VERDICTS: dict[Verdict, str] = {
    "reproduced": f"{_DIRECTION}; the estimate is within a sixth of the reported effect of the reported value, and "
    "half the interval is at most a third of that effect; of a claim that reports no number, the first part",
    "exceeded": f"{_DIRECTION}, and all of it is beyond the reported value",
    "same direction": f"{_DIRECTION}; the reported size is not reached, or the interval is too wide to say, or this "
    "study's scale cannot tell",
    "inconclusive": f"there are fewer than {MIN_SEEDS} seeds, or the interval includes no effect (as it is, or after "
    "the adjustment), or it is open whether what the claim takes for granted holds",
    "contradicted": "the interval is on the other side of no effect, also after the adjustment for all claims",
    "premise fails": "what the claim takes for granted is not so here, by its own interval: the claim is not judged",
    "by construction": "the number follows from what the design sets, so that it can neither support nor question the "
    "claim",
    "not measured at this scale": "this study has nothing that measures it, or lacks what the claim needs; a number "
    "that is shown is an observation",
}
assert tuple(VERDICTS) == get_args(Verdict)


def verdict(estimate: Estimate, claim: Claim, p: float | None = None, *, sized: bool = True) -> Verdict:
    """The verdict on an effect that a claim puts on one side of its null value; see VERDICTS.

    ``p``: of no effect, adjusted for all claims that are judged together (None: the interval alone decides);
    ``sized``: whether this study can say anything about the reported size.
    """
    if estimate.low is None or estimate.high is None or estimate.n < MIN_SEEDS:
        return "inconclusive"
    sign = 1 if claim.direction == "higher" else -1
    value, null = sign * estimate.value, sign * claim.null_value
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    if low <= null <= high or (p is not None and p > ERROR_RATE):
        return "inconclusive"
    if high < null:
        return "contradicted"
    if claim.reported_interval is None or claim.reported is None:
        return "reproduced"
    if not sized:
        return "same direction"
    least, most = sorted(sign * limit for limit in claim.reported_interval)
    if low > most:
        return "exceeded"
    effect = abs(claim.reported - claim.null_value)
    close = least - CLOSE * effect <= value <= most + CLOSE * effect
    return "reproduced" if close and (high - low) / 2 <= NARROW * effect else "same direction"
