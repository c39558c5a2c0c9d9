"""What was run, for the report: models, data and machines, what a scale can support, settings and environment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import IMAGES
from pldrepro.analysis.text import DASH, FAMILIES
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.model import VisionSettings
from pldrepro.exhibits.text import device_text


def paper_on(study: Evidence, papers: Mapping[str, Paper]) -> Paper:
    """The paper whose own settings a study is compared with: PLD's is on BERT, SBLD's on GPT and SwinV2."""
    return papers["pld" if study.family == "bert" else "sbld"]


def overview(study: Evidence, paper: Paper) -> list[tuple[str, str]]:
    """What was run, as (name, text), with the paper's own numbers where they say how far apart the two are."""
    run = study.runs(study.baseline)[0]
    seeds = sorted({one.seed for one in study.pretrain})
    tasks = list(dict.fromkeys(task for one in study.finetune for task in one.summary.tasks))
    evaluated = [("Fine-tuning", ", ".join(tasks) if tasks else "none")] if study.family == "bert" else []
    if study.family == "gpt":
        evaluated = [("Downstream task", "LAMBADA, without fine-tuning" if study.lambada else "none")]
    return [
        ("Arms", " · ".join(study.label(arm) for arm in study.arms)),
        ("Pre-training seeds", f"{len(seeds)} ({', '.join(map(str, seeds))}), paired over arms"),
        ("Model", f"{_shape(study)}, {run.summary.parameters:,} parameters ({_reported_shape(study, paper)})"),
        ("Pre-training", f"{_samples(study)} ({_reported_samples(study, paper)})"),
        *evaluated,
        ("Machine", f"{run.provenance.processor}; {device_text(run.provenance.device)}"),
    ]


def _shape(study: Evidence) -> str:
    model = study.runs(study.baseline)[0].settings.model
    if isinstance(model, VisionSettings):
        layers = " + ".join(map(str, model.stages))
        return f"{FAMILIES[study.family]} of {layers} layers, {model.hidden_size} wide at first"
    return f"{FAMILIES[study.family]} of {model.num_layers} layers × {model.hidden_size}"


def _samples(study: Evidence) -> str:
    run = study.runs(study.baseline)[0]
    samples, data, model = f"{run.summary.samples:,}", run.settings.data, run.settings.model
    if isinstance(model, VisionSettings):
        size, classes = model.image_size, model.num_classes
        return f"{samples} images of {size} × {size} pixels in {classes} classes from {_source(data)}"
    assert isinstance(data, DataSettings)
    return f"{samples} sequences of {data.sequence_length} tokens from {_source(data)}"


def _reported_shape(study: Evidence, paper: Paper) -> str:
    if study.family in IMAGES:
        return "paper: SwinV2-L"
    reported = {name: f"{value.value:,.0f}{value.mark}" for name, value in paper.settings.items()}
    return f"paper: {reported['num_layers']} × {reported['hidden_size']}"


def _reported_samples(study: Evidence, paper: Paper) -> str:
    total = paper_samples(study, paper)
    if total is None:
        return "paper: not known to us"
    length = paper.settings["sequence_length"]
    return f"paper: {total:,.0f}{paper.settings['num_steps'].mark} of {length.value:,.0f}{length.mark}"


def paper_samples(study: Evidence, paper: Paper) -> float | None:
    """Training samples of the paper's own runs on this family of models; None where they are not known."""
    known = {"num_steps", "batch_size"} <= set(paper.settings) and study.family not in IMAGES
    return paper.settings["num_steps"].value * paper.settings["batch_size"].value if known else None


def _source(data: DataSettings | ImageDataSettings) -> str:
    names = {
        "miniature": "the generated miniature language", "shapes": "generated shapes", "files": "local files",
        "hub": "the hub",
    }  # fmt: skip
    return names[data.source]


def support(studies: Sequence[Evidence], papers: Mapping[str, Paper]) -> list[str]:
    """What this scale can and cannot support, in plain sentences."""
    sentences = [_support(study, paper_on(study, papers), len(studies) > 1) for study in studies]
    if not all(_own_scale(study, paper_on(study, papers)) for study in studies):
        sentences.append(
            "Such a study can support or question the direction of a claim, not its size, and “contradicted” does not "
            "refute a paper at its own scale. Savings per step depend on the model's shape and on this machine."
        )
    if any(study.sbld in study.arms for study in studies):
        sentences.append(
            f"{papers['sbld'].label}: the full text of that paper is not public; what is measured is what its abstract "
            "and public accounts say, with every open part a setting."
        )
    return sentences


def _own_scale(study: Evidence, paper: Paper) -> bool:
    total = paper_samples(study, paper)
    run = study.runs(study.baseline)[0]
    return total is not None and _same_shape(study, paper) and run.summary.samples >= 0.99 * total


def _same_shape(study: Evidence, paper: Paper) -> bool:
    """Whether layers and width are the paper's; SwinV2-L's are not among its settings."""
    model = study.runs(study.baseline)[0].settings.model
    names = ("num_layers", "hidden_size")
    return study.family not in IMAGES and all(getattr(model, name) == paper.settings[name].value for name in names)


def _support(study: Evidence, paper: Paper, named: bool) -> str:
    """How far a study is from its paper's scale."""
    who = f"The study of {FAMILIES[study.family]}" if named else "This study"
    if _own_scale(study, paper):
        return f"{who} has the paper's model size and number of samples: it can support or question a claim's size."
    run, total = study.runs(study.baseline)[0], paper_samples(study, paper)
    generated = {"miniature": " and a generated language", "shapes": " and generated images"}
    data = generated.get(run.settings.data.source, "")
    other = "another model than the paper’s" if study.family in IMAGES else "a much smaller model"
    model = "the paper’s model" if _same_shape(study, paper) else other
    size = "" if total is None else f", and 1/{total / run.summary.samples:,.0f} of the paper's training samples"
    return f"{who} uses {model}{data}{size}."


def settings(study: Evidence) -> dict[str, Any]:
    """The settings of a study: what differs between its arms, and all of each arm."""
    return {
        "name": FAMILIES[study.family],
        "arms": [study.label(arm) for arm in study.arms],
        "differences": differences(study),
        "all": [(study.label(arm), _full_settings(study, arm)) for arm in study.arms],
    }


# Of an arm that is cut to a budget: its own model again, in full.
DERIVED = "budget.model."


def differences(evidence: Evidence) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all arms: (key, one text per arm)."""
    flat = []
    for arm in evidence.arms:
        settings = evidence.runs(arm)[0].settings
        rate = {"training.learning_rate": f"{settings.training.peak_learning_rate:g}"}
        flat.append({**dict(_flatten(settings.model_dump(mode="json"))), **rate})
    keys = dict.fromkeys(key for settings in flat for key in settings)
    ignored = {"arm", "label", "seed", "schema_version"}
    return [
        (key, [_text(settings.get(key)) for settings in flat])
        for key in keys
        if key not in ignored
        and not key.startswith(DERIVED)
        and len({_text(settings.get(key)) for settings in flat}) > 1
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else DASH if value is None else json.dumps(value)


def _full_settings(evidence: Evidence, arm: str) -> str:
    return evidence.runs(arm)[0].settings.model_dump_json(indent=1)


def environment(evidence: Evidence) -> list[tuple[str, str]]:
    """Where the runs come from: every distinct commit, version and machine among them."""
    found: dict[str, list[str]] = {}
    for run in (run for study in (evidence, *evidence.others) for run in study.pretrain):
        entry = run.provenance
        values = {
            "commit": entry.commit,
            "platform": entry.platform,
            "processor": f"{entry.processor}, {entry.cpu_count} CPUs",
            "device": device_text(entry.device),
            "versions": ", ".join(f"{name} {version}" for name, version in entry.versions.items()),
            "corpus": entry.corpus.hash if entry.corpus else None,
        }
        for name, value in values.items():
            if value and str(value) not in found.setdefault(name, []):
                found[name].append(str(value))
    return [(name, "; ".join(values)) for name, values in found.items() if values]
