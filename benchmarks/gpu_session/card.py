"""The card itself: matrix products, copies, and which kernel of attention is the fastest."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu_session.session import ATTENTION, Session
from pldrepro.models.blocks import attend
from pldrepro.training.device import ATTENTION as KERNELS
from pldrepro.training.device import choose_attention

ROUNDS = 20
# Samples, heads, tokens, size of a head: BERT-base and GPT-2 small at the micro-batches of this session.
SHAPES = {"bert": (256, 12, 128, 64), "gpt": (16, 12, 1024, 64)}


def ceiling(session: Session) -> None:
    """Matrix products and copies, then kernels of attention."""
    if not (session.out / "ceiling.json").exists():
        session.part("ceiling", partial(products, session), 10)
    if not (session.out / ATTENTION).exists():
        session.part("attention", partial(attention, session), 10)


def products(session: Session) -> None:
    """Matrix product [FLOP/s] and copy bandwidth [bytes/s], the best of a few sizes, medians over repetitions.

    Squares say what the card can, K = 768 what the matrices of BERT-base can.
    """
    dtype = torch.float32 if session.quick else torch.bfloat16
    sizes = (64, 128) if session.quick else (4096, 8192, 16384)
    shapes = [(size, size, size) for size in sizes]
    shapes += [(32, 24, 96), (32, 96, 24)] if session.quick else [(32768, 768, 3072), (32768, 3072, 768)]
    rates = {}
    for rows, inner, columns in shapes:
        a = torch.randn(rows, inner, device=session.device, dtype=dtype)
        b = torch.randn(inner, columns, device=session.device, dtype=dtype)
        seconds = session.median_seconds(lambda a=a, b=b: a @ b, ROUNDS)  # type: ignore[misc]
        rates[f"{rows} x {inner} x {columns}"] = 2 * rows * inner * columns / seconds
    copies = {}
    for megabytes in (1, 2) if session.quick else (256, 1024):
        source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=session.device)
        target = torch.empty_like(source)
        seconds = session.median_seconds(partial(target.copy_, source), ROUNDS)
        copies[megabytes] = 2 * source.nbytes / seconds  # read once and written once
    session.write(
        "ceiling.json",
        {
            "dtype": str(dtype),
            "matrix_flops": max(rates.values()),
            "copy_bytes": max(copies.values()),
            "matrix_flops_by_size": rates,
            "copy_bytes_by_megabytes": copies,
        },
    )


def attention(session: Session) -> None:
    """Seconds of attention, forward and backward, by kernel; the fastest of each shape and dropout is chosen."""
    found: dict[str, dict[str, float]] = {}
    refused: dict[str, str] = {}
    try:
        for family, shape in SHAPES.items():
            for dropout in (0.0, 0.1):
                case = f"{family}, dropout {dropout:g}"
                found[case] = {}
                for kernel in KERNELS:
                    choose_attention(kernel)
                    try:
                        found[case][kernel] = attention_seconds(session, shape, dropout, causal=family == "gpt")
                    except (RuntimeError, torch.OutOfMemoryError) as error:
                        refused[f"{case}, {kernel}"] = str(error)[:200]
    finally:
        choose_attention("auto")
    chosen = {case: min(seconds, key=seconds.__getitem__) for case, seconds in found.items()}
    session.write(ATTENTION, {"seconds": found, "refused": refused, "chosen": chosen})


def attention_seconds(session: Session, shape: tuple[int, ...], dropout: float, causal: bool) -> float:
    """Seconds of a forward and a backward pass."""
    shape = (2, 2, 16, 8) if session.quick else shape
    dtype = torch.float32 if session.quick else torch.bfloat16
    inputs = [torch.randn(shape, device=session.device, dtype=dtype, requires_grad=True) for _ in range(3)]
    gradient = torch.randn(shape, device=session.device, dtype=dtype)

    def step() -> tuple[Tensor, ...]:
        output = attend(*inputs, attention_mask=None, dropout=dropout, causal=causal)
        return torch.autograd.grad(output, inputs, gradient)

    return session.median_seconds(step, ROUNDS)
