"""What a run may log after every epoch: the same numbers as the functions they are."""

import math

import pytest
import torch
from torch import Tensor, nn

from vaelib import twins  # noqa: F401 (registers methods)
from vaelib.build import Built, build, resolve
from vaelib.data import Corpus
from vaelib.distributions import mean_logvar
from vaelib.layers import uniform_init_
from vaelib.metrics import (
    active_units,
    conditional_entropy,
    kl_normal,
    mutual_information,
    mutual_posterior_divergence,
)
from vaelib.metrics.gradients import gradient_norms
from vaelib.model import Outputs
from vaelib.track import GRADIENT_BATCHES, TRACKED

COLUMNS = {
    "kl": {"kl"},
    "mi_in_batch": {"mi_in_batch"},
    "au": {"au"},
    "mpd": {"mpd", "ce"},
    "gradients": {"grad_rec", "grad_kl", "grad_signal"},
}


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(method: str, corpus: Corpus) -> Built:
    built = build(resolve(method, data="grammar", profile="smoke"), len(corpus.vocabulary))
    uniform_init_(built.model, 0.6, 0.6, seeded(4))
    built.model.eval()
    return built


@pytest.fixture
def batches(corpus: Corpus) -> list[Tensor]:
    return [corpus.valid.gather(i) for i in corpus.valid.buckets(4)]


def test_every_name_fills_its_columns(corpus: Corpus, batches: list[Tensor]) -> None:
    built = made("vae", corpus)
    assert set(TRACKED) == set(COLUMNS)
    for name, columns in COLUMNS.items():
        values = TRACKED[name](built, batches, seeded())
        assert set(values) == columns
        assert all(math.isfinite(value) for value in values.values())


def test_they_are_the_metrics(corpus: Corpus, batches: list[Tensor]) -> None:
    built = made("vae", corpus)
    with torch.no_grad():
        pairs = [mean_logvar(built.model.encode(x)) for x in batches]
    mu, logvar = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
    values: dict[str, float] = {}
    for name in ("kl", "au", "mpd", "mi_in_batch"):
        values |= TRACKED[name](built, batches, seeded())
    assert values["kl"] == pytest.approx(kl_normal(mu, logvar).sum(1).mean().item())
    assert values["au"] == active_units(mu)
    assert values["mpd"] == pytest.approx(mutual_posterior_divergence(mu, logvar))
    assert values["ce"] == pytest.approx(conditional_entropy(logvar))
    groups = torch.arange(len(mu)).split([len(x) for x in batches])
    information = mutual_information(
        mu, logvar, estimator="in_batch", batches=groups, generator=seeded()
    )
    assert values["mi_in_batch"] == pytest.approx(information)
    assert values["mi_in_batch"] <= math.log(4) + 0.5


def test_without_a_gaussian_posterior_there_are_no_units(
    corpus: Corpus, batches: list[Tensor]
) -> None:
    built = made("vmf", corpus)
    for name in ("mi_in_batch", "au", "mpd"):
        values = TRACKED[name](built, batches, seeded())
        assert set(values) == COLUMNS[name]
        assert all(math.isnan(value) for value in values.values())
    assert TRACKED["kl"](built, batches, seeded())["kl"] > 0


def test_gradients_are_taken_over_a_few_batches_spread_over_all(
    corpus: Corpus, batches: list[Tensor]
) -> None:
    built = made("vae", corpus)
    many = batches * 3
    assert len(many) > 2 * GRADIENT_BATCHES
    step = math.ceil(len(many) / GRADIENT_BATCHES)
    chosen = many[::step]
    assert len(chosen) <= GRADIENT_BATCHES
    expected = gradient_norms(built.model, chosen, None, seeded())
    assert TRACKED["gradients"](built, many, seeded()) == expected


def test_a_coupled_path_has_gradients_too(corpus: Corpus, batches: list[Tensor]) -> None:
    class Path(nn.Module):
        def reconstruction(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
            return 2 * outputs.h.sum(1)

    built = made("vae", corpus)
    built.objective.extras["coupled"] = Path()
    values = TRACKED["gradients"](built, batches, seeded())
    assert set(values) == COLUMNS["gradients"] | {"grad_coupled", "grad_total"}
    width = built.model.encoder.output_dim
    assert values["grad_coupled"] == pytest.approx(4 * width)


def test_the_coupled_term_is_such_a_path(corpus: Corpus, batches: list[Tensor]) -> None:
    built = made("coupled", corpus)
    values = TRACKED["gradients"](built, batches, seeded())
    assert values["grad_coupled"] > 0
    most = (values["grad_rec"] ** 0.5 + values["grad_coupled"] ** 0.5) ** 2
    assert 0 < values["grad_total"] <= most * (1 + 1e-4)  # Minkowski


def test_nothing_is_changed(corpus: Corpus, batches: list[Tensor]) -> None:
    built = made("bn", corpus)
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    for track in TRACKED.values():
        track(built, batches, seeded())
    assert not any(m.training for m in built.model.modules())
    assert all(torch.equal(value, before[k]) for k, value in built.model.state_dict().items())
