"""Linear probes: what a linear classifier reads from a frozen representation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from vaelib.errors import VaelibError
from vaelib.metrics.closed_form import check_posteriors

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)  # inverse strengths C that are tried
TESTED = 5  # images of a character


@dataclass(frozen=True)
class Labelled:
    """Representations with labels.

    Attributes:
        x: `[N, D]`, such as posterior means.
        y: Labels `[N]`, integers.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        check_posteriors(self.x)
        if self.y.shape != self.x.shape[:1]:
            raise VaelibError(
                f"y has shape {list(self.y.shape)} and x {list(self.x.shape)}; "
                "give one label to each example."
            )

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The same for scikit-learn."""
        return self.x.detach().cpu().double().numpy(), self.y.cpu().numpy()


def linear_probe(
    train: Labelled,
    valid: Labelled,
    test: Labelled,
    budgets: Sequence[int] = (100, 500, 1000, 2000, 10_000),
    seeds: Sequence[int] = range(10),
) -> pd.DataFrame:
    """Accuracy of a linear classifier trained on few labels (DU-VAE Tables 2 and 3).

    For each budget and seed that many examples are drawn from `train` without replacement; a
    smaller budget's examples are among those of a larger one with the same seed. On them a logistic
    regression is fitted to its optimum for each of seven strengths of an L2 penalty, and the one
    with the lowest loss on `valid` is kept. The representation is taken as it is, not rescaled.
    The papers' probe, whose training is not published, is a linear layer trained by gradient steps
    and stopped by the validation loss.

    Args:
        train: Examples that labels are drawn from.
        valid: Examples that choose the penalty.
        test: Examples that are scored.
        budgets: Numbers of labels, each at most the size of `train`.
        seeds: One draw of labels each.

    Returns:
        A row for each budget and seed: `labels`, `seed`, `accuracy` in [0, 1], `majority` (the
        accuracy of the draw's most frequent label) and `penalty` (the chosen C; not a number where
        a draw has a single label, which is then predicted).

    Raises:
        VaelibError: scikit-learn is missing, a budget does not fit `train`, or the sets differ in
            D.
    """
    sizes = {data.x.shape[1] for data in (train, valid, test)}
    if len(sizes) > 1:
        raise VaelibError(f"the sets have {sorted(sizes)} dimensions; take one representation.")
    wrong = [n for n in budgets if not 0 < n <= len(train.y)]
    if wrong:
        raise VaelibError(f"budgets {wrong}: give 1 to {len(train.y)} labels.")
    rows = []
    for seed in seeds:
        order = _shuffled(len(train.y), seed)
        for labels in budgets:
            drawn = Labelled(train.x[order[:labels]], train.y[order[:labels]])
            rows.append({"labels": labels, "seed": seed} | _probe(drawn, valid, test))
    return pd.DataFrame(rows)


def _shuffled(size: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def _probe(drawn: Labelled, valid: Labelled, test: Labelled) -> dict[str, float]:
    """Fit on `drawn`, choose on `valid`, score on `test`."""
    (x, y), (_, truth) = drawn.arrays(), test.arrays()
    labels, counts = np.unique(y, return_counts=True)
    majority = float((truth == labels[counts.argmax()]).mean())
    if len(labels) == 1:
        return {"accuracy": majority, "majority": majority, "penalty": np.nan}
    fits = [_classifier(penalty).fit(x, y) for penalty in PENALTIES]
    best = min(fits, key=lambda fit: _loss(fit, valid))
    accuracy = float((best.predict(test.arrays()[0]) == truth).mean())
    return {"accuracy": accuracy, "majority": majority, "penalty": best.C}


def _classifier(penalty: float) -> Any:
    """An unfitted logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, solver="newton-cholesky", max_iter=1000)


def _loss(fit: Any, data: Labelled) -> float:
    """Mean cross-entropy in nats on the examples of `data` whose labels were drawn."""
    x, y = data.arrays()
    known = np.isin(y, fit.classes_)
    if not known.any():
        return 0.0
    scores = torch.as_tensor(fit.decision_function(x[known]))
    if scores.dim() == 1:  # two labels: the log odds of the second
        scores = torch.stack([torch.zeros_like(scores), scores], 1)
    return float(cross_entropy(scores, torch.as_tensor(np.searchsorted(fit.classes_, y[known]))))


def character_probe(
    train: Labelled, test: Labelled, alphabet: Tensor, budgets: Sequence[int] = (5, 10, 15)
) -> pd.DataFrame:
    """Accuracy of linear classifiers that tell an alphabet's characters apart (DU-VAE Table 3).

    For each alphabet a logistic regression is fitted to the first so many examples of each of its
    characters in `train`, or to all where there are fewer, and scored on the first five in `test`.
    Of seven strengths of an L2 penalty all alphabets take the one that has the lowest mean loss on
    the last fifth of each character's examples when fitted to the others. The papers' script is not
    published.

    Args:
        train: Examples in random order, labelled by character.
        test: Others, labelled likewise.
        alphabet: The alphabet of each character, integers `[characters]`.
        budgets: Training examples of a character, 2 or more.

    Returns:
        A row for each budget and alphabet: `labels` (the budget), `alphabet`, `accuracy` in [0, 1],
        `chance` (one in as many as it has characters) and `penalty` (the chosen C).

    Raises:
        VaelibError: scikit-learn is missing, a budget is below 2, or an alphabet lacks two
            characters to train on, an example for the penalty or one to test.
    """
    if wrong := [n for n in budgets if n < 2]:
        raise VaelibError(f"budgets {wrong}: give 2 or more examples of each character.")
    place, seen = _place(train.y), _place(test.y) < TESTED
    sizes = train.y.cpu().bincount()[train.y.cpu()]
    rows = []
    for labels in budgets:
        kept = sizes.clamp(max=labels)
        early, few = place < kept - (kept // 5).clamp(min=1), place < labels
        parts = [(train, early), (train, few & ~early), (train, few), (test, seen)]
        tasks = {a: _task(alphabet, a, parts) for a in alphabet.unique().tolist()}
        losses = {c: sum(_loss(_fit(c, t[0]), t[1]) for t in tasks.values()) for c in PENALTIES}
        penalty = min(losses, key=losses.__getitem__)
        for a, (*_, drawn, asked) in tasks.items():
            accuracy = _fit(penalty, drawn).score(*asked.arrays())
            row = {"labels": labels, "alphabet": a, "accuracy": accuracy}
            rows.append(row | {"chance": 1 / len(drawn.y.unique()), "penalty": penalty})
    return pd.DataFrame(rows)


def _place(y: Tensor) -> Tensor:
    """How many of the same label come before each, int64 `[N]`."""
    return torch.as_tensor(pd.Series(y.cpu().numpy()).groupby(y.cpu().numpy()).cumcount().array)


def _task(
    alphabet: Tensor, number: int, parts: Sequence[tuple[Labelled, Tensor]]
) -> list[Labelled]:
    """Of each part its chosen examples of one alphabet."""
    known = alphabet.cpu() == number
    chosen = [known[data.y.cpu()] & mask for data, mask in parts]
    if not all(map(torch.any, chosen)) or len(parts[0][0].y.cpu()[chosen[0]].unique()) < 2:
        raise VaelibError(
            f"alphabet {number} has too few examples; give two characters or more, with two "
            "examples to train on and one to test."
        )
    return [Labelled(data.x[at], data.y[at]) for (data, _), at in zip(parts, chosen, strict=True)]


def _fit(penalty: float, data: Labelled) -> Any:
    """A logistic regression for many classes, by the solver that is quickest for them."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, solver="newton-cg", max_iter=1000).fit(*data.arrays())
