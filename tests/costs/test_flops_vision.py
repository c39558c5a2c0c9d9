"""FLOPs and parameters of the image models, against hand-worked values, torch's own counter and the real models."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pldrepro.config.model import VisionSettings
from pldrepro.costs.flops_vision import POSITION_BIAS_HIDDEN, block_flops, fixed_flops, stages, vision_parameter_count
from pldrepro.policy.drop import Gate, all_kept

SWIN: dict[str, Any] = {"family": "swinv2", "hidden_size": 8, "init_std": 0.1}
SHAPES = {
    "windows that fill the stages": {
        **SWIN, "image_size": 16, "patch_size": 2, "stages": (2, 1), "num_heads": (1, 2), "window_size": 4,
    },
    "windows that need padding": {
        **SWIN, "image_size": 24, "patch_size": 2, "stages": (2, 3), "num_heads": (1, 2), "window_size": 5,
    },
    "windows larger than a stage": {
        **SWIN, "image_size": 16, "patch_size": 4, "stages": (1, 1, 1), "num_heads": (2, 2, 4), "window_size": 4,
    },
    "ViT": {
        "family": "vit", "image_size": 16, "patch_size": 4, "stages": (3,), "hidden_size": 12, "num_heads": (3,),
        "init_std": 0.1,
    },
}  # fmt: skip


def position_bias_flops(settings: VisionSettings) -> float:
    """Forward FLOPs of SwinV2's relative position bias MLPs, per forward pass with all blocks kept, not per image."""
    if settings.family == "vit":
        return 0.0
    return float(
        sum(
            stage.num_blocks * 2 * (2 * stage.window - 1) ** 2 * POSITION_BIAS_HIDDEN * (2 + stage.num_heads)
            for stage in stages(settings)
        )
    )


@pytest.fixture(params=SHAPES, ids=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> VisionSettings:
    return VisionSettings(**SHAPES[request.param])


def test_worked_by_hand() -> None:
    # 8 x 8 patches of hidden size 8 in windows of 4 x 4, then 4 x 4 patches of 16 in one window.
    settings = VisionSettings(**SHAPES["windows that fill the stages"])
    first = 2 * 64 * 4 * 64 + 4 * 64 * 16 * 8 + 2 * 64 * 2 * 8 * 32
    second = 2 * 16 * 4 * 256 + 4 * 16 * 16 * 16 + 2 * 16 * 2 * 16 * 64
    assert (first, second) == (131072, 114688)
    assert block_flops(settings) == (131072.0, 131072.0, 114688.0)
    assert fixed_flops(settings) == 2 * 64 * 8 * 12 + 2 * 16 * 32 * 16 + 2 * 16 * 10
    assert position_bias_flops(settings) == 2 * 49 * 512 * (3 + 3 + 4)
    assert [stage.window for stage in stages(settings)] == [4, 4]


def test_a_vit_worked_by_hand() -> None:
    settings = VisionSettings(**SHAPES["ViT"])
    assert block_flops(settings) == (2 * 17 * (4 * 144 + 2 * 12 * 48) + 4 * 17 * 17 * 12,) * 3
    assert fixed_flops(settings) == 2 * 16 * 12 * 48 + 2 * 12 * 10


def test_parameters_equal_the_real_models(shape: VisionSettings) -> None:
    from pldrepro.models.vision import VisionModel

    model = VisionModel(shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == vision_parameter_count(shape)


@pytest.mark.parametrize("kept", ["all", "one"])
def test_flops_equal_those_that_torch_counts(shape: VisionSettings, kept: str) -> None:
    """But for the position bias MLP, which is not per image and is stated apart."""
    from pldrepro.models.vision import VisionModel

    model = VisionModel(shape).eval()
    if shape.family == "vit":
        model.classifier.set_attn_implementation("eager")  # the counter does not know the CPU's fused attention
    gates = all_kept(shape.num_layers) if kept == "all" else (Gate(True), *(Gate(False),) * (shape.num_layers - 1))
    counted = []
    for size in (2, 3):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(size, 3, shape.image_size, shape.image_size), gates)
        counted.append(counter.get_total_flops())
    per_image = fixed_flops(shape) + sum(block_flops(shape)[: shape.num_layers if kept == "all" else 1])
    assert counted[1] - counted[0] == per_image
    if kept == "all":
        assert counted[0] - 2 * per_image == position_bias_flops(shape)
