"""The data of curves: which methods are too far off to set the scale of a figure."""

import pandas as pd

from pldrepro.analysis.curves import is_far_above


def test_a_method_far_above_all_others_does_not_set_the_scale() -> None:
    losses = pd.Series([0.8, 0.9, 0.9, 1.0, 1.2, 1.6, 3.6])
    assert is_far_above(losses).tolist() == [False] * 6 + [True]
    assert not is_far_above(-losses).any(), "a good one is always shown"


def test_of_few_methods_all_are_shown() -> None:
    assert not is_far_above(pd.Series([0.8, 0.8, 0.8, 3.6])).any()
    assert is_far_above(pd.Series([0.8, 0.8, 0.8, 0.8, 3.6])).any()
