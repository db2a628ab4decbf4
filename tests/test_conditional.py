"""Models of a response given its post: the CVAE in whitened coordinates, and seq2seq."""

import math
from typing import Any

import pytest
import torch
from objective_helpers import seeded
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

import vaelib.twins  # noqa: F401  (registers the methods)
from vaelib.build import Built, build, resolve
from vaelib.conditional import (
    ConditionalGRUDecoder,
    ConditionalPosterior,
    PairEncoder,
    Seq2SeqDecoder,
)
from vaelib.data import Vocabulary, load
from vaelib.data.pairs import PairSplit, PairTexts, halves
from vaelib.decoders import greedy, sampler
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.metrics import importance_weighted_nll
from vaelib.model import VAE, Outputs
from vaelib.objectives.coupled import Coupled
from vaelib.testing import check_encoder, check_method, check_posterior

TEXTS = PairTexts(["a b c", "b", "c c d e", "e a"], ["b a", "c", "a a b c e", "d d d"])
METHODS = ["seq2seq", "cvae", "coupled_cvae"]


def pairs(*places: int) -> Tensor:
    split = PairSplit.from_texts(TEXTS, Vocabulary.from_texts([*TEXTS.posts, *TEXTS.responses]))
    return split.gather(torch.tensor(places or (0, 1, 2, 3)))


def made(method: str = "cvae", train: bool = False, **overrides: Any) -> Built:
    built = build(resolve(method, data="pairs", profile="smoke", **overrides), 9)
    scramble(built.model)
    scramble(built.objective, 1)
    built.model.train(train)
    built.objective.train(train)
    return built


def scramble(module: nn.Module, seed: int = 0) -> None:
    """Parameters of some size, so that nothing is small by accident."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5, generator=seeded(seed))


def parts(model: VAE) -> tuple[PairEncoder, ConditionalPosterior, ConditionalGRUDecoder]:
    encoder, posterior, decoder = model.encoder, model.posterior, model.decoder
    assert isinstance(encoder, PairEncoder)
    assert isinstance(posterior, ConditionalPosterior)
    assert isinstance(decoder, ConditionalGRUDecoder)
    return encoder, posterior, decoder


def plain(model: VAE, h: Tensor) -> tuple[Independent, Independent]:
    """q(z|x, y) and p(z|y) as they stand in the paper."""
    _, posterior, _ = parts(model)
    mu, log_scale = posterior.prior(h[:, h.shape[1] // 2 :]).chunk(2, dim=-1)
    q = Normal(posterior.mu(h), posterior.log_scale(h).exp())
    return Independent(q, 1), Independent(Normal(mu, log_scale.exp()), 1)


# ---- Reading pairs -----------------------------------------------------------------------------


def test_response_and_post_are_read_apart() -> None:
    encoder, _, _ = parts(made().model)
    x = pairs()
    h = encoder(x)
    response, post = h.chunk(2, dim=-1)
    torch.testing.assert_close(encoder.read_post(x), post, rtol=0, atol=0)
    torch.testing.assert_close(encoder.read_post(halves(x)[0]), post, rtol=0, atol=0)
    swapped = torch.cat([halves(x)[0], halves(x)[1].flip(0)], dim=1)
    torch.testing.assert_close(encoder(swapped).chunk(2, dim=-1)[1], post)
    torch.testing.assert_close(encoder(swapped).chunk(2, dim=-1)[0], response.flip(0))


def test_padding_is_not_read() -> None:
    model = made().model
    x = pairs()
    together = model.encoder(x)
    z = torch.randn(4, 4, generator=seeded())
    log_px = model.decoder(x, z)
    for i in range(4):
        torch.testing.assert_close(model.encoder(pairs(i)), together[i : i + 1])
        torch.testing.assert_close(model.decoder(pairs(i), z[i : i + 1]), log_px[i : i + 1])


def test_all_that_reads_a_post_in_a_step_sees_the_same_words() -> None:
    model = made(train=True).model
    encoder, _, _ = parts(model)
    noise = seeded()
    h = model.read(pairs(), noise)
    half = h.shape[1] // 2
    for _ in range(2):
        assert torch.equal(encoder.read_post(pairs(), noise), h[:, half:])
    assert not torch.equal(model.read(pairs(), noise), h)
    clean = encoder.read_post(pairs(), noisy=False)
    assert torch.equal(clean, encoder.eval().read_post(pairs()))
    assert not torch.equal(clean, h[:, half:])


def test_dropout_needs_a_source_before_the_first_step() -> None:
    encoder, _, _ = parts(made(train=True).model)
    with pytest.raises(VaelibError, match="dropout in training needs a generator"):
        encoder.read_post(pairs())


# ---- Whitened coordinates ----------------------------------------------------------------------


def test_the_rate_is_that_between_posterior_and_prior_of_the_post() -> None:
    model = made().model
    h = model.encoder(pairs())
    rate = kl_divergence(model.posterior(h), model.prior())
    q, p = plain(model, h)
    torch.testing.assert_close(rate, kl_divergence(q, p))
    assert rate.min() > 0.01


def test_the_importance_weights_are_the_same() -> None:
    model = made().model
    h = model.encoder(pairs())
    u = torch.randn(3, 4, 4, generator=seeded())
    q, p = plain(model, h)
    z = p.base_dist.loc + p.base_dist.scale * u
    mine = model.prior().log_prob(u) - model.posterior(h).log_prob(u)
    torch.testing.assert_close(mine, p.log_prob(z) - q.log_prob(z))


@pytest.mark.parametrize("train", [False, True])
def test_a_forward_pass_is_that_of_the_paper(train: bool) -> None:
    """z = mu_q + sigma_q eps, h = MLP(z) + r(y); in training with the same dropout masks."""
    model = made(train=train, dropout_in=0.0, dropout_out=0.0).model
    _, _, decoder = parts(model)
    outputs = model(pairs(), seeded())
    q, _ = plain(model, outputs.h)
    whitened = outputs.q.base_dist
    eps = (outputs.z - whitened.loc) / whitened.scale
    z = q.base_dist.loc + q.base_dist.scale * eps
    h = decoder.writer.signal(z) + decoder.represent(outputs.h[:, outputs.h.shape[1] // 2 :])
    torch.testing.assert_close(decoder.signal(outputs.z, outputs.x), h)
    wanted = decoder.writer.told(halves(outputs.x)[1], h)
    torch.testing.assert_close(outputs.log_px, wanted, rtol=1e-5, atol=1e-5)


def test_the_prior_learns_from_the_rate_alone() -> None:
    model = made(train=True).model
    _, posterior, _ = parts(model)
    outputs = model(pairs(), seeded())
    weights = list(posterior.prior.parameters())
    by_words = torch.autograd.grad(outputs.distortion.sum(), weights, retain_graph=True)
    by_rate = torch.autograd.grad(outputs.rate.sum(), weights)
    for words, rate in zip(by_words, by_rate, strict=True):
        assert words.abs().max() < 1e-4 * rate.abs().max()


def test_a_posterior_equal_to_its_prior_has_no_rate() -> None:
    posterior = ConditionalPosterior(8, Shape(9, 5, 2, 3))
    mu, log_scale = posterior.prior.weight.chunk(2)
    with torch.no_grad():
        posterior.mu.weight.copy_(torch.cat([torch.zeros_like(mu), mu], dim=1))
        posterior.log_scale.weight.copy_(torch.cat([torch.zeros_like(mu), log_scale], dim=1))
        posterior.mu.bias.copy_(posterior.prior.bias[:3])
        posterior.log_scale.bias.copy_(posterior.prior.bias[3:])
    q = posterior(torch.randn(5, 8, generator=seeded()))
    torch.testing.assert_close(q.mean, torch.zeros(5, 3))
    torch.testing.assert_close(q.base_dist.scale, torch.ones(5, 3))


# ---- Writing responses -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cvae", "seq2seq"])
def test_the_likelihood_is_of_the_response_alone(method: str) -> None:
    """Over all responses of one length together with all other ends it sums up to 1."""
    model = made(method).model
    post = torch.tensor([1, 4, 5, 2])
    z = torch.randn(1, 4, generator=seeded())
    first = torch.stack([torch.cat([post, torch.tensor([1, w, 2])]) for w in range(3, 9)])
    ended = torch.cat([post, torch.tensor([1, 2])]).unsqueeze(0)
    done = model.decoder(ended, z).exp().item()
    again = model.decoder(first, z.expand(6, -1)).exp().sum().item()
    assert 0 < done < 1
    assert 0 < again < 1 - done


@pytest.mark.parametrize("method", ["cvae", "seq2seq"])
def test_several_codes_take_copies_of_the_batch(method: str) -> None:
    model = made(method).model
    x, z = pairs(), torch.randn(3, 4, 4, generator=seeded())
    apart = torch.stack([model.decoder(x, one) for one in z])
    torch.testing.assert_close(model.log_likelihood(x, z), apart)
    signal = model.decoder.signal(z.flatten(0, 1), x)
    torch.testing.assert_close(signal[4:8], model.decoder.signal(z[1], x))


@pytest.mark.parametrize("method", ["cvae", "seq2seq"])
@pytest.mark.parametrize("train", [False, True])
def test_responses_are_written_without_noise_for_pairs_and_for_posts(
    method: str, train: bool
) -> None:
    model = made(method, train=train).model
    x = pairs()
    z = torch.randn(4, 4, generator=seeded())
    written = model.decode(z, x=x)
    assert torch.equal(model.decode(z, x=halves(x)[0]), written)
    assert torch.equal(model.decode(z, x=x), written)
    assert all(part.training == train for part in model.modules())
    assert not torch.equal(model.decode(z, x=x.flip(0)), written)
    drawn = model.decoder.decode(z, sampler(seeded()), 5, x)
    assert drawn.shape[0] == 4
    assert drawn.shape[1] <= 5


def test_greedy_words_are_the_likeliest() -> None:
    model = made().model
    z = torch.randn(1, 4, generator=seeded())
    post = torch.tensor([[1, 4, 5, 2]])
    word = model.decoder.decode(z, greedy, 1, post)
    every = torch.cat([post, torch.tensor([[1, 0]])], dim=1).repeat(8, 1)
    every[:, -1] = torch.arange(1, 9)
    assert model.decoder(every, z.expand(8, -1)).argmax().item() + 1 == word.item()


@pytest.mark.parametrize("method", ["cvae", "seq2seq"])
def test_the_posts_are_needed(method: str) -> None:
    model = made(method).model
    z = torch.zeros(3, 4)
    for call in (
        lambda: model.decode(z),
        lambda: model.generate(3),
        lambda: model.decode(z, x=pairs()),
        lambda: model.decoder.signal(z),
    ):
        with pytest.raises(VaelibError, match="needs the posts that its 3 codes belong to"):
            call()
    assert len(model.generate(4, x=pairs())) == 4
    assert len(model.reconstruct(pairs())) == 4


def test_the_encoder_decoder_has_no_code_and_an_exact_likelihood() -> None:
    model = made("seq2seq").model
    assert isinstance(model.decoder, Seq2SeqDecoder)
    outputs = model(pairs(), seeded())
    assert outputs.rate.tolist() == [0.0] * 4
    assert torch.equal(model.decoder(pairs(), torch.randn(4, 4)), outputs.log_px)
    nll = importance_weighted_nll(model, pairs(), samples=3)
    torch.testing.assert_close(nll.float(), -outputs.log_px)
    assert not list(model.encoder.parameters()) + list(model.posterior.parameters())


def test_the_likelihood_of_a_cvae_is_met_by_sampling_from_its_prior() -> None:
    """log p(x|y) = log E_p(z|y) p(x|z, y), however z is written."""
    model = made().model
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter.mul_(0.4)  # the nearer the posterior is to its prior, the fewer samples
    x = pairs(0, 1)
    assert kl_divergence(model.encode(x), model.prior()).min() > 0.1
    nll = importance_weighted_nll(model, x, samples=4_000, generator=seeded())
    u = torch.randn(4_000, 2, 4, generator=seeded(5))
    with torch.no_grad():
        direct = model.log_likelihood(x, u).logsumexp(0) - math.log(4_000)
    torch.testing.assert_close(-nll.float(), direct, rtol=0, atol=0.02)


# ---- Fitting together --------------------------------------------------------------------------


def test_parts_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(VaelibError, match="posterior, which the backbone 'conditional' needs"):
        resolve("vae", data="pairs", posterior="linear_heads")
    decoder = ConditionalGRUDecoder(Shape(9, 5, 2, 3))
    others = made().model.parts | {"posterior": nn.Identity()}
    with pytest.raises(VaelibError, match="needs the encoder pair_bigru and the posterior cond"):
        decoder.complete(others, None)
    with pytest.raises(VaelibError, match="not part of a model yet"):
        decoder(pairs(), torch.zeros(4, 3))
    with pytest.raises(VaelibError, match="must have an even width"):
        ConditionalPosterior(7, Shape(9, 5, 2, 3))
    for part in (PairEncoder, Seq2SeqDecoder):
        with pytest.raises(VaelibError, match=r"encoder_dropout=1\.0"):
            part(Shape(9, 5, 2, 3), encoder_dropout=1.0)
    with pytest.raises(VaelibError, match="single sentences"):
        made().model.encoder(halves(pairs())[0])


def test_parts_keep_the_contracts_of_parts() -> None:
    check_encoder("pair_bigru", pairs())
    check_posterior("conditional")


def test_one_embedding_reads_and_writes() -> None:
    encoder, _, decoder = parts(made().model)
    assert decoder.writer.embedding is encoder.embedding
    alone = made("seq2seq").model.decoder
    assert isinstance(alone, Seq2SeqDecoder)
    assert len(alone.writer.to_signal) == 0


# ---- Coupling ----------------------------------------------------------------------------------


def coupled(train: bool) -> tuple[Coupled, Built, Outputs]:
    built = made("coupled_cvae", train=train)
    term = built.objective.extras["coupled"]
    assert isinstance(term, Coupled)
    return term, built, built.model(pairs(), seeded())


def test_both_paths_share_the_prior_and_what_they_say_of_the_post() -> None:
    term, built, _ = coupled(True)
    _, posterior, decoder = parts(built.model)
    assert term.posterior.prior is posterior.prior
    assert term.decoder.represent is decoder.represent
    assert term.decoder.writer.embedding is decoder.writer.embedding
    mine = {id(p) for p in built.model.parameters()}
    shared = {n for n, p in term.named_parameters() if id(p) in mine}
    assert {n.rsplit(".", 1)[0] for n in shared} == {
        "posterior.prior",
        "decoder.writer.embedding",
        "decoder.represent",
    }


@pytest.mark.parametrize("train", [False, True])
def test_the_coupled_code_is_the_plain_mean_and_the_post_cancels(train: bool) -> None:
    """h - h_c = MLP(z) - MLP_c(mu_c), with no prior and no r in it (Coupled-VAE, I.2)."""
    term, built, outputs = coupled(train)
    _, posterior, decoder = parts(built.model)
    code = term.code(outputs)
    mu, log_scale = posterior.given(outputs.h[:, outputs.h.shape[1] // 2 :])
    torch.testing.assert_close(mu + log_scale.exp() * code, term.posterior.mu(outputs.h))
    h, other = term.signals(outputs, code)
    z = mu + log_scale.exp() * outputs.z
    wanted = decoder.writer.signal(z) - term.decoder.writer.signal(term.posterior.mu(outputs.h))
    torch.testing.assert_close(h - other, wanted, rtol=1e-4, atol=1e-5)


def test_the_coupled_reconstruction_teaches_the_readers_of_both() -> None:
    term, built, outputs = coupled(True)
    term.reconstruction(outputs, seeded()).sum().backward()
    encoder, posterior, decoder = parts(built.model)
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())
    assert all(p.grad is not None and p.grad.any() for p in decoder.represent.parameters())
    assert posterior.mu.weight.grad is None
    assert decoder.writer.project.weight.grad is None
    own = [term.posterior.mu, *term.decoder.writer.to_signal, term.decoder.writer.project]
    assert all(p.grad is not None and p.grad.any() for m in own for p in m.parameters())
    assert not term.posterior.log_scale.weight.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_on_pairs(method: str) -> None:
    check_method(method, data="pairs")


def test_pairs_load_as_a_corpus() -> None:
    corpus = load("pairs", train_size=50, valid_size=10, test_size=10)
    assert corpus.holds == "pairs"
    assert [len(split) for split in corpus.splits.values()] == [50, 10, 10]
