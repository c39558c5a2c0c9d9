"""Names that become folders and wildcards, and the folder of the results."""

from __future__ import annotations

from pathlib import Path

import pytest

from pldrepro.config.base import read_yaml, validate
from pldrepro.config.recorded import RecordedSettings
from pldrepro.config.scale import StudySettings
from pldrepro.config.study import load_study
from pldrepro.errors import SettingsError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["", "-rf", "a b", "a;b", "$(x)", "../up", "a/b", "a\n", "{a}", "é", "a" * 101, "'"])
def test_names_are_letters_and_digits(name: str) -> None:
    values = {**read_yaml(REPOSITORY / "config/smoke.yaml"), "companions": {}}
    for change in (
        {"scale": name}, {"arms": ["baseline", name]}, {"companions": {name: "config/smoke_gpt.yaml"}},
        {"finetune": {**values["finetune"], "groups": {name: ["rte"]}}}, {"probe_arms": [name]},
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=next(iter(change))):
            load_study({**values, **change})


@pytest.mark.parametrize("results", ["-x", "a{b}", "a\nb", "a\x00b", "\x1b[2J"])
def test_a_results_folder_that_the_workflow_cannot_name_is_refused(results: str) -> None:
    values = {**read_yaml(REPOSITORY / "config/smoke.yaml"), "results": results}
    with pytest.raises(SettingsError, match="results"):
        validate(StudySettings, values, "configuration")
    with pytest.raises(SettingsError, match="results"):
        validate(
            RecordedSettings,
            {"scale": "recorded", "description": "", "results": results, "recorded": {"a": ["b"]}},
            "configuration",
        )
