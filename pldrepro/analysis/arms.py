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
