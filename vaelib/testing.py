"""The conformance suite: what every term, part and method must keep, as plain functions.

A part of your own passes when these raise nothing, e.g. in your tests:

>>> from vaelib.testing import check_term
>>> check_term("free_bits", target=2.0)
"""

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence

from vaelib._contract import check_moves, gradients_reach, require, twice
from vaelib.backbones import BACKBONES
from vaelib.build import PARTS, Built, build, complete, load_data, resolve
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.decoders import DECODERS
from vaelib.distributions import rsample
from vaelib.encoders import ENCODERS, NoisyEncoder
from vaelib.fits import reads_of
from vaelib.flows import FlowNormal
from vaelib.layers import Shape, make_generator, uniform_init_
from vaelib.model import VAE, Outputs
from vaelib.objectives import TERMS, Term
from vaelib.objectives.base import METHODS
from vaelib.posteriors import POSTERIORS
from vaelib.priors import PRIORS
from vaelib.run import run_config
from vaelib.sphere import VonMisesFisher
from vaelib.store import STATE, Store
from vaelib.train import Training, fit, run_epoch, training_of
from vaelib.validation import validate

SHAPE = Shape(vocab_size=12, embedding_dim=6, hidden_dim=8, latent_dim=4)
SIZE, LENGTH = 8, 6
QUICK: dict[str, Any] = {"profile": "smoke", "epochs": 3, "lr": 0.01}
USUAL_DATA = {"text": "grammar", "pairs": "pairs", "images": "digits"}  # embedded, by what it holds


def sentences(size: int = SIZE, length: int = LENGTH, vocab_size: int = 12) -> Tensor:
    """Random sentences `[size, length]` with both markers, always the same ones."""
    noise = make_generator(0, "testing/words")
    words = torch.randint(4, vocab_size, (size, length), generator=noise)
    words[:, 0], words[:, -1] = 1, 2
    return words


def examples(reads: str = "text") -> Tensor:
    """Eight examples of what a part reads: text, pairs, images of 64 pixels, or points."""
    if reads == "images":
        return torch.rand(SIZE, 64, generator=make_generator(0, "testing/pixels")).round()
    if reads == "pairs":
        return torch.cat([sentences(length=LENGTH - 1), sentences()], dim=1)
    return torch.arange(SIZE) if reads == "points" else sentences()


def shape_for(x: Tensor) -> Shape:
    """Tiny sizes for a batch: of images `[B, P]` in floating point, V is P."""
    return replace(SHAPE, vocab_size=x.shape[1]) if x.is_floating_point() else SHAPE


_TINY = {  # the parts that a term is checked with, by what it reads
    "text": {"encoder": "lstm", "decoder": "lstm"},
    "images": {"encoder": "conv", "decoder": "conv"},
    "pairs": {
        "encoder": "pair_bigru",
        "posterior": "conditional",
        "decoder": "conditional_gru",
    },
}


def _tiny_model(reads: str, term: Callable[[Shape], Term]) -> tuple[VAE, Term]:
    """A model of what a term reads, and the term, which may use parts of it."""
    names = {"posterior": "gaussian", "prior": "normal"} | _TINY[reads]
    shape = shape_for(examples(reads))
    encoder = ENCODERS[names["encoder"]](shape)

    def make(kind: str) -> nn.Module:
        inputs = (encoder.output_dim,) if kind == "posterior" else ()
        return PARTS[kind][names[kind]](*inputs, shape)

    model = VAE(encoder, *(make(kind) for kind in ("posterior", "prior", "decoder")))
    made = term(shape)
    complete(model.parts, [made], make)
    uniform_init_(model, 1.5, 1.5, make_generator(0, "testing/init"))
    return model, made


def _make(part: Callable[..., Any], what: str, *sizes: Any, **options: Any) -> Any:
    """Call a part's constructor as `vaelib.build.build` does."""
    signature = inspect.signature(part)
    places = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    fault = "" if len(places) == len(sizes) else f"this one takes {signature}"
    try:
        signature.bind(*sizes, **options)
    except TypeError as error:
        fault = str(error)
    if fault:
        asked = "`in_features` and `shape`" if len(sizes) > 1 else "`shape`"
        raise AssertionError(
            f"{what}: the constructor must take {asked}, and options as keyword-only arguments "
            f"with defaults; {fault}"
        )
    made = part(*sizes, **options)
    check_moves(made, what)
    return made


@contextlib.contextmanager
def _reading(what: str, told: str, also: str = ", or give the check a batch x") -> Iterator[None]:
    """Say what a part was given, where it cannot read that."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(
            f"{what}: it fails on {told}: {error}; where it reads something else, its class says "
            f'so, as in `reads = "images"`{also}'
        ) from error


def check_term(name_or_class: str | type[Term], **options: Any) -> None:
    """Check a term: finite, of its scope's shape, differentiable, free of hidden state.

    One of scope "example" has a value for each example that the others do not change.

    It meets a model of text; of images or pairs, where its `reads` has no text.

    Args:
        name_or_class: A registered term, or a class.
        options: Options of the term.

    Raises:
        AssertionError: A contract is broken; the message names it.
    """
    what = f"term {name_or_class!r}"
    part = TERMS[name_or_class] if isinstance(name_or_class, str) else name_or_class
    require(isinstance(part, type) and issubclass(part, Term), f"{what}: no class of Term")
    reads = next((kind for kind in _TINY if kind in part.reads), "text")
    x = examples(reads)
    model, term = _tiny_model(reads, lambda shape: _make(part, what, shape, **options))

    require(term.scope in ("example", "batch"), f"{what}: scope is {term.scope!r}")
    for mode in (False, True):
        model.train(mode)
        term.train(mode)
        with _reading(what, reads, also=""):
            penalty = twice(lambda noise: _untouched(term, model(x, noise), noise, what), what)
        wanted = (SIZE,) if term.scope == "example" else ()
        require(penalty.shape == wanted, f"{what}: shape {tuple(penalty.shape)}, not {wanted}")
        if term.scope == "example" and not mode:
            require(_is_its_own(model, term, x), f"{what}: the other examples change a value")
    inference = nn.ModuleDict({"encoder": model.encoder, "posterior": model.posterior})
    gradients_reach(penalty.sum(), what, inference, term)


def _untouched(term: Term, outputs: Outputs, noise: torch.Generator, what: str) -> Tensor:
    """A term's value, which leaves the forward pass as the other terms have to find it."""
    shared = [(n, held, held.clone()) for n, held in vars(outputs).items() if torch.is_tensor(held)]
    value = term(outputs, noise)
    for name, held, before in shared:
        same = torch.equal(held, before)
        require(same, f"{what}: it changes `outputs.{name}`, which other terms read, in place")
    return value


def _is_its_own(model: VAE, term: Term, x: Tensor) -> bool:
    """Whether no value has a slope by what the encoder says of other examples."""
    seen: list[Tensor] = []
    hook = model.encoder.register_forward_hook(lambda *call: seen.append(call[2]))
    noise = make_generator(0, "testing/own")
    values = term(model(x, noise), noise)
    hook.remove()
    for own, value in enumerate(values if values.requires_grad else []):
        (slope,) = torch.autograd.grad(value, seen[:1], allow_unused=True, retain_graph=True)
        if slope is not None and bool(slope[torch.arange(len(values)) != own].any()):
            return False
    return True


def check_posterior(name_or_class: str | type[nn.Module], **options: Any) -> None:
    """Check a posterior family: shapes, reparameterised samples, a KL to its prior.

    Args:
        name_or_class: A registered posterior family, or a class.
        options: Its options.

    Raises:
        AssertionError: A contract is broken; the message names it.
    """
    what = f"posterior family {name_or_class!r}"
    part = POSTERIORS[name_or_class] if isinstance(name_or_class, str) else name_or_class
    posterior = _make(part, what, 2 * SHAPE.latent_dim, SHAPE, **options)
    noise = make_generator(0, "testing/features")
    h = torch.randn(SIZE, 2 * SHAPE.latent_dim, generator=noise, requires_grad=True)
    q: Distribution = posterior(h)
    p = PRIORS["uniform_sphere" if isinstance(q, VonMisesFisher) else "normal"](SHAPE)()
    shapes = (tuple(q.batch_shape), tuple(q.event_shape))
    require(shapes == ((SIZE,), (SHAPE.latent_dim,)), f"{what}: batch and event are {shapes}")
    z = twice(lambda generator: rsample(q, (3,), generator), what)
    require(z.shape == (3, SIZE, SHAPE.latent_dim), f"{what}: samples are {tuple(z.shape)}")
    require(q.log_prob(z).shape == (3, SIZE), f"{what}: log_prob has a wrong shape")
    rate = kl_divergence(q, p)
    require(rate.shape == (SIZE,) and _may_be_kl(rate, q), f"{what}: KL is {rate}")
    far = rsample(q, (), noise).square() * torch.arange(SHAPE.latent_dim)
    gradients_reach(far.sum(), what, posterior)
    require(h.grad is not None and bool(h.grad.any()), f"{what}: no gradient reaches the encoder")
    alone = posterior.eval()(h[:1]).mode
    require(bool(torch.isfinite(alone).all()), f"{what}: a single example gives {alone}")


def _may_be_kl(rate: Tensor, q: Distribution) -> bool:
    """Whether the values can be KL divergences; the estimate of a flow may be negative."""
    estimated = isinstance(q, Independent) and isinstance(q.base_dist, FlowNormal)
    return bool(torch.isfinite(rate).all()) and (estimated or bool((rate >= -1e-5).all()))


def check_encoder(
    name_or_class: str | type[nn.Module], x: Tensor | None = None, **options: Any
) -> None:
    """Check an encoder: one vector an example, the same alone as in company.

    Args:
        name_or_class: A registered encoder, or a class.
        x: A batch; None takes examples of what the part reads: what backbones with it or with its
            relatives read, or what its class says, `reads = "images"`; else text.
        options: Its options.

    Raises:
        AssertionError: A contract is broken; the message names it.
    """
    what = f"encoder {name_or_class!r}"
    part = ENCODERS[name_or_class] if isinstance(name_or_class, str) else name_or_class
    reads = reads_of("encoder", part)
    told, x = ("this batch", x) if x is not None else (reads or "text", examples(reads))
    encoder = _make(part, what, shape_for(x), **options)
    with _reading(what, told):
        if isinstance(encoder, NoisyEncoder):
            twice(lambda generator: encoder.train()(x, generator), what)
        encoder.eval()
        h = twice(lambda _: encoder(x), what)
    wanted = (len(x), encoder.output_dim)
    require(h.shape == wanted, f"{what}: shape {tuple(h.shape)}, not {wanted}")
    alone = encoder(x[:1])
    require(torch.allclose(alone, h[:1], atol=1e-6), f"{what}: the other examples change h")
    gradients_reach(h.square().sum() + h.sum(), what, encoder)


def check_decoder(
    name_or_class: str | type[nn.Module], x: Tensor | None = None, **options: Any
) -> None:
    """Check a decoder: log-likelihoods of one and of several codes an example, noise, gradients.

    Args:
        name_or_class: A registered decoder, or a class.
        x: A batch; None takes examples of what the part reads: what backbones with it or with its
            relatives read, or what its class says, `reads = "images"`; else text.
        options: Its options.

    Raises:
        AssertionError: A contract is broken; the message names it.
    """
    what = f"decoder {name_or_class!r}"
    part = DECODERS[name_or_class] if isinstance(name_or_class, str) else name_or_class
    reads = reads_of("decoder", part)
    told, x = ("this batch", x) if x is not None else (reads or "text", examples(reads))
    decoder = _make(part, what, shape_for(x), **options)
    z = torch.randn(2 * len(x), SHAPE.latent_dim, generator=make_generator(0, "testing/codes"))
    z.requires_grad_()
    with _reading(what, told):
        twice(lambda generator: decoder.train()(x, z, generator), what)
    log_px = twice(lambda generator: decoder.eval()(x, z, generator), what)
    require(log_px.shape == (len(z),), f"{what}: shape {tuple(log_px.shape)}, not {(len(z),)}")
    require(bool((log_px <= 0).all()), f"{what}: a log-likelihood is positive")
    second = decoder(x, z[len(x) :])
    same = torch.allclose(second, log_px[len(x) :], atol=1e-4)
    require(same, f"{what}: k codes an example are not read as k copies of the batch")
    gradients_reach(log_px.sum(), what, decoder)
    require(z.grad is not None and bool(z.grad.any()), f"{what}: no gradient reaches z")


def check_method(name: str, **overrides: Any) -> None:
    """Check a method end to end on a slice of embedded data, in seconds.

    Shapes and units of a forward pass, gradients, two runs with the same bits, resuming from the
    middle of an epoch, the stored weights, and that it learns.

    Args:
        name: A registered method.
        overrides: Changes to its configuration.

    Raises:
        AssertionError: A contract is broken; the message names it.
    """
    config = resolve(name, **({"data": usual_data(name)} | QUICK | overrides))
    corpus = load_data(config)
    built = build(config, len(corpus.vocabulary))
    check_moves(nn.ModuleDict({"model": built.model, "objective": built.objective}), name)
    first = corpus.train.gather(corpus.train.buckets(SIZE)[-1])
    _check_step(name, built, corpus.train.draw(first, make_generator(0, "testing/draw")))
    batches = [corpus.valid.gather(i) for i in corpus.valid.buckets(config.batch_size)]
    with tempfile.TemporaryDirectory() as place:
        whole = fit(config, corpus, Path(place, "whole"))
        before, after = (
            validate(b, batches, make_generator(0, "testing/valid"))["distortion"]
            for b in (build(config, len(corpus.vocabulary)), whole.built)
        )
        require(after < before, f"{name}: the distortion went from {before} to {after}")
        _same(whole, _interrupted(config, corpus, Path(place)), f"{name}, resumed")
        made = run_config(config, store=Store(Path(place, "runs")))
        kept, mine = made.model().state_dict(), whole.built.model.state_dict()
        equal = all(torch.equal(kept[k], v) for k, v in mine.items())
        require(equal, f"{name}: a second run, or its stored weights, differ from the first")


def usual_data(method: str) -> str:
    """The embedded data set a method is tried on."""
    backbone = METHODS[method].changes.get("backbone", "lstm")
    return USUAL_DATA[BACKBONES[backbone].reads]


def _check_step(name: str, built: Built, x: Tensor) -> None:
    """One forward and backward pass: shapes, signs, gradients of everything that is trained."""
    generator = torch.Generator().manual_seed(0)
    outputs: Outputs = built.model.train()(x, generator)
    for what in ("log_px", "rate", "distortion", "elbo"):
        value = getattr(outputs, what)
        require(value.shape == (len(x),), f"{name}: {what} has shape {tuple(value.shape)}")
        require(bool(torch.isfinite(value).all()), f"{name}: {what} is not finite")
    require(bool((outputs.log_px < 0).all()), f"{name}: a log-likelihood is not negative")
    require(_may_be_kl(outputs.rate, outputs.q), f"{name}: a rate is negative")
    loss, parts = built.objective.train()(outputs, 1.0, generator)
    require(all(v.shape == () for v in parts.values()), f"{name}: a part is not a scalar")
    gradients_reach(loss, name, built.model, built.objective)


class _Interrupt(Exception):
    """Stands in for a kill."""


def _interrupted(config: Config, corpus: Corpus, place: Path) -> Training:
    """Stop in the middle of the first epoch, then go on with a new `Training`."""
    training = training_of(config)(config, corpus)
    stop_at = max(1, len(training.batches) // 2)

    def watch(phase: str, done: int, total: int, values: dict[str, float]) -> None:
        if done == stop_at:
            training.save(place / STATE)
            raise _Interrupt

    training.prepare(place)
    try:
        run_epoch(training, place / STATE, watch)
    except _Interrupt:
        return fit(config, corpus, place)
    raise AssertionError(f"{config.method}: the run was over before it could be interrupted")


def _same(one: Training, other: Training, what: str) -> None:
    """Both trainings ended with the same bits."""
    for (name, a), b in zip(one.best.items(), other.best.values(), strict=True):
        require(torch.equal(a, b), f"{what}: {name} differs")
    require((one.history == other.history).all(), f"{what}: the histories differ")
