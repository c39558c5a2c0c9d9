"""What a start refuses or says at once: data that are not there, arms that the study has not, an old environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pldrepro.config import exhibits
from pldrepro.config.base import parse_yaml, read_mapping
from pldrepro.config.start import check_data, outdated
from pldrepro.config.study import Study, load_study
from pldrepro.errors import SettingsError
from pldrepro.exhibits.figures import FIGURES
from pldrepro.exhibits.tables import TABLES


def study(scale: str, **changes: Any) -> Study:
    """A shipped study with some keys changed, as --config does."""
    return load_study({**read_mapping(Path(f"config/{scale}.yaml")), **changes})


@pytest.mark.parametrize("scale", ["mini", "mini_gpt", "mini_images"])
def test_missing_data_are_named_with_what_is_expected(scale: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="data_root"):
        check_data(study(scale))
    with pytest.raises(SettingsError, match="nowhere: no such folder"):
        check_data(study(scale, data_root=str(tmp_path / "nowhere")))
    with pytest.raises(SettingsError, match=f"below {tmp_path}"):
        check_data(study(scale, data_root=str(tmp_path)))


def test_data_that_are_there_or_prepared_are_enough(tmp_path: Path) -> None:
    check_data(study("smoke"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/simple.txt").touch()
    few: dict[str, Any] = {"finetune_checkpoints": [], "data_root": str(tmp_path)}
    check_data(study("mini", **few))
    manifest = tmp_path / "results/data/corpus/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    check_data(study("mini", results=str(tmp_path / "results")))


def test_an_environment_of_other_requirements_is_said_to_be_out_of_date(tmp_path: Path) -> None:
    requirements, stamp = tmp_path / "requirements.txt", tmp_path / ".installed"
    assert outdated(tmp_path, requirements) is None
    requirements.write_text("numpy==2.0\n")
    stamp.write_text("numpy==2.0\n")
    assert outdated(tmp_path, requirements) is None
    requirements.write_text("numpy==2.1\n")
    assert "make setup" in str(outdated(tmp_path, requirements))


def test_fewer_arms_leave_out_what_the_file_says_of_the_others() -> None:
    few = study("demo", arms=["baseline", "pld"])
    assert few.settings.contrast_arms == ("baseline", "pld")
    assert study("demo_full", arms=["baseline", "pld"]).settings.probe_arms == ("baseline", "pld")
    assert few.settings.interleave is not None
    assert few.settings.interleave.arms == ("baseline", "pld")
    assert {arm for arm, *_ in few.finetune_runs()} == {"baseline", "pld"}
    named = {note.partition(":")[0] for note in few.notes}
    assert named >= {"contrast_arms", "finetune_checkpoints", "interleave.arms"}
    assert study("demo").notes == ()
    assert study("demo", arms=["baseline"]).settings.interleave is None


def test_companions_are_switched_off_by_null() -> None:
    assert study("demo").companions
    assert not study("demo", companions=parse_yaml("null", "")).companions


@pytest.mark.parametrize(
    ("scale", "runs"),
    [
        ("demo", {"table1": 4, "figure6": 2, "figure10": 3, "overfitting": 1, "memory": 5}),
        ("gpu", {"table1": 6, "figure6": 5, "figure10": 7, "overfitting": 1, "memory": 18}),
        ("paper", {"table1": 6, "figure6": 5, "figure10": 7, "overfitting": 1, "memory": 18}),
        ("demo_full", {"table1": 6, "figure6": 9, "figure10": 7, "overfitting": 13, "memory": 49}),
    ],
)
def test_an_exhibit_trains_the_arms_that_it_shows(scale: str, runs: dict[str, int]) -> None:
    """Arms that are trained for an exhibit, of the committed studies."""
    whole = study(scale, companions=None).result_set()
    found = {}
    for name in runs:
        part = exhibits.part_of("tables" if name in TABLES else "figures", name)
        found[name] = len({Path(file).parts[-3] for file in whole.of(part).studies[0].pretrain})
    assert found == runs


def test_every_exhibit_is_of_one_part() -> None:
    assert sorted(exhibits.TABLES) == sorted(TABLES)
    assert sorted(exhibits.FIGURES) == sorted(FIGURES)


def test_a_part_names_its_own_runs_only() -> None:
    whole = study("smoke").result_set()
    pld, cost, depth, sbld = (whole.of(exhibits.PARTS[name]) for name in ("pld", "cost", "depth", "sbld"))
    assert {Path(file).parts[3] for file in pld.files} == {"pretrain", "interleave", "calibration"}
    assert {Path(file).parts[4] for file in pld.studies[0].pretrain} == {"baseline", "preln_higher", "pld"}
    assert {Path(file).parts[3] for file in cost.files} == {"pretrain", "calibration"}
    assert "scores.csv" not in str(cost.inputs)
    assert {Path(file).parts[3] for file in depth.files} == {"pretrain", "probe", "calibration"}
    assert len(depth.studies[0].pretrain) < len(cost.studies[0].pretrain)
    assert {one.family for one in sbld.studies} == {"gpt", "swinv2"}
    alone = study("smoke", companions=None).result_set().of(exhibits.PARTS["sbld"])
    assert {Path(file).parts[4] for file in alone.studies[0].pretrain} == {"baseline"}
