"""Backbones: an encoder, a decoder and the settings that go with them.

A method is a difference from the plain VAE; a backbone is what the plain VAE is made of. Any method
can be trained on any backbone whose parts have what the method changes.
"""

from dataclasses import dataclass, field
from typing import Any

from vaelib.registry import Registry


@dataclass(frozen=True)
class Backbone:
    """What a plain VAE is made of.

    Attributes:
        name, title: Registered name, and one to print.
        reads: "text", "pairs" or "images".
        paper: Where it comes from.
        summary: What it is, in a sentence.
        fields: Fields of `vaelib.config.Config` it sets, on every profile.
        options: Options of its parts it sets.
        keeps: Fields that no method may change, because its parts need one another.
    """

    name: str
    title: str
    reads: str
    paper: str
    summary: str
    fields: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    keeps: tuple[str, ...] = ()


BACKBONES: Registry[Backbone] = Registry("backbone")
_COUPLED = {"posterior": "linear_heads", "init_range": 0.0, "dropout_in": 0.2, "dropout_out": 0.2}

for _backbone in (
    Backbone(
        "lstm",
        "LSTM",
        "text",
        "He et al. 2019",
        "One-layer LSTMs; z sets the decoder's first state and is read with every word.",
    ),
    Backbone(
        "gru",
        "bidirectional GRU",
        "text",
        "Wu et al. 2020",
        "A bidirectional GRU reads; a GRU writes, told by a decoding signal; one embedding.",
        _COUPLED | {"encoder": "bigru", "decoder": "gru"},
    ),
    Backbone(
        "cnn",
        "dilated convolutions",
        "text",
        "Wu et al. 2020",
        "A bidirectional GRU reads; dilated causal convolutions write.",
        _COUPLED | {"encoder": "bigru", "decoder": "cnn"},
    ),
    Backbone(
        "transformer",
        "Transformer",
        "text",
        "no paper here: an extra for teaching",
        "An LSTM reads; a causal Transformer writes.",
        {"decoder": "transformer", "init_range": 0.0},
    ),
    Backbone(
        "conv",
        "small convolutions",
        "images",
        "no paper here: for small images",
        "Two convolutions read; two transposed ones write, pixels independent given z.",
        {"encoder": "conv", "decoder": "conv", "posterior": "linear_heads", "init_range": 0.0},
    ),
    Backbone(
        "resnet",
        "ResNet and PixelCNN",
        "images",
        "He et al. 2019; Shen et al. 2021",
        "A residual network reads; a PixelCNN writes, pixel by pixel.",
        {
            "encoder": "resnet",
            "decoder": "pixelcnn",
            "posterior": "linear_heads",
            "init_range": 0.0,
        },
        {"second_head": "log_variance"},
    ),
    Backbone(
        "conditional",
        "conditional GRU",
        "pairs",
        "Wu et al. 2020",
        "Bidirectional GRUs read post and response; a GRU writes the response.",
        _COUPLED
        | {"encoder": "pair_bigru", "posterior": "conditional"}
        | {"decoder": "conditional_gru"},
        keeps=("posterior", "prior"),
    ),
):
    BACKBONES.add(_backbone.name, _backbone)

USUAL = {"text": "lstm", "pairs": "conditional", "images": "conv"}  # where nothing is said
