"""Model files: the same logits here and in transformers, both ways; damage is one clear line."""

import json
import re
import resource
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pldrepro.config.model import ModelSettings
from pldrepro.data.tokenizers.wordpiece import from_vocabulary, save_tokenizer
from pldrepro.errors import ModelFileError, RecordError, SettingsError
from pldrepro.models.bert import BertForPreTraining, BertForSequenceClassification
from pldrepro.models.blocks import initialise
from pldrepro.models.checkpoints import common
from pldrepro.models.checkpoints.bert import load_for_finetuning, load_pretraining, save_bert
from pldrepro.policy.drop import all_kept

NORMS = ("post", "pre")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "a", "mat", ".")
BATCH, SEQUENCE = 3, 9
LENGTHS = torch.tensor([9, 5, 7])


def model_settings(norm: str, **changes: object) -> ModelSettings:
    shape = {"num_layers": 3, "hidden_size": 24, "num_heads": 2, "ffn_size": 40, "vocab_size": 64, "max_positions": 9}
    return ModelSettings.model_validate({"norm": norm, **shape, "init_std": 0.2, **changes})


def randomise(model: torch.nn.Module) -> None:
    """Biases and LayerNorms too, so that none of them can be forgotten or swapped unseen."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def pretraining_model(norm: str, **changes: object) -> BertForPreTraining:
    model = BertForPreTraining(model_settings(norm, **changes))
    initialise(model, 1)
    randomise(model)
    return model.eval()


def classifier_model(norm: str, num_labels: int = 3) -> BertForSequenceClassification:
    model = BertForSequenceClassification(model_settings(norm), num_labels)
    initialise(model, 1)
    randomise(model)
    return model.eval()


def inputs(padded: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, token types and mask; without padding, or with rows of different lengths."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.arange(SEQUENCE) < (LENGTHS[:, None] if padded else SEQUENCE)
    mask = mask.expand(BATCH, SEQUENCE)
    ids = torch.randint(1, 64, (BATCH, SEQUENCE), generator=generator) * mask
    return ids, torch.randint(0, 2, (BATCH, SEQUENCE), generator=generator) * mask, mask


def our_logits(model: BertForPreTraining, padded: bool) -> torch.Tensor:
    """Masked-language logits at the real tokens, (N, V)."""
    ids, types, mask = inputs(padded)
    everywhere = torch.arange(SEQUENCE).expand(BATCH, SEQUENCE)
    with torch.no_grad():
        logits, _ = model.eval()(ids, types, everywhere, all_kept(3), mask if padded else None)
    return logits.view(BATCH, SEQUENCE, -1)[mask]


def their_logits(model: torch.nn.Module, padded: bool) -> torch.Tensor:
    ids, types, mask = inputs(padded)
    with torch.no_grad():
        output = model.eval()(input_ids=ids, token_type_ids=types, attention_mask=mask.long() if padded else None)
    return (output.prediction_logits if "prediction_logits" in output else output.logits)[mask]


def their_config(norm: str, **changes: object) -> object:
    import transformers

    kind = transformers.BertConfig if norm == "post" else transformers.RobertaPreLayerNormConfig
    return kind(
        vocab_size=64,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=9 if norm == "post" else 10,
        type_vocab_size=2,
        initializer_range=0.2,
        pad_token_id=0,
        **changes,
    )


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 0.1, "logits that say nothing"
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def write_tokenizer(folder: Path, words: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True)
    (folder / "words.txt").write_text("\n".join(words) + "\n")
    save_tokenizer(from_vocabulary(folder / "words.txt", lowercase=True), folder, max_length=9, lowercase=True)
    return folder


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "tokenizer", WORDS)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_transformers_loads_our_pretraining_model(norm, padded, tmp_path):
    from transformers import AutoModelForMaskedLM

    model = pretraining_model(norm)
    save_bert(model, model.bert.settings, tmp_path)
    theirs, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    close(our_logits(model, padded), their_logits(theirs, padded))


@pytest.mark.parametrize("norm", NORMS)
def test_transformers_loads_our_pooler_and_next_sentence_head(norm, tmp_path):
    from transformers import AutoModel, BertForPreTraining

    model = pretraining_model(norm)
    save_bert(model, model.bert.settings, tmp_path)
    encoder = "bert" if norm == "post" else "roberta_prelayernorm"
    assert f"{encoder}.pooler.dense.weight" in load_file(tmp_path / "model.safetensors")
    ids, types, _ = inputs(padded=False)
    with torch.no_grad():
        hidden = model.bert(ids, types, None, all_kept(3))
        pooled = model.pooler(hidden[:, 0])
        theirs = AutoModel.from_pretrained(tmp_path).eval()(input_ids=ids, token_type_ids=types)
        close(hidden, theirs.last_hidden_state)
        close(pooled, theirs.pooler_output)
        if norm == "post":
            theirs = BertForPreTraining.from_pretrained(tmp_path).eval()(input_ids=ids, token_type_ids=types)
            close(model.nsp_head(pooled), theirs.seq_relationship_logits)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_transformers_loads_our_classifier(norm, padded, tmp_path):
    from transformers import AutoModelForSequenceClassification

    model = classifier_model(norm)
    save_bert(model, model.bert.settings, tmp_path)
    theirs, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ids, types, mask = inputs(padded)
    with torch.no_grad():
        ours = model(ids, types, mask if padded else None)
    assert ours.shape == (BATCH, 3)
    close(ours, their_logits_of_sequences(theirs, padded))


def their_logits_of_sequences(model: torch.nn.Module, padded: bool) -> torch.Tensor:
    ids, types, mask = inputs(padded)
    with torch.no_grad():
        return model.eval()(input_ids=ids, token_type_ids=types, attention_mask=mask if padded else None).logits


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_we_load_a_masked_language_model_of_transformers(norm, padded, tmp_path):
    from transformers import AutoModelForMaskedLM

    torch.manual_seed(0)
    theirs = AutoModelForMaskedLM.from_config(their_config(norm))
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    ours = load_pretraining(tmp_path, model_settings(norm))
    close(our_logits(ours, padded), their_logits(theirs, padded))
    again = load_pretraining(tmp_path, model_settings(norm))
    assert torch.equal(again.nsp_head.weight, ours.nsp_head.weight)


def test_a_vocabulary_may_put_its_padding_token_anywhere(tmp_path):
    from transformers import AutoModelForMaskedLM

    folder = write_tokenizer(tmp_path / "tokenizer", (*WORDS[1:5], "[PAD]", *WORDS[5:]))
    model = pretraining_model("pre")
    save_bert(model, model.bert.settings, tmp_path / "model", folder)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["pad_token_id"] == 4
    ids = torch.arange(5, 14)[None]
    with torch.no_grad():
        logits, _ = model(ids, None, torch.arange(9)[None], all_kept(3))
        close(logits, AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()(input_ids=ids).logits[0])
    assert torch.equal(
        load_pretraining(tmp_path / "model", model.bert.settings).bert.word_embeddings.weight,
        model.bert.word_embeddings.weight,
    )


def test_another_padding_token_moves_the_positions_of_a_pre_norm_file(tmp_path):
    from transformers import RobertaPreLayerNormConfig, RobertaPreLayerNormForMaskedLM

    torch.manual_seed(0)
    config = their_config("pre").to_dict() | {"pad_token_id": 1, "max_position_embeddings": 11}
    theirs = RobertaPreLayerNormForMaskedLM(RobertaPreLayerNormConfig(**config))
    theirs.save_pretrained(tmp_path)
    ours = load_pretraining(tmp_path, model_settings("pre")).eval()
    ids = torch.arange(2, 11)[None]
    with torch.no_grad():
        logits, _ = ours(ids, None, torch.arange(9)[None], all_kept(3))
        close(logits, theirs.eval()(input_ids=ids).logits[0])


@pytest.mark.parametrize("norm", NORMS)
def test_a_saved_model_comes_back_bit_for_bit(norm, tmp_path):
    model = pretraining_model(norm)
    save_bert(model, model.bert.settings, tmp_path)
    state = torch.get_rng_state()
    again = load_pretraining(tmp_path, model.bert.settings)
    assert torch.equal(torch.get_rng_state(), state)  # no initial weights were drawn
    for (name, expected), found in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(expected, found), name


@pytest.mark.parametrize("norm", NORMS)
def test_evaluation_scales_are_folded_into_the_weights(norm, tmp_path):
    from transformers import AutoModelForMaskedLM

    model, scales = pretraining_model(norm), (0.9, 0.7, 0.5)
    save_bert(model, model.bert.settings, tmp_path, scales=scales)
    ids, types, _ = inputs(padded=False)
    with torch.no_grad():
        scaled, _ = model(ids, types, torch.arange(SEQUENCE).expand(BATCH, SEQUENCE), all_kept(3, scales))
    close(scaled, their_logits(AutoModelForMaskedLM.from_pretrained(tmp_path), padded=False).view(-1, 64))
    close(scaled, our_logits(load_pretraining(tmp_path, model.bert.settings), padded=False))
    assert not torch.allclose(scaled, our_logits(model, padded=False), atol=1e-2)
    with pytest.raises(ValueError, match="2 scales for 3 layers"):
        save_bert(model, model.bert.settings, tmp_path, scales=(1.0, 0.5))


@pytest.mark.parametrize("norm", NORMS)
def test_finetuning_starts_from_encoder_and_pooler_with_a_fresh_classifier(norm, tmp_path):
    model = pretraining_model(norm)
    save_bert(model, model.bert.settings, tmp_path)
    first, same, other = (load_for_finetuning(tmp_path, 2, seed, dropout=0.25) for seed in (1, 1, 2))
    for name, parameter in first.named_parameters():
        if name.startswith("classifier"):
            assert torch.equal(parameter, same.get_parameter(name))
        else:
            assert torch.equal(parameter, model.get_parameter(name)), name
    assert first.classifier.weight.shape == (2, 24)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert not first.classifier.bias.any()
    assert first.bert.settings.dropout == first.bert.blocks[0].dropout == first.bert.blocks[0].attention_dropout == 0.25
    with pytest.raises(SettingsError, match="dropout"):
        load_for_finetuning(tmp_path, 2, 1, dropout=1.0)


def test_finetuning_draws_a_pooler_where_the_file_has_none(tmp_path):
    from transformers import BertForMaskedLM

    BertForMaskedLM(their_config("post")).save_pretrained(tmp_path)
    first, same, other = (load_for_finetuning(tmp_path, 2, seed, dropout=0.1) for seed in (1, 1, 2))
    assert torch.equal(first.pooler.dense.weight, same.pooler.dense.weight)
    assert not torch.equal(first.pooler.dense.weight, other.pooler.dense.weight)


@pytest.mark.parametrize("norm", NORMS)
def test_the_tokenizer_loads_from_the_same_folder(norm, tmp_path, tokenizer_folder):
    from transformers import AutoTokenizer

    model = pretraining_model(norm)
    save_bert(model, model.bert.settings, tmp_path / "model", tokenizer_folder)
    encoded = AutoTokenizer.from_pretrained(tmp_path / "model")("the cat sat", "on a mat .")
    assert encoded["input_ids"] == [2, 5, 6, 7, 3, 8, 9, 10, 11, 3]
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, tokenizer_folder):
    model = pretraining_model("post", vocab_size=11)
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        save_bert(model, model.bert.settings, tmp_path / "model", tokenizer_folder)
    assert not (tmp_path / "model" / "config.json").exists()
    (tokenizer_folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        save_bert(model, model.bert.settings, tmp_path / "model", tokenizer_folder)
    with pytest.raises(RecordError, match="no such file"):
        save_bert(model, model.bert.settings, tmp_path / "model", tmp_path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = pretraining_model("pre")
    save_bert(model, model.bert.settings, tmp_path / "saved")
    return tmp_path / "saved"


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("size", [0, 5, 100, 5000])
def test_weights_cut_short_are_named(saved, size):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelFileError, match=r"model\.safetensors") as error:
        load_pretraining(saved, model_settings("pre"))
    assert str(path) in one_line(error)


def test_missing_files_are_named(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_pretraining(saved, model_settings("pre"))
    (saved / "config.json").unlink()
    with pytest.raises(RecordError, match=r"config\.json"):
        load_pretraining(saved, model_settings("pre"))


def test_a_missing_tensor_and_a_wrong_shape_are_named(saved):
    path, name = saved / "model.safetensors", "roberta_prelayernorm.encoder.layer.1.attention.self.key.bias"
    tensors = load_file(path)
    save_file({**tensors, name: torch.zeros(7)}, path)
    with pytest.raises(ModelFileError, match=r"layer\.1.*key\.bias: shape \[7\]") as error:
        load_pretraining(saved, model_settings("pre"))
    assert str(path) in one_line(error)
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match=re.escape(name)):
        load_for_finetuning(saved, 2, 1, 0.1)


def test_a_vocabulary_or_shape_other_than_the_settings_is_named(saved):
    with pytest.raises(ModelFileError, match=r"config\.json"):
        load_pretraining(saved, model_settings("pre", vocab_size=70))
    with pytest.raises(ModelFileError, match=r"config\.json: norm"):
        load_pretraining(saved, model_settings("post"))
    edit_config(saved, vocab_size=70)
    with pytest.raises(ModelFileError, match=r"word_embeddings\.weight"):
        load_pretraining(saved, model_settings("pre", vocab_size=70))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"num_attention_heads": 5}, "num_heads"),
        ({"num_hidden_layers": 0}, "num_layers"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
    ],
)
def test_a_config_that_we_cannot_follow_is_named(saved, changes, message):
    edit_config(saved, **changes)
    with pytest.raises((ModelFileError, SettingsError), match=message) as error:
        load_pretraining(saved, model_settings("pre"))
    assert "config.json" in one_line(error)


def test_a_config_without_a_key_is_named(saved):
    config = json.loads((saved / "config.json").read_text())
    del config["hidden_size"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match=r"config\.json"):
        load_pretraining(saved, model_settings("pre"))


def test_a_full_disk_leaves_the_earlier_model(saved, monkeypatch):
    def half_a_file(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(common, "save_file", half_a_file)
    with pytest.raises(ModelFileError, match=r"model\.safetensors") as error:
        save_bert(pretraining_model("pre"), model_settings("pre"), saved)
    one_line(error)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_file_that_may_not_grow_is_one_clear_error(saved):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(ModelFileError, match=r"model\.safetensors") as error:
            save_bert(pretraining_model("pre"), model_settings("pre"), saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    one_line(error)
    load_pretraining(saved, model_settings("pre"))
