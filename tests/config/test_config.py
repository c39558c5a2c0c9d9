"""Settings: every shipped file loads, and what is wrong is refused in one line that says where and what is allowed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pldrepro.config.base import merge, read_settings, read_yaml, validate
from pldrepro.config.data import DataSettings
from pldrepro.config.experiment import EXPERIMENTS_FOLDER, experiment_chain, read_experiments
from pldrepro.config.model import ModelSettings
from pldrepro.config.recorded import load_recorded
from pldrepro.config.run import FinetuneSettings, RunSettings, TrainingSettings
from pldrepro.config.scale import StudySettings
from pldrepro.config.study import Study, load_study, read_study
from pldrepro.errors import SettingsError
from pldrepro.policy.drop import mean_expected_depth

SCALES = sorted(path for path in Path("config").glob("*.yaml") if path.stem not in ("devices", "recorded"))
EXPERIMENTS = sorted(read_experiments(EXPERIMENTS_FOLDER / "bert"))
SMALL: dict[str, Any] = {
    "scale": "small",
    "description": "for tests",
    "arms": ["baseline", "pld"],
    "seeds": [1],
    "settings": {"model": {"num_layers": 2}, "training": {"num_steps": 100}},
}
SMALL_STUDY = {key: SMALL[key] for key in ("arms", "seeds", "settings")}


def study(**changes: Any) -> Study:
    return load_study(merge(SMALL, changes))


def refused(**changes: Any) -> str:
    """The message with which a study is refused; always one line."""
    with pytest.raises(SettingsError) as caught:
        study(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the shipped files ----


@pytest.mark.parametrize("path", SCALES, ids=lambda path: path.stem)
def test_every_scale_loads_with_all_of_its_runs(path: Path) -> None:
    shipped = load_study(path)
    assert shipped.settings.scale == path.stem
    runs = [shipped.run(arm, seed) for arm, seed in shipped.pretrain_runs()]
    assert all(RunSettings.model_validate(run.model_dump(mode="json")) == run for run in runs)
    without = ("gpu_speed", "demo_deep")  # of costs; of losses, cloze contrasts and probes
    assert bool(shipped.finetune_runs()) == (shipped.family == "bert" and path.stem not in without)
    assert shipped.calibration_job().runs


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_an_arm(name: str) -> None:
    run = study(arms=["baseline", name] if name != "baseline" else ["baseline"]).run(name, 1)
    assert run.arm == name
    assert run.label


@pytest.mark.parametrize("path", SCALES, ids=lambda path: path.stem)
def test_arms_share_everything_but_what_their_files_change(path: Path) -> None:
    shipped = load_study(path)
    first = shipped.run("baseline", 1)
    for arm in shipped.settings.arms:
        run = shipped.run(arm, 1)
        changed = {"model": set(), "training": set()}
        for experiment in experiment_chain(arm, EXPERIMENTS_FOLDER / shipped.settings.experiments):
            changed["model"] |= set(experiment.model)
            changed["training"] |= set(experiment.training)
            changed["model"] |= {"num_layers"} if experiment.match_depth else set()
            changed["training"] |= {"num_steps"} if experiment.budget else set()
        assert run.data == first.data
        assert run.impl == first.impl
        for group, keys in changed.items():
            ours, theirs = getattr(run, group).model_dump(), getattr(first, group).model_dump()
            assert {key for key in ours if ours[key] != theirs[key]} <= keys


def test_pld_differs_from_its_baseline_as_the_paper_says() -> None:
    paper = load_study(Path("config/paper.yaml"))
    baseline, pld = paper.run("baseline", 1), paper.run("pld", 1)
    assert (baseline.model.norm, pld.model.norm) == ("post", "pre")
    assert (baseline.training.peak_learning_rate, pld.training.peak_learning_rate) == (1e-4, 1e-3)
    assert (baseline.drop.schedule, pld.drop.schedule, pld.drop.theta_bar) == ("none", "exponential", 0.5)
    assert (pld.training.num_steps, pld.training.batch_size, pld.data.sequence_length) == (200_000, 4096, 128)
    steps = pld.training.checkpoint_steps()
    assert (steps["ckp2"], steps["ckp87"], steps["ckp100"], steps["ckp186"]) == (2_151, 93_548, 107_527, 200_000)


def test_recorded_runs_are_found_in_their_folders(tmp_path: Path) -> None:
    shipped = load_recorded(read_yaml(Path("config/recorded.yaml")))
    assert shipped.scale == "recorded"
    values = {"scale": "recorded", "description": "", "recorded": {"cpu": [str(tmp_path)]}, "results": "there"}
    with pytest.raises(SettingsError, match=r"recorded: .*: no finished pre-training run"):
        load_recorded(values).result_sets()
    for place in ("pretrain/pld/seed1", "pretrain/pld/seed2", "finetune/pld/seed1/ckp87/glue"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "summary.json").write_text("{}")
    (tmp_path / "pretrain" / "pld" / "seed3").mkdir()  # not finished
    (found,) = load_recorded(values).result_sets()
    assert found.results == "there/cpu"
    (runs,) = found.studies
    assert [Path(summary).parent.name for summary in runs.pretrain] == ["seed1", "seed2"]
    assert len(runs.finetune) == len(found.finetune) == 1
    assert runs.calibration == f"{tmp_path}/calibration/summary.json"
    assert found.files == [*runs.pretrain, *runs.finetune, runs.calibration]
    assert runs.lambada == []
    with pytest.raises(SettingsError, match="seeds: "):
        load_recorded({**values, "seeds": [1]})


# ---- families of models ----

GPT: dict[str, Any] = {
    "experiments": "gpt_and_vision",
    "arms": ["baseline", "sbld"],
    "settings": {"model": {"family": "gpt", "norm": "pre", "num_layers": 2}, "data": {"tokenizer": "bpe"}},
}
IMAGES: dict[str, Any] = {
    "scale": "images",
    "description": "for tests",
    "experiments": "gpt_and_vision",
    "arms": ["baseline", "sbld"],
    "seeds": [1],
    "settings": {
        "model": {"family": "swinv2", "stages": [2, 2], "hidden_size": 8, "num_heads": [1, 2]},
        "data": {"kind": "images"},
    },
}


def test_the_family_decides_which_settings_a_model_has() -> None:
    gpt, images = study(**GPT), load_study(IMAGES)
    assert (gpt.family, gpt.run("sbld", 1).model.norm, gpt.prepared) == ("gpt", "pre", "corpus")
    assert (images.family, images.run("sbld", 1).model.num_layers, images.prepared) == ("swinv2", 4, "images")
    assert images.run("baseline", 1).model.drop_path_rate == 0
    for one in (gpt, images):
        assert one.finetune_runs() == one.probe_runs() == []
        assert RunSettings.model_validate(one.run("sbld", 1).model_dump(mode="json")) == one.run("sbld", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"settings": {"model": {"stages": [2, 2, 2]}}},
            r"num_heads has 2 entries; allowed: one for each of \(2, 2",
        ),
        ({"settings": {"model": {"num_heads": [1, 3]}}}, "hidden_size 16 is not a multiple of num_heads 3"),
        ({"settings": {"model": {"image_size": 30}}}, "image_size 30 is not a multiple of patch_size"),
        ({"settings": {"model": {"family": "vit"}}}, "family vit: allowed with one stage and drop_path_rate 0"),
        (
            {"settings": {"model": {"layers": 3}}},
            "model.layers: unknown key; allowed here: family, image_size",
        ),
        ({"settings": {"data": {"folder": "x"}}}, "data.folder: unknown key; allowed here: kind, source, root, train"),
        ({"settings": {"data": {"kind": "text"}}}, "data.kind text with model.family swinv2; allowed: images"),
    ],
)
def test_images_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_study(merge(IMAGES, changes))


def test_layers_of_several_shapes_are_not_copied() -> None:
    stacking = {"drop": {"dialect": "stacking"}, "model": {"family": "vit", "stages": [4], "num_heads": [2]}}
    run = {**load_study(IMAGES).run("baseline", 1).model_dump(), "drop": stacking["drop"]}
    run["model"] = {**run["model"], **stacking["model"]}
    with pytest.raises(SettingsError, match="copy_below"):
        validate(RunSettings, run, "x")


def test_a_gpt_is_preln_and_reads_text() -> None:
    assert "family gpt: allowed with norm pre" in refused(settings={"model": {"family": "gpt"}})
    message = refused(**{**GPT, "settings": {**GPT["settings"], "data": {"kind": "images"}}})
    assert "data.kind images with model.family gpt; allowed: text" in message
    message = refused(**merge(GPT, {"settings": {"data": {"tokenizer": "wordpiece"}}}))
    assert "data.tokenizer wordpiece with model.family gpt; allowed: bpe" in message
    assert "with model.family bert; allowed: wordpiece" in refused(settings={"data": {"tokenizer": "bpe"}})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"merges": "m.txt"}, "merges: allowed with tokenizer bpe and its vocabulary file"),
        ({"tokenizer": "bpe", "vocabulary": "v.json"}, "vocabulary and merges go together"),
    ],
)
def test_gpt2s_two_files_go_together(data: dict[str, Any], message: str) -> None:
    assert message in refused(settings={"data": data})


@pytest.mark.parametrize("name", sorted(read_experiments(EXPERIMENTS_FOLDER / "gpt_and_vision")))
def test_every_experiment_of_gpt_and_vision_changes_nothing_but_what_is_dropped(name: str) -> None:
    arms = ["baseline", *({name} - {"baseline"})]
    one = study(**merge(GPT, {"arms": arms, "settings": {"training": {"num_steps": 1000}}}))
    first, run = one.run("baseline", 1), one.run(name, 1)
    steps = {"num_steps": 0} if name == "scratch" else {}
    assert (run.model, run.training, run.data) == (
        first.model, first.training.model_copy(update=steps), first.data
    )  # fmt: skip
    assert first.drop.schedule == "none"


def test_an_arm_without_steps_has_the_final_checkpoint_and_is_not_probed() -> None:
    one = study(arms=["baseline", "scratch"], finetune_checkpoints=None)
    run = one.run("scratch", 1)
    assert (run.training.num_steps, run.training.checkpoint_steps()) == (0, {"ckp186": 0})
    assert one.finetune_checkpoints("scratch") == ("ckp186",)
    assert {arm for arm, _ in one.probe_runs()} == {"baseline"}
    assert {arm for arm, *_ in one.finetune_runs()} == {"baseline", "scratch"}
    with pytest.raises(ValidationError, match=r"training\.num_steps 0: allowed with drop\.schedule none"):
        type(run).model_validate({**run.model_dump(), "drop": {"dialect": "paper_alg1"}})


def test_sbld_and_its_controls_keep_as_many_layers() -> None:
    controls = ("sbld_random", "sbld_depth", "sbld_reversed", "pld_by_sensitivity", "pwegd_by_depth")
    one = study(**merge(GPT, {"arms": ["baseline", "sbld", *controls], "settings": {"model": {"num_layers": 12}}}))
    depths = [mean_expected_depth(one.run(arm, 1).drop, 100, 12) for arm in ("sbld", *controls)]
    assert depths == pytest.approx([depths[0]] * 6)
    assert depths[0] < 11


@pytest.mark.parametrize(
    ("data", "scored"),
    [
        ({}, False),
        ({"miniature": {"lambada_passages": 5}}, True),
        ({"source": "files", "lambada": "lambada.jsonl"}, True),
        ({"source": "files", "miniature": {"lambada_passages": 5}}, False),
    ],
)
def test_a_gpt_is_scored_on_the_passages_that_its_data_have(data: dict[str, Any], scored: bool) -> None:
    one = study(**merge(GPT, {"settings": {"data": data}}))
    assert one.lambada_runs() == (one.pretrain_runs() if scored else [])
    assert len(one.study_runs().lambada) == len(one.lambada_runs())


def test_companions_are_studies_of_their_own_beside_the_first(tmp_path: Path) -> None:
    companion = tmp_path / "images.yaml"
    companion.write_text(json.dumps(IMAGES), encoding="utf-8")
    both = study(companions={"images": str(companion)}, data_root="somewhere", results="there")
    (images,) = both.companions
    assert (images.results, images.settings.data_root) == ("there/images", "somewhere")
    first, second = both.result_set().studies
    assert "there/images/runs/pretrain/sbld/seed1/summary.json" in second.pretrain
    assert second.calibration != first.calibration
    companion.write_text(json.dumps({**IMAGES, "companions": {"more": "x"}}), encoding="utf-8")
    assert "a companion has companions of its own; allowed: none" in refused(companions={"images": str(companion)})


# ---- unknown keys, at every level ----


@pytest.mark.parametrize(
    ("changes", "where", "allowed"),
    [
        ({"sead": [1]}, "sead", "seeds"),
        ({"finetune": {"epoch": 3}}, "finetune.epoch", "epochs"),
        ({"calibration": {"round": 3}}, "calibration.round", "rounds"),
        ({"settings": {"modell": {}}}, "settings.modell", "model"),
        ({"settings": {"model": {"layers": 3}}}, "model.layers", "num_layers"),
        ({"settings": {"data": {"path": "x"}}}, "data.path", "root"),
        ({"settings": {"data": {"miniature": {"words": 3}}}}, "data.miniature.words", "num_documents"),
        ({"settings": {"data": {"hub": {"txt": []}}}}, "data.hub.txt", "glue_path"),
        ({"settings": {"data": {"hub": {"text": [{"path": "a", "rev": "b"}]}}}}, "data.hub.text.0.rev", "revision"),
        ({"settings": {"training": {"steps": 3}}}, "training.steps", "num_steps"),
        ({"settings": {"impl": {"cores": 3}}}, "impl.cores", "threads"),
    ],
)
def test_an_unknown_key_is_named_with_its_path_and_the_allowed_names(
    changes: dict[str, Any], where: str, allowed: str
) -> None:
    message = refused(**changes)
    assert f" {where}: unknown key; " in message
    assert allowed in message.split("allowed here: ")[1].split("; ")[0].split(", ")


def write_experiments(folder: Path, **experiments: dict[str, Any]) -> Path:
    for name, values in {"baseline": {"role": "baseline"}, **experiments}.items():
        about = {"label": name, "description": name, **values}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(about))
    return folder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropp": {}}, "arm.yaml: dropp: unknown key"),
        (
            {"drop": {"thetabar": 0.5}},
            "experiment arm: drop.thetabar: unknown key; did you mean theta_bar? allowed here: dialect",
        ),
        ({"drop": {"dialect": "mine"}}, "drop: unknown dialect 'mine'; allowed: none, paper_alg1"),
        ({"drop": {"schedule": "exponential", "theta_bar": 0}}, "drop.theta_bar: expected a number above 0"),
        ({"drop": {"theta_bar": 1.5}}, "drop.theta_bar: expected 1 or less, got 1.5"),
        ({"model": {"depth": 1}}, "experiment arm: model.depth: unknown key"),
        (
            {"finetune_checkpoints": ["ckp99"]},
            "finetune_checkpoints: ckp99 not among ckp9, ckp23, ckp46, ckp87, ckp100",
        ),
        ({"base": "nothing"}, "no experiment nothing; allowed: arm, baseline"),
        ({"base": "arm"}, "experiments arm -> arm: `base` runs in a circle"),
    ],
)
def test_a_wrong_experiment_is_named(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    folder = write_experiments(tmp_path, arm=values)
    with pytest.raises(SettingsError) as caught:
        load_study({**SMALL, "arms": ["baseline", "arm"], "experiments": str(folder)})
    assert message in str(caught.value)


def test_a_longer_circle_of_bases_is_shown(tmp_path: Path) -> None:
    folder = write_experiments(tmp_path, a={"base": "b"}, b={"base": "c"}, c={"base": "a"})
    with pytest.raises(SettingsError, match="a -> b -> c -> a"):
        experiment_chain("a", folder)


def test_a_child_inherits_and_replaces(tmp_path: Path) -> None:
    folder = write_experiments(
        tmp_path,
        parent={"model": {"norm": "pre"}, "drop": {"dialect": "layerdrop"}, "finetune_checkpoints": ["ckp87"]},
        heir={"base": "parent", "training": {"learning_rate": "higher"}},
        other={"base": "heir", "drop": {"dialect": "none"}},
    )
    resolved = load_study({**SMALL, "arms": ["baseline", "heir", "other"], "experiments": str(folder)})
    heir, other = resolved.run("heir", 1), resolved.run("other", 1)
    assert (heir.model.norm, heir.training.learning_rate, heir.drop.dialect) == ("pre", "higher", "layerdrop")
    assert heir.model.num_layers == 2
    assert (other.drop.dialect, other.drop.theta_bar) == ("none", 0.5)
    assert resolved.finetune_checkpoints("other") == ("ckp87",)
    assert resolved.finetune_checkpoints("baseline") == ("ckp186",)


# ---- wrong values ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": ["baseline", "plb"]},
            "config/experiments/bert: no experiment plb; did you mean pld?",
        ),
        ({"arms": ["pld"]}, "arms: expected one of role baseline"),
        ({"arms": "pld"}, "arms: expected a list in brackets, such as [pld], got 'pld' (names of experiments)"),
        ({"seeds": 3}, "seeds: expected a list in brackets, such as [1, 2, 3], got 3"),
        ({"seeds": ["a"]}, "configuration: seeds.0: expected a whole number, got 'a'"),
        ({"experiments": ["pld"]}, "experiments: expected text, got ['pld'] (folder of the arms' files"),
        ({"experiments": "bart"}, "experiments: config/experiments/bart: no file of an arm there; allowed: bert, "),
        ({"finetune_checkpoints": 3}, "configuration: finetune_checkpoints: expected a list in brackets"),
        ({"settings": {"model": {"norm": "prre"}}}, "(did you mean pre?), got 'prre'"),
        ({"arms": []}, "arms: expected 1 or more entries"),
        ({"probe_arms": ["prelm"]}, "probe_arms: prelm: no such experiment; did you mean preln?"),
        ({"arms": ["baseline", "baseline"]}, "arms: an entry is repeated"),
        ({"seeds": [1, 2, 1]}, "seeds: an entry is repeated"),
        ({"seeds": []}, "seeds: expected 1 or more entries"),
        ({"seeds": [-1]}, "seed: expected 0 or more, got -1"),
        ({"scale": "a/b"}, "scale: expected text that matches"),
        ({"settings": {"model": {"num_layers": "four"}}}, "model.num_layers: expected a whole number"),
        ({"settings": {"model": {"num_layers": 2.5}}}, "model.num_layers: expected a whole number"),
        ({"settings": {"model": {"norm": "mid"}}}, "model.norm: expected 'post' or 'pre', got 'mid'"),
        ({"settings": {"model": {"num_heads": 5}}}, "hidden_size 768 is not a multiple of num_heads 5"),
        ({"settings": {"training": {"warmup": "1/0"}}}, "training.warmup: neither a number nor a fraction such as"),
        ({"settings": {"training": {"warmup": "soon"}}}, "got 'soon'"),
        ({"settings": {"training": {"warmup": "3/2"}}}, "training.warmup: expected 1 or less"),
        ({"settings": {"training": {"learning_rates": {"higher": 1}}}}, "training.learning_rates.baseline: missing"),
        (
            {"settings": {"training": {"learning_rates": {"baseline": float("inf"), "higher": 1}}}},
            "training.learning_rates.baseline: expected a finite number",
        ),
        (
            {"settings": {"training": {"learning_rates": {"baseline": 0, "higher": 1}}}},
            "training.learning_rates.baseline: expected a number above 0, got 0",
        ),
        ({"settings": {"training": {"betas": [0.9, 1]}}}, "training.betas.1: expected a number below 1"),
        ({"settings": {"training": {"checkpoints": {"half": 0.5}}}}, "exactly one checkpoint must stand at 1"),
        ({"settings": {"training": {"num_steps": 6}}}, "checkpoints fall on the same step"),
        ({"settings": {"data": {"sequence_length": 600}}}, "data.sequence_length 600 exceeds model.max_positions 512"),
        ({"finetune": {"sequence_length": 600}}, "finetune.sequence_length 600 exceeds model.max_positions 512"),
        ({"settings": {"model": {"vocab_size": 100}}}, "data.vocab_size 30522 does not fit model.vocab_size 100"),
        ({"finetune": {"learning_rates": []}}, "finetune.learning_rates: expected 1 or more entries"),
        ({"finetune": {"seeds": [1, 1]}}, "finetune.seeds: an entry is repeated"),
        ({"settings": 3}, "settings: expected a mapping of keys"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, Any], message: str) -> None:
    assert message in refused(**changes)


def test_all_problems_stand_in_one_message() -> None:
    with pytest.raises(SettingsError, match=r"description: .*arms: .*seeds: .*x: "):
        validate(StudySettings, {"scale": "a", "x": 1}, "scale file")


@pytest.mark.parametrize("values", [None, [1], "text"])
def test_a_file_that_is_no_mapping_is_refused(values: object, tmp_path: Path) -> None:
    path = tmp_path / "scale.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match=r"scale\.yaml: .*mapping"):
        load_study(path)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1, 2\nb: }")
    with pytest.raises(SettingsError, match=r"broken\.yaml: not readable as YAML"):
        read_yaml(path)
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(SettingsError, match=r"broken\.yaml: not readable as YAML"):
        read_yaml(path)


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ModelSettings().num_layers = 3  # type: ignore[misc]


# ---- right values ----


@pytest.mark.parametrize(
    ("text", "value"),
    [("9/10", 0.9), ("87/100", 0.87), ("1e-3", 0.001), (".5", 0.5), ("0.123456789012", 0.123456789012), ("1/010", 0.1)],
)
def test_numbers_that_yaml_leaves_as_text(text: str, value: float) -> None:
    assert TrainingSettings(warmup=text).warmup == value  # type: ignore[arg-type]


def test_fractions_are_numbers() -> None:
    training = TrainingSettings.model_validate({"checkpoints": {"late": 1, "ckp87": "87/186"}, "warmup": "1/4"})
    assert training.checkpoints == {"ckp87": 87 / 186, "late": 1.0}
    assert list(training.checkpoints) == ["ckp87", "late"]
    assert training.warmup == 0.25
    assert training.final_checkpoint == "late"


def test_default_shares_count_epochs_of_186() -> None:
    epochs = (9, 23, 46, 87, 100, 140, 186)
    assert TrainingSettings(num_steps=186).checkpoint_steps() == {f"ckp{epoch}": epoch for epoch in epochs}


def test_merge_goes_mapping_by_mapping_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3]}, "e": 5}) == {"a": {"b": 1, "c": [3]}, "d": 4, "e": 5}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_the_scale_sets_what_the_arm_leaves_open_and_the_arm_wins() -> None:
    changed = study(settings={"model": {"norm": "post", "num_layers": 3}, "impl": {"threads": 2}})
    assert (changed.run("pld", 1).model.norm, changed.run("pld", 1).model.num_layers) == ("pre", 3)
    assert changed.impl.threads == 2


def test_data_root_reaches_the_data() -> None:
    moved = study(data_root="/somewhere")
    assert moved.data().root == "/somewhere"
    assert moved.run("baseline", 1) == study().run("baseline", 1)
    assert study().data().root is None


def test_runs_and_jobs_are_listed_paired_by_seed() -> None:
    changed = study(seeds=[1, 2], finetune={"groups": {"a": ["rte"], "b": ["cola", "sst2"]}})
    assert changed.pretrain_runs() == [("baseline", 1), ("pld", 1), ("baseline", 2), ("pld", 2)]
    jobs = changed.finetune_runs()
    assert ("baseline", 1, "ckp186", "a") in jobs
    assert ("pld", 2, "ckp87", "b") in jobs
    assert len(jobs) == 2 * (5 + 5) * 2
    fewer = study(seeds=[1, 2], finetune_checkpoints=["ckp100", "ckp186"])
    assert fewer.finetune_checkpoints("pld") == ("ckp100", "ckp186")
    assert fewer.finetune_checkpoints("preln") == ("ckp186",)
    assert fewer.finetune_checkpoints("baseline_higher") == ()


def test_a_study_fine_tunes_by_arm() -> None:
    """Each arm's own checkpoints; an arm that is not named is not fine-tuned; unknown names are refused."""
    one = study(finetune_checkpoints={"pld": ["ckp100", "ckp186"]})
    assert one.finetune_checkpoints("pld") == ("ckp100", "ckp186")
    assert one.finetune_checkpoints("baseline") == ()
    for wrong in (["ckp99"], {"pld": ["ckp99"]}, {"nobody": ["ckp186"]}):
        with pytest.raises(
            SettingsError, match=r"^finetune_checkpoints: (ckp99 not among |nobody: no such experiment)"
        ):
            study(finetune_checkpoints=wrong)


def test_tasks_come_in_the_order_of_their_groups() -> None:
    assert FinetuneSettings(groups={"a": ("rte",), "b": ("cola", "sst2")}).tasks == ("rte", "cola", "sst2")


def test_results_go_to_a_folder_named_after_the_scale() -> None:
    assert study().results == "results/small"
    assert study(results="there").results == "there"


def test_settings_from_text_json_and_yaml(tmp_path: Path) -> None:
    assert read_settings(DataSettings, '{"sequence_length": 64}').sequence_length == 64
    for name, text in (("a.json", '{"sequence_length": 32}'), ("a.yaml", "sequence_length: 32")):
        path = tmp_path / name
        path.write_text(text)
        assert read_settings(DataSettings, str(path)).sequence_length == 32
    with pytest.raises(SettingsError, match="settings: not readable as JSON"):
        read_settings(DataSettings, '{"sequence_length": ')
    with pytest.raises(SettingsError, match="settings: sequence_length: expected 8 or more"):
        read_settings(DataSettings, '{"sequence_length": 1}')


# ---- studies that are based on others ----


def write_study(folder: Path, name: str, **values: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"scale": name, "description": name, **values}))
    return path


def test_a_study_is_merged_over_its_base_mapping_by_mapping(tmp_path: Path) -> None:
    root = write_study(tmp_path, "root", **SMALL_STUDY)
    heir = write_study(tmp_path, "heir", base=str(root), seeds=[4, 5], settings={"training": {"num_steps": 200}})
    last = write_study(tmp_path, "last", base=str(heir), settings={"training": {"batch_size": 64}})
    resolved = load_study(last)
    run = resolved.run("pld", 5)
    assert (resolved.settings.scale, resolved.results, resolved.settings.seeds) == ("last", "results/last", (4, 5))
    assert (run.model.num_layers, run.training.num_steps, run.training.batch_size) == (2, 200, 64)
    assert "base" not in read_study(last)


def test_null_takes_back_what_a_base_sets(tmp_path: Path) -> None:
    root = write_study(tmp_path, "root", **SMALL_STUDY, probe_arms=["pld"], probe={"sequences": 32})
    heir = write_study(tmp_path, "heir", base=str(root), probe_arms=None, probe={"sequences": None})
    resolved = load_study(heir).settings
    assert (resolved.probe_arms, resolved.probe.sequences) == (None, 256)


def test_a_mapping_from_snakemake_is_merged_over_its_base(tmp_path: Path) -> None:
    """The command line's ``--config`` is in the mapping already, so it wins over the base."""
    root = write_study(tmp_path, "root", **SMALL_STUDY)
    resolved = load_study({"scale": "heir", "description": "", "base": str(root), "seeds": [9], "results": "there"})
    assert (resolved.pretrain_runs(), resolved.results) == ([("baseline", 9), ("pld", 9)], "there")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("{folder}/b.yaml", r"a\.yaml -> .*b\.yaml -> .*a\.yaml: `base` runs in a circle"),
        ("{folder}/none.yaml", r"none\.yaml"),
        (3, r"a\.yaml: base"),
    ],
)
def test_a_wrong_base_is_named(tmp_path: Path, base: Any, message: str) -> None:
    where = base.format(folder=tmp_path) if isinstance(base, str) else base
    a = write_study(tmp_path, "a", base=where)
    write_study(tmp_path, "b", base=str(a))
    with pytest.raises(SettingsError, match=message):
        load_study(a)


def test_the_gpu_study_is_the_papers_with_fewer_steps() -> None:
    gpu, paper = (load_study(Path(f"config/{name}.yaml")) for name in ("gpu", "paper"))
    ours, theirs = gpu.run("pld", 1), paper.run("pld", 1)
    assert (ours.model, ours.data, ours.drop) == (theirs.model, theirs.data, theirs.drop)
    assert (ours.training.num_steps, ours.training.batch_size, ours.training.bias_correction) == (20_000, 1024, True)
    assert not theirs.training.bias_correction


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("settings:\n  model: {}\n  model: {num_layers: 3}\n")
    with pytest.raises(SettingsError, match=r"twice\.yaml.*'model'.*line"):
        read_yaml(path)


# ---- grids ----


def test_a_grid_is_an_arm_for_each_combination_of_its_entries(tmp_path: Path) -> None:
    grid = {
        "label": "{depth}, {rate}",
        "description": "{depth} at {rate}",
        "finetune_checkpoints": [],
        "training": {"warmup": 0.1},
        "grid": {
            "depth": {"one": {"label": "1 layer", "model": {"num_layers": 1}}, "two": {"label": "2 layers"}},
            "rate": {"low": {"label": "low"}, "high": {"label": "HIGH", "training": {"learning_rate": "higher"}}},
        },
    }
    arms = read_experiments(write_experiments(tmp_path, shapes=grid))
    assert set(arms) == {"baseline", "one_low", "one_high", "two_low", "two_high"}
    assert arms["one_high"].label == "1 layer, HIGH"
    assert arms["one_high"].model == {"num_layers": 1}
    assert arms["one_high"].training == {"warmup": 0.1, "learning_rate": "higher"}
    assert (arms["two_low"].model, arms["two_low"].training) == ({}, {"warmup": 0.1})
    assert arms["two_low"].finetune_checkpoints == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": "one", "modle": {}}, "modle: unknown key"),
        ({"model": {}}, "grid.axis.arm.label"),
    ],
)
def test_a_wrong_grid_is_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    folder = write_experiments(tmp_path, some={"grid": {"axis": {"arm": entry}}})
    with pytest.raises(SettingsError, match=rf"some.yaml.*{message}"):
        read_experiments(folder)


def test_two_files_that_describe_one_arm_are_refused(tmp_path: Path) -> None:
    folder = write_experiments(tmp_path, arm={}, other={"grid": {"axis": {"arm": {"label": "again"}}}})
    with pytest.raises(SettingsError, match=r"other\.yaml, arm arm"):
        read_experiments(folder)


def test_the_shipped_grids_are_the_arms_of_the_overfitting_and_theta_exhibits() -> None:
    arms = read_experiments(EXPERIMENTS_FOLDER / "bert")
    assert sum(name.startswith("epochs") for name in arms) == 12
    assert arms["epochs1_neither"].label == "1 epoch, neither"
    assert (arms["epochs40_pld"].base, arms["epochs40_pld"].training) == ("pld", {"epochs": 40})
    assert arms["pld_theta30"].drop == {"dialect": "paper_alg1", "theta_bar": 0.3}


# ---- arms that are matched to another one ----


def test_arms_at_equal_cost_keep_as_many_layers_as_pld() -> None:
    paper = load_study(Path("config/paper.yaml"))
    for arm in ("random", "time_only", "depth_only", "linear", "cosine", "pld_reversed"):
        run = paper.run(arm, 1)
        assert run.matched_depth == "pld"
        assert mean_expected_depth(run.drop, 200_000, 12) == pytest.approx(9.2775, abs=1e-3)
    assert paper.run("random", 1).drop.theta_bar == pytest.approx(0.773, abs=1e-3)
    assert paper.run("shallow", 1).model.num_layers == 9
    assert paper.run("layerdrop", 1).matched_depth is None


def test_a_budget_is_the_expected_time_of_the_other_arm() -> None:
    run = load_study(Path("config/paper.yaml")).run("baseline_at_ckp100", 1)
    assert run.budget is not None
    assert (run.budget.arm, run.budget.checkpoint, run.budget.num_steps) == ("pld", "ckp100", 107_527)
    assert run.budget.model.norm == "pre"
    # 1.375 layers more for a share of 1/100 of 186/100 of the run, while theta falls to its limit.
    assert run.budget.kept_layers == pytest.approx(9.25 + 2.75 / 100 * 1.86, abs=1e-3)
    assert run.training.num_steps == 107_527
    assert run.training.decay == "linear"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": {"arm": "baseline", "checkpoint": "ckp5"}}, "budget.checkpoint: allowed: ckp9, ckp23"),
        ({"match_depth": {"arm": "baseline"}}, "match_depth: schedule none, allocation uniform: has no theta_bar"),
        ({"match_depth": {"arm": "arm"}}, "arm is itself matched to another arm"),
        ({"drop": {"dialect": "stacking"}}, "drop.allocation depth_truncation: allowed with model.norm pre"),
    ],
)
def test_a_match_that_cannot_be_is_named(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    folder = write_experiments(tmp_path, arm=values)
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_study({**SMALL, "arms": ["baseline", "arm"], "experiments": str(folder)})
