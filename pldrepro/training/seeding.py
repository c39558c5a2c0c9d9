"""Seeds of dropout: a function of (seed, step, micro step, rank)."""

from __future__ import annotations

import torch

from pldrepro.policy import drop


def seed_dropout(seed: int, step: int, micro_step: int, rank: int = 0) -> None:
    """Make dropout a function of (seed, step, micro step, rank), so that a resumed run draws the same masks."""
    number = int(drop.uniform_draw("dropout", seed, step, micro_step, *([rank] if rank else [])) * 2**53)
    # torch.manual_seed would seed every kind of device, present or not, which takes 0.4 ms.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)
