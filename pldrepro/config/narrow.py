"""A study of fewer arms than its file has: what the file says of the others is left out, and said."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pldrepro.config.experiment import EXPERIMENTS_FOLDER, read_experiments
from pldrepro.config.scale import StudySettings
from pldrepro.errors import SettingsError, did_you_mean
from pldrepro.files import shipped


def narrowed(settings: StudySettings, experiments: Path) -> tuple[StudySettings, tuple[str, ...]]:
    """The settings for the study's own arms, and a line for each key that names an arm of the experiments more.

    So `--config arms=[baseline,pld]` is enough. A name that is no experiment is a SettingsError.
    """
    if not read_experiments(experiments):
        allowed = ", ".join(sorted(path.name for path in shipped(EXPERIMENTS_FOLDER).glob("*/")))
        raise SettingsError(
            f"experiments: {experiments}: no file of an arm there; allowed: {allowed}, or another folder"
        )
    for key, arms in named_arms(settings).items():
        if unknown := sorted(set(arms) - set(read_experiments(experiments))):
            near = did_you_mean(unknown[0], read_experiments(experiments)) or f"allowed: {', '.join(settings.arms)}"
            raise SettingsError(f"{key}: {', '.join(unknown)}: no such experiment; {near}")
    own = set(settings.arms)
    left_out = {key: sorted(set(arms) - own) for key, arms in named_arms(settings).items() if set(arms) - own}
    notes = tuple(f"{key}: {', '.join(arms)} left out, not among the arms" for key, arms in left_out.items())
    changes: dict[str, object] = {}
    for key in {"probe_arms", "contrast_arms"} & set(left_out):
        changes[key] = tuple(arm for arm in getattr(settings, key) if arm in own)
    if "finetune_checkpoints" in left_out and isinstance(settings.finetune_checkpoints, dict):
        kept = {arm: names for arm, names in settings.finetune_checkpoints.items() if arm in own}
        changes["finetune_checkpoints"] = kept
    if "interleave.arms" in left_out and settings.interleave is not None:
        arms = tuple(arm for arm in settings.interleave.arms if arm in own)
        enough = len(arms) > 1
        changes["interleave"] = settings.interleave.model_copy(update={"arms": arms}) if enough else None
    return settings.model_copy(update=changes), notes


def named_arms(settings: StudySettings) -> dict[str, Iterable[str]]:
    """Key -> the arms that it names, of the keys whose arms are the study's own."""
    checkpoints = settings.finetune_checkpoints
    return {
        "probe_arms": settings.probe_arms or (),
        "contrast_arms": settings.contrast_arms or (),
        "finetune_checkpoints": checkpoints if isinstance(checkpoints, dict) else (),
        "interleave.arms": () if settings.interleave is None else settings.interleave.arms,
    }
