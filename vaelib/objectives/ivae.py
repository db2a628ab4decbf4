"""iVAE with mutual information (Fang et al. 2019): KL(q(z) || p(z)) by a dual network."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from vaelib.distributions import diagonal_normal, rsample
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe
from vaelib.objectives.critic import dual_bound, multilayer
from vaelib.posteriors import POSTERIORS


@POSTERIORS.register("linear_noise")
class LinearNoisePosterior(nn.Module):
    """z = A h + b + noise of a learned size, the same for all sentences (Fang et al. 2019).

    The published z is one linear layer on [h; e], e ~ N(0, I): a Gaussian of full covariance that
    does not depend on the sentence. A rotation of the latent space makes it diagonal, and the
    prior, the decoder's and the dual network's first layers cannot tell: so diagonal it is here,
    with the length of a row of e's weights for its standard deviation.

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
    """

    def __init__(self, in_features: int, shape: Shape) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, shape.latent_dim)
        self.noise = nn.Linear(shape.latent_dim, shape.latent_dim, bias=False)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a diagonal normal with event shape [D]."""
        mu = self.linear(h).float()
        scale = self.noise.weight.norm(dim=1)
        return diagonal_normal(mu, 2 * scale.log().expand_as(mu))


@TERMS.register("dual_kl")
class DualKL(Term):
    """KL(q(z) || p(z)) as E_q v(z) - E_p e^v(z) + 1 with a network v.

    The network ascends this bound on detached codes while the encoder descends E_q v(z) through
    detached weights, in one backward pass and one update; the published code gives the network five
    updates of a much smaller learning rate.

    Args:
        shape: Sizes; D is the network's input.
        dual_width: Units in each of its three hidden layers.

    Raises:
        VaelibError: A width out of range.
    """

    scope = "batch"

    def __init__(self, shape: Shape, *, dual_width: int = 512) -> None:
        super().__init__()
        if not 1 <= dual_width <= 10_000:
            raise VaelibError(f"dual_width={dual_width}: give 1 to 10,000 units.")
        sizes = (shape.latent_dim, dual_width, dual_width, dual_width, 1)
        self.network = multilayer(sizes, nn.LeakyReLU)

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The estimate, a scalar in nats; it ascends in the network and descends in the codes."""
        prior = rsample(outputs.p, (outputs.z.shape[0],), generator)
        bound = dual_bound(self.network(outputs.z.detach()), self.network(prior))
        frozen = {k: v.detach() for k, v in self.network.named_parameters()}
        pull = functional_call(self.network, frozen, (outputs.z,)).mean()
        return bound.detach() - (bound - bound.detach()) + (pull - pull.detach())


recipe(
    "ivae",
    aliases=("iVAE_MI",),
    title="iVAE-MI",
    paper="Fang et al. 2019",
    equation="Fang et al. 2019, Section 3.2",
    formula=r"\mathrm{KL}(q(z)\,\|\,p(z)) \approx E_q\,\nu(z) - E_p\,e^{\nu(z)} + 1",
    summary="A dual network measures how far q(z) is from the prior; each posterior is free.",
    changes={"regulariser": "dual_kl", "posterior": "linear_noise"},
    options={"start": 0.1},
)
