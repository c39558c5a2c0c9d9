"""The shape of a model: BERT, GPT, SwinV2, ViT."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from pldrepro.config.base import MAX_LAYERS, Strict, text_or_images

# What represents a sequence: the state of its first token, or the mean over the real tokens.
Pooling = Literal["cls", "mean"]


class ModelSettings(Strict):
    """Shape of a Transformer of text: the encoder (BERT), or the decoder (GPT)."""

    family: Literal["bert", "gpt"] = "bert"
    norm: Literal["post", "pre"] = Field("post", description="PostLN, or PreLN with Switchable-Transformer blocks")
    num_layers: int = Field(12, ge=1, le=MAX_LAYERS)
    hidden_size: int = Field(768, ge=1)
    num_heads: int = Field(12, ge=1)
    ffn_size: int = Field(3072, ge=1)
    vocab_size: int = Field(30528, ge=8, description="rows of the embedding; at least the tokenizer's vocabulary")
    max_positions: int = Field(512, ge=2)
    dropout: float = Field(0.1, ge=0, lt=1)
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    init_std: float = Field(0.02, gt=0)
    layer_norm_eps: float = Field(1e-12, gt=0)

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSettings:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        return self

    @model_validator(mode="after")
    def _gpt_is_preln(self) -> ModelSettings:
        if self.family == "gpt" and self.norm != "pre":
            raise ValueError("family gpt: allowed with norm pre")
        return self


FFN_RATIO = 4  # hidden units of the feed-forward layer / hidden size, in ViT and SwinV2


class VisionSettings(Strict):
    """Shape of a Transformer of images: SwinV2 (stages, with down-sampling between them), or plain ViT (one stage)."""

    family: Literal["swinv2", "vit"]
    image_size: int = Field(32, ge=4, description="pixels of a side")
    patch_size: int = Field(2, ge=1, description="pixels of a side of a patch")
    num_classes: int = Field(10, ge=2)
    stages: Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_LAYERS)], ...], Field(min_length=1, max_length=10)] = (
        Field(description="blocks of each stage; the hidden size doubles from one to the next")
    )
    hidden_size: int = Field(ge=1, description="of the first stage")
    num_heads: tuple[Annotated[int, Field(ge=1)], ...] = Field(description="attention heads of each stage")
    window_size: int = Field(8, ge=1, description="patches of a side of an attention window; not for vit")
    dropout: float = Field(0.0, ge=0, lt=1)
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    drop_path_rate: float = Field(
        0.0, ge=0, lt=1, description="per-sample stochastic depth of the last block; transformers' own default is 0.1"
    )
    init_std: float = Field(0.02, gt=0)
    layer_norm_eps: float = Field(1e-5, gt=0)

    @model_validator(mode="after")
    def _stages_fit(self) -> VisionSettings:
        if len(self.num_heads) != len(self.stages):
            raise ValueError(f"num_heads has {len(self.num_heads)} entries; allowed: one for each of {self.stages}")
        for index, heads in enumerate(self.num_heads):
            if self.hidden_size * 2**index % heads:
                raise ValueError(f"hidden_size {self.hidden_size * 2**index} is not a multiple of num_heads {heads}")
        if self.family == "vit" and (len(self.stages) > 1 or self.drop_path_rate):
            raise ValueError("family vit: allowed with one stage and drop_path_rate 0")
        if self.image_size % (self.patch_size * 2 ** (len(self.stages) - 1)):
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size x 2^(stages - 1)")
        return self

    @property
    def num_layers(self) -> int:
        """Blocks of all stages."""
        return sum(self.stages)

    @property
    def norm(self) -> str:
        """Where LayerNorm is: after the sublayer and before the sum (SwinV2), or before the sublayer (ViT)."""
        return "res_post" if self.family == "swinv2" else "pre"


AnyModel = Annotated[
    Annotated[ModelSettings, Tag("<text>")] | Annotated[VisionSettings, Tag("<images>")],
    Discriminator(text_or_images("family")),
]
