"""Decoder files: the same logits here and in transformers, both ways; damage is one clear line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pldrepro.config.model import ModelSettings
from pldrepro.data.tokenizers.bpe import train_bpe
from pldrepro.data.tokenizers.wordpiece import save_tokenizer
from pldrepro.errors import ModelFileError, SettingsError
from pldrepro.models.blocks import initialise
from pldrepro.models.checkpoints.gpt2 import load_gpt, save_gpt
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import all_kept

SHAPE = {"num_layers": 3, "hidden_size": 24, "num_heads": 2, "ffn_size": 40, "vocab_size": 64, "max_positions": 9}
IDS = torch.randint(0, 64, (3, 9), generator=torch.Generator().manual_seed(2))


def model_settings(**changes: object) -> ModelSettings:
    fixed = {"family": "gpt", "norm": "pre", "init_std": 0.2, "layer_norm_eps": 1e-5}
    return ModelSettings.model_validate({**fixed, **SHAPE, **changes})


def randomise(model: torch.nn.Module) -> None:
    """Biases and LayerNorms too, so that none of them can be forgotten or swapped unseen."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def decoder(**changes: object) -> Gpt:
    model = Gpt(model_settings(**changes))
    initialise(model, 1)
    randomise(model)
    return model.eval()


@torch.no_grad()
def our_logits(model: Gpt, scales: tuple[float, ...] | None = None) -> torch.Tensor:
    return model.eval()(IDS, all_kept(3, scales))


@torch.no_grad()
def their_logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM, GPT2LMHeadModel

    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert isinstance(model, GPT2LMHeadModel)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()(input_ids=IDS).logits


def their_model(**changes: object) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_layer": 3, "n_embd": 24, "n_head": 2, "n_inner": 40, "vocab_size": 64, "n_positions": 9}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**{**shape, "initializer_range": 0.2, **changes}))
    randomise(model)
    return model.eval()


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 0.1, "logits that say nothing"
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_transformers_loads_our_model(tmp_path):
    model = decoder()
    save_gpt(model, model.settings, tmp_path)
    close(our_logits(model), their_logits(tmp_path))


def test_we_load_a_model_of_transformers(tmp_path):
    theirs = their_model()
    theirs.save_pretrained(tmp_path)
    ours = load_gpt(tmp_path, model_settings())
    with torch.no_grad():
        close(our_logits(ours), theirs(input_ids=IDS).logits)


def test_a_model_without_a_size_of_its_own_has_four_times_as_many_units(tmp_path):
    theirs = their_model(n_inner=None)
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        close(our_logits(load_gpt(tmp_path, model_settings(ffn_size=96))), theirs(input_ids=IDS).logits)


def test_a_saved_model_comes_back_bit_for_bit(tmp_path):
    model = decoder()
    save_gpt(model, model.settings, tmp_path)
    state = torch.get_rng_state()
    again = load_gpt(tmp_path, model.settings)
    assert torch.equal(torch.get_rng_state(), state)  # no initial weights were drawn
    assert again.settings == model.settings
    for (name, expected), found in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(expected, found), name


def test_evaluation_scales_are_folded_into_the_weights(tmp_path):
    model, scales = decoder(), (0.9, 0.7, 0.5)
    save_gpt(model, model.settings, tmp_path, scales=scales)
    scaled = our_logits(model, scales)
    close(scaled, their_logits(tmp_path))
    close(scaled, our_logits(load_gpt(tmp_path, model.settings)))
    assert not torch.allclose(scaled, our_logits(model), atol=1e-2)
    with pytest.raises(ValueError, match="2 scales for 3 layers"):
        save_gpt(model, model.settings, tmp_path, scales=(1.0, 0.5))


def write_tokenizer(folder: Path, vocab_size: int) -> Path:
    save_tokenizer(train_bpe(["the cat sat on the mat"] * 2, vocab_size), folder, max_length=9, lowercase=False)
    return folder


def test_the_tokenizer_loads_from_the_same_folder(tmp_path):
    from transformers import AutoTokenizer

    model = decoder(vocab_size=270)
    save_gpt(model, model.settings, tmp_path / "model", write_tokenizer(tmp_path / "tokenizer", 262))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.decode(tokenizer("the cat sat")["input_ids"]) == "the cat sat"
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["bos_token_id"] == config["eos_token_id"] == config["pad_token_id"] == tokenizer.eos_token_id == 0


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    model, folder = decoder(vocab_size=261), write_tokenizer(tmp_path / "tokenizer", 262)
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        save_gpt(model, model.settings, tmp_path / "model", folder)
    assert not (tmp_path / "model" / "config.json").exists()
    content = json.loads((folder / "tokenizer.json").read_text())
    del content["model"]["vocab"]["<|endoftext|>"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match=r"tokenizer\.json.*<\|endoftext\|>"):
        save_gpt(model, model.settings, tmp_path / "model", folder)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = decoder()
    save_gpt(model, model.settings, tmp_path / "saved")
    return tmp_path / "saved"


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damage_is_named(saved):
    path, name = saved / "model.safetensors", "transformer.h.1.attn.c_attn.weight"
    tensors = load_file(path)
    assert tensors[name].shape == (24, 72)
    save_file({**tensors, name: torch.zeros(72, 24)}, path)
    with pytest.raises(ModelFileError, match=r"c_attn\.weight"):
        load_gpt(saved, model_settings())
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match=rf"model\.safetensors: .*{name}"):
        load_gpt(saved, model_settings())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_gpt(saved, model_settings())


def test_a_shape_other_than_the_settings_is_named(saved):
    with pytest.raises(ModelFileError, match=r"config\.json"):
        load_gpt(saved, model_settings(vocab_size=70))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type"),
        ({"activation_function": "relu"}, "activation_function"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"embd_pdrop": 0.5}, "resid_pdrop"),
        ({"n_head": 5}, "num_heads"),
    ],
)
def test_a_config_that_we_cannot_follow_is_named(saved, changes, message):
    edit_config(saved, **changes)
    with pytest.raises((ModelFileError, SettingsError), match=message) as error:
        load_gpt(saved, model_settings())
    assert "config.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_without_a_key_is_named(saved):
    config = json.loads((saved / "config.json").read_text())
    del config["n_embd"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match=r"config\.json"):
        load_gpt(saved, model_settings())
