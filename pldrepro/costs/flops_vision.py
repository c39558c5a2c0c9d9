"""Floating-point operations and parameters of the image models, from the shapes.

As in ``pldrepro.costs.flops``: a multiplication and an addition count as two operations, only matrix products and the
convolution of the patches are counted, and everything here is one forward pass. Not counted is SwinV2's relative
position bias MLP, which runs once per block and forward pass however many images there are: less than a thousandth
of a block at 64 images.

Notation: r patches of a side of a stage, w of a window, H hidden size of the stage, F = FFN_RATIO H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pldrepro.config.model import FFN_RATIO, VisionSettings

CHANNELS = 3
POSITION_BIAS_HIDDEN = 512  # hidden units of SwinV2's relative position bias MLP


@dataclass(frozen=True)
class Stage:
    """The shape that all blocks of a stage share."""

    num_blocks: int
    hidden: int
    num_heads: int
    ffn: int
    side: int  # patches
    window: int  # patches of a side of an attention window


def stages(settings: VisionSettings) -> tuple[Stage, ...]:
    """The stages in order; a ViT is one stage."""
    side = settings.image_size // settings.patch_size
    return tuple(
        Stage(
            num_blocks,
            settings.hidden_size * 2**index,
            settings.num_heads[index],
            FFN_RATIO * settings.hidden_size * 2**index,
            side // 2**index,
            min(side // 2**index, settings.window_size),
        )
        for index, num_blocks in enumerate(settings.stages)
    )


def block_flops(settings: VisionSettings) -> tuple[float, ...]:
    """Forward FLOPs per image of each block, in order of depth; shape (L,).

    ViT, S = r^2 + 1 tokens: 2 S (4 H^2 + 2 H F) + 4 S^2 H. SwinV2, S = r^2 patches, in windows S' = S, padded to a
    multiple of w a side: 2 S' 4 H^2 + 2 S 2 H F + 4 S' w^2 H.
    """
    flops: list[float] = []
    for stage in stages(settings):
        if settings.family == "vit":
            tokens = in_windows = attended = stage.side**2 + 1
        else:
            tokens, attended = stage.side**2, stage.window**2
            in_windows = (math.ceil(stage.side / stage.window) * stage.window) ** 2
        projections = 2 * in_windows * 4 * stage.hidden**2
        attention = 4 * in_windows * attended * stage.hidden
        feed_forward = 2 * tokens * 2 * stage.hidden * stage.ffn
        flops += [float(projections + attention + feed_forward)] * stage.num_blocks
    return tuple(flops)


def fixed_flops(settings: VisionSettings) -> float:
    """Forward FLOPs per image of what no gate skips: patch embedding, merging between stages (4 r^2 H^2), head."""
    first, *_, last = (*stages(settings), stages(settings)[-1])
    embedding = 2 * first.side**2 * first.hidden * CHANNELS * settings.patch_size**2
    merging = sum(4 * stage.side**2 * stage.hidden**2 for stage in stages(settings)[:-1])
    return float(embedding + merging + 2 * last.hidden * settings.num_classes)


def vision_parameter_count(settings: VisionSettings) -> int:
    """Number of parameters of the classifier."""
    all_stages = stages(settings)
    first, last = all_stages[0], all_stages[-1]
    embedding = CHANNELS * settings.patch_size**2 * first.hidden + first.hidden
    head = 2 * last.hidden + last.hidden * settings.num_classes + settings.num_classes  # the final LayerNorm, too
    if settings.family == "vit":
        embedding += (first.side**2 + 2) * first.hidden  # positions of the patches and of [CLS], and [CLS]
    else:
        embedding += 2 * first.hidden
    merging = sum(8 * stage.hidden**2 + 4 * stage.hidden for stage in all_stages[:-1])
    return (
        embedding + sum(stage.num_blocks * _block_parameters(settings, stage) for stage in all_stages) + merging + head
    )


def _block_parameters(settings: VisionSettings, stage: Stage) -> int:
    hidden, ffn = stage.hidden, stage.ffn
    shared = 4 * hidden**2 + 2 * hidden * ffn + ffn + hidden + 4 * hidden  # the projections, and two LayerNorms
    if settings.family == "vit":
        return shared + 4 * hidden
    position_bias = POSITION_BIAS_HIDDEN * (2 + 1 + stage.num_heads)
    return shared + 3 * hidden + stage.num_heads + position_bias  # keys have no bias; a logit scale per head
