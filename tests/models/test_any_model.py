"""The example of docs/any_model.md runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "any_model.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(PAGE), "exec"), names)  # noqa: S102  # the code of our own page
    assert len(names["gated"]) == 4
    assert min(names["kept"]) < max(names["kept"]) == 4  # it does drop blocks, and not always
    assert names["losses"][0] > 2.5  # ln 16 = 2.77, what a guess costs
    assert float(names["loss"]) < 0.7
    assert re.search(r"blocks per step \d\.\d\d of 4; loss \d\.\d\d -> \d\.\d\d", capsys.readouterr().out)


def test_the_page_names_what_differs_and_what_is_refused() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for phrase in ("x + s (f(x) - x)", "allow_own_dropping=True", "use_cache=False", "PostLN"):
        assert phrase in text
