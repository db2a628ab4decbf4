"""Strategies: how one batch becomes one update."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from vaelib.model import VAE, Outputs
from vaelib.objectives import Objective
from vaelib.registry import Registry


class Strategy(Protocol):
    """One training step: forward, backward, clip, update."""

    def step(self, x: Tensor, weight: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Train on one batch and return scalars for the history."""


STRATEGIES: Registry[type] = Registry("strategy")


@STRATEGIES.register("joint")
class Joint:
    """Encoder, decoder and the terms' networks take one step together.

    Args:
        model, objective: What is trained.
        optimizer: Over the parameters of both.
        clip: Bound of their joint gradient norm.
        precision: "fp32", or "bf16" for autocast.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        clip: float,
        precision: str,
    ) -> None:
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.clip, self.precision = clip, precision
        latent = (model.encoder, model.posterior, model.prior_module)
        every = [p for module in latent for p in module.parameters()]
        self.inference = list(dict.fromkeys(every))
        self.generation = without(model.decoder.parameters(), self.inference)
        self.others = without(objective.parameters(), [*self.inference, *self.generation])

    def outputs(self, x: Tensor, weight: float, generator: torch.Generator) -> Outputs:
        """The forward pass over the batch `x` at this weight of the regulariser."""
        return self.model(x, generator)

    def step(self, x: Tensor, weight: float, generator: torch.Generator) -> dict[str, Tensor]:
        """One update on the batch `x`.

        Returns:
            The objective's parts, `loss`, and the gradient norms before clipping: `grad_encoder`
            (posterior included), `grad_decoder`, `grad_norm` (all).
        """
        with autocast(x.device, self.precision):
            loss, parts = self.objective(self.outputs(x, weight, generator), weight, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms = self._clip()
        self.optimizer.step()
        return {"loss": loss.detach(), **parts, **norms}

    def _clip(self) -> dict[str, Tensor]:
        encoder, decoder = _norm(self.inference), _norm(self.generation)
        norms = [encoder, decoder, *([_norm(self.others)] if self.others else [])]
        total = torch.linalg.vector_norm(torch.stack(norms))
        every = [*self.inference, *self.generation, *self.others]
        nn.utils.clip_grads_with_norm_(every, self.clip, total)
        return {"grad_encoder": encoder, "grad_decoder": decoder, "grad_norm": total}


def without(
    parameters: Iterable[nn.Parameter], taken: Iterable[nn.Parameter]
) -> list[nn.Parameter]:
    """The parameters, each once, that are not among those already taken."""
    known = set(taken)
    return [p for p in dict.fromkeys(parameters) if p not in known]


def _norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision where asked: bf16 products, fp32 weights and sums."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
