"""The encoder: gates, scales, initialisation, the heads, autocast and the compiled block."""

import shutil

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from hypothesis import given, settings
from hypothesis import strategies as st

from pldrepro.config.model import ModelSettings
from pldrepro.models.bert import Bert, BertForPreTraining, BertForSequenceClassification
from pldrepro.models.blocks import Block, attend, drop_elements, initialise
from pldrepro.policy.drop import Gate, all_kept
from tests.support.counts import Written

NORMS = ("post", "pre")
SHAPE = {
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


def model_settings(norm: str, **changes: object) -> ModelSettings:
    return ModelSettings.model_validate({"norm": norm, **SHAPE, **changes})


def encoder(norm: str, **changes: object) -> Bert:
    model = Bert(model_settings(norm, **changes))
    initialise(model, 1)
    return model


def token_ids(batch: int = 2, sequence: int = 8) -> torch.Tensor:
    return torch.randint(1, 50, (batch, sequence), generator=torch.Generator().manual_seed(0))


def plain_block(block: Block, x: torch.Tensor) -> torch.Tensor:
    """The textbook block: separate matrices, attention written out, no gate and no scale."""
    batch, sequence, size = x.shape

    def attend(y: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.view(batch, sequence, 2, size // 2).transpose(1, 2) for part in block.qkv(y).chunk(3, -1)
        )
        weights = torch.softmax(query @ key.transpose(-1, -2) / (size // 2) ** 0.5, dim=-1)
        return block.attention_output((weights @ value).transpose(1, 2).reshape(batch, sequence, size))

    def feed(y: torch.Tensor) -> torch.Tensor:
        return block.ffn_down(F.gelu(block.ffn_up(y)))

    if block.pre_norm:
        h = x + attend(block.attention_norm(x))
        return h + feed(block.ffn_norm(h))
    h = block.attention_norm(x + attend(x))
    return block.ffn_norm(h + feed(h))


@pytest.mark.parametrize("norm", NORMS)
def test_all_blocks_kept_equal_the_plain_model_bit_for_bit(norm):
    model, ids = encoder(norm), token_ids()
    plain = model.embed(ids, None)
    for block in model.blocks:
        plain = block(plain, None, 1.0)
    plain = model.final_norm(plain)
    assert torch.equal(model(ids, None, None, all_kept(3)), plain)
    assert torch.equal(model(ids, None, None, all_kept(3, scales=(1.0, 1.0, 1.0))), plain)


@pytest.mark.parametrize("norm", NORMS)
def test_a_scale_of_one_changes_no_bit_as_float_or_as_tensor(norm):
    block, x = encoder(norm).blocks[0], torch.randn(2, 5, 16)
    assert torch.equal(block(x, None, 1.0), block(x, None, torch.ones(())))


@pytest.mark.parametrize("norm", NORMS)
def test_the_block_is_the_textbook_block(norm):
    block, x = encoder(norm).blocks[1], torch.randn(2, 5, 16)
    torch.testing.assert_close(block(x, None, 1.0), plain_block(block, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_dropped_block_is_the_identity_and_gets_no_gradient(norm):
    model, ids = encoder(norm), token_ids()
    output = model(ids, None, None, (Gate(True), Gate(False), Gate(True)))
    hidden = model.embed(ids, None)
    shorter = model.blocks[2](model.blocks[0](hidden, None, 1.0), None, 1.0)
    assert torch.equal(output, model.final_norm(shorter))
    output.sum().backward()
    assert all(parameter.grad is None for parameter in model.blocks[1].parameters())
    assert all(parameter.grad is not None for parameter in model.blocks[2].parameters())


@pytest.mark.parametrize("norm", NORMS)
def test_all_blocks_dropped_leaves_the_embeddings(norm):
    model, ids = encoder(norm), token_ids()
    output = model(ids, None, None, (Gate(False),) * 3)
    assert torch.equal(output, model.final_norm(model.embed(ids, None)))


def test_a_dropped_block_is_not_called():
    model = encoder("pre")
    model.blocks[1] = torch.nn.Module()  # has no forward
    model(token_ids(), None, None, (Gate(True), Gate(False), Gate(True)))


@given(keep_prob=st.floats(0.1, 1.0))
@settings(deadline=None, max_examples=20)
def test_one_over_p_scales_both_sublayers_of_a_switchable_block(keep_prob):
    block, x = encoder("pre").blocks[0], torch.ones(1, 3, 16).cumsum(-1)
    with torch.no_grad():
        block.ffn_down.weight.zero_()
    attention = block(x, None, 1.0) - x
    torch.testing.assert_close(block(x, None, 1 / keep_prob) - x, attention / keep_prob, atol=1e-4, rtol=1e-4)
    block = encoder("pre").blocks[0]
    with torch.no_grad():
        block.attention_output.weight.zero_()
    feed_forward = block(x, None, 1.0) - x
    torch.testing.assert_close(block(x, None, 1 / keep_prob) - x, feed_forward / keep_prob, atol=1e-4, rtol=1e-4)


def test_a_post_norm_block_scales_both_sublayers_before_their_norm():
    block, x = encoder("post").blocks[0], torch.randn(2, 5, 16)
    scaled = encoder("post").blocks[0]
    with torch.no_grad():
        for projection in (scaled.attention_output, scaled.ffn_down):
            projection.weight.mul_(1.25)
            projection.bias.mul_(1.25)
    torch.testing.assert_close(block(x, None, 1.25), scaled(x, None, 1.0))
    assert not torch.allclose(block(x, None, 1.25), block(x, None, 1.0), atol=1e-3)


def test_a_wrong_number_of_gates_is_refused():
    with pytest.raises(ValueError, match="2 gates for 3 layers"):
        encoder("pre")(token_ids(), None, None, all_kept(2))
    with pytest.raises(ValueError, match="2 scales for 3 layers"):
        all_kept(3, scales=(1.0, 0.5))


def test_a_sequence_longer_than_the_table_of_positions_is_refused():
    with pytest.raises(ValueError, match="sequence length 13 exceeds max_positions 12"):
        encoder("pre")(token_ids(sequence=13), None, None, all_kept(3))


@pytest.mark.parametrize("norm", NORMS)
def test_padding_does_not_reach_real_tokens(norm):
    model, ids = encoder(norm), token_ids()
    real = torch.ones(2, 8, dtype=torch.bool)
    torch.testing.assert_close(model(ids, None, real, all_kept(3)), model(ids, None, None, all_kept(3)))
    real[:, 6:] = False
    padded = ids.clone()
    padded[:, 6:] = 0
    short = model(ids[:, :6], None, None, all_kept(3))
    torch.testing.assert_close(model(padded, None, real, all_kept(3))[:, :6], short, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_no_token_types_means_type_zero(norm):
    model, ids = encoder(norm), token_ids()
    without = model(ids, None, None, all_kept(3))
    assert torch.equal(model(ids, torch.zeros_like(ids), None, all_kept(3)), without)
    assert not torch.allclose(model(ids, torch.ones_like(ids), None, all_kept(3)), without)


def test_predictions_are_made_at_the_given_positions_only():
    model, ids = BertForPreTraining(model_settings("pre")), token_ids()
    initialise(model, 1)
    positions = torch.tensor([[1, 4, 6], [0, 2, 7]])
    mlm_logits, nsp_logits = model(ids, None, positions, all_kept(3))
    assert mlm_logits.shape == (6, 50)
    assert nsp_logits.shape == (2, 2)
    everywhere, _ = model(ids, None, torch.arange(8).expand(2, 8), all_kept(3))
    expected = everywhere.view(2, 8, 50)[torch.tensor([0, 0, 0, 1, 1, 1]), positions.flatten()]
    torch.testing.assert_close(mlm_logits, expected, atol=1e-5, rtol=1e-5)


def test_the_decoder_shares_the_word_embeddings():
    model = BertForPreTraining(model_settings("pre"))
    assert [name for name, p in model.named_parameters() if p.shape == (50, 16)] == ["bert.word_embeddings.weight"]


def test_initial_weights_depend_on_the_seed_alone():
    post, pre = BertForPreTraining(model_settings("post")), BertForPreTraining(model_settings("pre"))
    classifier = BertForSequenceClassification(model_settings("pre", num_layers=2), num_labels=3)
    for model in (post, pre, classifier):
        torch.manual_seed(hash(model) % 1000)
        initialise(model, 7)
    of_pre = dict(pre.named_parameters())
    assert all(torch.equal(p, of_pre[name]) for name, p in post.named_parameters())
    assert set(of_pre) - set(dict(post.named_parameters())) == {"bert.final_norm.weight", "bert.final_norm.bias"}
    shared = [name for name, _ in classifier.named_parameters() if name in of_pre]
    assert len(shared) > 20
    assert all(torch.equal(classifier.get_parameter(name), of_pre[name]) for name in shared)
    before = pre.bert.word_embeddings.weight.clone()
    initialise(pre, 8)
    assert not torch.equal(before, pre.bert.word_embeddings.weight)


def test_initial_weights_have_the_set_spread():
    model = BertForPreTraining(model_settings("post", hidden_size=64, init_std=0.02, vocab_size=500))
    initialise(model, 3)
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
            assert abs(parameter.mean().item()) < 0.002, name


def test_dropout_acts_in_training_only():
    model, ids = encoder("pre", dropout=0.5, attention_dropout=0.5), token_ids()
    assert not torch.equal(model(ids, None, None, all_kept(3)), model(ids, None, None, all_kept(3)))
    model.eval()
    assert torch.equal(model(ids, None, None, all_kept(3)), model(ids, None, None, all_kept(3)))


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(dropout):
    torch.manual_seed(0)
    values = torch.full((301, 333), 2.0, requires_grad=True)
    dropped = drop_elements(values, dropout)
    assert (dropped == 0).float().mean().item() == pytest.approx(dropout, abs=0.01)
    assert dropped.mean().item() == pytest.approx(2.0, rel=0.03)
    assert dropped.unique().tolist() == pytest.approx([0.0, 2 / (1 - dropout)], rel=1e-4)
    dropped.sum().backward()
    assert torch.equal(values.grad * 2, dropped)


@given(dropout=st.floats(0, 1, exclude_max=True), count=st.integers(1, 9))
@settings(deadline=None)
def test_dropout_of_any_size_and_probability_gives_zeros_or_scaled_values(dropout, count):
    dropped = drop_elements(torch.ones(count), dropout)
    assert dropped.shape == (count,)
    assert ((dropped == 0) | (dropped >= 1)).all()


def test_dropout_decides_neighbours_independently():
    torch.manual_seed(0)
    zero = (drop_elements(torch.ones(40_000), 0.5) == 0).float() - 0.5
    for distance in (1, 2, 3, 4):
        assert abs((zero[distance:] * zero[:-distance]).mean().item()) < 0.01


def test_no_dropout_or_next_to_none_changes_nothing():
    values = torch.randn(50)
    assert torch.equal(drop_elements(values, 0.0), values)
    assert torch.equal(drop_elements(values, 1e-9), values)


def test_attention_with_dropout_has_the_weights_of_the_fused_one():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4, generator=generator) for _ in range(3))
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])[:, None, None, :]
    for attention_mask in (None, mask):
        fused = attend(query, key, value, attention_mask, 0.0)
        torch.testing.assert_close(attend(query, key, value, attention_mask, 1e-9), fused)
    torch.manual_seed(0)
    mean = torch.stack([attend(query, key, value, mask, 0.2) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, fused, atol=0.1, rtol=0)
    assert not torch.equal(attend(query, key, value, mask, 0.2), attend(query, key, value, mask, 0.2))


@pytest.mark.parametrize("norm", NORMS)
def test_bfloat16_autocast_stays_near_float32(norm):
    model, ids = BertForPreTraining(model_settings(norm, init_std=0.1)), token_ids()
    initialise(model, 1)
    positions = torch.tensor([[1, 4], [0, 2]])
    gates = (Gate(True, 1.25), Gate(False), Gate(True))
    exact, _ = model(ids, None, positions, gates)
    with torch.autocast("cpu", torch.bfloat16):
        rough, nsp_logits = model(ids, None, positions, gates)
    assert rough.dtype == nsp_logits.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)
    rough.float().sum().backward()
    assert model.bert.blocks[0].qkv.weight.grad.dtype == torch.float32


def test_gradients_of_query_key_and_value_are_put_together_once():
    block = Block(model_settings("pre"))
    output = block(torch.randn(2, 5, 16), None, 1.0).sum()
    with Written() as written:
        output.backward()
    assert written.operations["stack"] == 1
    assert written.operations["clone"] == 0


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_stream_in_bfloat16_writes_fewer_bytes_and_stays_so(norm):
    written = []
    for dtype in (torch.float32, torch.bfloat16):
        model = encoder(norm)
        model.blocks.residual_dtype = dtype
        with torch.autocast("cpu", dtype=torch.bfloat16), Written() as counts:
            hidden = model.blocks(model.embed(token_ids(), None), None, all_kept(3))
            assert hidden.dtype == dtype
            hidden.float().sum().backward()
        written.append(counts)
    wide, narrow = (sum(counts.bytes.values()) for counts in written)
    assert narrow < 0.9 * wide


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_one_compilation_serves_all_layers_gates_and_scales():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager, compiled, ids = encoder("pre"), encoder("pre"), token_ids()
    compiled.compile_blocks()
    for gates in (all_kept(3), (Gate(True, 1.1), Gate(False), Gate(True, 1.3)), (Gate(False), Gate(False), Gate(True))):
        eager.zero_grad()
        compiled.zero_grad()
        expected, output = eager(ids, None, None, gates), compiled(ids, None, None, gates)
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
        (expected**2).sum().backward()
        (output**2).sum().backward()
        for (name, ours), theirs in zip(compiled.named_parameters(), eager.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None), name
            if ours.grad is not None:
                torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
