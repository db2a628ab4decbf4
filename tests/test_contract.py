"""The conformance suite over the whole registry, on parts that break it, and on a term of ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import vaelib
from vaelib import METHODS, TERMS, Outputs, Term, VaelibError, _listings, recipe
from vaelib.build import PARTS, resolve
from vaelib.data.pairs import halves
from vaelib.decoders import DECODERS, LSTMDecoder, Pick
from vaelib.decoders_image import ImageDecoder
from vaelib.encoders import ENCODERS, LSTMEncoder
from vaelib.encoders_image import ConvEncoder
from vaelib.fits import READERS, reads_of
from vaelib.layers import Shape
from vaelib.posteriors import POSTERIORS, GaussianPosterior
from vaelib.run import key_of
from vaelib.store import Store
from vaelib.testing import (
    check_decoder,
    check_encoder,
    check_method,
    check_moves,
    check_posterior,
    check_term,
    sentences,
)

# A language model's parts, which no gradient passes; and decoders that are only part of a model
# (tests/test_conditional.py).
BLIND = {"none", "prior", "lm", "gru_lm", "conditional_gru", "seq2seq_gru"}


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_keeps_the_contract(name: str) -> None:
    check_method(name)


@pytest.mark.parametrize("name", list(TERMS))
def test_every_term_keeps_the_contract(name: str) -> None:
    check_term(name)


@pytest.mark.parametrize("name", [name for name in POSTERIORS if name not in BLIND])
def test_every_posterior_family_keeps_the_contract(name: str) -> None:
    check_posterior(name)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in BLIND])
def test_every_encoder_keeps_the_contract(name: str) -> None:
    check_encoder(name)


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in BLIND])
def test_every_decoder_keeps_the_contract(name: str) -> None:
    check_decoder(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("free_bits", {"target": 0.5, "variant": "dim_sample_clamp"}),
        ("free_bits", {"target": 0.5, "variant": "dim_batch_clamp"}),
        ("free_bits", {"target": 0.5, "variant": "total_sample_mask"}),
        ("free_bits", {"target": 0.5, "variant": "total_batch_mask"}),
        ("density_gap", {"aggregation_size": 4}),
        ("density_gap", {"form": "joint", "samples": 3}),
        ("bag_of_words", {"bow_width": 0, "bow_reduction": "mean_tokens"}),
        ("bag_of_words", {"bow_gradient_only": True}),
        ("mmd", {"mmd_samples": 4}),
        ("adversarial", {"critic_samples": 4}),
    ],
)
def test_terms_keep_the_contract_with_other_options(name: str, options: dict) -> None:
    check_term(name, **options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dg", {"aggregation_size": 4}),
        ("dg", {"form": "joint"}),
        ("dg", {"aggregation_size": 4, "indivisible": "whole"}),
        ("bow", {"bow_gradient_only": True, "bow_reduction": "mean_tokens", "bow_width": 0}),
        ("free_bits", {"variant": "total_batch_mask"}),
        ("cyclic", {"late_restart": True}),
        ("vae", {"optimizer": "sgd", "lr": 0.5}),
        ("vae", {"select": "elbo", "decay_reference": "last_batch", "patience": 0}),
        ("vae", {"select": "nll", "lr_schedule": "steps", "lr_from": 4, "lr_every": 3}),
        ("vae", {"track": ["mpd", "mi_in_batch"], "backbone": "gru", "batching": "mixed"}),
        ("vae", {"backbone": "cnn", "schedule": "delayed"}),
        ("dg", {"backbone": "transformer"}),
        ("bn", {"data": "digits"}),
        ("vae", {"data": "digits", "backbone": "resnet", "pixelcnn_depth": 3, "train_size": 64}),
        ("dg", {"data": "pairs"}),
        ("lagging", {"data": "digits", "train_size": 64, "binarisation": "fixed"}),
    ],
)
def test_switches_keep_the_contract(method: str, options: dict) -> None:
    check_method(method, **options)


def test_a_decoder_with_skip_keeps_the_contract() -> None:
    check_decoder("lstm", skip=True)


# ---- The suite notices what is broken -----------------------------------------------------------


class Nudge(Term):
    """A term of somebody else: pulls codes to the origin."""

    def __init__(self, shape: Shape, *, strength: float = 0.1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((shape.latent_dim,), strength))

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """A weighed square of the code [B]."""
        return (self.scale * outputs.z.square()).sum(dim=1)


class WrongScope(Nudge):
    scope = "batch"


class GlobalNoise(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return super().forward(outputs, generator) + 0 * torch.rand(len(outputs.z))


class HiddenState(Nudge):
    calls = 0

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        self.calls += 1
        return self.calls * super().forward(outputs, generator)


class NotFinite(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return super().forward(outputs, generator) / 0


class Shared(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        every = super().forward(outputs, generator)
        return every.mean().expand(len(every))


class Running(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return super().forward(outputs, generator).cumsum(0)


class InPlace(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        outputs.z.mul_(2)
        return super().forward(outputs, generator)


class Failing(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return super().forward(outputs, generator) / (1 // 0)


class NoGradient(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return (self.scale * outputs.z.detach().square()).sum(dim=1)


class IdleParameter(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return outputs.z.square().sum(dim=1)


class NotANumber(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return super().forward(outputs, generator) * torch.nan


class Detached(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return super().forward(outputs, generator).detach()


class PlainNumber(Nudge):
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Any:
        return 0.3


class Positional(Nudge):
    def __init__(self, shape: Shape, free: float = 1.0) -> None:
        super().__init__(shape)


class LeftBehind(Nudge):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.w = torch.ones(shape.latent_dim)


class HiddenBehind(Nudge):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.inner = nn.Identity()
        self.inner.kept = {"ws": [1.0, (Normal(torch.zeros(2), 1.0),)]}


@pytest.mark.parametrize(
    ("term", "fault"),
    [
        (WrongScope, r"shape \(8,\), not \(\)"),
        (GlobalNoise, "global generator"),
        (HiddenState, "same generator gives different values"),
        (NotFinite, "not finite"),
        (Shared, "the other examples change a value"),
        (Running, "the other examples change a value"),
        (InPlace, "changes `outputs.z`, which other terms read, in place"),
        (
            Failing,
            r"it fails on text: integer division or modulo by zero; .* `reads = \"images\"`$",
        ),
        (NoGradient, "no gradient reaches encoder"),
        (IdleParameter, "no gradient reaches scale"),
        (NotANumber, "a value is not finite"),
        (Detached, "no gradient leaves it"),
        (PlainNumber, "gives 0.3, not a tensor"),
        (Positional, r"options as keyword-only arguments .* takes \(shape.*free: float = 1.0\)"),
        (LeftBehind, r"`w` holds a plain tensor, .*register_buffer"),
        (HiddenBehind, "`inner.kept` holds a plain tensor"),
        (dict, "no class of Term"),
    ],
)
def test_a_broken_term_is_caught(term: type[Term], fault: str) -> None:
    check_term(Nudge)
    with pytest.raises(AssertionError, match=fault):
        check_term(term)


class Lonely(LSTMEncoder):
    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x)
        return h - h.mean(0)


class Repeating(LSTMDecoder):
    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        one = super().forward(x, z[: len(x)], generator)
        return one.repeat(len(z) // len(x))


class Heavy(LSTMEncoder):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.w = torch.ones(3)


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = Normal(torch.zeros(4), torch.ones(4))


class Certain(GaussianPosterior):
    def forward(self, h: Tensor) -> Any:
        return super().forward(h.detach())


def test_broken_parts_are_caught() -> None:
    with pytest.raises(AssertionError, match="the other examples change h"):
        check_encoder(Lonely)
    with pytest.raises(AssertionError, match="k copies of the batch"):
        check_decoder(Repeating)
    with pytest.raises(AssertionError, match="no gradient reaches the encoder"):
        check_posterior(Certain)
    with pytest.raises(AssertionError, match="`w` holds a plain tensor"):
        check_encoder(Heavy)


@pytest.mark.parametrize("kind", ["encoder", "posterior", "prior", "decoder", "regulariser"])
def test_every_registered_part_moves_to_another_device_whole(kind: str) -> None:
    for name, part in PARTS[kind].items():
        sizes = (8,) if kind == "posterior" else ()
        check_moves(part(*sizes, Shape(64, 6, 8, 4)), f"{kind} {name!r}")
    with pytest.raises(AssertionError, match="the prior: `p` holds a plain tensor"):
        check_moves(Fixed(), "the prior")


# ---- What a part reads --------------------------------------------------------------------------


class Blot(ImageDecoder):
    """A decoder of images of somebody else: logits linear in the code."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.linear = nn.Linear(shape.latent_dim, shape.vocab_size)

    def logits(self, x: Tensor, z: Tensor) -> Tensor:
        return self.linear(z)

    def decode(
        self, z: Tensor, pick: Pick, max_length: int = 99, x: Tensor | None = None
    ) -> Tensor:
        return (self.logits(z, z) > 0).long()


class Squint(nn.Module):
    """An encoder of images of somebody else, which has nothing in common with ours."""

    reads = "images"

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.output_dim = 3
        self.linear = nn.Linear(shape.vocab_size, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Blurred(ConvEncoder):
    """A relative of ours."""


class Listed(Squint):
    reads = ("images",)


class Silent(Squint):
    reads = ()


class Inky(Nudge):
    """Reads images alone."""

    reads = ("images",)

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return super().forward(outputs, generator) * outputs.x.view(-1, 8, 8).sum((1, 2))


class Answer(Nudge):
    """Reads pairs alone."""

    reads = ("pairs",)

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return super().forward(outputs, generator) * halves(outputs.x)[1].shape[1]


def test_parts_are_checked_on_what_they_read() -> None:
    check_decoder(Blot)
    check_encoder(Squint)
    check_encoder(Listed)
    check_encoder(Blurred, image_channels=4)
    check_term(Inky)
    check_term(Answer)
    with pytest.raises(AssertionError, match="fails on text: .*; where it reads something else"):
        check_encoder(Silent)


@pytest.mark.parametrize(
    ("kind", "reads"),
    [
        ("encoder lstm", "text"),
        ("encoder bigru", "text"),
        ("encoder pair_bigru", "pairs"),
        ("encoder resnet", "images"),
        ("encoder table", "points"),
        ("encoder none", ""),
        ("decoder word_dropout", "text"),
        ("decoder transformer", "text"),
        ("decoder conditional_gru", "pairs"),
        ("decoder seq2seq_gru", "pairs"),
        ("decoder pixelcnn", "images"),
        ("decoder categorical", "points"),
    ],
)
def test_what_a_part_reads_is_told_by_its_backbones(kind: str, reads: str) -> None:
    part, name = kind.split()
    assert reads_of(part, READERS[part][name]) == reads


class NoShape(Term):
    """Forgot the constructor's argument."""

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return outputs.rate


class NoRoom(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()


class OtherName(Nudge):
    def __init__(self, shape: Shape, strength: float) -> None:
        super().__init__(shape, strength=strength)


def test_a_constructor_that_cannot_be_called_is_one_sentence() -> None:
    for term in (NoShape, OtherName):
        with pytest.raises(AssertionError, match="must take `shape`, .*keyword-only") as caught:
            check_term(term)
        assert "\n" not in str(caught.value)
    with pytest.raises(AssertionError, match=r"must take `in_features` and `shape`"):
        check_posterior(NoRoom)
    with pytest.raises(AssertionError, match=r"must take `shape`.*unexpected keyword argument 'x'"):
        check_term("kl", x=3)
    TERMS.add("no_shape", NoShape)
    try:
        with pytest.raises(VaelibError, match="cannot be made .*: .*argument"):
            resolve("vae", data="grammar", profile="smoke", regulariser="no_shape")
    finally:
        TERMS.remove("no_shape")


def test_a_method_that_does_not_learn_is_caught() -> None:
    with pytest.raises(AssertionError, match="the distortion went from"):
        check_method("vae", lr=1e-12, optimizer="sgd")


# ---- A term of one's own: one class, one recipe -------------------------------------------------


@pytest.fixture
def nudge() -> Iterator[str]:
    """The method `nudge`, registered and forgotten again."""
    TERMS.add("nudge_term", Nudge)
    recipe(
        "nudge",
        aliases=("Nudge-VAE",),
        title="Nudge-VAE",
        paper="this test",
        equation="none",
        formula="z^2",
        summary="Codes are pulled to the origin.",
        changes={"regulariser": "nudge_term"},
        options={"strength": 0.2},
    )
    yield "nudge"
    METHODS.remove("nudge")
    TERMS.remove("nudge_term")


def test_a_method_of_ones_own_is_one_class_and_one_recipe(nudge: str, tmp_path: Path) -> None:
    assert nudge in METHODS
    assert METHODS["Nudge-VAE"].differs == "regulariser=nudge_term, strength=0.2"
    (listed,) = (row for row in _listings.methods() if row["name"] == nudge)
    assert (listed["aliases"], listed["differs_from_vae"]) == (
        ["Nudge-VAE"],
        METHODS[nudge].differs,
    )
    config = resolve("Nudge-VAE", data="grammar", profile="smoke", strength=0.3)
    assert (config.method, config.options["strength"]) == ("nudge", 0.3)
    with pytest.raises(VaelibError, match="did you mean 'strength'"):
        resolve(nudge, data="grammar", strenght=0.3)
    run = vaelib.run(nudge, data="grammar", profile="smoke", store=Store(tmp_path), progress=False)
    assert run.config.options["strength"] == 0.2
    assert "regulariser" in run.history
    assert not run.stale
    check_term("nudge_term")
    check_method(nudge)


def test_it_is_gone_afterwards() -> None:
    assert "nudge" not in METHODS
    assert "Nudge-VAE" not in METHODS
    assert "nudge_term" not in TERMS
    with pytest.raises(VaelibError, match="unknown method 'nudge'"):
        resolve("nudge", data="grammar")


def test_its_code_belongs_to_its_key(nudge: str) -> None:
    mine = key_of(resolve(nudge, data="grammar", profile="smoke"))
    plain = key_of(resolve("vae", data="grammar", profile="smoke"))
    assert mine.trained.split("-")[1] != plain.trained.split("-")[1]


def test_the_suites_sentences_are_sentences() -> None:
    words = sentences(5, 6, 20)
    assert words.shape == (5, 6)
    assert words[:, 0].eq(1).all()
    assert words[:, -1].eq(2).all()
    assert 4 <= words[:, 1:-1].min() <= words.max() < 20
    assert torch.equal(words, sentences(5, 6, 20))
