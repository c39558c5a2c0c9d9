"""The benchmark of several ranks: bytes by kept layers, from two real processes."""

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import ranks
from pldrepro.files import read_json


def test_each_kept_layer_adds_its_gradients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranks.main(["--shape", "tiny", "--rounds", "3", "--sequence-length", "16", "--out", str(tmp_path)])
    steps = read_json(tmp_path / "ranks.json")["steps"]
    sent = [step["bytes"] for step in steps if step["way"] == "overlapped"]
    assert [b - a for a, b in pairwise(sent)] == [4 * 2224] * 4
    assert sent == [step["bytes"] for step in steps if step["way"] == "after the backward pass"]
    assert [step["kept"] for step in steps] == [0, 1, 2, 3, 4] * 3
    assert all(step["seconds"] > 0 for step in steps)
    assert capsys.readouterr().out.startswith("tiny, 2 ranks, loopback: layers kept, MB sent")
