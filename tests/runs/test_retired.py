"""Settings that an earlier version wrote are read in today's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pldrepro.archives import SUFFIX, read_archive
from pldrepro.errors import RecordError
from pldrepro.files import write_json
from pldrepro.records import Versioned, read_record
from pldrepro.runs.manifest import differences, settings_of
from pldrepro.runs.retired import in_todays_names
from pldrepro.runs.schema import FinetuneJob, PretrainJob

# As version 1 wrote them, less what has the same name and meaning today.
TRAINING = {
    "num_steps": 2500, "batch_size": 32, "learning_rates": {"same": 0.003, "higher": 0.006}, "learning_rate": "same",
    "decay_factor": 0.99, "decay_intervals": 200, "epsilon": 1e-08, "max_gradient_norm": 1.0,
}  # fmt: skip
DROP = {
    "dialect": "stacking", "schedule": "halving", "reverse": True, "theta_bar": 0.25, "allocation": "first",
    "block_share": 0.125, "allow_share": 0.25, "allow_weight": 3.0, "joining_layers": "copy_below",
    "residual_scale": "none", "unit": "micro_batch", "if_all_dropped": "run_all",
}  # fmt: skip
OLD: dict[str, Any] = {
    "scale": "mini_gpt", "arm": "stacking", "label": "a growing stack", "seed": 1,
    "model": {"family": "gpt", "norm": "pre", "num_layers": 6, "hidden_size": 64, "num_heads": 4},
    "data": {"kind": "text", "source": "files", "tokenizer": "bpe"},
    "training": TRAINING, "drop": DROP, "impl": {"micro_batch_size": 32},
}  # fmt: skip


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "settings.json", OLD)
    write_json(
        tmp_path / "provenance.json",
        {
            "commit": "0", "versions": {}, "platform": "", "processor": "", "cpu_count": 1, "device": {"type": "cpu"},
            "corpus": {"hash": "abc"},
        },
    )  # fmt: skip
    return tmp_path


def test_an_earlier_run_and_one_of_today_with_the_same_settings_are_equal(run_folder: Path) -> None:
    earlier = settings_of(run_folder)
    training, drop = earlier.training, earlier.drop
    assert (training.learning_rates.baseline, training.learning_rates.higher) == (0.003, 0.006)
    assert (training.learning_rate, training.peak_learning_rate) == ("baseline", 0.003)
    assert (drop.allocation, drop.resample_gates, drop.empty_draw) == ("depth_truncation", "micro_batch", "run_all")
    assert (drop.protected_fraction, drop.droppable_fraction, drop.droppable_weight) == (0.125, 0.25, 3.0)
    assert drop.new_layer_init == "copy_below"
    today = earlier.model_validate_json(earlier.model_dump_json())
    assert differences(run_folder, today, "abc") == []
    changed = today.model_copy(update={"drop": drop.model_copy(update={"empty_draw": "identity"})})
    assert differences(run_folder, changed, "abc") == ["drop.empty_draw"]


@pytest.mark.parametrize(("changed", "found"), [("train_examples", []), ("num_documents", ["data.miniature"])])
def test_pre_training_does_not_read_glue(run_folder: Path, changed: str, found: list[str]) -> None:
    earlier = settings_of(run_folder)
    miniature = earlier.data.miniature.model_copy(update={changed: 77})
    today = earlier.model_copy(update={"data": earlier.data.model_copy(update={"miniature": miniature})})
    assert differences(run_folder, today, "abc") == found


def test_settings_of_today_stay_as_they_are(run_folder: Path) -> None:
    today = settings_of(run_folder).model_dump(mode="json")
    assert in_todays_names(today) == today


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("training", "max_gradient_norm", 0.5),  # not today's constant
        ("drop", "empty_draw", "identity"),  # both names are there
        ("drop", "unit", "epoch"),
    ],
)
def test_what_has_no_equal_today_is_refused(run_folder: Path, group: str, key: str, value: object) -> None:
    write_json(run_folder / "settings.json", {**OLD, group: {**OLD[group], key: value}})
    with pytest.raises(RecordError, match=group):
        settings_of(run_folder)


@pytest.mark.parametrize(("kind", "record"), [("pretrain", PretrainJob), ("finetune", FinetuneJob)])
def test_committed_settings_hold_nothing_that_is_unknown_today(
    tmp_path: Path, kind: str, record: type[Versioned]
) -> None:
    archives = sorted(Path("results/recorded").glob(f"*/{kind}/**/*{SUFFIX}"))
    assert len(archives) > 20
    for archive in archives:
        (tmp_path / "settings.json").write_bytes(read_archive(archive)["settings.json"])
        assert read_record(tmp_path / "settings.json", record, unknown="forbid")


@pytest.mark.parametrize("damaged", [[], 3, {"drop": []}, {"training": {"learning_rates": 1}}, {"training": None}])
def test_damaged_settings_are_left_for_the_reader_to_refuse(damaged: object) -> None:
    assert in_todays_names(damaged) == damaged
