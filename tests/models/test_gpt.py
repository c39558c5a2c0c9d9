"""The decoder: causality, gates, scales, initial weights, dropout and the compiled block."""

import shutil

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)

from pldrepro.config.base import validate
from pldrepro.config.model import ModelSettings
from pldrepro.errors import SettingsError
from pldrepro.models.blocks import attend, initialise
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import Gate, all_kept

SHAPE = {
    "family": "gpt",
    "norm": "pre",
    "num_layers": 3,
    "hidden_size": 16,
    "num_heads": 2,
    "ffn_size": 24,
    "vocab_size": 50,
    "max_positions": 12,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "init_std": 0.3,
}


def model_settings(**changes: object) -> ModelSettings:
    return ModelSettings.model_validate({**SHAPE, **changes})


def decoder(**changes: object) -> Gpt:
    model = Gpt(model_settings(**changes))
    initialise(model, 1)
    return model


def token_ids(batch: int = 2, sequence: int = 8) -> torch.Tensor:
    return torch.randint(0, 50, (batch, sequence), generator=torch.Generator().manual_seed(0))


def test_all_blocks_kept_equal_the_plain_model_bit_for_bit():
    model, ids = decoder(), token_ids()
    plain = model.embed(ids)
    for block in model.blocks:
        plain = block(plain, None, 1.0)
    plain = F.linear(model.final_norm(plain), model.word_embeddings.weight)
    assert plain.shape == (2, 8, 50)
    assert torch.equal(model(ids, all_kept(3)), plain)
    assert torch.equal(model(ids, all_kept(3, scales=(1.0, 1.0, 1.0))), plain)
    assert torch.equal(model(ids, [Gate(True, torch.ones(()))] * 3), plain)


def test_the_block_is_the_textbook_block():
    block, x = decoder().blocks[1], torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    query, key, value = (
        part.view(2, 5, 2, 8).transpose(1, 2) for part in block.qkv(block.attention_norm(x)).chunk(3, -1)
    )
    scores = query @ key.transpose(-1, -2) / 8**0.5
    for row in range(5):
        scores[:, :, row, row + 1 :] = -torch.inf
    mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(2, 5, 16)
    h = x + block.attention_output(mixed)
    z = block.ffn_up(block.ffn_norm(h))
    gelu_new = 0.5 * z * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (z + 0.044715 * z**3)))
    torch.testing.assert_close(block(x, None, 1.0), h + block.ffn_down(gelu_new), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["evaluation", "training"])
def test_no_position_sees_a_later_token(mode):
    # With dropout the written-out attention is at work; next to none changes no element.
    model, ids = decoder(attention_dropout=0.0 if mode == "evaluation" else 1e-9), token_ids()
    model.train(mode == "training")
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 50
    before, after = model(ids, all_kept(3)), model(changed, all_kept(3))
    torch.testing.assert_close(after[:, :5], before[:, :5], atol=1e-6, rtol=0)
    assert (after[:, 5:] - before[:, 5:]).abs().amax(-1).min() > 1e-3


def test_a_shorter_sequence_has_the_logits_of_the_start_of_a_longer_one():
    model, ids = decoder().eval(), token_ids()
    torch.testing.assert_close(model(ids[:, :3], all_kept(3)), model(ids, all_kept(3))[:, :3], atol=1e-5, rtol=0)


def test_a_dropped_block_is_the_identity_and_gets_no_gradient():
    model, ids = decoder(), token_ids()
    output = model(ids, (Gate(True), Gate(False), Gate(True)))
    shorter = model.blocks[2](model.blocks[0](model.embed(ids), None, 1.0), None, 1.0)
    assert torch.equal(output, model.logits(model.final_norm(shorter)))
    output.sum().backward()
    assert all(parameter.grad is None for parameter in model.blocks[1].parameters())
    assert all(parameter.grad is not None for parameter in model.blocks[2].parameters())
    nothing = model.hidden(ids, (Gate(False),) * 3)
    assert torch.equal(nothing, model.final_norm(model.embed(ids)))


def test_a_dropped_block_is_not_called():
    model = decoder()
    model.blocks[1] = torch.nn.Module()  # has no forward
    model(token_ids(), (Gate(True), Gate(False), Gate(True)))


def test_a_scale_that_is_a_tensor_gets_the_gradient_of_the_loss():
    model, ids = decoder(), token_ids()
    scale = torch.ones((), requires_grad=True)
    model(ids, (Gate(True), Gate(True, scale), Gate(True)))[0, 3, 7].backward()
    with torch.no_grad():
        up, down = (model(ids, (Gate(True), Gate(True, 1 + step), Gate(True)))[0, 3, 7] for step in (1e-2, -1e-2))
    assert scale.grad.item() == pytest.approx((up - down).item() / 2e-2, rel=1e-2)
    assert abs(scale.grad.item()) > 1e-2


def test_a_wrong_number_of_gates_and_a_long_sequence_are_refused():
    with pytest.raises(ValueError, match="2 gates for 3 layers"):
        decoder()(token_ids(), all_kept(2))
    with pytest.raises(ValueError, match="sequence length 13 exceeds max_positions 12"):
        decoder()(token_ids(sequence=13), all_kept(3))


def test_a_decoder_has_gpt_settings():
    with pytest.raises(ValueError, match="family bert"):
        Gpt(model_settings(family="bert"))
    with pytest.raises(SettingsError, match="family gpt"):
        validate(ModelSettings, {**SHAPE, "norm": "post"}, "test")


def test_the_head_shares_the_word_embeddings():
    names = [name for name, p in decoder().named_parameters() if p.shape == (50, 16)]
    assert names == ["word_embeddings.weight"]


def test_initial_weights_depend_on_the_seed_alone_and_output_projections_on_depth():
    deep, shallow = Gpt(model_settings(num_layers=8)), Gpt(model_settings(num_layers=2))
    for model in (deep, shallow):
        torch.manual_seed(hash(model) % 1000)
        initialise(model, 7)
    of_deep = dict(deep.named_parameters())
    for name, parameter in shallow.named_parameters():
        expected = of_deep[name] * (2.0 if name.endswith(("attention_output.weight", "ffn_down.weight")) else 1.0)
        torch.testing.assert_close(parameter, expected, msg=name)


def test_initial_weights_have_the_set_spread():
    model = Gpt(model_settings(num_layers=8, hidden_size=64, init_std=0.02, vocab_size=500))
    initialise(model, 3)
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.numel() > 1000:
            of_output = "attention_output" in name or "ffn_down" in name
            assert parameter.std().item() == pytest.approx(0.005 if of_output else 0.02, rel=0.1), name


def test_dropout_acts_in_training_only():
    for kind in ("dropout", "attention_dropout"):
        model, ids = decoder(**{kind: 0.5}), token_ids()
        assert not torch.equal(model(ids, all_kept(3)), model(ids, all_kept(3)))
        model.eval()
        assert torch.equal(model(ids, all_kept(3)), model(ids, all_kept(3)))
    embedded = decoder(dropout=0.5).embed(token_ids())
    assert (embedded == 0).float().mean().item() == pytest.approx(0.5, abs=0.15)


def test_causal_attention_with_dropout_has_the_weights_of_the_fused_one():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4, generator=generator) for _ in range(3))
    fused = attend(query, key, value, None, 0.0, causal=True)
    torch.testing.assert_close(attend(query, key, value, None, 1e-9, causal=True), fused)
    torch.manual_seed(0)
    mean = torch.stack([attend(query, key, value, None, 0.2, causal=True) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, fused, atol=0.1, rtol=0)


def test_bfloat16_autocast_stays_near_float32():
    model, ids = decoder(init_std=0.1), token_ids()
    gates = (Gate(True, 1.25), Gate(False), Gate(True))
    exact = model(ids, gates)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(ids, gates)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_one_compilation_serves_all_layers_gates_and_scales():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager, compiled, ids = decoder(), decoder(), token_ids()
    compiled.compile_blocks()
    for gates in (all_kept(3), (Gate(True, 1.1), Gate(False), Gate(True, 1.3)), (Gate(False), Gate(False), Gate(True))):
        eager.zero_grad()
        compiled.zero_grad()
        expected, output = eager(ids, gates), compiled(ids, gates)
        torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
        expected.square().mean().backward()
        output.square().mean().backward()
        for (name, ours), theirs in zip(compiled.named_parameters(), eager.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None), name
            if ours.grad is not None:
                torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
