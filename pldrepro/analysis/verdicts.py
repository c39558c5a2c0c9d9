"""The rule that turns an estimate into a verdict, and the words that are printed for it.

The rule looks at where the interval stands, where the estimate stands and how wide the interval is. For one and the
same estimate a wider interval never gives a better verdict: closeness to the reported value is a fixed share of the
reported effect. Were it enough that the interval holds the reported value, noise could help to hold it. "Same
direction", "reproduced" and "exceeded" are one scale: the first says nothing of the size, the others ask for the same
precision, and for one estimate only one of the two is in reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
# How far from the reported value the estimate may be, of the reported effect |reported - no effect|; and how wide half
# the interval, of that or of the measured effect, whichever is larger.
CLOSE, NARROW = 1 / 6, 1 / 3
ERROR_RATE = 0.05

_DIRECTION = "the interval is on the claimed side of no effect, also after the adjustment for the set's tests"
VERDICTS: dict[Verdict, str] = {
    "reproduced": f"{_DIRECTION}; the estimate is within a sixth of the reported effect of the reported value, above "
    "or below it; and half the interval is at most a third of the effect. The interval need not hold the reported "
    "value: an estimate of 90 for a reported 100 is called reproduced however sure it is that it is less, and a note "
    "says so. Of a claim that reports no number, the first condition",
    "exceeded": f"{_DIRECTION}, and all of it is beyond the reported value; the estimate is beyond it by more than a "
    "sixth of the reported effect; and half the interval is at most a third of the effect",
    "same direction": f"{_DIRECTION}, but neither of the above: the estimate is too far from the reported value, or "
    "the interval too wide, or this study's scale says nothing of the size",
    "inconclusive": f"there are fewer than {MIN_SEEDS} seeds (processes, where steps were measured in turn), or the "
    "interval includes no effect (as it is, or after the adjustment), or it is open whether a condition of the claim "
    "is met",
    "contradicted": "the interval is on the other side of no effect, also after the adjustment for the set's "
    "tests; as every verdict it is about models of this study's scale",
    "premise fails": "a condition of the claim (that the score is similar, that the loss is reached) is shown not to "
    "be met here, also after the adjustment: the claim is not judged",
    "by construction": "the number follows from what the design sets, so that it can neither support nor question the "
    "claim",
    "not measured at this scale": "this study has nothing that measures it, or lacks what the claim needs; a number "
    "that is shown is an observation",
}
assert tuple(VERDICTS) == get_args(Verdict)


# What the definitions leave out for brevity.
DETAILS = (
    "The reported value stands for all values that round to it (1.2 for 1.15 to 1.25). The reported effect is its "
    "distance from no effect; “a third of the effect” is of the reported or of the measured one, whichever is larger. "
    "A sixth and a third are our choice; no rule of the field is known to us. The adjustment is Holm's. Claims and "
    "findings of a set have one family-wise error rate, of 5 %; “Other ways to save” and what else is compared for the "
    "reviewers is adjusted together with all of these, to 5 % again: the chance that any side of a set is wrong is at "
    "most 10 %. A size is judged only where the study has the depth that it needs, and for losses and scores the "
    "parameters and tokens; elsewhere “same direction” is the most that is said, and a note names what is missing. A "
    "test has one adjusted p on every page. One "
    "estimate against one value of no effect is one test, however often and in whatever form it is shown (a saving of "
    "time, and the speedup that it means); against two values (above the baseline, and not 1 point below it) it is two "
    "tests. A claim with a condition is one test of both (the larger p). What is only shown, with no word on its side, "
    "is no test."
)


@dataclass(frozen=True)
class NullTest:
    """A test of no effect: what it rests on (equal where two are one estimate and one null value), and two-sided p."""

    key: tuple[float, ...]
    p: float

    def both(self, other: NullTest) -> NullTest:
        """The test that this effect and another one are both there: the larger p (intersection-union)."""
        return NullTest((*self.key, *other.key), max(self.p, other.p))


def null_test(paired: Paired | None) -> NullTest | None:
    """The test that a comparison with MIN_SEEDS or more makes; None for others."""
    if paired is None or paired.estimate.n < MIN_SEEDS or paired.p is None:
        return None
    return NullTest(paired.test, paired.p)


@dataclass(frozen=True)
class Family:
    """The tests of a set: what each rests on -> its p, adjusted by Holm.

    Those of its claims and findings come first and share one family-wise error rate. Further tests are adjusted
    together with all of these, so that what else a set compares changes no claim. Tests of one estimate against one
    value of no effect are one hypothesis, and counted once.
    """

    adjusted: Mapping[tuple[float, ...], float]
    size: int
    """How many tests claims and findings make."""

    @classmethod
    def of(cls, tests: Iterable[NullTest | None], further: Iterable[NullTest | None] = ()) -> Family:
        """These tests, adjusted together; and further ones, adjusted for all."""
        first = _p_of(tests)
        return cls({**_adjusted({**_p_of(further), **first}), **_adjusted(first)}, len(first))

    @property
    def all(self) -> int:
        """How many tests the set makes."""
        return len(self.adjusted)

    def p(self, test: NullTest | None) -> float | None:
        """The adjusted p of a test of this family; None for none."""
        return None if test is None else self.adjusted[test.key]

    def decided(self, paired: Paired) -> bool:
        """Whether a comparison is shown to be on its side of no effect."""
        p = self.p(null_test(paired))
        return p is not None and p <= ERROR_RATE


def _p_of(tests: Iterable[NullTest | None]) -> dict[tuple[float, ...], float]:
    return {test.key: test.p for test in tests if test is not None}


def _adjusted(p: Mapping[tuple[float, ...], float]) -> dict[tuple[float, ...], float]:
    return dict(zip(p, stats.holm(list(p.values())), strict=True))


def verdict(estimate: Estimate, claim: Claim, p: float | None = None, *, sized: bool = True) -> Verdict:
    """The verdict on an effect that a claim puts on one side of its null value; see VERDICTS.

    ``p``: of no effect, adjusted for the set's tests (None: the interval decides);
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
    effect = abs(claim.reported - claim.null_value)
    if (high - low) / 2 > NARROW * max(effect, value - null):
        return "same direction"
    if value > most + CLOSE * effect:
        return "exceeded" if low > most else "same direction"
    return "reproduced" if value >= least - CLOSE * effect else "same direction"
