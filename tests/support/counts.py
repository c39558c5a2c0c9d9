"""What a piece of torch code makes: operations, bytes that are written, and the largest tensor among them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = ("view", "transpose", "t", "permute", "unbind", "split", "slice", "select", "expand", "unsqueeze", "squeeze", "detach", "alias", "_unsafe_view", "as_strided")  # fmt: skip  # noqa: E501


class Written(TorchDispatchMode):
    """Counts what is computed inside of it; views write nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.largest = 0  # elements

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        outputs = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            tensors = [value for value in torch.utils._pytree.tree_leaves(outputs) if isinstance(value, Tensor)]
            self.operations[name] += 1
            self.bytes[name] += sum(tensor.nbytes for tensor in tensors)
            self.largest = max(self.largest, *(tensor.numel() for tensor in tensors), 0)
        return outputs
