"""Coupled-VAE: distances of signals, what learns from what, and the twins of other methods."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from objective_helpers import seeded
from torch import Tensor, nn
from torch.nn import functional as F

import vaelib.twins  # noqa: F401  (registers the twins)
from vaelib import METHODS
from vaelib.build import Built, build, resolve
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives import Objective
from vaelib.objectives.coupled import Coupled, couple
from vaelib.testing import check_term, sentences
from vaelib.train import fit

OF_THE_PAPER = (
    "Coupled-VAE",
    "Coupled-beta-VAE",
    "Coupled-vMF-VAE",
    "Coupled-CNN-VAE",
    "Coupled-WAE",
    "Coupled-VAE-NF",
    "Coupled-WAE-NF",
    "Coupled-CycAnn-VAE",
    "Coupled-PreFB-VAE",
    "Coupled-Lagging-VAE",
    "Coupled-CVAE",
)


def made(backbone: str = "gru", train: bool = True, **overrides: Any) -> Built:
    """A tiny coupled model, its gradients empty."""
    config = resolve("coupled", data="grammar", profile="smoke", backbone=backbone, **overrides)
    built = build(config, 12)
    built.model.train(train)
    built.objective.train(train)
    return built


def term_of(built: Built) -> Coupled:
    term = built.objective.extras["coupled"]
    assert isinstance(term, Coupled)
    return term


def passed(built: Built, seed: int = 3) -> Outputs:
    return built.model(sentences(), seeded(seed))


def reached(module: nn.Module) -> set[str]:
    """Names of the parameters with a gradient that is not all zero."""
    return {
        name
        for name, p in module.named_parameters()
        if p.grad is not None and bool(p.grad.ne(0).any())
    }


# ---- Distances ---------------------------------------------------------------------------------


def alone(**options: object) -> Coupled:
    return Coupled(Shape(13, 5, 7, 32), **options)


def test_equal_signals_are_at_the_least_distance() -> None:
    h = torch.randn(5, 8, generator=seeded())
    assert torch.equal(alone().match(h, h), torch.full((5,), -7.0))
    assert torch.equal(alone(coupled_distance="euclidean").match(h, h), torch.zeros(5))


def test_the_kernel_is_the_sum_over_seven_scales() -> None:
    """Eq. 5 with C = 2 D = 64."""
    signal, other = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(2, 2)
    scales = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    wanted = -sum(64 * s / (64 * s + 25) for s in scales)
    torch.testing.assert_close(alone().match(signal, other), torch.tensor([wanted, -7.0]))
    far = alone().match(1e4 * signal, other)[0].item()
    assert -7 < wanted < far < 0
    distance = alone(coupled_distance="euclidean").match(signal, other)
    assert distance.tolist() == [25.0, 0.0]


def test_the_kernel_pulls_less_the_farther_the_signals_are() -> None:
    def pull(length: float) -> float:
        signal = torch.tensor([[length, 0.0]], requires_grad=True)
        alone().match(signal, torch.zeros(1, 2)).sum().backward()
        assert signal.grad is not None
        wanted = sum(128 * s * length / (64 * s + length**2) ** 2 for s in alone_scales)
        assert signal.grad[0, 0].item() == pytest.approx(wanted, rel=1e-5)
        return signal.grad[0, 0].item()

    alone_scales = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    assert pull(1.0) > pull(30.0) > pull(300.0) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coupled_match": -0.1}, "neither may be negative"),
        ({"coupled_reconstruction": -1.0}, "neither may be negative"),
        ({"coupled_distance": "cosine"}, "unknown coupled_distance 'cosine'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(VaelibError, match=message):
        alone(**options)


def test_the_term_needs_a_model() -> None:
    with pytest.raises(VaelibError, match="has no model yet"):
        alone()(passed(made()), seeded())


# ---- The coupled path --------------------------------------------------------------------------


def test_the_value_is_the_weighed_sum() -> None:
    built = made(train=False, coupled_match=0.5, coupled_reconstruction=2.0)
    term, outputs = term_of(built), passed(built)
    code = term.posterior(outputs.h).mode
    reconstruction = -term.decoder(outputs.x, code)
    h, other = built.model.decoder.signal(outputs.z), term.decoder.signal(code)
    wanted = 2 * reconstruction + 0.5 * term.match(h, other)
    torch.testing.assert_close(term(outputs, seeded()), wanted)
    assert torch.equal(term.reconstruction(outputs), reconstruction)
    assert torch.equal(term(outputs, seeded(1)), term(outputs, seeded(2)))  # nothing is sampled


@pytest.mark.parametrize("backbone", ["lstm", "gru"])
def test_the_path_shares_the_encoder_and_the_embedding_and_nothing_else(backbone: str) -> None:
    built = made(backbone)
    mine = {id(p) for p in built.model.parameters()}
    shared = [n for n, p in term_of(built).named_parameters() if id(p) in mine]
    assert shared == (["decoder.embedding.weight"] if backbone == "gru" else [])
    kinds = [type(p) for p in (built.model.posterior, built.model.decoder)]
    assert kinds == [type(term_of(built).posterior), type(term_of(built).decoder)]


@pytest.mark.parametrize("posterior", ["gaussian", "linear_heads", "vmf_learned", "planar"])
def test_the_coupled_code_is_free_of_noise(posterior: str) -> None:
    """Appendix B: the mean, its image under the flows, or the direction."""
    prior = {"prior": "uniform_sphere"} if posterior == "vmf_learned" else {}
    built = made(train=False, posterior=posterior, **prior)
    term, outputs = term_of(built), passed(built)
    code, q = term.code(outputs), term.posterior
    if posterior == "gaussian":
        wanted = q.linear(outputs.h).chunk(2, dim=-1)[0]
    elif posterior == "planar":
        wanted, _ = q.flow(q.norm(q.linear(outputs.h)).chunk(2, dim=-1)[0], None)
    else:
        wanted = q.mu(outputs.h)
        wanted = F.normalize(wanted, dim=-1) if posterior == "vmf_learned" else wanted
    torch.testing.assert_close(code, wanted)
    assert not torch.allclose(code, built.model.posterior(outputs.h).mode)


def test_the_spread_of_the_coupled_posterior_is_not_trained() -> None:
    frozen = {"linear_heads": {"log_scale.weight", "log_scale.bias"}, "gaussian": set()}
    for posterior, names in frozen.items():
        own = term_of(made(posterior=posterior)).posterior
        assert {n for n, p in own.named_parameters() if not p.requires_grad} == names
    every = made(posterior="linear_heads").model.posterior.parameters()
    assert all(p.requires_grad for p in every)


# ---- What learns from what ---------------------------------------------------------------------


def test_the_match_pulls_the_model_and_leaves_the_coupled_path_alone() -> None:
    built = made(coupled_reconstruction=0.0, coupled_match=1.0)
    term, model = term_of(built), built.model
    own = {id(p) for p in model.parameters()}
    outputs = passed(built)
    signals = term.signals(outputs, term.code(outputs))
    assert not signals[1].requires_grad
    term.match(*signals).sum().backward()
    assert all(p.grad is None for p in term.parameters() if id(p) not in own)
    assert reached(model.posterior) == {n for n, _ in model.posterior.named_parameters()}
    assert reached(model.encoder) == {n for n, _ in model.encoder.named_parameters()}
    assert {n.split(".")[0] for n in reached(model.decoder)} == {"to_signal", "embedding"}


def test_the_coupled_reconstruction_teaches_the_coupled_path_and_the_encoder() -> None:
    built = made(coupled_match=0.0)
    term, model = term_of(built), built.model
    term.reconstruction(passed(built), seeded()).sum().backward()
    trained = {n for n, p in term.named_parameters() if p.requires_grad}
    assert reached(term) == trained
    assert reached(model.encoder) == {n for n, _ in model.encoder.named_parameters()}
    assert reached(model.posterior) == set()
    assert reached(model.decoder) == {"embedding.weight"}


def test_without_weights_the_loss_and_its_gradients_are_those_of_the_base() -> None:
    built = made(coupled_match=0.0, coupled_reconstruction=0.0)
    base = Objective(built.objective.regulariser, {})
    found: list[tuple[Tensor, list[Tensor]]] = []
    for objective in (built.objective, base):
        loss, _ = objective(passed(built), 0.7, seeded())
        built.model.zero_grad()
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in built.model.parameters()]))
    (coupled, slopes), (plain, wanted) = found
    assert torch.equal(coupled, plain)
    assert all(torch.equal(a, b) for a, b in zip(slopes, wanted, strict=True))


def test_descending_the_match_alone_brings_the_signals_together() -> None:
    built = made("lstm", train=False, coupled_distance="euclidean")
    term, model = term_of(built), built.model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    values = []
    for _ in range(60):
        outputs = passed(built)
        value = term.match(*term.signals(outputs, term.code(outputs))).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.2 * values[0]


def test_the_term_keeps_the_contract_of_terms() -> None:
    check_term("coupled")
    check_term("coupled", coupled_distance="euclidean", coupled_match=5.0)


# ---- Twins -------------------------------------------------------------------------------------


def test_the_papers_models_are_there() -> None:
    for name in OF_THE_PAPER:
        assert METHODS[name].title == name
        assert METHODS[name].changes["extra_terms"][-1] == "coupled"
    weights = {name: METHODS[name].options.get("coupled_match", 0.1) for name in OF_THE_PAPER}
    assert weights["Coupled-vMF-VAE"] == 7.5  # T36, PTB
    assert weights["Coupled-CNN-VAE"] == 0.0
    assert {v for n, v in weights.items() if n.split("-")[1] not in ("vMF", "CNN")} == {0.1}


def test_a_twin_is_its_base_and_the_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS.items()))
    base = METHODS["wae_nf"]
    twin = METHODS["coupled_wae_nf"]
    assert twin.changes == base.changes | {"extra_terms": ("mmd_multiscale", "coupled")}
    assert twin.options == base.options
    with pytest.raises(VaelibError, match="unknown method 'no_such_base'"):
        couple("no_such_base")
    with pytest.raises(VaelibError):
        couple("vae", "coupled")


SMALL = {"data": "grammar", "profile": "smoke", "train_size": 64, "valid_size": 8, "test_size": 8}
# Without a code, or with one that no encoder sets, there is nothing to couple.
BASES = sorted(
    name
    for name, entry in METHODS.items()
    if "coupled" not in entry.changes.get("extra_terms", ())
    and entry.changes.get("posterior") not in ("prior",)
    and entry.changes.get("backbone", "lstm") != "conditional"
)


@pytest.mark.parametrize("name", BASES)
def test_any_method_can_be_coupled(name: str, corpus: Corpus, tmp_path: Path) -> None:
    extra = (*METHODS[name].changes.get("extra_terms", ()), "coupled")
    config = resolve(name, **SMALL, extra_terms=extra)
    before = build(config, len(corpus.vocabulary)).objective.extras["coupled"].state_dict()
    after = trained(config, corpus, tmp_path).objective.extras["coupled"].state_dict()
    moved = {key.split(".")[0] for key, value in after.items() if not value.equal(before[key])}
    assert moved == {"posterior", "decoder"}


def trained(config: Config, corpus: Corpus, place: Path) -> Built:
    """The parts after an epoch over a slice."""
    some = torch.arange(64)
    offsets = corpus.train.offsets[: len(some) + 1]
    train = replace(corpus.train, tokens=corpus.train.tokens[: offsets[-1]], offsets=offsets)
    small = replace(corpus, train=train, valid=train, test=train)
    return fit(config, small, place).built
