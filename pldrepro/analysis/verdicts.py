"""The rule that turns an estimate into a verdict, and the words that are printed for it.

The rule looks at where the interval stands, where the estimate stands and how wide the interval is. For one and the
same estimate a wider interval never gives a better verdict: closeness to the reported value is a fixed share of the
reported effect. Were it enough that the interval holds the reported value, noise could help to hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from pldrepro import stats
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reported import Claim
from pldrepro.stats import Estimate

Verdict = Literal[
    "reproduced", "exceeded", "same direction", "inconclusive", "contradicted", "premise fails", "by construction",
    "not measured at this scale",
]  # fmt: skip
MIN_SEEDS = stats.FEWEST
# Of the reported effect, |reported - no effect|: how far from it the estimate may be, and how wide half the interval.
CLOSE, NARROW = 1 / 6, 1 / 3
ERROR_RATE = 0.05

_DIRECTION = "the interval is on the claimed side of no effect, also after the adjustment for all claims"
VERDICTS: dict[Verdict, str] = {
    "reproduced": f"{_DIRECTION}, and not all of it is beyond the reported value; the estimate differs from that value "
    "by at most a sixth of the reported effect, and half the interval is at most a third of it; of a claim that "
    "reports no number, the first condition",
    "exceeded": f"{_DIRECTION}, and all of it is beyond the reported value",
    "same direction": f"{_DIRECTION}, but neither of the above: the estimate is too far from the reported value, or "
    "the interval too wide, or this study's scale says nothing of the size",
    "inconclusive": f"there are fewer than {MIN_SEEDS} seeds (processes, where steps were measured in turn), or the "
    "interval includes no effect (as it is, or after the adjustment), or it is open whether what the claim takes for "
    "granted holds",
    "contradicted": "the interval is on the other side of no effect, also after the adjustment for all claims",
    "premise fails": f"what the claim takes for granted is not so here, by its own interval over {MIN_SEEDS} seeds or "
    "more: the claim is not judged",
    "by construction": "the number follows from what the design sets, so that it can neither support nor question the "
    "claim",
    "not measured at this scale": "this study has nothing that measures it, or lacks what the claim needs; a number "
    "that is shown is an observation",
}
assert tuple(VERDICTS) == get_args(Verdict)


# What the definitions leave out for brevity.
DETAILS = (
    "The reported value stands for all values that round to it (1.2 for 1.15 to 1.25); the reported effect is its "
    "distance from no effect."
)


def adjusted_p(paired: Sequence[Paired | None]) -> list[float | None]:
    """p of no effect of each comparison with MIN_SEEDS or more, adjusted by Holm for all of these; None for others.

    Comparisons that rest on one estimate (``Paired.test``) are one hypothesis, and counted once.
    """
    tests = tests_of(paired)
    single = {test: one.p for test, one in zip(tests, paired, strict=True) if test is not None and one is not None}
    several = dict(zip(single, stats.holm([p for p in single.values() if p is not None]), strict=True))
    return [None if test is None else several[test] for test in tests]


def tests_of(paired: Sequence[Paired | None]) -> list[tuple[float, ...] | None]:
    """The test that each comparison with MIN_SEEDS or more makes; None for others."""
    return [one.test if one is not None and one.estimate.n >= MIN_SEEDS else None for one in paired]


def sides(paired: Sequence[Paired]) -> list[Literal[-1, 0, 1]]:
    """Of differences that are judged together: -1 and 1 for those shown to be below and above 0, 0 for the others."""
    return [
        0 if p is None or p > ERROR_RATE else -1 if one.estimate.value < 0 else 1
        for one, p in zip(paired, adjusted_p(paired), strict=True)
    ]


def verdict(estimate: Estimate, claim: Claim, p: float | None = None, *, sized: bool = True) -> Verdict:
    """The verdict on an effect that a claim puts on one side of its null value; see VERDICTS.

    ``p``: of no effect, adjusted for all claims that are judged together (None: the interval decides);
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
