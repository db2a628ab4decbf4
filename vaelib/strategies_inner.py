"""Strategies that work inside a step: more samples, refined codes, an encoder that catches up."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import kl_divergence

from vaelib.decoders import DECODERS
from vaelib.decoders_limited import LanguageModelDecoder, NoEncoder, PriorPosterior
from vaelib.distributions import diagonal_normal, mean_logvar, rsample
from vaelib.encoders import ENCODERS
from vaelib.errors import VaelibError, check_name
from vaelib.layers import Shape
from vaelib.model import VAE, Outputs
from vaelib.objectives import TERMS, Objective, recipe
from vaelib.objectives.iwae import Copies, ImportanceWeighted
from vaelib.objectives.kl import KL
from vaelib.posteriors import POSTERIORS
from vaelib.strategies import STRATEGIES, Joint

Slopes = tuple[Tensor, ...]

# ---- A decoder alone ----------------------------------------------------------------------------


@STRATEGIES.register("decoder_only")
class DecoderOnly(Joint):
    """The joint step where the decoder is all there is to train."""

    def _clip(self) -> dict[str, Tensor]:
        if self.inference or self.others:
            raise VaelibError(
                "the strategy 'decoder_only' trains a decoder alone, and this model has an encoder "
                "or terms to train as well; use strategy='joint', or the method 'lm'."
            )
        norm = nn.utils.clip_grad_norm_(self.generation, self.clip)
        return {"grad_encoder": torch.zeros_like(norm), "grad_decoder": norm, "grad_norm": norm}


# The parts of a language model fit nothing else, so they are registered with its strategy.
DECODERS.add("lm", LanguageModelDecoder)
ENCODERS.add("none", NoEncoder)
POSTERIORS.add("prior", PriorPosterior)
recipe(
    "lm",
    aliases=("LSTM-LM", "language model"),
    title="LSTM-LM",
    paper="Mikolov et al. 2010; Qian & Cheung 2019",
    equation="VAE-MINE Section 5.2",
    formula=r"-\log p(x),\quad q(z|x) = p(z)",
    summary="A language model: the decoder reads no code, so the KL is 0 and the NLL exact.",
    changes={
        "encoder": "none",
        "posterior": "prior",
        "decoder": "lm",
        "strategy": "decoder_only",
    },
)

# ---- Several samples ----------------------------------------------------------------------------


@STRATEGIES.register("multi_sample")
class MultiSample(Joint):
    """The joint step on K samples a sentence, as many as the regulariser asks for."""

    def outputs(self, x: Tensor, weight: float, generator: torch.Generator) -> Copies:
        """The model's pass over K copies of the batch."""
        term = self.objective.regulariser
        if not isinstance(term, ImportanceWeighted):
            raise VaelibError(
                "the strategy 'multi_sample' needs the regulariser 'importance_weighted', which "
                "says how many samples; set both, or use the method 'iwae'."
            )
        made = self.model(torch.cat([x] * term.samples), generator)
        return Copies(**vars(made), copies=term.samples)


recipe(
    "iwae",
    aliases=("IWAE",),
    title="IWAE",
    paper="Burda et al. 2016",
    equation="Burda et al. 2016, Eq. 8",
    formula=r"-\log \tfrac1K \sum_k p(x|z_k)\,p(z_k) / q(z_k|x)",
    summary="The bound of K samples a sentence takes the place of the ELBO.",
    changes={"regulariser": "importance_weighted", "strategy": "multi_sample"},
)

# ---- Semi-amortised inference -------------------------------------------------------------------

GRADIENTS = ("exact", "finite_differences")


@TERMS.register("refined_kl")
class RefinedKL(KL):
    """The KL term, and how the strategy "semi_amortized" refines the posteriors (Kim et al. 2018).

    Args:
        shape: Sizes; unused.
        svi_steps: Steps of gradient descent on (mu, log sigma^2).
        svi_lr: Their learning rate, for the mean loss of the batch.
        svi_momentum: Their momentum.
        svi_clip: Bound of the norm of their gradient, all sentences together.
        svi_gradient: "exact" differentiates the steps twice; "finite_differences" replaces
            Hessian-vector products by differences of gradients, as published.
        svi_epsilon: Length of such a difference.

    Raises:
        VaelibError: An unknown gradient, or a value out of range.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        svi_steps: int = 20,
        svi_lr: float = 1.0,
        svi_momentum: float = 0.5,
        svi_clip: float = 5.0,
        svi_gradient: str = "exact",
        svi_epsilon: float = 1e-5,
    ) -> None:
        super().__init__(shape)
        if not 0 <= svi_steps <= 1_000 or min(svi_lr, svi_clip, svi_epsilon) <= 0:
            raise VaelibError(
                f"svi_steps={svi_steps}, svi_lr={svi_lr}, svi_clip={svi_clip}, "
                f"svi_epsilon={svi_epsilon}: give 0 to 1,000 steps; the others must be positive."
            )
        if not 0 <= svi_momentum < 1:
            raise VaelibError(f"svi_momentum={svi_momentum}: give at least 0 and less than 1.")
        self.exact = check_name(svi_gradient, GRADIENTS, "svi_gradient") == "exact"
        self.steps, self.lr, self.momentum = svi_steps, svi_lr, svi_momentum
        self.clip, self.epsilon = svi_clip, svi_epsilon


@STRATEGIES.register("semi_amortized")
class SemiAmortized(Joint):
    """The joint step from posteriors that a few steps of local descent have refined (SA-VAE).

    The encoder and, through the steps, the decoder get the gradient of the loss after refinement.
    Validation and evaluation use the encoder's own posteriors.
    """

    def outputs(self, x: Tensor, weight: float, generator: torch.Generator) -> Outputs:
        """A pass whose q and z are the refined ones."""
        model = self.model
        h = model.read(x, generator)
        code = torch.stack(mean_logvar(model.posterior(h)))
        q = diagonal_normal(*self.refine(x, code, weight, generator))
        z = rsample(q, generator=generator)
        return Outputs(x, h, q, model.prior(), z, model.decoder(x, z, generator))

    def refine(self, x: Tensor, code: Tensor, weight: float, generator: torch.Generator) -> Tensor:
        """(mu, log sigma^2) [2, B, D] after the steps, differentiable in what it started from.

        Raises:
            VaelibError: The regulariser does not say how to refine.
        """
        how = self.objective.regulariser
        if not isinstance(how, RefinedKL):
            raise VaelibError(
                "the strategy 'semi_amortized' needs the regulariser 'refined_kl', which says how "
                "to refine; set both, or use the method 'sa'."
            )
        velocity = torch.zeros_like(code)
        parameters = [*self.model.decoder.parameters()]
        for _ in range(how.steps):
            local = self._local_loss(x, weight, generator)
            with twice_differentiable(how.exact):
                if how.exact:
                    (slope,) = torch.autograd.grad(local(code), code, create_graph=True)
                else:
                    slope = _Slope.apply(code, local, how.epsilon, *parameters)
            norm = torch.linalg.vector_norm(slope)
            velocity = how.momentum * velocity + slope * (how.clip / (norm + 1e-6)).clamp(max=1)
            code = code - how.lr * velocity
        return code

    def _local_loss(
        self, x: Tensor, weight: float, generator: torch.Generator
    ) -> Callable[[Tensor], Tensor]:
        """The loss as a function of (mu, log sigma^2), its noise drawn once and for all."""
        device = generator.device
        seed = int(torch.randint(2**62, (), generator=generator, device=device))

        def loss(code: Tensor) -> Tensor:
            noise = torch.Generator(device=device).manual_seed(seed)
            q = diagonal_normal(*code)
            log_px = self.model.decoder(x, rsample(q, generator=noise), noise)
            return (weight * kl_divergence(q, self.model.prior()) - log_px).mean()

        return loss


class _Slope(torch.autograd.Function):
    """The gradient of a local loss; its own gradient is a central difference of two gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        code: Tensor,
        loss: Callable[[Tensor], Tensor],
        epsilon: float,
        *parameters: nn.Parameter,
    ) -> Tensor:
        ctx.loss, ctx.epsilon, ctx.parameters = loss, epsilon, parameters
        ctx.save_for_backward(code)
        return _slopes(loss, code)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (code,) = ctx.saved_tensors
        length = torch.linalg.vector_norm(grads[0])
        way = ctx.epsilon * grads[0] / (length + 1e-30)
        ahead, behind = (_slopes(ctx.loss, code + s * way, ctx.parameters) for s in (1, -1))
        pairs = zip(ahead, behind, strict=True)
        by_code, *others = ((a - b) * (length / (2 * ctx.epsilon)) for a, b in pairs)
        return by_code, None, None, *others


def _slopes(
    loss: Callable[[Tensor], Tensor], code: Tensor, parameters: Sequence[Tensor] = ()
) -> Slopes:
    """Gradients of a local loss by its code and by parameters."""
    with torch.enable_grad():
        code = code.detach().requires_grad_()
        return torch.autograd.grad(loss(code), [code, *parameters])


@contextlib.contextmanager
def twice_differentiable(wanted: bool = True) -> Iterator[None]:
    """Use the recurrent layers that can be differentiated twice, which the fast ones cannot."""
    fast: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.mkldnn)
    before = [backend.enabled for backend in fast]
    for backend in fast:
        backend.enabled = backend.enabled and not wanted
    try:
        yield
    finally:
        for backend, enabled in zip(fast, before, strict=True):
            backend.enabled = enabled


recipe(
    "sa",
    aliases=("SA-VAE", "semi-amortised VAE", "semi-amortized VAE"),
    title="SA-VAE",
    paper="Kim et al. 2018",
    equation="Kim et al. 2018, Algorithm 1",
    formula=r"\lambda_{k+1} = \lambda_k + \eta\,\nabla_\lambda\,\mathrm{ELBO}(\lambda_k)",
    summary="Posteriors are refined by gradient steps before the loss is taken.",
    changes={"regulariser": "refined_kl", "strategy": "semi_amortized"},
    options={"start": 0.1},
)

# ---- Aggressive training of the encoder ---------------------------------------------------------


@STRATEGIES.register("aggressive")
class Aggressive(Joint):
    """The encoder alone until it no longer improves, then one step of the decoder alone.

    Its first inner batch is the decoder's, the others are drawn evenly. It stops when the mean loss
    per word of a window is above that of the window before (He et al. 2019).

    Args:
        model, objective, optimizer, clip, precision: As in the joint step.
        inner_steps: Most updates of the encoder before one of the decoder.
        inner_window: Inner updates whose losses are averaged.

    Attributes:
        batches: The training batches; the loop gives them.
        aggressive: Whether the encoder still catches up; otherwise the step is the joint one.

    Raises:
        VaelibError: A number below 1.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        clip: float,
        precision: str,
        *,
        inner_steps: int = 99,
        inner_window: int = 15,
    ) -> None:
        super().__init__(model, objective, optimizer, clip, precision)
        if min(inner_steps, inner_window) < 1:
            raise VaelibError(
                f"inner_steps={inner_steps}, inner_window={inner_window}: give 1 or more."
            )
        self.most, self.window = inner_steps, inner_window
        self.batches: Sequence[Tensor] = []
        self.aggressive = True
        self.frozen: list[nn.Parameter] = []

    def step(self, x: Tensor, weight: float, generator: torch.Generator) -> dict[str, Tensor]:
        """The inner updates and one outer update on `x`.

        Returns:
            The outer update's values, and `inner_steps`.

        Raises:
            VaelibError: There are no batches to draw from.
        """
        if not self.batches:
            raise VaelibError(
                "aggressive training draws other batches, and this loop gives it none; train with "
                "`vaelib.run`, or with the loop of `vaelib.trainings`."
            )
        done = 0
        if self.aggressive:
            self.frozen = [*self.generation, *self.others]
            done = self._catch_up(x, weight, generator)
        self.frozen = self.inference if self.aggressive else []
        values = super().step(x, weight, generator)
        return values | {"inner_steps": torch.tensor(float(done), device=x.device)}

    def _catch_up(self, x: Tensor, weight: float, generator: torch.Generator) -> int:
        """Train the encoder alone and say with how many updates."""
        drawn = (self.most,)
        places = torch.randint(
            len(self.batches), drawn, generator=generator, device=generator.device
        )
        before, total, words = math.inf, torch.zeros((), device=x.device), 0
        for done, place in enumerate(places.tolist(), 1):
            total = total + super().step(x, weight, generator)["loss"] * len(x)
            words += len(x) * max(1, x[0].numel() - 1)
            if done % self.window == 0:
                now = float(total) / words
                if now > before:
                    return done
                before, total, words = now, torch.zeros_like(total), 0
            x = self.batches[place]
        return self.most

    def _clip(self) -> dict[str, Tensor]:
        norms = super()._clip()
        for parameter in self.frozen:
            parameter.grad = None
        return norms


recipe(
    "lagging",
    aliases=("Lagging-VAE", "Agg-VAE", "Aggressive", "Aggressive training"),
    title="Lagging-VAE",
    paper="He et al. 2019",
    equation="He et al. 2019, Algorithm 1",
    formula=r"\mathrm{KL}(q(z|x)\,\|\,p(z)),\ \text{encoder first}",
    summary="The encoder is trained to its end before each step of the decoder, at first.",
    changes={"strategy": "aggressive"},
    options={"start": 0.1},
)
