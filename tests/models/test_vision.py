"""The image models: the plain model of transformers bit for bit, gates on blocks, scales on sublayers, files."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageClassification, Swinv2Config

from pldrepro.config.model import VisionSettings
from pldrepro.errors import SettingsError
from pldrepro.models.checkpoints.vision import save_vision
from pldrepro.models.vision import VisionModel, initialise_vision, normalise
from pldrepro.policy.drop import Gate, all_kept

SWIN = VisionSettings(
    family="swinv2", image_size=16, patch_size=2, stages=(2, 2), hidden_size=8, num_heads=(1, 2), window_size=4,
    init_std=0.2,
)  # fmt: skip
VIT = VisionSettings(
    family="vit", image_size=16, patch_size=4, stages=(4,), hidden_size=8, num_heads=(2,), init_std=0.2
)  # fmt: skip
SCALES = (0.5, 1.0, 0.0, 1.5)


@pytest.fixture(params=[SWIN, VIT], ids=["swinv2", "vit"])
def settings(request: pytest.FixtureRequest) -> VisionSettings:
    return request.param


def build(settings: VisionSettings, seed: int = 1) -> VisionModel:
    model = VisionModel(settings)
    initialise_vision(model, seed)
    return model.eval()


def pixels(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_all_kept_is_the_plain_model_bit_for_bit(settings: VisionSettings) -> None:
    model = build(settings)
    plain = type(model.classifier)(model.classifier.config).eval()  # not wrapped
    plain.load_state_dict(model.classifier.state_dict())
    logits = model(pixels(), all_kept(4))
    assert logits.shape == (3, 10)
    assert torch.equal(logits, plain(pixels()).logits)
    assert torch.equal(logits, model.classifier(pixels()).logits)
    assert list(plain.state_dict()) == list(model.classifier.state_dict())


def test_a_dropped_block_is_the_identity_and_gets_no_gradient(settings: VisionSettings) -> None:
    model = build(settings).train()
    seen: list[Tensor] = []
    model.blocks[2].register_forward_hook(
        lambda module, args, output: seen.extend((args[0], output[0] if isinstance(output, tuple) else output))
    )
    model(pixels(), [Gate(True), Gate(True), Gate(False), Gate(True)]).sum().backward()
    assert seen[0] is seen[1]
    for index, block in enumerate(model.blocks):
        assert all((parameter.grad is None) == (index == 2) for parameter in block.parameters())


def test_a_dropped_block_is_never_computed(settings: VisionSettings) -> None:
    model = build(settings)
    calls: list[int] = []
    for block in model.blocks:
        block.layernorm_after.register_forward_hook(lambda *_: calls.append(1))
    model(pixels(), [Gate(False), Gate(False), Gate(False), Gate(True)])
    assert len(calls) == 1


def test_the_down_sampling_runs_when_every_block_is_dropped() -> None:
    model = build(SWIN).train()
    model(pixels(), [Gate(False)] * 4).sum().backward()
    merging = model.classifier.swinv2.encoder.layers[0].downsample
    assert all(parameter.grad is not None for parameter in merging.parameters())


def test_the_blocks_are_those_of_all_stages_in_order() -> None:
    model = VisionModel(SWIN.model_copy(update={"stages": (1, 3)}))
    assert [block.layernorm_after.normalized_shape[0] for block in model.blocks] == [8, 16, 16, 16]


def test_the_scale_acts_on_each_sublayer(settings: VisionSettings) -> None:
    """x' = h + s f(h) with h = x + s g(x), worked out here from the block's own modules."""
    model = build(settings)
    block: Any = model.blocks[0]
    seen: list[Tensor] = []
    block.register_forward_hook(
        lambda module, args, output: seen.extend((args[0], output[0] if isinstance(output, tuple) else output))
    )
    model(pixels(), [Gate(True, 3.0), *all_kept(3)])
    (x, scaled), s = seen, 3.0
    if settings.family == "swinv2":
        attended: list[Tensor] = []
        block.layernorm_before.register_forward_hook(lambda module, args, output: attended.append(output))
        model(pixels(), all_kept(4))
        h = x + s * attended[0]
        expected = h + s * block.layernorm_after(block.output(block.intermediate(h)))
    else:
        h = x + s * block.attention(block.layernorm_before(x))[0]
        expected = h + s * block.mlp(block.layernorm_after(h))
    assert torch.allclose(scaled, expected, rtol=1e-5, atol=1e-6)


def test_a_scale_lasts_for_one_forward_pass(settings: VisionSettings) -> None:
    model = build(settings)
    before = model(pixels(), all_kept(4))
    assert not torch.equal(model(pixels(), all_kept(4, (2.0,) * 4)), before)
    assert torch.equal(model.classifier(pixels()).logits, before)


def test_a_scale_may_be_a_tensor_with_a_gradient(settings: VisionSettings) -> None:
    model = build(settings)
    scale = torch.ones((), requires_grad=True)
    logits = model(pixels(), [Gate(True, scale), *all_kept(3)])  # type: ignore[arg-type]
    logits.square().sum().backward()
    assert torch.equal(logits, model(pixels(), all_kept(4)))
    assert scale.grad is not None
    assert scale.grad != 0


def test_one_gate_per_block(settings: VisionSettings) -> None:
    with pytest.raises(ValueError, match="3 gates for 4 blocks"):
        build(settings)(pixels(), all_kept(3))


def test_drop_path_is_the_settings_and_never_transformers_default() -> None:
    assert Swinv2Config().drop_path_rate == 0.1  # the hidden confound
    model = build(SWIN).train()
    assert model.classifier.config.drop_path_rate == 0
    assert torch.equal(model(pixels(), all_kept(4)), model(pixels(), all_kept(4)))
    dropping = VisionModel(SWIN.model_copy(update={"drop_path_rate": 0.6}))
    rates = [getattr(block.drop_path.inner, "drop_prob", 0.0) for block in dropping.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.0, 0.2, 0.4, 0.6])
    initialise_vision(dropping, 1)
    torch.manual_seed(0)
    assert not torch.equal(dropping(pixels(), all_kept(4)), dropping(pixels(), all_kept(4)))
    assert torch.equal(dropping.eval()(pixels(), all_kept(4)), model.eval()(pixels(), all_kept(4)))


def test_initial_weights_depend_on_seed_and_name_alone() -> None:
    deep = build(SWIN)
    torch.manual_seed(9)
    shallow = build(SWIN.model_copy(update={"stages": (1, 2)}))
    for name, parameter in shallow.named_parameters():
        assert torch.equal(parameter, deep.get_parameter(name)), name
    other = build(SWIN, seed=2)
    name = "classifier.classifier.weight"
    assert not torch.equal(other.get_parameter(name), deep.get_parameter(name))


def test_initial_weights_have_the_distributions_of_transformers() -> None:
    settings = SWIN.model_copy(update={"hidden_size": 32, "num_heads": (1, 2), "init_std": 0.05})
    model = build(settings)
    for name, value in type(model.classifier)(model.classifier.config).named_parameters():
        parameter, ours = value.detach(), model.get_parameter(f"classifier.{name}").detach()
        assert float(ours.mean()) == pytest.approx(float(parameter.mean()), abs=0.02), name
        if parameter.numel() >= 500:
            assert float(ours.std()) == pytest.approx(float(parameter.std()), rel=0.2), name
    logit_scale = model.get_parameter("classifier.swinv2.encoder.layers.0.blocks.0.attention.self.logit_scale")
    assert float(logit_scale.detach().exp()) == pytest.approx(10)


def test_compilation_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"impl.compile"):
        VisionModel(VIT).compile_blocks()


def test_a_copy_has_gates_of_its_own(settings: VisionSettings) -> None:
    model = build(settings)
    gates = [Gate(True), Gate(False), Gate(True, 2.0), Gate(True)]
    expected = model(pixels(), gates)
    other = copy.deepcopy(model)
    initialise_vision(model, 7)
    assert torch.equal(other(pixels(), gates), expected)


def test_normalised_pixels() -> None:
    raw = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)  # one image of one pixel
    values = normalise(raw, mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 1.0))
    assert values.shape == (1, 3, 1, 1)
    assert values.dtype == torch.float32
    assert values.flatten().tolist() == [-1.0, 2.0, 0.0]


def test_a_saved_model_is_loaded_by_transformers(settings: VisionSettings, tmp_path: Path) -> None:
    model = build(settings)
    save_vision(model, settings, tmp_path)
    plain = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    logits = model(pixels(), all_kept(4))
    for name, value in model.classifier.state_dict().items():
        assert torch.equal(plain.state_dict()[name], value), name
    # Weights that lie elsewhere in memory may be summed in another order.
    assert torch.allclose(plain(pixels()).logits, logits, rtol=1e-5, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_scales_are_folded_into_a_saved_model(settings: VisionSettings, tmp_path: Path) -> None:
    model = build(settings)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_vision(model, settings, tmp_path, SCALES)
    plain = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    gates = [Gate(scale > 0, scale) for scale in SCALES]
    assert torch.allclose(plain(pixels()).logits, model(pixels(), gates), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(plain(pixels()).logits, model(pixels(), all_kept(4)), rtol=1e-2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="3 scales for 4 layers"):
        save_vision(model, settings, tmp_path, SCALES[:3])


def test_a_run_on_text_does_not_import_transformers() -> None:
    code = "import sys, pldrepro.training.pretrain; assert 'transformers' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""
