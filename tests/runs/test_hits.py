"""Hits of single items: two bits each, and back."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pldrepro.errors import RecordError
from pldrepro.runs.hits import load_hits, pack, save_hits, unpack

ANY = st.lists(st.sampled_from([0.0, 0.5, 1.0, float("nan")]), max_size=40)


@given(ANY)
def test_hits_come_back_from_two_bits_each(values: list[float]) -> None:
    hits = np.array(values, np.float32)
    packed = pack(hits)
    assert packed.dtype == np.uint8
    assert len(packed) == -(-len(values) // 4)
    assert np.array_equal(unpack(packed, len(values)), hits, equal_nan=True)


def test_the_first_item_is_in_the_lowest_bits() -> None:
    assert pack(np.array([1.0, 0.5, 0.0, np.nan])).tolist() == [2 + 4 * 1 + 16 * 0 + 64 * 3]


def test_another_number_of_items_is_refused() -> None:
    with pytest.raises(ValueError, match="9 items"):
        unpack(pack(np.zeros(8)), 9)


def test_a_file_holds_every_checkpoint_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hits.safetensors"
    save_hits(path, {"ckp9/zorro": np.array([1.0, 0.0, 0.5]), "ckp186/zorro": np.ones(3)})
    assert load_hits(path, {"ckp9/zorro": 3})["ckp9/zorro"].tolist() == [1.0, 0.0, 0.5]
    for counts in ({"ckp9/blimp": 3}, {"ckp9/zorro": 5}):
        with pytest.raises(RecordError, match=r"hits\.safetensors"):
            load_hits(path, counts)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RecordError, match=r"hits\.safetensors"):
        load_hits(path, {"ckp9/zorro": 3})
