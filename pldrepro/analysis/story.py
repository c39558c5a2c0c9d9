"""What a reader should take away of a set: findings, each a number with its outcome, chosen by rules, never typed.

A finding rests on a claim and shares its verdict, or on a comparison of two arms, whose side is judged with all other
comparisons of the story (Holm). The words are in ``pldrepro.exhibits.story_text``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from pldrepro.analysis import arithmetic, comparisons, contrasts, floors, in_turn
from pldrepro.analysis.budgets import original
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reported import MARKS, Paper, Provenance
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import IMAGES, accuracy_gain, loss_over_random
from pldrepro.analysis.sbld_claims import prior_dropping
from pldrepro.analysis.table_files import read_table
from pldrepro.analysis.text import FAMILIES
from pldrepro.analysis.tidy import joined, split
from pldrepro.analysis.time_to_target import CHANGES, decompose
from pldrepro.analysis.verdicts import MIN_SEEDS, VERDICTS, sides
from pldrepro.errors import RecordError
from pldrepro.files import atomic_path
from pldrepro.stats import Estimate

STORY = "story.csv"  # beside claims.csv
# Outcomes: a claim's verdict; the side of a comparison; or a number that is only shown.
SIDES = BELOW, UNDECIDED, ABOVE = "below", "undecided", "above"
SHOWN, NOTHING = "shown", "no measurement"
COLUMNS: dict[str, type] = {
    "topic": str, "part": str, "outcome": str, "arm": str, "against": str, "measured": float, "low": float,
    "high": float, "n": int, "values": str, "counts": str, "unit": str, "null": float, "bound": str, "reported": float,
    "provenance": str, "exhibit": str, "note": str,
}  # fmt: skip
OPTIONAL = (
    "arm", "against", "measured", "low", "high", "values", "counts", "unit", "bound", "reported", "provenance",
    "exhibit", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One number of the story and its outcome; ``topic`` is its sentence's, ``part`` its place in it.

    ``arm``, ``against``: labels; ``counts``: what n counts; ``null``: the value of no effect; ``paired``: of a
    comparison whose side is still to be judged.
    """

    topic: str
    part: str
    outcome: str
    estimate: Estimate | None = None
    unit: str = ""
    exhibit: str = ""
    arm: str = ""
    against: str = ""
    counts: str = "seeds"
    null: float = 0.0
    bound: str = ""
    reported: float | None = None
    provenance: str = "verified"
    note: str = ""
    paired: Paired | None = None


@dataclass(frozen=True)
class Told:
    """What a story is told of: the runs, the papers, and the rows of claims.csv by the claim's name."""

    evidence: Evidence
    papers: Mapping[str, Paper]
    claims: Mapping[str, Mapping[Any, Any]]

    @property
    def bert(self) -> Evidence | None:
        """The study that PLD's claims are about; None where PLD was not trained."""
        study = self.evidence.of("bert")
        return study if study is not None and study.pld in study.arms else None


Rule = Callable[[Told], Iterable[Finding]]


def story(evidence: Evidence, papers: Mapping[str, Paper], claims: pd.DataFrame) -> list[Finding]:
    """All findings of a set, topic by topic; ``claims``: its rows of claims.csv."""
    told = Told(evidence, papers, {row["claim"]: row for row in claims.to_dict("records")})
    found = [finding for rule in RULES for finding in rule(told)]
    decided = iter(sides([one.paired for one in found if one.paired is not None]))
    return [one if one.paired is None else replace(one, outcome=_side(one, next(decided) != 0)) for one in found]


def _side(finding: Finding, decided: bool) -> str:
    """On which side of no effect a comparison is, of which it is known whether it is on one at all."""
    if not decided or finding.estimate is None:
        return UNDECIDED
    return ABOVE if finding.estimate.value > finding.null else BELOW


# ---- the two kinds of findings ----


def of_claim(told: Told, topic: str, part: str, claim: str) -> Finding:
    """What claims.csv says of a claim: its verdict, its number, and what the study lacks."""
    row = told.claims.get(claim)
    if row is None or pd.isna(row["measured"]):
        return Finding(topic, part, NOTHING, note="" if row is None else str(row["note"]))
    low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high"))
    estimate = Estimate(float(row["measured"]), low, high, int(row["n"]), "", split(row["values"]))
    return Finding(
        topic, part, str(row["verdict"]), estimate, str(row["unit"]), str(row["exhibit"]),
        counts=str(row["counts"]), null=_null(told, claim), bound=str(row["bound"]),
        reported=None if pd.isna(row["reported"]) else float(row["reported"]), provenance=str(row["provenance"]),
        note=str(row["lacks"]),
    )  # fmt: skip


def _null(told: Told, name: str) -> float:
    """The value of a claim that means no effect."""
    key, _, claim_id = name.partition(".")
    return next(claim.null_value for claim in told.papers[key].claims if claim.id == claim_id)


def of_pair(
    study: Evidence, topic: str, part: str, paired: Paired | None, unit: str, exhibit: str, arm: str = "",
    against: str = "",
) -> list[Finding]:  # fmt: skip
    """A comparison of two arms, by their names; none where nothing was measured."""
    if paired is None:
        return []
    first, second = (study.label(name) if name else "" for name in (arm, against))
    null = 1.0 if unit == "x" else 0.0
    return [Finding(topic, part, "", paired.estimate, unit, exhibit, first, second, paired.unit, null, paired=paired)]


def shown(topic: str, part: str, estimate: Estimate | None, unit: str, exhibit: str, **more: Any) -> list[Finding]:
    """A number that needs no side."""
    return [] if estimate is None else [Finding(topic, part, SHOWN, estimate, unit, exhibit, **more)]


def _loss(study: Evidence, topic: str, part: str, arm: str, other: str, exhibit: str) -> list[Finding]:
    """Final validation loss of an arm minus another's [nats]; none where one of them was not trained."""
    if not {arm, other} <= set(study.arms) or arm == other:
        return []
    gap = comparisons.loss_difference(study, arm, other)
    return of_pair(study, topic, part, gap, "nats", exhibit, arm, other)


# ---- PLD: what it saves ----


def time(told: Told) -> Iterator[Finding]:
    """Time of a sample: against the baseline, as the paper has it, and against the same model without dropping."""
    yield of_claim(told, "time", "saving", "pld.time_per_sample")
    study = told.bert
    twin = study.undropped_twin(study.pld) if study else None
    if study is None or twin is None or twin == study.baseline:
        return
    in_rounds = in_turn.saving(study, study.pld, twin)
    saving = in_rounds or comparisons.saving_per_sample(study, study.pld, "reference_time", against=twin)
    yield from of_pair(study, "time", "twin", saving, "%", "table1", study.pld, twin)


def flops(told: Told) -> Iterator[Finding]:
    """FLOPs of a sample: set by the policy; what each of the paper's two policies saves at its own shape."""
    yield of_claim(told, "flops", "saving", "pld.flops")
    for name in ("paper_eq", "paper_alg1"):
        saved = Estimate(arithmetic.flops_saved(told.papers["pld"], name), None, None, 0, "arithmetic")
        yield from shown("flops", name, saved, "%", "figure6")


def to_loss(told: Told) -> Iterator[Finding]:
    """The speedup to the baseline's final loss, and where some runs never get there, how far they stay from it."""
    yield of_claim(told, "to_loss", "speedup", "pld.speedup_same_loss")
    study = told.bert
    if study is None:
        return
    reach = comparisons.reach_loss(study, study.pld, "samples")
    count = Estimate(reach.reached, None, None, len(reach.costs), "count")
    yield from shown("to_loss", "reached", count, "runs", "time_to_target", arm=study.label(study.pld))
    yield from _loss(study, "to_loss", "gap", study.pld, study.baseline, "table1")


def parts(told: Told) -> Iterator[Finding]:
    """What of the speedup is PreLN's, the learning rate's and dropping's own; without a speedup, of the loss."""
    if told.bert is not None:
        yield from contributions(told.bert)[:-1]


ALL = "all of it"


def contributions(study: Evidence) -> list[Finding]:
    """What each change from the baseline to PLD contributes, and all of them; ``note``: the change.

    Factors of the speedup to the baseline's final loss, where all runs of the chain reach it; else differences in final
    loss. Empty without PLD.
    """
    if study.pld not in study.arms:
        return []
    steps = decompose(study, "loss")
    roles = {study.arm_with_role(role): role for role in CHANGES}
    found: list[Finding] = []
    if steps and not any(step.bound for step in steps):
        for step in steps:
            part = "all_time" if step is steps[-1] else f"{roles[step.arm]}_time"
            made = of_pair(study, "parts", part, step.factors["reference_time"], "x", "time_to_target", step.arm)
            found += [replace(one, note=step.change) for one in made]
        return found
    before = study.baseline
    for role, change in CHANGES.items():
        arm = study.arm_with_role(role)
        made = _loss(study, "parts", f"{role}_loss", arm, before, "table3")
        found += [replace(one, note=change) for one in made]
        before = arm if made else before
    whole = _loss(study, "parts", "all_loss", study.pld, study.baseline, "table3")
    return [*found, *(replace(one, note=ALL) for one in whole)]


SPEEDUPS = ("minimal_pairs", "pld.speedup_similar_minimal_pairs"), ("cloze", "pld.speedup_similar_cloze")


def early(told: Told) -> Iterator[Finding]:
    """The speedup at checkpoint 100 of 186, on GLUE and on scores without fine-tuning, with the scores' differences."""
    for score, speedup in (("glue", "pld.speedup_similar_accuracy"), *SPEEDUPS):
        yield of_claim(told, "early", f"{score}_speedup", speedup)
    study = told.bert
    if study is None or "ckp100" not in study.checkpoints(study.pld):
        return
    yield of_claim(told, "early", "glue_gain", "pld.glue_ckp100")
    for score, name in _scores(study):
        gain = contrasts.gain(study, name, study.pld, study.baseline, "ckp100")
        yield from of_pair(study, "early", f"{score}_gain", gain, "points", "contrasts", study.pld, study.baseline)


def _scores(study: Evidence) -> list[tuple[str, str]]:
    """The scores without fine-tuning that judge here, with their names in the records."""
    names = {"minimal_pairs": contrasts.minimal_pairs(study), "cloze": contrasts.CLOZE}
    there = contrasts.scores(study)
    return [(key, name) for key, name in names.items() if name in there and not floors.FLOORS[key](study)]


# ---- PLD: what it costs ----


def equal_samples(told: Told) -> Iterator[Finding]:
    """What dropping costs in loss at equal samples, against the same model without dropping."""
    study = told.bert
    twin = study.undropped_twin(study.pld) if study else None
    if study is not None and twin is not None:
        yield from _loss(study, "equal_samples", "loss", study.pld, twin, "table3")


def equal_cost(told: Told) -> Iterator[Finding]:
    """What dropping costs in loss at equal cost: against runs decayed there, and a model of fewer layers."""
    study = told.bert
    if study is None:
        return
    end = (study.pld, study.final_checkpoint(study.pld))
    for arm in (arm for arm in study.arms if study.budget(arm) == end):
        part = "baseline" if original(study, arm) == study.baseline else "twin"
        yield from _loss(study, "equal_cost", part, study.pld, arm, "fair_budgets")
    for arm in fewer_layers(study):
        yield from _loss(study, "equal_cost", "fewer_layers", study.pld, arm, "table3")
        cost = comparisons.relative_cost(study, arm, study.pld, "reference_time")
        saved = None if cost is None else cost.estimate.map(comparisons.percent_less)
        yield from shown("equal_cost", "fewer_layers_time", saved, "%", "table1", arm=study.label(arm))


def fewer_layers(study: Evidence) -> list[str]:
    """Arms without dropping that have about as many layers as PLD keeps on average."""
    layers = study.runs(study.pld)[0].summary.num_layers
    return [
        arm
        for arm in study.methods
        if study.matched_depth(arm) == study.pld and study.runs(arm)[0].summary.num_layers < layers
    ]


def glue(told: Told) -> Iterator[Finding]:
    """Final GLUE against the baseline and against the same model without dropping."""
    yield of_claim(told, "glue", "baseline", "pld.glue_final")
    yield of_claim(told, "glue", "twin", "pld.pld_over_preln")


def unfinetuned(told: Told) -> Iterator[Finding]:
    """Final scores without fine-tuning, against the baseline and against the same model without dropping."""
    for score, claim in (("minimal_pairs", "pld.minimal_pairs_comparable"), ("cloze", "pld.cloze_comparable")):
        yield of_claim(told, "unfinetuned", score, claim)
    study = told.bert
    twin = study.undropped_twin(study.pld) if study else None
    if study is None or twin is None:
        return
    for score, name in _scores(study):
        gain = contrasts.gain(study, name, study.pld, twin)
        yield from of_pair(study, "unfinetuned", f"{score}_twin", gain, "points", "contrasts", study.pld, twin)


# ---- SBLD ----


def sbld(told: Told) -> Iterator[Finding]:
    """SBLD on GPT: its time, its loss against no dropping, and against controls that know nothing of sensitivity."""
    yield of_claim(told, "sbld", "time", "sbld.time")
    study = told.evidence.of("gpt")
    if study is None or study.sbld not in study.arms:
        return
    arm = study.sbld
    yield from _loss(study, "sbld", "loss", arm, study.baseline, "sbld_table1")
    yield from of_pair(study, "sbld", "random", loss_over_random(study, arm), "nats", "sbld_table1", arm)
    for control in study.arms_with_role("control"):
        drop = study.runs(control)[0].settings.drop if control in study.arms else None
        if drop is not None and drop.ranking == "depth" and drop.allocation == "by_rank":
            yield from _loss(study, "sbld", "order", arm, control, "sbld_table1")
    yield from _loss(study, "sbld", "prior", arm, prior_dropping(study) or "", "sbld_table1")


def images(told: Told) -> Iterator[Finding]:
    """SBLD on images: top-1 accuracy against no dropping."""
    for study in told.evidence.all_of(*IMAGES):
        if study.sbld in study.arms:
            gain = accuracy_gain(study, study.sbld, study.baseline, "accuracy")
            found = of_pair(study, "images", study.family, gain, "points", "sbld_table2", study.sbld, study.baseline)
            yield from (replace(one, note=FAMILIES[study.family]) for one in found)


# ---- why, and what is open ----


def why(told: Told) -> Iterator[Finding]:
    """Figures 1 and 2: gradients of PostLN and PreLN early in training."""
    yield of_claim(told, "why", "vanishing", "pld.balanced_gradients")
    yield of_claim(told, "why", "preserving", "pld.gradient_preserving")


def still_open(told: Told) -> Iterator[Finding]:
    """How many claims have which verdict, and the statements of those that are inconclusive."""
    rows = list(told.claims.values())
    for verdict in VERDICTS:
        count = sum(row["verdict"] == verdict for row in rows)
        yield from shown("open", verdict, Estimate(count, None, None, len(rows), "count"), "claims", "")
    few = [row for row in rows if row["verdict"] == "inconclusive" and 0 < row["n"] < MIN_SEEDS]
    yield from shown("open", "few seeds", Estimate(len(few), None, None, len(rows), "count"), "claims", "")


RULES: tuple[Rule, ...] = (
    time, flops, to_loss, parts, early, equal_samples, equal_cost, glue, unfinetuned, sbld, images, why, still_open,
)  # fmt: skip


# ---- story.csv ----


def story_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings as the rows of story.csv."""
    return pd.DataFrame([_row(finding) for finding in findings], columns=list(COLUMNS))


def _row(finding: Finding) -> dict[str, Any]:
    estimate = finding.estimate
    limits = (estimate.value, estimate.low, estimate.high, estimate.n) if estimate else (None, None, None, 0)
    numbers = {**dict(zip(("measured", "low", "high", "n"), limits, strict=True)), "values": joined(estimate)}
    return {name: numbers[name] if name in numbers else getattr(finding, name) for name in COLUMNS}


def write_story(evidence: Evidence, papers: Mapping[str, Paper], claims: pd.DataFrame, out: Path) -> None:
    """Write story.csv of a set and its claims."""
    with atomic_path(out) as temporary:
        story_frame(story(evidence, papers, claims)).to_csv(temporary, index=False)


def read_story(path: Path) -> list[Finding]:
    """story.csv; a missing or damaged file is a RecordError that names it."""
    frame = read_table(path, COLUMNS, "make claims", optional=OPTIONAL)
    texts = [name for name, kind in COLUMNS.items() if kind is str]
    frame = frame.astype(dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, ""))
    return [_finding(path, row) for row in frame.to_dict("records")]


def _finding(path: Path, row: Mapping[Any, Any]) -> Finding:
    allowed = (*VERDICTS, *SIDES, SHOWN, NOTHING)
    if row["outcome"] not in allowed or row["provenance"] not in get_args(Provenance):
        raise RecordError(f"{path}: outcome {row['outcome']!r}, provenance {row['provenance']!r}; allowed: "
                          f"{', '.join(allowed)}; {', '.join(MARKS)}")  # fmt: skip
    low, high, reported = (None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high", "reported"))
    estimate = None
    if not pd.isna(row["measured"]):
        estimate = Estimate(float(row["measured"]), low, high, int(row["n"]), "", split(row["values"]))
    texts = {name: row[name] for name in ("topic", "part", "outcome", "unit", "exhibit", "arm", "against", "counts",
                                          "bound", "provenance", "note")}  # fmt: skip
    return Finding(estimate=estimate, reported=reported, null=float(row["null"]), **texts)
