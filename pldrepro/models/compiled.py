"""torch.compile as this suite uses it: a graph for each set of sizes, and never slow code without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., object])
# Variants of one function in a process: norms and families x train, evaluation and its gradients x sizes of batches.
MAX_VARIANTS = 64


def compiled(function: Function) -> Function:
    """The function, compiled anew for each set of sizes.

    All that is compiled from one function shares torch's memory of the sizes it has seen. With ``dynamic`` left open a
    second batch size makes every later graph, of other models too, one for any size: slower, and not the same kernels
    for arms that are compared. Beyond MAX_VARIANTS torch would go on uncompiled; here it raises.
    """
    from torch._dynamo import config  # 1 second

    config.recompile_limit = MAX_VARIANTS
    config.fail_on_recompile_limit_hit = True
    return torch.compile(function, dynamic=False)  # type: ignore[return-value]
