"""Findings: what a reader should take away of a set, each a number found by a rule, never typed.

A finding rests on a claim and shares its verdict, or on a comparison of two arms, whose side is judged with the other
tests of claims and findings, of the topics in FURTHER with all tests of the set (``pldrepro.analysis.family``).
``pldrepro.analysis.story`` judges them and writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from pldrepro.analysis import arithmetic, comparisons, contrasts, floors, in_turn
from pldrepro.analysis.budgets import early_gaps, original
from pldrepro.analysis.claim_estimators import glue_gain_ckp100
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.early_stop import CHECKPOINT
from pldrepro.analysis.finding import ABOVE, BELOW, NOTHING, Finding, of_pair, shown
from pldrepro.analysis.questions import asked
from pldrepro.analysis.reach import reach_loss
from pldrepro.analysis.reported import Claim, Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import IMAGES, accuracy_gain, loss_over_random, random_rankings
from pldrepro.analysis.sbld_claims import prior_dropping
from pldrepro.analysis.similar import SIMILAR_POINTS, above_margin
from pldrepro.analysis.text import FAMILIES
from pldrepro.analysis.tidy import split
from pldrepro.analysis.time_to_target import CHANGES, decompose, joined_changes
from pldrepro.analysis.verdicts import VERDICTS
from pldrepro.stats import Estimate


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

OTHER_WAYS = "without_sampling", "known_methods"  # questions of the reviews that name other ways to save
FURTHER = ("other_ways",)  # topics whose comparisons are adjusted with the reviewers' further ones


# ---- the two kinds of findings ----


def of_claim(told: Told, topic: str, part: str, claim: str) -> Finding:
    """What claims.csv says of a claim: its verdict, its number, and what the study lacks."""
    row = told.claims.get(claim)
    if row is None or pd.isna(row["measured"]):
        return Finding(topic, part, NOTHING, note="" if row is None else str(row["note"]))
    about = _claim(told, claim)
    low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high"))
    estimate = Estimate(float(row["measured"]), low, high, int(row["n"]), "", split(row["values"]))
    return Finding(
        topic, part, str(row["verdict"]), estimate, str(row["unit"]), str(row["exhibit"]),
        counts=str(row["counts"]), null=about.null_value, bound=str(row["bound"]),
        reported=None if pd.isna(row["reported"]) else float(row["reported"]), provenance=str(row["provenance"]),
        basis=str(row["basis"]), open=str(row["open"]), sees=None if pd.isna(row["sees"]) else float(row["sees"]),
        agree=None if pd.isna(row["agree"]) else int(row["agree"]),
        claimed=ABOVE if about.direction == "higher" else BELOW, note=str(row["lacks"]),
    )  # fmt: skip


def _claim(told: Told, name: str) -> Claim:
    key, _, claim_id = name.partition(".")
    return next(claim for claim in told.papers[key].claims if claim.id == claim_id)


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
    limit = Estimate(arithmetic.algorithm_limit(), None, None, 0, "arithmetic")
    yield from shown("flops", "limit", limit, "%", "figure6", note=f"theta_bar {arithmetic.THETA_BAR:g}")


def to_loss(told: Told) -> Iterator[Finding]:
    """The speedup to the baseline's final loss, and where some runs never get there, how far they stay from it."""
    yield of_claim(told, "to_loss", "speedup", "pld.speedup_same_loss")
    study = told.bert
    if study is None:
        return
    reach = reach_loss(study, study.pld, "samples")
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
    for role, arm, change in joined_changes(study):
        made = _loss(study, "parts", f"{role}_loss", arm, before, "table3")
        found += [replace(one, note=change) for one in made]
        before = arm
    whole = _loss(study, "parts", "all_loss", study.pld, study.baseline, "table3")
    return [*found, *(replace(one, note=ALL) for one in whole)]


SPEEDUPS = ("minimal_pairs", "pld.speedup_similar_minimal_pairs"), ("cloze", "pld.speedup_similar_cloze")


def early(told: Told) -> Iterator[Finding]:
    """The speedup at checkpoint 100 of 186, on GLUE and on scores without fine-tuning, with the scores' differences.

    Whether a score is similar is the condition of its speedup and tested with it; so its difference is only shown, and
    its seeds count from the margin of what is similar.
    """
    for score, speedup in (("glue", "pld.speedup_similar_accuracy"), *SPEEDUPS):
        yield of_claim(told, "early", f"{score}_speedup", speedup)
    study = told.bert
    if study is None or CHECKPOINT not in study.checkpoints(study.pld):
        return
    own = of_claim(told, "early", "glue_gain", "pld.glue_ckp100")
    yield replace(own, null=-SIMILAR_POINTS, agree=_agree(glue_gain_ckp100(study).paired))
    labels = {"arm": study.label(study.pld), "against": study.label(study.baseline)}
    for score, name in _scores(study):
        gain = contrasts.gain(study, name, study.pld, study.baseline, CHECKPOINT)
        if gain is not None:
            yield from shown(
                "early", f"{score}_gain", gain.estimate, "points", "contrasts", **labels, null=-SIMILAR_POINTS,
                agree=_agree(gain),
            )  # fmt: skip


def _agree(gain: Paired | None) -> int | None:
    """How many seeds are on the mean's side of the margin of what is similar."""
    return None if gain is None else above_margin(gain).agree


def _scores(study: Evidence) -> list[tuple[str, str]]:
    """The scores without fine-tuning that judge here, with their names in the records."""
    names = {"minimal_pairs": contrasts.minimal_pairs(study), "cloze": contrasts.CLOZE}
    there = contrasts.scores(study)
    return [(key, name) for key, name in names.items() if name in there and not floors.FLOORS[key](study)]


# ---- PLD: what it costs ----


def equal_samples(told: Told) -> Iterator[Finding]:
    """What dropping costs in loss at equal samples, against the same model without dropping.

    At PLD's learning rate; at the baseline's, where PLD was trained with that, too, it is only shown.
    """
    study = told.bert
    twin = study.undropped_twin(study.pld) if study else None
    if study is None or twin is None:
        return
    yield from _loss(study, "equal_samples", "loss", study.pld, twin, "table3")
    arm = _pld_at_baseline_rate(study)
    twin = study.undropped_twin(arm) if arm else None
    if arm and twin:
        gap = comparisons.loss_difference(study, arm, twin)
        labels = {"arm": study.label(arm), "against": study.label(twin)}
        yield from shown("equal_samples", "lower_rate", gap.estimate if gap else None, "nats", "table3", **labels)


def _pld_at_baseline_rate(study: Evidence) -> str | None:
    """PLD with the baseline's learning rate, where PLD's own is another."""
    own = study.runs(study.pld)[0].settings
    return next(
        (
            arm
            for arm in study.methods
            if arm != study.pld and _rate(study, arm) == _rate(study, study.baseline)
            and (study.runs(arm)[0].settings.model, study.runs(arm)[0].settings.drop) == (own.model, own.drop)
        ),
        None,
    )  # fmt: skip


def equal_cost(told: Told) -> Iterator[Finding]:
    """Loss at equal cost: against runs decayed there, and fewer layers; earlier checkpoints are only shown."""
    study = told.bert
    if study is None:
        return
    end = (study.pld, study.final_checkpoint(study.pld))
    for arm in (arm for arm in study.arms if study.budget(arm) == end):
        part = "baseline" if original(study, arm) == study.baseline else "twin"
        yield from _loss(study, "equal_cost", part, study.pld, arm, "fair_budgets")
        yield from _time_saved(study, "equal_cost", f"{part}_time", arm)
    for checkpoint, gap in early_gaps(study).items():
        yield from shown("equal_cost", "early", gap.estimate, "nats", "fair_budgets", arm=checkpoint)
    for arm in fewer_layers(study):
        yield from _loss(study, "equal_cost", "fewer_layers", study.pld, arm, "table3")
        yield from _time_saved(study, "equal_cost", "fewer_layers_time", arm)


def fewer_layers(study: Evidence) -> list[str]:
    """Arms without dropping that have about as many layers as PLD keeps on average."""
    layers = study.runs(study.pld)[0].summary.num_layers
    matched = (arm for arm in study.methods if study.matched_depth(arm) == study.pld)
    return [arm for arm in matched if study.runs(arm)[0].summary.num_layers < layers]


def other_ways(told: Told) -> Iterator[Finding]:
    """Other ways to run fewer layers per step, against PLD at equal samples: final loss, and the time they save.

    These comparisons answer questions of the reviewers and are adjusted with their further ones. What is only shown:
    the difference of the arm with the lowest mean loss from the baseline, and what PLD's learning rate does to PreLN,
    where all of these arms have that rate.
    """
    study = told.bert
    if study is None:
        return
    found = [one for question in OTHER_WAYS for one in asked(study, question)]
    found = [one for one in found if one.other == study.pld and one.arm not in fewer_layers(study)]
    for one in found:
        yield from of_pair(study, "other_ways", one.arm, one.paired, "nats", "table3", one.arm, study.pld)
        yield from _time_saved(study, "other_ways", f"{one.arm}_time", one.arm)
    compared = {one.arm: one.paired.estimate.value for one in found if one.paired is not None}
    if not compared:
        return
    if len({_rate(study, arm) for arm in (study.pld, *compared)}) == 1:
        yield from _rate_effect(study)
    best = min(compared, key=lambda arm: compared[arm])
    gap = comparisons.loss_difference(study, best, study.baseline)
    if gap is not None:
        yield from shown("other_ways", "best", gap.estimate, "nats", "table3", arm=study.label(best))


def _rate(study: Evidence, arm: str) -> float:
    return study.runs(arm)[0].settings.training.peak_learning_rate


def _rate_effect(study: Evidence) -> list[Finding]:
    """What PLD's learning rate does to the final loss of PreLN without dropping, where that was trained at both."""
    arms = [study.arm_with_role(role) for role in ("preln_higher_lr", "preln")]
    if not set(arms) <= set(study.arms) or _rate(study, arms[0]) != _rate(study, study.pld):
        return []
    gap = comparisons.loss_difference(study, *arms)
    return shown("other_ways", "rate", gap.estimate if gap else None, "nats", "table3")


def _time_saved(study: Evidence, topic: str, part: str, arm: str) -> list[Finding]:
    """How much less reference time than PLD's an arm's run takes [%]."""
    cost = comparisons.relative_cost(study, arm, study.pld, "reference_time")
    saved = None if cost is None else cost.estimate.map(comparisons.percent_less)
    return shown(topic, part, saved, "%", "table3", arm=study.label(arm))


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

ORDERS = {"depth": "order", "reversed": "reversed"}  # rankings of controls -> their part of the topic


def sbld(told: Told) -> Iterator[Finding]:
    """SBLD on GPT: its time, its loss against no dropping, and against controls that know nothing of sensitivity."""
    yield of_claim(told, "sbld", "time", "sbld.time")
    study = told.evidence.of("gpt")
    if study is None or study.sbld not in study.arms:
        return
    arm = study.sbld
    yield from _loss(study, "sbld", "loss", arm, study.baseline, "sbld_table1")
    rankings = of_pair(study, "sbld", "random", loss_over_random(study, arm), "nats", "sbld_table1", arm)
    count = len(random_rankings(study))
    note = "one per seed" if count == 1 else f"mean of {count} per seed"
    yield from (replace(one, note=note) for one in rankings)
    for control in study.arms_with_role("control"):
        drop = study.runs(control)[0].settings.drop if control in study.arms else None
        if drop is not None and drop.allocation == "by_rank" and drop.ranking in ORDERS:
            yield from _loss(study, "sbld", ORDERS[drop.ranking], arm, control, "sbld_table1")
    yield from _loss(study, "sbld", "pld", arm, study.pld, "sbld_table1")
    yield from _loss(study, "sbld", "prior", arm, prior_dropping(study) or "", "sbld_table1")
    yield of_claim(told, "sbld", "rank", "sbld.accuracy_lambada_rank")


def images(told: Told) -> Iterator[Finding]:
    """SBLD on images: top-1 accuracy against no dropping, random rankings and PLD."""
    for study in (one for one in told.evidence.all_of(*IMAGES) if one.sbld in one.arms):
        for other in (study.baseline, *random_rankings(study), study.pld):
            gain = accuracy_gain(study, study.sbld, other, "accuracy")
            found = of_pair(
                study, "images", f"{study.family} {other}", gain, "points", "sbld_table2", study.sbld, other
            )
            yield from (replace(one, note=FAMILIES[study.family]) for one in found)


# ---- why, and what is open ----


def why(told: Told) -> Iterator[Finding]:
    """Figures 1 and 2: gradients of PostLN and PreLN early in training."""
    yield of_claim(told, "why", "vanishing", "pld.balanced_gradients")
    yield of_claim(told, "why", "preserving", "pld.gradient_preserving")


def still_open(told: Told) -> Iterator[Finding]:
    """How many claims have which verdict; ``note``: on how many estimates these rest, where they are fewer."""
    rows = list(told.claims.values())
    for verdict in VERDICTS:
        found = [row for row in rows if row["verdict"] == verdict]
        own = {row["same"] or row["claim"] for row in found}
        count = Estimate(len(found), None, None, len(rows), "count")
        yield from shown("open", verdict, count, "claims", "", note=str(len(own)) if len(own) < len(found) else "")
    for part, found in (
        ("few seeds", [row for row in rows if row["open"] == "seeds"]),
        ("ours", [row for row in rows if row["ours"]]),
    ):
        yield from shown("open", part, Estimate(len(found), None, None, len(rows), "count"), "claims", "")


RULES: tuple[Rule, ...] = (
    time, flops, to_loss, parts, early, equal_samples, equal_cost, other_ways, glue, unfinetuned, sbld, images, why,
    still_open,
)  # fmt: skip


def findings(told: Told) -> list[Finding]:
    """All findings of a set, topic by topic; the sides of comparisons are still open."""
    return [finding for rule in RULES for finding in rule(told)]


def comparisons_told(evidence: Evidence, papers: Mapping[str, Paper]) -> list[Paired]:
    """The comparisons that the story of a set judges with its claims; not those that only answer the reviewers."""
    found = findings(Told(evidence, papers, {}))
    return [one.paired for one in found if one.paired is not None and one.topic not in FURTHER]
