"""The embedded corpus `synthetic`: text of an untrained LSTM driven by five Gaussians.

After DU-VAE, section 4.3 and supplement. Where these leave a point open: the output
map is one linear layer, the embedding U(-1, 1), and h0 and c0 are two affine maps of z.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from vaelib.data.texts import Texts

SIZES = {"train": 16_000, "valid": 2_000, "test": 2_000}
MEANS = ((0.0, 0.0), (-2.0, -2.0), (-2.0, 2.0), (2.0, -2.0), (2.0, 2.0))
WORDS, LENGTH, HIDDEN = 1_000, 10, 100
SEED, BLOCK = 2021, 500
VOCABULARY = tuple(f"w{i}" for i in range(WORDS))  # all 1,000, whether or not drawn


class _Generator:
    """The random network, with weights drawn from `generator`, and its sampler."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        latent = len(MEANS[0])
        self.start = self._uniform(2, latent + 1, HIDDEN)
        self.embedding = self._uniform(WORDS + 1, HIDDEN)  # the last row is the start symbol
        self.inputs = self._uniform(HIDDEN, 4 * HIDDEN)
        self.recurrent = self._uniform(HIDDEN, 4 * HIDDEN)
        self.bias = self._uniform(4 * HIDDEN) + self._uniform(4 * HIDDEN)
        self.output = self._uniform(HIDDEN + latent + 1, WORDS, bound=5.0)

    def _uniform(self, *shape: int, bound: float = 1.0) -> Tensor:
        values = torch.rand(*shape, generator=self.generator, dtype=torch.float64)
        return (2.0 * values - 1.0) * bound

    @torch.no_grad()
    def sample(self, z: Tensor) -> Tensor:
        """Word indices `[B, LENGTH]` for latent vectors `[B, 2]`, by ancestral sampling."""
        h, c = F.pad(z, (0, 1), value=1.0) @ self.start
        gates_of = self.embedding @ self.inputs + self.bias
        word = torch.full((len(z),), WORDS)
        words = []
        for _ in range(LENGTH):
            i, f, g, o = (gates_of[word] + h @ self.recurrent).chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            logits = F.pad(torch.cat((h, z), dim=-1), (0, 1), value=1.0) @ self.output
            word = self._draw(logits)
            words.append(word)
        return torch.stack(words, dim=1)

    def _draw(self, logits: Tensor) -> Tensor:
        """A word index for each row `[B]` of `[B, WORDS]`, by inverting the distribution."""
        edges = logits.sub_(logits.amax(-1, keepdim=True)).exp_().cumsum(-1)
        u = torch.rand(len(logits), 1, generator=self.generator, dtype=logits.dtype)
        return torch.searchsorted(edges, u * edges[:, -1:], right=True)[:, 0].clamp(max=WORDS - 1)


@cache
def latents() -> dict[str, tuple[Tensor, Tensor]]:
    """The true latent of each sentence, in the order of the whole splits.

    Returns:
        Split -> (component `[N]` in 0..4, z `[N, 2]`).
    """
    generator = torch.Generator().manual_seed(SEED)
    drawn = {}
    for split, size in SIZES.items():
        component = torch.randint(len(MEANS), (size,), generator=generator)
        noise = torch.randn(size, 2, generator=generator, dtype=torch.float64)
        drawn[split] = (component, torch.tensor(MEANS, dtype=torch.float64)[component] + noise)
    return drawn


def texts() -> dict[str, Texts]:
    """The corpus as text: exactly 10 words `w0` .. `w999` a sentence, the component as label."""
    network = _Generator(torch.Generator().manual_seed(SEED + 1))
    splits = {}
    for split, (component, z) in latents().items():
        words = torch.cat([network.sample(block) for block in z.split(BLOCK)])
        lines = [" ".join(VOCABULARY[word] for word in row) for row in words.tolist()]
        splits[split] = Texts(lines, [str(label) for label in component.tolist()])
    return splits
