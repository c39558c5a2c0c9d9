"""Reading prepared arrays, and refusing data that are not the ones demanded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pldrepro.errors import DataError

if TYPE_CHECKING:
    import numpy as np


def read_arrays(path: Path, verb: str) -> dict[str, np.ndarray]:
    """The arrays of a prepared file; a missing or damaged one is a DataError that says which verb makes it again."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `{verb}` again") from None
    except SafetensorError as error:
        raise DataError(f"{path}: damaged or cut short ({error}); run `{verb}` again") from None


def check_hash(found: str, demanded: str | None, key: str, out: Path) -> None:
    """Refuse prepared data that are not what the settings demand; they are left without a manifest."""
    if demanded is not None and found != demanded:
        raise DataError(f"{out}: prepared data with hash {found}; {key} demands {demanded}")
