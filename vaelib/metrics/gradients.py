"""Squared gradient norms at the encoder's vector: what reaches the encoder, and along which path.

The incompatibility of encoder and decoder in Coupled-VAE (Wu et al. 2020, sections 3 and 5.7) is
told from these numbers. Dropout stays on, as published. All norms are squared ones: the printed
values add up as squares of nearly orthogonal vectors do, and as norms cannot (T33).
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vaelib.conditional import signal_of
from vaelib.distributions import fresh_generator, rsample
from vaelib.errors import VaelibError
from vaelib.model import VAE, Outputs


class CoupledPath(Protocol):
    """A second, deterministic path from the encoder's vector to the sentence."""

    def modules(self) -> Iterator[nn.Module]:
        """Its layers."""

    def reconstruction(self, outputs: Outputs, generator: torch.Generator | None) -> Tensor:
        """-log p(x|h_c) [B] in nats."""


@torch.enable_grad()
def squared_gradients(
    model: VAE,
    x: Tensor,
    coupled: CoupledPath | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Squared gradient norms with respect to the encoder's vector e, of every example.

    One z an example. Batch normalisation uses its running statistics, so that the gradients of
    examples are their own; everything else is as in training.

    Args:
        model: In any mode; it is left as it was.
        x: A batch, [B, T] for text.
        coupled: The term that holds the coupled path, or None.
        generator: Source of z and the dropout masks; None is a fresh one with a fixed seed.

    Returns:
        Tensors [B]: `grad_rec` ||d(-log p(x|z))/de||^2, `grad_kl` ||dKL/de||^2 with the KL
        unweighted, `grad_signal` sum_k ||ds_k/de||^2 / ||s||^2 where s is the decoding signal; with
        a coupled path `grad_coupled` of its reconstruction, `grad_total` of both together.
    """
    source = fresh_generator(generator, x.device)
    with _as_in_training(model, *([] if coupled is None else [coupled])):
        decoder: Any = model.decoder
        e = model.read(x, source).detach().requires_grad_()
        q = model.posterior(e)
        z = rsample(q, (), source)
        outputs = Outputs(x, e, q, model.prior(), z, decoder(x, z, source))
        reconstruction = _gradient(outputs.distortion, e)
        made = {
            "grad_rec": _squared(reconstruction),
            "grad_kl": _squared(_gradient(outputs.rate, e)),
        }
        if coupled is not None:
            second = _gradient(coupled.reconstruction(outputs, source), e)
            made |= {"grad_coupled": _squared(second)}
            made |= {"grad_total": _squared(reconstruction + second)}
    return made | {"grad_signal": signal_gradients(signal_of(decoder, z, x), e)}


def gradient_norms(
    model: VAE,
    batches: Sequence[Tensor],
    coupled: CoupledPath | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """Means of `squared_gradients` over the examples of several batches.

    Args:
        model: In any mode; it is left as it was.
        batches: Batches of text `[B, T]`, at least one.
        coupled: The term that holds the coupled path, or None.
        generator: Source of z and the dropout masks; None is a fresh one with a fixed seed.

    Raises:
        VaelibError: There are no batches.
    """
    if not batches:
        raise VaelibError("gradient norms need examples; give at least one batch.")
    source = fresh_generator(generator, batches[0].device)
    each = [squared_gradients(model, x, coupled, source) for x in batches]
    return {name: float(torch.cat([one[name] for one in each]).mean()) for name in each[0]}


def signal_gradients(signal: Tensor, e: Tensor) -> Tensor:
    """`sum_k ||ds_k/de||^2 / ||s||^2` of every example, all components in one sweep.

    Args:
        signal: Decoding signals [B, S].
        e: What they were made of [B, H]; each example's signal of its own row alone.

    Returns:
        [B]; zeros where the signal does not depend on `e`.
    """
    size, width = signal.shape
    one_hot = torch.eye(width, dtype=signal.dtype, device=signal.device)[:, None]
    made = None
    if signal.requires_grad:
        (made,) = torch.autograd.grad(
            signal,
            e,
            one_hot.expand(width, size, width),
            retain_graph=True,
            is_grads_batched=True,
            allow_unused=True,
        )
    if made is None:
        return torch.zeros_like(e[:, 0])
    return made.square().sum((0, 2)) / signal.detach().square().sum(1)


@contextlib.contextmanager
def _as_in_training(*holders: CoupledPath | nn.Module) -> Iterator[None]:
    """Training mode for everything but batch normalisation, put back afterwards."""
    modules = [module for holder in holders for module in holder.modules()]
    modes = [module.training for module in modules]
    for module in modules:
        module.training = not _normalises(module, module.children())
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _normalises(module: nn.Module, children: Iterable[nn.Module]) -> bool:
    """Whether this is a batch normalisation, or a thin layer around one."""
    return isinstance(module, _BatchNorm) or any(isinstance(c, _BatchNorm) for c in children)


def _gradient(values: Tensor, e: Tensor) -> Tensor:
    """Gradient [B, H] of the sum of values [B]; zero where they do not depend on `e`."""
    if not values.requires_grad:
        return torch.zeros_like(e)
    (made,) = torch.autograd.grad(
        values.sum(), e, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return made


def _squared(gradient: Tensor) -> Tensor:
    """Squared lengths [B]."""
    return gradient.detach().square().sum(1)
