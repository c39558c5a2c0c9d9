"""Data sets of the hub are pinned by revision; what comes of any data can be demanded by hash."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pldrepro.config.base import read_yaml
from pldrepro.config.data import DataSettings, HubImages, HubSettings, HubText, ImageDataSettings
from pldrepro.config.study import load_study
from pldrepro.data.corpus import prepare_corpus
from pldrepro.data.glue import prepare_glue
from pldrepro.data.images import prepare_images
from pldrepro.data.sources import hub, image_files
from pldrepro.data.sources.hub import CONVERTED, check_pinned
from pldrepro.errors import DataError, SettingsError

REPOSITORY = Path(__file__).resolve().parents[2]


def hub_entries(values: Any) -> list[dict[str, Any]]:
    """Every mapping of a configuration that names a data set of the hub."""
    if isinstance(values, list):
        return [entry for value in values for entry in hub_entries(value)]
    if not isinstance(values, dict):
        return []
    found = [entry for value in values.values() for entry in hub_entries(value)]
    if "glue_path" in values or "glue_revision" in values:
        found.append({"path": values.get("glue_path", "nyu-mll/glue"), "revision": values.get("glue_revision")})
    return found + ([values] if "path" in values and "/" in str(values["path"]) else [])


def test_every_shipped_data_set_of_the_hub_is_pinned() -> None:
    entries = [
        entry for path in sorted((REPOSITORY / "config").glob("*.yaml")) for entry in hub_entries(read_yaml(path))
    ]
    assert len(entries) >= 6
    for entry in entries:
        assert entry["revision"] == CONVERTED or re.fullmatch("[0-9a-f]{40}", entry["revision"]), entry
        check_pinned(entry["path"], entry["revision"], "data.hub", "path", "revision")


@pytest.mark.parametrize("revision", ["main", "v1.0", "0123456", "refs/pr/1", "F" * 40])
def test_a_revision_that_can_move_is_refused(revision: str) -> None:
    with pytest.raises(SettingsError, match=r"data\.hub\.text\.0\.revision"):
        hub.HubSource(HubSettings(text=(HubText(path="a/b", revision=revision),)))
    with pytest.raises(SettingsError, match=r"data\.hub\.revision"):
        image_files.ImageHubSource(HubImages(path="a/b", revision=revision), 8)


def test_prepared_data_that_are_not_what_is_demanded_are_refused_with_both_hashes(tmp_path: Path) -> None:
    data = {
        "miniature": {"num_documents": 60, "train_examples": 8, "dev_examples": 8},
        "vocab_size": 128,
        "validation_ratio": 10,
    }

    def corpus(**more: Any) -> str:
        settings = DataSettings.model_validate({**data, **more})
        return str(prepare_corpus(settings, tmp_path / "corpus", workers=1, progress=False).hash)

    right = corpus()
    with pytest.raises(DataError, match=rf"corpus: .*{right}.*data_hash"):
        corpus(hash="0" * 64)
    assert not (tmp_path / "corpus/manifest.json").exists()
    assert corpus(hash=right) == right
    glue = DataSettings.model_validate({**data, "glue_hash": "0" * 64})
    with pytest.raises(DataError, match=r"glue: .*glue_hash"):
        prepare_glue(glue, ("rte",), 32, tmp_path / "corpus", tmp_path / "glue", progress=False)
    assert not (tmp_path / "glue/manifest.json").exists()
    images = ImageDataSettings(kind="images", image_size=8, hash="0" * 64)
    with pytest.raises(DataError, match=r"images: .*data_hash"):
        prepare_images(images, tmp_path / "images", progress=False)
    assert not (tmp_path / "images/manifest.json").exists()


def test_hashes_belong_to_the_preparation_and_not_to_what_a_run_is() -> None:
    plain = load_study(REPOSITORY / "config/mini.yaml")
    study = load_study({**read_yaml(REPOSITORY / "config/mini.yaml"), "data_hash": "0" * 64, "glue_hash": "1" * 64})
    data = study.data()
    assert isinstance(data, DataSettings)
    assert (data.hash, data.glue_hash) == ("0" * 64, "1" * 64)
    assert study.run("pld", 1) == plain.run("pld", 1)
