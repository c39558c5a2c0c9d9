"""Gates on plain models of transformers: nothing of the model changes but what a gate says."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    BartConfig,
    BartModel,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetModel,
    Swinv2Config,
    Swinv2ForImageClassification,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from pldrepro.models.gated import gate_blocks
from pldrepro.policy.drop import Gate, all_kept

TEXT = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2}
BLOCKS = {"num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16, "hidden_size": 8}
MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "BERT": (lambda: BertForSequenceClassification(BertConfig(**BLOCKS, vocab_size=60)), "bert.encoder.layer"),
    "GPT-2": (
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=4, n_head=2, n_positions=16, **TEXT)),
        "transformer.h",
    ),
    "Llama": (lambda: LlamaForCausalLM(LlamaConfig(**BLOCKS, **TEXT)), "model.layers"),
    "DistilBERT": (
        lambda: DistilBertModel(DistilBertConfig(dim=8, n_layers=4, n_heads=2, hidden_dim=16, vocab_size=60)),
        "transformer.layer",
    ),
    "T5 encoder": (
        lambda: T5EncoderModel(T5Config(d_model=8, d_kv=4, num_layers=4, num_heads=2, d_ff=16, vocab_size=60)),
        "encoder.block",
    ),
    "ViT": (lambda: ViTForImageClassification(ViTConfig(**BLOCKS, image_size=8, patch_size=2)), ""),
    "SwinV2": (lambda: swin(), ""),
    "torch": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 4),
        "layers",
    ),
}
DROPPED = (Gate(True), Gate(True, 1.5), Gate(False), Gate(True))


def swin(**values: Any) -> Swinv2ForImageClassification:
    shape = {"embed_dim": 8, "depths": [1, 3], "num_heads": [1, 2], "image_size": 8, "patch_size": 2, "window_size": 2}
    return Swinv2ForImageClassification(Swinv2Config(**{"drop_path_rate": 0.0, **shape, **values}))


@pytest.fixture(params=MODELS, ids=list(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name][0]()
    for parameter in model.parameters():  # at the start, blocks of BERT are hardly more than their LayerNorm
        if parameter.dim() > 1:
            parameter.data.normal_(0.0, 0.3)
    return model.eval()


def run(model: nn.Module, name: str, **more: Any) -> Tensor:
    if name == "torch":
        return model(torch.linspace(-1, 1, 40).view(1, 5, 8))
    if name in ("ViT", "SwinV2"):
        return model(pixel_values=torch.linspace(-1, 1, 192).view(1, 3, 8, 8), **more).logits
    cache = {"use_cache": False} if name in ("GPT-2", "Llama") else {}
    return model(input_ids=torch.tensor([[5, 9, 3, 7, 4]]), **{**cache, **more})[0]


def test_outside_and_all_kept_the_model_is_the_plain_one_bit_for_bit(name: str) -> None:
    model = build(name)
    plain, keys, parameters = run(model, name), list(model.state_dict()), list(dict(model.named_parameters()))
    gated = gate_blocks(model)
    assert len(gated) == 4
    assert torch.equal(run(model, name), plain)
    with gated.using():
        assert torch.equal(run(model, name), plain)
    with gated.using(DROPPED):
        assert not torch.allclose(run(model, name), plain)
    assert torch.equal(run(model, name), plain)
    assert list(model.state_dict()) == keys
    assert list(dict(model.named_parameters())) == parameters


def test_a_dropped_block_is_the_identity_and_gets_no_gradient(name: str) -> None:
    model = build(name).train()
    gated = gate_blocks(model)
    seen: list[Tensor] = []
    gated.blocks[2].register_forward_hook(
        lambda module, args, output: seen.extend((args[0], output[0] if isinstance(output, tuple) else output))
    )
    with gated.using(DROPPED):
        run(model, name).square().sum().backward()
    assert seen[0] is seen[1]
    for index, block in enumerate(gated.blocks):
        assert all(parameter.grad is None for parameter in block.parameters()) == (index == 2)


def test_a_dropped_block_is_not_computed(name: str) -> None:
    model = build(name)
    gated = gate_blocks(model)
    calls: list[int] = []
    norm = next(module for module in gated.blocks[2].modules() if "Norm" in type(module).__name__)
    norm.register_forward_hook(lambda *_: calls.append(1))
    with gated.using():
        run(model, name)
    once = len(calls)
    assert once
    with gated.using(DROPPED):
        run(model, name)
        run(model, name)
    assert len(calls) == once


def test_to_learn_what_a_block_returns_costs_no_random_number() -> None:
    """A block that is dropped before it was ever kept is computed once, unnoticed."""
    after = []
    for first in (DROPPED, all_kept(4)):
        model = build("BERT").train()  # with dropout
        gated = gate_blocks(model)
        with gated.using(first):
            run(model, "BERT")
        torch.manual_seed(1)
        with gated.using(DROPPED):
            run(model, "BERT")
        after.append(torch.rand(4))
    fresh = build("BERT").train()
    gated = gate_blocks(fresh)
    torch.manual_seed(1)
    with gated.using(DROPPED):
        run(fresh, "BERT")
    after.append(torch.rand(4))
    assert torch.equal(after[0], after[1])
    assert torch.equal(after[0], after[2])


def test_a_kept_block_is_scaled_as_a_whole(name: str) -> None:
    model = build(name)
    gated = gate_blocks(model)
    seen: list[Tensor] = []
    for block in gated.blocks[:1]:
        block.register_forward_hook(
            lambda module, args, output: seen.extend((args[0], output[0] if isinstance(output, tuple) else output))
        )
    with gated.using():
        run(model, name)
    with gated.using([Gate(True, 3.0), *all_kept(3)]):
        run(model, name)
    (x, plain, again, scaled) = seen
    assert torch.equal(x, again)
    assert torch.allclose(scaled, 3 * plain - 2 * x, rtol=1e-5, atol=1e-5)


def test_a_scale_may_be_a_tensor_with_a_gradient(name: str) -> None:
    model = build(name)
    gated = gate_blocks(model)
    scale = torch.ones((), requires_grad=True)
    with gated.using([Gate(True, scale), *all_kept(3)]):  # type: ignore[arg-type]
        output = run(model, name)
    output.square().sum().backward()
    assert torch.allclose(output, run(model, name), rtol=1e-5, atol=1e-5)
    assert scale.grad is not None
    assert scale.grad != 0


@pytest.mark.parametrize("name", [name for name in MODELS if name != "torch"])
def test_a_gated_model_is_saved_and_loaded_as_ever(name: str, tmp_path: Path) -> None:
    model: Any = build(name)
    plain = run(model, name)
    gated = gate_blocks(model)
    with gated.using(DROPPED):
        model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    # Weights that lie elsewhere in memory may be summed in another order.
    assert torch.allclose(run(loaded, name), plain, rtol=1e-5, atol=1e-6)
    gate_blocks(loaded)


def test_the_blocks_are_found_or_named(name: str) -> None:
    model = build(name)
    found = gate_blocks(model)
    blocks, path = found.blocks, MODELS[name][1]
    found.remove()
    if path:
        assert found.names == tuple(f"{path}.{index}" for index in range(4))
        assert gate_blocks(model, blocks=path).blocks == blocks
    else:
        assert gate_blocks(model, blocks=blocks).blocks == blocks


def test_the_blocks_of_stages_are_one_list() -> None:
    model = swin()
    gated = gate_blocks(model)
    places = ((0, 0), (1, 0), (1, 1), (1, 2))
    assert gated.names == tuple(f"swinv2.encoder.layers.{stage}.blocks.{block}" for stage, block in places)
    gated.remove()
    names = ("swinv2.encoder.layers.0.blocks", "swinv2.encoder.layers.1.blocks")
    assert gate_blocks(model, blocks=names).names == gated.names
    gate_blocks(swin(), blocks="swinv2.encoder.layers.*.blocks")


def test_removed_gates_leave_nothing(name: str) -> None:
    model = build(name)
    gated = gate_blocks(model)
    assert all("forward" in vars(block) for block in gated.blocks)
    with pytest.raises(ValueError, match="has a gate already"):
        gate_blocks(model)
    gated.remove()
    assert not any("forward" in vars(block) for block in gated.blocks)
    gate_blocks(model)


def test_a_forward_that_was_replaced_before_comes_back() -> None:
    model = build("BERT")
    block: Any = model.get_submodule("bert.encoder.layer.1")
    calls: list[int] = []
    original = block.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    block.forward = counting
    gated = gate_blocks(model)
    with gated.using():
        run(model, "BERT")
    assert calls == [1]
    gated.remove()
    assert block.forward is counting


def test_a_copy_of_the_model_is_not_tied_to_the_original() -> None:
    model = build("BERT")
    plain = run(model, "BERT")
    gated = gate_blocks(model)
    other = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    assert torch.equal(run(other, "BERT"), plain)
    with gated.using(DROPPED):
        assert torch.equal(run(other, "BERT"), plain)


def test_contexts_nest_and_end_with_an_error() -> None:
    model = build("BERT")
    plain = run(model, "BERT")
    gated = gate_blocks(model)
    with gated.using(DROPPED):
        outer = run(model, "BERT")
        with gated.using():
            assert torch.equal(run(model, "BERT"), plain)
        assert torch.equal(run(model, "BERT"), outer)
    with pytest.raises(KeyError), gated.using(DROPPED):
        raise KeyError
    assert torch.equal(run(model, "BERT"), plain)


def test_one_gate_per_block() -> None:
    gated = gate_blocks(build("GPT-2"))
    with pytest.raises(ValueError, match="3 gates for 4 blocks"), gated.using(all_kept(3)):
        pass


@pytest.mark.parametrize("name", ["GPT-2", "Llama"])
def test_a_cache_is_refused_under_gates(name: str) -> None:
    model = build(name)
    gated = gate_blocks(model)
    run(model, name, use_cache=True)
    with (
        gated.using(DROPPED),
        pytest.raises(ValueError, match="cache"),
    ):
        run(model, name, use_cache=True)


def test_gradient_checkpointing_recomputes_what_was_computed() -> None:
    def gradients(name: str, checkpointing: bool) -> list[Tensor | None]:
        model: Any = build(name).train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable()
        gated = gate_blocks(model)
        with gated.using(DROPPED):
            run(model, name).square().sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    for name in ("BERT", "SwinV2"):
        for plain, again in zip(gradients(name, False), gradients(name, True), strict=True):
            assert (plain is None) == (again is None)
            assert plain is None or torch.allclose(plain, again, rtol=1e-4, atol=1e-6)


def test_models_that_drop_layers_themselves_are_refused_unless_told() -> None:
    dropping = swin(drop_path_rate=0.1)
    with pytest.raises(ValueError, match=r"config\.drop_path_rate 0\.1.*allow_own_dropping"):
        gate_blocks(dropping)
    assert len(gate_blocks(dropping, allow_own_dropping=True)) == 4
    quiet: Any = swin(drop_path_rate=0.1)
    quiet.config.drop_path_rate = 0.0  # the modules still have it
    with pytest.raises(ValueError, match=r"drop_path.drop_prob"):
        gate_blocks(quiet)
    small = {**BLOCKS, "conv_dim": (8,), "conv_kernel": (3,), "conv_stride": (2,), "num_feat_extract_layers": 1}
    speech = {**small, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    with pytest.raises(ValueError, match=r"Wav2Vec2Model.*config\.layerdrop 0\.1"):
        gate_blocks(Wav2Vec2Model(Wav2Vec2Config(**speech)))
    assert len(gate_blocks(Wav2Vec2Model(Wav2Vec2Config(**speech, layerdrop=0.0)))) == 4


def test_what_makes_no_single_list_is_refused_with_the_candidates() -> None:
    shape = {"d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "encoder_layers": 2, "decoder_layers": 3}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 60}
    bart = BartModel(BartConfig(**shape, **heads))
    lists = r"encoder.layers \(2 x BartEncoderLayer\), decoder.layers \(3 x BartDecoderLayer\)"
    with pytest.raises(ValueError, match=rf"BartModel: .*{lists}"):
        gate_blocks(bart)
    with pytest.raises(ValueError, match=rf"blocks: .*'decoder.blocks'.*{lists}"):
        gate_blocks(bart, blocks="decoder.blocks")
    with pytest.raises(ValueError, match="blocks: 'encoder'"):
        gate_blocks(bart, blocks="encoder")
    with pytest.raises(ValueError, match="blocks: empty"):
        gate_blocks(bart, blocks=[])
    with pytest.raises(ValueError, match="a block is listed twice"):
        gate_blocks(bart, blocks=["decoder.layers", "decoder.layers"])
    with pytest.raises(ValueError, match="Linear: not a module of the model"):
        gate_blocks(bart, blocks=[nn.Linear(1, 1)])
    assert len(gate_blocks(bart, blocks="decoder.layers")) == 3
    shared = AlbertModel(AlbertConfig(**BLOCKS, embedding_size=8, vocab_size=60))  # one block, used four times
    with pytest.raises(ValueError, match="AlbertModel"):
        gate_blocks(shared)


def test_blocks_that_change_the_shape_are_refused() -> None:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    model = ResNetModel(ResNetConfig(**sizes)).eval()
    gated = gate_blocks(model, blocks="encoder.stages")
    with (
        gated.using([Gate(True), Gate(False)]),
        pytest.raises(ValueError, match=r"stages.1"),
    ):
        model(torch.zeros(1, 3, 16, 16))


def test_a_block_that_others_depend_on_cannot_be_dropped() -> None:
    model = build("T5 encoder")
    gated = gate_blocks(model)
    with (
        gated.using([Gate(False), *all_kept(3)]),
        pytest.raises(ValueError, match=r"encoder.block.0"),
    ):
        run(model, "T5 encoder")
    attentive = swin()
    gated = gate_blocks(attentive)
    with gated.using(DROPPED):
        run(attentive, "SwinV2")
        with pytest.raises(ValueError, match=r"blocks.1"):
            run(attentive, "SwinV2", output_attentions=True)
