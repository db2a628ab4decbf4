"""What a term is, and how terms become the objective a method minimises."""

import abc
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vaelib.model import Outputs
from vaelib.registry import Registry


class Term(nn.Module, abc.ABC):
    """A penalty in nats, read off one forward pass. A new one is one file in `objectives/`.

    Attributes:
        scope: "example" when `forward` gives [B], "batch" when it gives a scalar.
        group_size: Examples it needs at a time; training skips batches that it does not divide.
        reads: What the data may hold: "text", "pairs", "images".
    """

    scope: str = "example"
    group_size: int = 1
    reads: tuple[str, ...] = ("text", "pairs", "images")

    @abc.abstractmethod
    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The penalty [B] or scalar, in nats.

        Args:
            outputs: The forward pass.
            generator: Source of any further samples.
        """


TERMS: Registry[type[Term]] = Registry("term")


@dataclass(frozen=True)
class Recipe:
    """A method: what it changes against the plain VAE.

    Attributes:
        name, title: Registered name, and the paper's.
        paper, equation: Where it comes from.
        formula: The penalty or constraint, in TeX.
        changes: Fields of `vaelib.config.Config` it sets (parts, early stopping, ...).
        options: Options of its parts it sets.
        summary: The difference in a sentence.
    """

    name: str
    title: str
    paper: str
    equation: str
    formula: str
    summary: str
    changes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def differs(self) -> str:
        """The differences from the plain VAE as one line of text."""
        pairs = (self.changes | self.options).items()
        return ", ".join(f"{k}={v}" for k, v in pairs) or "nothing: this is the VAE"


METHODS: Registry[Recipe] = Registry("method")


def recipe(name: str, *, aliases: tuple[str, ...] = (), **fields: Any) -> Recipe:
    """Declare a method.

    Args:
        name: The method's.
        aliases: Other names it is found by, such as its paper's; its title is one anyway.
        fields: Those of `Recipe`: title, paper, equation, formula, summary, changes, options.

    Returns:
        The registered recipe.

    Raises:
        VaelibError: The name is taken.
    """
    made = METHODS.add(name, Recipe(name, **fields), aliases)
    if made.title not in METHODS:
        METHODS.alias(name, made.title)
    return made


class Objective(nn.Module):
    """distortion + weight x regulariser + extra terms, averaged over the batch.

    Args:
        regulariser: The term the schedule weighs.
        extras: Terms of weight 1, by name.
    """

    def __init__(self, regulariser: Term, extras: dict[str, Term]) -> None:
        super().__init__()
        self.regulariser = regulariser
        self.extras = nn.ModuleDict(extras)

    def term(self, name: str) -> nn.Module | None:
        """An extra term by name, or None where there is none of that name."""
        return dict(self.extras.items()).get(name)

    def accepts(self, batch_size: int) -> bool:
        """Whether every term can use a training batch of this size."""
        terms = (self.regulariser, *self.extras.values())
        return all(batch_size % term.group_size == 0 for term in terms)

    def forward(
        self, outputs: Outputs, weight: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its parts, all scalars in nats per example.

        Args:
            outputs: The forward pass over a batch.
            weight: Weight of the regulariser.
            generator: Source of the terms' own samples.

        Returns:
            (loss, parts): parts hold `distortion`, `rate`, `regulariser` and each extra term.
        """
        parts = {"distortion": outputs.distortion.mean(), "rate": outputs.rate.mean()}
        parts["regulariser"] = self.regulariser(outputs, generator).mean()
        loss = parts["distortion"]
        if weight:
            loss = loss + weight * parts["regulariser"]
        for name, term in self.extras.items():
            parts[name] = term(outputs, generator).mean()
            loss = loss + parts[name]
        return loss, {k: v.detach() for k, v in parts.items()}
