"""Coupled-VAE: a deterministic path beside the stochastic one (Wu et al. 2020)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vaelib.conditional import signal_of
from vaelib.distributions import fresh_generator
from vaelib.errors import VaelibError, check_name
from vaelib.layers import Completed, Shape
from vaelib.model import Outputs
from vaelib.objectives.base import METHODS, TERMS, Recipe, Term, recipe
from vaelib.objectives.info import SCALES

DISTANCES = ("kernel", "euclidean")


@TERMS.register("coupled")
class Coupled(Completed, Term):
    """lambda_r (-log p_c(x|z_c)) + lambda_m d(h, h_c) (Coupled-VAE Eqs. 4 and 5).

    The coupled path has the model's encoder and word embedding, and a posterior and decoder of its
    own; its code z_c is the mode of its posterior (the mean of a Gaussian, its image under a flow,
    the direction of a von Mises-Fisher distribution: Appendix B). h and h_c are the two decoding
    signals. No gradient of d reaches the coupled path: h_c guides h, and not the other way. What
    only the spread of the coupled posterior depends on is not trained, as published.

    Args:
        shape: Sizes; D sets the kernel's scale.
        coupled_match: lambda_m.
        coupled_reconstruction: lambda_r.
        coupled_distance: "kernel" is -sum_s s C / (s C + |h - h_c|^2) over seven scales s with
            C = 2 D, from -7 at h = h_c up to 0; "euclidean" is |h - h_c|^2.

    Raises:
        VaelibError: A negative weight, or an unknown distance.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        coupled_match: float = 0.1,
        coupled_reconstruction: float = 1.0,
        coupled_distance: str = "kernel",
    ) -> None:
        super().__init__()
        if min(coupled_match, coupled_reconstruction) < 0:
            raise VaelibError(
                f"coupled_match={coupled_match}, coupled_reconstruction={coupled_reconstruction}: "
                "neither may be negative."
            )
        self.distance = check_name(coupled_distance, DISTANCES, "coupled_distance")
        self.match_weight, self.reconstruction_weight = coupled_match, coupled_reconstruction
        self.scales = tuple(2.0 * shape.latent_dim * scale for scale in SCALES)
        self._of_model: tuple[nn.Module, ...] = ()

    def complete(self, parts: Mapping[str, nn.Module], again: Callable[[str], nn.Module]) -> None:
        """Make the coupled posterior and decoder, which share what the model's share.

        Raises:
            VaelibError: The model has no codes, as a language model.
        """
        if not any(True for _ in parts["posterior"].parameters()):
            raise VaelibError(
                "the term coupled needs a posterior with something to learn, and "
                f"{type(parts['posterior']).__name__} has nothing; use it with a model that has "
                "codes."
            )
        self.posterior, self.decoder = again("posterior"), again("decoder")
        if isinstance(self.posterior, Completed):
            self.posterior.complete(parts, again)
        if isinstance(self.decoder, Completed):
            self.decoder.complete({**parts, "posterior": self.posterior}, again)
        self._of_model = (parts["decoder"],)  # not registered: its parameters are the model's
        _freeze_spread(self.posterior, parts)

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The weighed sum [B], in nats but for the distance, which has no unit."""
        code = self.code(outputs)
        reconstruction = self.reconstruction(outputs, generator, code)
        match = self.match(*self.signals(outputs, code))
        return self.reconstruction_weight * reconstruction + self.match_weight * match

    def code(self, outputs: Outputs) -> Tensor:
        """z_c [B, D].

        Raises:
            VaelibError: The term belongs to no model yet.
        """
        if not self._of_model:
            raise VaelibError(
                "the term coupled has no model yet, whose parts it doubles; call complete, as "
                "vaelib.build.build does."
            )
        return self.posterior(outputs.h).mode

    def reconstruction(
        self,
        outputs: Outputs,
        generator: torch.Generator | None = None,
        code: Tensor | None = None,
    ) -> Tensor:
        """-log p_c(x|z_c) [B] in nats.

        Args:
            outputs: The model's forward pass.
            generator: Source of the dropout masks (training only); None is a fresh one with a
                fixed seed.
            code: z_c [B, D] where it is known already.
        """
        code = self.code(outputs) if code is None else code
        source = fresh_generator(generator, code.device)
        return -self.decoder(outputs.x, code, source)

    def signals(self, outputs: Outputs, code: Tensor) -> tuple[Tensor, Tensor]:
        """The decoding signals h and h_c, both [B, S]; the second carries no gradient.

        Args:
            outputs: The model's forward pass.
            code: z_c [B, D].
        """
        with torch.no_grad():
            coupled = signal_of(self.decoder, code, outputs.x)
        return signal_of(self._of_model[0], outputs.z, outputs.x), coupled

    def match(self, signal: Tensor, coupled: Tensor) -> Tensor:
        """Distance [B] between signals, both [B, S]."""
        squared = (signal - coupled).float().square().sum(dim=-1)
        if self.distance == "euclidean":
            return squared
        return -torch.stack([scale / (scale + squared) for scale in self.scales]).sum(dim=0)


def _freeze_spread(posterior: nn.Module, parts: Mapping[str, nn.Module]) -> None:
    """Keep from training what the mode of a coupled posterior does not depend on."""
    width: Any = parts["encoder"].output_dim
    shared = {id(parameter) for part in parts.values() for parameter in part.parameters()}
    own = [parameter for parameter in posterior.parameters() if id(parameter) not in shared]
    mode = posterior.eval()(torch.zeros(2, width)).mode
    slopes = torch.autograd.grad(mode.sum(), own, allow_unused=True) if mode.requires_grad else ()
    for parameter, slope in zip(own, slopes, strict=False):
        parameter.requires_grad_(slope is not None)
    posterior.train()


def couple(base: str, name: str = "", title: str = "", **differences: Any) -> Recipe:
    """Declare the coupled twin of a method: the same, with the term `coupled`.

    Args:
        base: A registered method.
        name: The twin's; none is `coupled_<base>`.
        title: As the paper writes it, an alias too; none is `Coupled-<title of the base>`.
        differences: `changes` and `options` beside those of the base.

    Raises:
        VaelibError: The base is not registered, or the twin already is.
    """
    entry = METHODS[base]
    title = title or f"Coupled-{entry.title}"
    extra = (*entry.changes.get("extra_terms", ()), "coupled")
    return recipe(
        name or f"coupled_{METHODS.canonical(base)}",
        aliases=(title,),
        title=title,
        paper="Wu et al. 2020",
        equation="Coupled-VAE Eqs. 4-5",
        formula=entry.formula + r" + \lambda_r \mathcal{L}^c_{rec} + \lambda_m\, d(h, h^c)",
        summary=f"{entry.title} with a deterministic path that guides encoder and decoder.",
        changes=entry.changes | differences.get("changes", {}) | {"extra_terms": extra},
        options=entry.options | differences.get("options", {}),
    )
