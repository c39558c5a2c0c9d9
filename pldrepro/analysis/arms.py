"""What one arm costs, keeps and reaches: estimates over its pre-training seeds; and what it is compared with."""

from __future__ import annotations

from pldrepro import stats
from pldrepro.analysis.results import Evidence
from pldrepro.stats import Estimate


def cost_estimate(evidence: Evidence, arm: str, axis: str, checkpoint: str) -> Estimate | None:
    """Cost of an arm up to a checkpoint on an axis: geometric mean over its seeds."""
    costs = [evidence.cost(run, axis, checkpoint) for run in evidence.runs(arm)]
    known = [cost for cost in costs if cost is not None]
    return stats.geometric_interval(known) if known else None


def validation_loss(evidence: Evidence, arm: str, checkpoint: str | None = None) -> Estimate:
    """Validation loss of an arm at a checkpoint (none: at its end) [nats]: mean over its seeds."""
    return stats.mean_interval(validation_losses(evidence, arm, checkpoint))


def validation_losses(evidence: Evidence, arm: str, checkpoint: str | None = None) -> list[float]:
    """Validation loss of each run of an arm at a checkpoint (none: at its end) [nats]."""
    ends = [run.summary for run in evidence.runs(arm)]
    return [(end if checkpoint is None else end.checkpoints[checkpoint]).validation_loss for end in ends]


SAME_PRICE = 1.01  # a larger factor between two prices of one run is another calibration's
# Runs of one arm do the same work: of two whose measured time per step differs by more, other work slowed one down.
DISTURBED = 1.5


def disturbed(evidence: Evidence) -> dict[str, float]:
    """Arm -> measured time per step of its slowest run over that of its quickest, of arms with more than DISTURBED."""
    seconds = {
        arm: [run.summary.train_seconds / run.summary.steps for run in evidence.runs(arm)] for arm in evidence.arms
    }
    factors = {arm: max(own) / min(own) for arm, own in seconds.items() if min(own) > 0}
    return {arm: factor for arm, factor in factors.items() if factor > DISTURBED}


def repriced(evidence: Evidence) -> tuple[int, float]:
    """How many runs' summaries hold a price of another calibration than the set's, and by what factor at most.

    A run notes the reference time that it was planned with; every exhibit prices it again with the set's calibration.
    """
    if evidence.calibration is None:
        return 0, 1.0
    notes = {run.folder: run.summary.reference_seconds for run in evidence.pretrain}
    prices = [(notes[run.folder], evidence.cost(run, "reference_time")) for run in evidence.pretrain]
    factors = [max(note / price, price / note) for note, price in prices if note and price]
    others = [factor for factor in factors if factor > SAME_PRICE]
    return len(others), max(others, default=1.0)


def kept_layers(evidence: Evidence, arm: str) -> Estimate:
    """Layers that an arm keeps in a forward pass, mean over its whole run: mean over its seeds."""
    return stats.mean_interval([run.summary.mean_kept_layers for run in evidence.runs(arm)])


def compared_arms(evidence: Evidence, arm: str) -> list[str]:
    """What an arm is compared with: the baseline, and the same model without dropping."""
    candidates = (evidence.baseline, evidence.undropped_twin(arm))
    return list(dict.fromkeys(other for other in candidates if other is not None and other != arm))


def finetuned_methods(evidence: Evidence) -> list[str]:
    """Methods whose final checkpoint was fine-tuned."""
    return [arm for arm in evidence.methods if (arm, evidence.final_checkpoint(arm)) in evidence.finetuned]
