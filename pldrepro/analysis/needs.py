"""What a study lacks for a verdict on a claim: the needs that ``config/papers`` names, against its baseline's runs."""

from __future__ import annotations

from pldrepro.analysis.floors import FLOORS
from pldrepro.analysis.reported import Needs
from pldrepro.analysis.results import Evidence
from pldrepro.config.data import DataSettings
from pldrepro.runs.schema import PretrainSummary


def lacking(needs: Needs, study: Evidence) -> list[str]:
    """What a study lacks, in words; empty where it has all of it."""
    found = [
        f"{_text(wanted)} {what} (here {_text(have)})"
        for what, wanted, have in (
            ("layers", needs.layers, float(_baseline(study).num_layers)),
            ("layers probed early on", needs.probed_layers, _probed_layers(study)),
            ("parameters", needs.parameters, float(_baseline(study).parameters)),
            ("tokens of training", needs.tokens, _tokens(study)),
            ("epochs", needs.epochs, _epochs(study)),
            ("times the baseline's learning rate", needs.learning_rate_ratio, _rate_ratio(study)),
        )
        if wanted is not None and (have is None or have < wanted)
    ]
    if needs.floor is not None and (reason := FLOORS[needs.floor](study)):
        found.append(f"a score above the floor ({reason})")
    return found


def _text(value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _baseline(study: Evidence) -> PretrainSummary:
    return study.runs(study.baseline)[0].summary


def _probed_layers(study: Evidence) -> float | None:
    return float(min(run.summary.num_layers for run in study.early)) if study.early else None


def _tokens(study: Evidence) -> float | None:
    run = study.runs(study.baseline)[0]
    if isinstance(run.settings.data, DataSettings):
        return float(run.summary.samples * run.settings.data.sequence_length)
    return None


def _epochs(study: Evidence) -> float | None:
    """Passes over the training images, as the run's own copy of their manifest counts them."""
    run = study.runs(study.baseline)[0]
    images = run.provenance.images("train")
    return None if images is None else run.summary.samples / images


def _rate_ratio(study: Evidence) -> float | None:
    higher = study.arm_with_role("baseline_higher_lr")
    if higher not in study.arms:
        return None
    own, raised = (study.runs(arm)[0].settings.training.peak_learning_rate for arm in (study.baseline, higher))
    return raised / own
