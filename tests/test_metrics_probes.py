"""Linear probes: separable and useless representations, budgets, draws, a missing package."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vaelib.errors import VaelibError
from vaelib.metrics.probes import PENALTIES, Labelled, linear_probe


def clusters(n: int, seed: int, distance: float = 6.0, classes: int = 3) -> Labelled:
    """Unit Gaussians in [n, 4], one a label, `distance` from the origin along an axis each."""
    source = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=source)
    x = torch.randn(n, 4, generator=source)
    x[torch.arange(n), y] += distance
    return Labelled(x, y)


@pytest.mark.parametrize("classes", [2, 3])
def test_separable_clusters_are_read_with_few_labels(classes: int) -> None:
    sets = [clusters(200, seed, classes=classes) for seed in range(3)]
    got = linear_probe(*sets, budgets=[30, 200], seeds=[0, 1])
    assert (got["accuracy"] > 0.97).all()
    assert got["majority"].between(0.2, 0.65).all()
    assert got["penalty"].isin(PENALTIES).all()
    assert got[["labels", "seed"]].to_numpy().tolist() == [[30, 0], [200, 0], [30, 1], [200, 1]]


def test_a_collapsed_representation_tells_nothing() -> None:
    """Without variance in the means the probe can only name the most frequent label."""
    flat = torch.zeros(300, 4)
    y = (torch.arange(300) % 10 < 3).long()
    data = Labelled(flat, y)
    got = linear_probe(data, data, data, budgets=[300], seeds=[0])
    assert got.loc[0, "accuracy"] == got.loc[0, "majority"] == pytest.approx(0.7)


def test_the_accuracy_of_two_gaussians_comes_near_the_best_possible() -> None:
    """Two unit Gaussians at +-1 on one axis: no classifier is right more often than Phi(1)."""

    def pair(n: int, seed: int) -> Labelled:
        source = torch.Generator().manual_seed(seed)
        y = torch.randint(2, (n,), generator=source)
        return Labelled(torch.randn(n, 1, generator=source) + (2 * y[:, None] - 1), y)

    got = linear_probe(pair(2000, 0), pair(500, 1), pair(20_000, 2), budgets=[2000], seeds=[0])
    assert got.loc[0, "accuracy"] == pytest.approx(0.8413, abs=0.01)  # sd of the count: 0.0026


def test_the_same_seed_draws_the_same_labels() -> None:
    train, valid, test = (clusters(80, seed, distance=1.0) for seed in range(3))
    first = linear_probe(train, valid, test, budgets=[20], seeds=[0, 1])
    again = linear_probe(train, valid, test, budgets=[20], seeds=[0, 1])
    assert first.equals(again)
    assert first["accuracy"].nunique() == 2


def test_all_labels_make_the_seed_irrelevant() -> None:
    train, valid, test = (clusters(60, seed, distance=1.0) for seed in range(3))
    got = linear_probe(train, valid, test, budgets=[60], seeds=[0, 1, 2])
    assert got["accuracy"].nunique() == 1


def test_a_draw_with_one_label_predicts_it() -> None:
    data = clusters(50, 0)
    got = linear_probe(data, data, data, budgets=[1], seeds=[0])
    assert got.loc[0, "accuracy"] == got.loc[0, "majority"] > 0
    assert np.isnan(got.loc[0, "penalty"])


def test_validation_labels_that_were_not_drawn_do_not_stop_it() -> None:
    train, test = clusters(50, 0, classes=2), clusters(50, 1, classes=4)
    unseen = Labelled(test.x, torch.full_like(test.y, 3))
    for valid in (test, unseen):
        got = linear_probe(train, valid, test, budgets=[50], seeds=[0])
        assert 0.2 < got.loc[0, "accuracy"] < 0.8


def test_gradients_and_devices_do_not_matter() -> None:
    data = clusters(50, 0)
    held: Tensor = data.x.clone().requires_grad_()
    got = linear_probe(Labelled(held, data.y), data, data, budgets=[50], seeds=[0])
    assert got.loc[0, "accuracy"] > 0.97


def test_bad_calls_are_refused() -> None:
    data = clusters(10, 0)
    with pytest.raises(VaelibError, match="give 1 to 10 labels"):
        linear_probe(data, data, data, budgets=[5, 11], seeds=[0])
    with pytest.raises(VaelibError, match=r"y has shape \[9\]"):
        Labelled(data.x, data.y[:9])
    with pytest.raises(VaelibError, match="NaN"):
        Labelled(data.x * np.nan, data.y)
    with pytest.raises(VaelibError, match=r"\[3, 4\] dimensions"):
        linear_probe(data, data, Labelled(data.x[:, :3], data.y), budgets=[5], seeds=[0])
