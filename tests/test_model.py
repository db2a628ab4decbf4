"""The VAE: one forward pass, likelihoods of many codes, writing sentences."""

import pytest
import torch
from torch.distributions import kl_divergence

from vaelib.build import build, resolve
from vaelib.distributions import fresh_generator
from vaelib.layers import uniform_init_
from vaelib.model import VAE, Outputs
from vaelib.testing import sentences

MODES = ["vae", "vmf", "bn", "delta", "skip"]


def model_of(method: str) -> VAE:
    """A smoke-sized model with large weights, so that z matters."""
    model = build(resolve(method, data="grammar", profile="smoke"), 30).model
    uniform_init_(model, 0.7, 0.7, torch.Generator().manual_seed(2))
    return model.eval()


@pytest.mark.parametrize("method", MODES)
def test_outputs_are_in_nats_per_example(method: str, generator: torch.Generator) -> None:
    model, x = model_of(method), sentences(6, 5, 30)
    outputs = model(x, generator)
    assert isinstance(outputs, Outputs)
    assert outputs.z.shape == (6, 4)
    assert outputs.h.shape == (6, 12)
    assert torch.equal(outputs.rate, kl_divergence(outputs.q, outputs.p))
    assert torch.equal(outputs.distortion, -outputs.log_px)
    assert torch.equal(outputs.elbo, outputs.log_px - outputs.rate)
    assert torch.allclose(outputs.log_px, model.log_likelihood(x, outputs.z))
    alone = model(x[:1], generator)
    assert torch.allclose(alone.rate, outputs.rate[:1], atol=1e-5)


def test_no_generator_means_a_seed_of_its_own_and_never_global_state() -> None:
    model, x = model_of("vae").train(), sentences(6, 5, 30)
    before = torch.get_rng_state()
    first = model(x)
    assert torch.equal(first.log_px, model(x).log_px)
    assert torch.equal(first.log_px, model(x, fresh_generator()).log_px)
    assert torch.equal(before, torch.get_rng_state())


@torch.no_grad()
@pytest.mark.parametrize("method", MODES)
def test_many_codes_at_once_equal_one_at_a_time(method: str, generator: torch.Generator) -> None:
    model, x = model_of(method), sentences(6, 5, 30)
    z = torch.randn(3, 6, 4, generator=generator)
    every = model.log_likelihood(x, z)
    assert every.shape == (3, 6)
    rows = torch.stack([model.log_likelihood(x, codes) for codes in z])
    assert torch.allclose(every, rows, atol=1e-4)
    single = [[model.log_likelihood(x[b : b + 1], z[s, b][None]) for b in range(6)] for s in (0, 2)]
    flat = torch.tensor([[float(v) for v in row] for row in single])
    assert torch.allclose(every[[0, 2]], flat, atol=1e-4)
    assert every.std(dim=0).min() > 0


def test_sampling_one_z_per_sentence_reparameterises(generator: torch.Generator) -> None:
    model, x = model_of("vae"), sentences(6, 5, 30)
    outputs = model(x, generator)
    base = outputs.q.base_dist
    noise = (outputs.z - base.loc) / base.scale
    again = torch.randn(6, 4, generator=torch.Generator().manual_seed(11))
    assert torch.allclose(noise, again, atol=1e-5)
    outputs.z.sum().backward()
    weights = model.posterior.linear.weight.grad
    assert weights[:4].abs().sum() > 0
    assert weights[4:].abs().sum() > 0


@pytest.mark.parametrize("method", MODES)
def test_generation_repeats_and_ends(method: str) -> None:
    model = model_of(method)
    first, again = (model.generate(7, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape[0] == 7
    assert first.shape[1] <= 99
    for row in first.tolist():
        if 2 in row:
            assert set(row[row.index(2) + 1 :]) <= {0}
    assert torch.equal(model.generate(2), model.generate(2))


def test_words_can_be_sampled(generator: torch.Generator) -> None:
    model = model_of("vae")
    greedy = model.generate(5, torch.Generator().manual_seed(1))
    sampled = model.generate(5, torch.Generator().manual_seed(1), sample_words=True)
    assert greedy.shape != sampled.shape or not torch.equal(greedy, sampled)


@pytest.mark.parametrize("method", MODES)
def test_interpolation_starts_and_ends_at_the_reconstructions(method: str) -> None:
    model, x = model_of(method), sentences(6, 5, 30)
    a, b = x[:3], x[3:]
    path = model.interpolate(a, b, steps=5)
    assert path.shape[:2] == (5, 3)
    for end, batch in ((path[0], a), (path[-1], b)):
        whole = model.reconstruct(batch)
        width = min(end.shape[1], whole.shape[1])
        assert torch.equal(end[:, :width], whole[:, :width])
        assert not end[:, width:].any()


def test_interpolation_walks_between_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, seen = model_of("vae"), sentences(4, 5, 30), []
    monkeypatch.setattr(model, "decode", lambda z, x: seen.append(z) or z)
    model.interpolate(x[:2], x[2:], steps=3)
    mu = model.encode(x).mean
    assert torch.allclose(seen[0].view(3, 2, 4)[1], (mu[:2] + mu[2:]) / 2, atol=1e-6)


def test_codes_of_sentences_on_the_sphere_lie_on_the_sphere() -> None:
    q = model_of("vmf").encode(sentences(6, 5, 30))
    assert torch.allclose(q.mode.norm(dim=1), torch.ones(6))
    assert (q.mean.norm(dim=1) < 0.99).all()  # the mean is inside: it is no code
