"""Figures 1 to 4 and depth robustness from synthetic probes: who is shown, what stands for the seeds, what is said."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pldrepro.analysis import probes as probe_data
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import find
from pldrepro.errors import RecordError
from pldrepro.exhibits import figures, tables
from pldrepro.exhibits.figures import probes
from pldrepro.exhibits.figures.style import STYLE
from pldrepro.stats import Estimate
from tests.support import runs
from tests.support.runs import load_evidence
from tests.support.tables import shown

PAPERS = load_papers()
PLD = PAPERS["pld"]
EARLY = ("baseline", "preln_higher")
NAMES = ("figure1", "figure2", "figure3", "figure4", "depth_robustness")


def study(root: Path, seeds: tuple[int, ...], probed: tuple[str, ...] = tuple(runs.ARMS)) -> dict[str, Any]:
    return {
        "pretrain": [runs.write_pretrain(root, arm, seed) for arm in runs.ARMS for seed in seeds],
        "probes": [runs.write_probe(root, arm, seed) for arm in probed for seed in seeds],
        "early": [runs.write_early(root, arm, seed) for arm in EARLY for seed in seeds if arm in probed],
    }


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return study(tmp_path_factory.mktemp("study"), (1, 2, 3))


@pytest.fixture(scope="module")
def evidence(paths: dict[str, Any]) -> Evidence:
    return load_evidence(**paths)


# ---- evidence ----


def test_probes_belong_to_the_runs_and_are_there_once(paths: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="pld, seed 4"):
        load_evidence(paths["pretrain"], probes=[runs.write_probe(tmp_path, "pld", 4)])
    with pytest.raises(RecordError, match=r"pld/seed1 .*pld, seed 1"):
        load_evidence(**{**paths, "probes": [*paths["probes"], paths["probes"][-3]]})
    none = load_evidence(paths["pretrain"][:1])
    assert (none.probed, none.probes) == ([], ())


def test_every_number_is_there_with_its_run(evidence: Evidence) -> None:
    frame = evidence.probe_results
    assert evidence.probed == ["baseline", "preln_higher", "pld"]
    one = frame.query("arm == 'pld' and seed == 2 and checkpoint == 'ckp87' and quantity == 'angle' and layer == 4")
    assert one[["value", "norm", "num_layers", "share"]].to_numpy().tolist() == [[7.0, "pre", 4, 87 / 186]]


# ---- figures ----


def draw(name: str, evidence: Evidence) -> tuple[Figure, pd.DataFrame, str]:
    """A figure as it is before it is saved, closed."""
    with plt.rc_context(STYLE):
        drawing = figures.FIGURES[name](evidence, PLD)
    plt.close(drawing[0])
    return drawing


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_shows_all_three_and_says_n(evidence: Evidence, name: str) -> None:
    figure, frame, caption = draw(name, evidence)
    shown = {"baseline": "PostLN baseline", "preln_higher": "PreLN, higher learning rate"}
    if name not in ("figure1", "figure2"):
        shown["pld"] = "PLD"
    assert set(frame["arm"]) == set(shown)
    assert "over n = 3 pre-training seeds; bands or bars: 95 % t interval." in caption
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert set(shown.values()) <= {*labels, *titles}


@pytest.mark.parametrize("name", ["figure1", "figure2"])
def test_gradients_are_those_early_in_training_where_there_are_any(
    paths: dict[str, Any], evidence: Evidence, name: str
) -> None:
    _, frame, caption = draw(name, evidence)
    assert (set(frame["num_layers"]), set(frame["share"])) == ({12}, {0.002, 0.004, 0.008})
    assert "with 12 layers, in the first 8 of 1000 steps" in caption
    _, frame, caption = draw(name, load_evidence(paths["pretrain"], probes=paths["probes"]))
    assert (set(frame["num_layers"]), max(frame["share"])) == ({4}, 1)
    assert "not the paper's early training" in caption


def test_a_figure_can_be_saved(evidence: Evidence, tmp_path: Path) -> None:
    figures.write_figure("figure3", evidence, PAPERS, tmp_path / "figure3")
    assert "<svg" in (tmp_path / "figure3.svg").read_text(encoding="utf-8")
    assert len(pd.read_csv(tmp_path / "figure3.csv")) == 4 * 3 * 3 * 4 + 24  # quantities, arms, checkpoints, layers


@pytest.mark.parametrize("name", NAMES)
def test_without_probes_a_figure_says_so(paths: dict[str, Any], name: str) -> None:
    _, frame, caption = draw(name, load_evidence(paths["pretrain"]))
    assert frame.empty
    assert caption.startswith("Not measured here: no checkpoint of the baseline")


def test_who_is_shown(paths: dict[str, Any]) -> None:
    assert probe_data.shown(load_evidence(**paths)) == ["baseline", "preln_higher", "pld"]
    some = [path for path in paths["probes"] if "preln_higher" in str(path)]
    assert probe_data.shown(load_evidence(paths["pretrain"], probes=some)) == ["preln_higher"]
    other = [path for path in paths["pretrain"] if "/pld/" not in str(path)]
    kept = [path for path in paths["probes"] if "/pld/" not in str(path)]
    assert probe_data.shown(load_evidence(other, probes=kept)) == ["baseline", "preln_higher"]


def test_layer_data_holds_estimates_over_seeds(evidence: Evidence) -> None:
    data = probe_data.layer_data(evidence.probe_results, ["pld"], "angle")
    one = data.query("checkpoint == 'ckp186' and layer == 2").iloc[0]
    assert (one["value"], one["least"], one["most"], one["n"], one["depth"]) == (12, 11, 13, 3, 0.5)
    # t(2) x s / sqrt(n) with s = 1
    assert one["high"] - one["value"] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    norms = probe_data.layer_data(evidence.probe_results, ["pld"], "gradient_norm")
    whole = norms.query("checkpoint == 'ckp186' and layer == 2 and part == 'block'").iloc[0]
    assert whole["value"] == pytest.approx((1.1 * 1.2 * 1.3) ** (1 / 3))
    assert set(norms["part"]) == {"block", "qkv", "attention_output", "ffn_up", "ffn_down"}


def test_figure_4_shows_training_with_random_dropping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = {"schedule": "constant", "allocation": "uniform", "theta_bar": 0.5}
    about = {"label": "PostLN at random", "norm": "post", "rate": "baseline", "drop": drop}
    monkeypatch.setitem(runs.MORE_ARMS, "postln_random50", about)
    paths = study(tmp_path, (1, 2))
    paths["pretrain"] += [runs.write_pretrain(tmp_path, "postln_random50", seed, final_loss=4.0) for seed in (1, 2)]
    for probed in (paths["probes"], []):
        figure, frame, caption = draw("figure4", load_evidence(**{**paths, "probes": probed}))
        trained = frame[frame["state"] == "training"]
        assert set(trained["arm"]) == {"postln_random50", "baseline"}
        assert trained[trained["arm"] == "postln_random50"]["value"].min() == pytest.approx(4)
        assert caption.startswith("Left: validation loss, all layers on, of models trained with all layers (solid), ")
        assert len(figure.axes) == (3 if probed else 1)


def test_few_seeds_are_drawn_as_their_range(tmp_path: Path) -> None:
    two = load_evidence(**study(tmp_path, (1, 2)))
    data = probe_data.layer_data(two.probe_results, ["pld"], "angle")
    low, high = probes._spread(data)
    assert low.tolist() == data["least"].tolist() != data["low"].tolist()
    assert high.tolist() == data["most"].tolist()
    assert "the range of the seeds where there are fewer than 3" in probes.interval_text(
        two.probe_results, ["pld"], "mean"
    )
    one = load_evidence(**study(tmp_path / "one", (1,)))
    for name in ("figure1", "figure4"):
        assert "n = 1 pre-training seed per arm: no interval." in draw(name, one)[2]


def test_the_papers_angles_lie_on_arms_that_are_not_dropped(evidence: Evidence) -> None:
    _, frame, caption = draw("figure3", evidence)
    reported = frame[frame["method"].str.startswith("reported")]
    assert reported.groupby("arm")["value"].first().to_dict() == {"baseline": 22.4, "preln_higher": 17.7}
    assert reported[reported["arm"] == "baseline"]["depth"].iloc[[0, -1]].tolist() == [1 / 12, 1]
    assert "step 2,000, 12 layers, digitised by eye" in caption


def test_lesions_are_means_over_draws_and_increases_are_paired(evidence: Evidence) -> None:
    course = probe_data.lesion_data(evidence, ["baseline"]).query("checkpoint == 'ckp186'").set_index("state")
    # Draws 0 to 3 of 4 layers miss 4, 3, 3 and 2 of them, at 1 + 0.01 x seed each.
    assert course["value"].to_dict() == pytest.approx({"intact": 3.0, "lesioned": 3 + 3 * 1.02})
    assert course["n"].to_dict() == {"intact": 3, "lesioned": 3}
    draws = probe_data.draw_data(evidence, ["baseline"]).set_index("draw")
    assert draws["value"].tolist() == pytest.approx([4.08, 3.06, 3.06, 2.04])
    assert draws["first_layer_kept"].tolist() == [False, True, False, True]
    assert draws["num_kept"].tolist() == [0, 1, 1, 2]


def test_depth_data_names_the_layer_that_is_missing(evidence: Evidence) -> None:
    data = probe_data.depth_data(evidence, ["pld"])
    single = data[data["selection"] == "without_one"].set_index("removed")["value"]
    assert single.to_dict() == pytest.approx({1: 4.02, 2: 3.52, 3: 3 + 1 / 3 + 0.02, 4: 3.27})
    first = data[data["selection"] == "first"].set_index("num_kept")["value"]
    assert first[4] == 3
    assert first[3] == pytest.approx(3.27)


# ---- the table ----


def test_depth_table(evidence: Evidence) -> None:
    frame = tables.depth_robustness(evidence, PLD)
    assert find(frame, arm="pld", checkpoint="ckp186", quantity="loss", condition="all") == Estimate(
        3.0, 3.0, 3.0, 3, "mean, 95% t interval"
    )
    half = find(frame, arm="baseline", checkpoint="ckp186", quantity="loss_increase", condition="first 2")
    assert half is not None
    assert half.value == pytest.approx(2.04)
    assert half.low is not None
    assert half.value - half.low == pytest.approx(4.302653 * 0.02 / math.sqrt(3), rel=1e-6)
    loss = find(frame, arm="baseline", checkpoint="ckp186", quantity="loss", condition="first 2")
    assert loss is not None
    assert loss.value == pytest.approx(5.04)
    for quantity, above in (("loss_increase", 0), ("loss", 3)):
        without = find(frame, arm="pld", checkpoint="ckp186", quantity=quantity, condition="without_one 3")
        assert without is not None
        assert without.value == pytest.approx(above + 1 / 3 + 0.02)
    assert set(frame["checkpoint"]) == {"ckp186"}


def test_depth_table_is_set_with_half_of_the_layers(evidence: Evidence) -> None:
    (table,) = shown("depth_robustness", evidence)
    assert [row[0] for row in table.rows] == [
        "PostLN baseline ckp186", "PreLN, higher learning rate ckp186", "PLD ckp186",
    ]  # fmt: skip
    row = dict(zip(table.headers, table.rows[0], strict=True))
    assert row["loss, all layers"] == "3.000 [3.000, 3.000]"
    assert row["+ first half"] == row["+ every other (1st, 3rd, ...)"] == "2.040 [1.990, 2.090]"
    assert row["+ lesion, mean of draws"] == "3.060 [2.985, 3.135]"
    assert (row["L"], row["n"]) == ("4", "3")


def test_a_table_without_probes_says_so(paths: dict[str, Any]) -> None:
    (table,) = shown("depth_robustness", load_evidence(paths["pretrain"]))
    assert (table.rows, table.notes) == ((), ("No checkpoint was probed in this study.",))


def test_half_of_an_odd_number_of_layers_is_rounded_down(tmp_path: Path) -> None:
    folder = runs.write_pretrain(tmp_path, "baseline", 1)
    summary, settings = (json.loads((folder / name).read_text()) for name in ("summary.json", "settings.json"))
    summary |= {"num_layers": 5, "passes_by_layer": [runs.STEPS] * 5}
    settings["model"]["num_layers"] = 5
    for name, values in (("summary.json", summary), ("settings.json", settings)):
        (folder / name).write_text(json.dumps(values))
    odd = load_evidence([folder], probes=[runs.write_probe(tmp_path, "baseline", 1, layers=5)])
    (table,) = shown("depth_robustness", odd)
    row = dict(zip(table.headers, table.rows[0], strict=True))
    assert row["+ first half"] == row["+ least important half removed"] == "3.030"
    assert row["+ every other (1st, 3rd, ...)"] == "2.020"
    assert row["+ every other (2nd, 4th, ...)"] == "3.030"
