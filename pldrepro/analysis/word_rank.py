"""LAMBADA's rank: the share of a passage's other words that a model finds less probable than the right last one.

It tells models apart whose accuracy is 0. All values are percent; chance is 50 where no word is more frequent than
another, and lower where the others are frequent ones: the model without training shows how much.
"""

from __future__ import annotations

import math

import numpy as np

from pldrepro.analysis import comparisons
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reach import Reach, reach_score
from pldrepro.analysis.results import Evidence

RANK = "lambada_rank"
TITLE = "LAMBADA rank"
CHANCE = 50.0


def values(evidence: Evidence) -> dict[tuple[str, int, str], float]:
    """(arm, seed, checkpoint) -> rank [%] of every checkpoint that has one."""
    return {
        (run.summary.arm, run.summary.seed, checkpoint): 100 * scored.lambada_rank
        for run in evidence.lambada
        for checkpoint, scored in run.summary.checkpoints.items()
        if scored.lambada_rank is not None
    }


def finals(evidence: Evidence, arm: str) -> dict[int, float]:
    """Seed -> rank of an arm at its end [%], of an arm without training, too."""
    found = values(evidence)
    keys = [(arm, run.seed, evidence.final_checkpoint(arm)) for run in evidence.runs(arm)]
    return {seed: found[name, seed, checkpoint] for name, seed, checkpoint in keys if (name, seed, checkpoint) in found}


def gain(evidence: Evidence, arm: str, other: str) -> Paired | None:
    """Points by which an arm ranks above another at their ends, paired by seed.

    The passages are the same for all seeds: what their choice adds is an error that the seeds share, of the ranks
    paired passage by passage and averaged over the seeds.
    """
    first, second = finals(evidence, arm), finals(evidence, other)
    seeds = [seed for seed in first if seed in second]
    return comparisons.difference([(first[seed], second[seed]) for seed in seeds], _error(evidence, arm, other, seeds))


def _error(evidence: Evidence, arm: str, other: str, seeds: list[int]) -> float:
    """Standard error [points] of a gain from the choice of passages."""
    if not seeds:
        return 0.0
    runs = {(run.summary.arm, run.summary.seed): run for run in evidence.lambada}
    names = {one: evidence.final_checkpoint(one) for one in (arm, other)}
    differences = [
        runs[arm, seed].ranks(names[arm]).astype(np.float64) - runs[other, seed].ranks(names[other]) for seed in seeds
    ]
    mean = np.mean(differences, axis=0)
    return 100 * float(mean.std(ddof=1)) / math.sqrt(len(mean)) if len(mean) > 1 else 0.0


def reach(evidence: Evidence, arm: str, axis: str) -> Reach:
    """How soon an arm reaches the baseline's final rank of the same seed, linear between scored checkpoints."""
    return reach_score(evidence, values(evidence), arm, axis)
