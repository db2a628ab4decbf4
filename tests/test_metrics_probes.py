"""Linear probes: separable and useless representations, budgets, draws, a missing package."""

import inspect

import numpy as np
import pytest
import torch
from torch import Tensor

from vaelib.errors import VaelibError
from vaelib.metrics.catalogue import LABEL_DRAWS
from vaelib.metrics.probes import PENALTIES, Labelled, character_probe, linear_probe


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


# ---------------------------------------------------------------- characters of alphabets

ALPHABET = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])  # of nine characters


def drawings(each: int, seed: int, distance: float) -> Labelled:
    """So many unit Gaussians of every character, in random order; apart within an alphabet alone.

    The k-th character of each alphabet lies `distance` from the origin along the k-th axis, so that
    a probe over all nine could not tell them apart.
    """
    source = torch.Generator().manual_seed(seed)
    y = torch.arange(9).repeat(each)[torch.randperm(9 * each, generator=source)]
    x = torch.randn(len(y), 4, generator=source)
    x[torch.arange(len(y)), torch.tensor([0, 1, 2, 3, 0, 1, 0, 1, 2])[y]] += distance
    return Labelled(x, y)


def test_separable_characters_are_all_told_apart() -> None:
    got = character_probe(drawings(15, 0, 12.0), drawings(5, 1, 12.0), ALPHABET)
    assert got["accuracy"].eq(1).all()
    pairs = [[n, a] for n in (5, 10, 15) for a in (0, 1, 2)]
    assert got[["labels", "alphabet"]].to_numpy().tolist() == pairs
    assert got["chance"].tolist() == [1 / 4, 1 / 2, 1 / 3] * 3
    assert got.groupby("labels")["penalty"].nunique().eq(1).all(), "one for all alphabets"


def test_noise_tells_no_character() -> None:
    """The accuracy of a guess is one in as many as there are: here 13/36 in the mean."""
    runs = [
        character_probe(drawings(15, s, 0.0), drawings(5, 100 + s, 0.0), ALPHABET, [5])
        for s in range(6)
    ]
    found = [run["accuracy"].mean() for run in runs]
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(13 / 36, abs=4 * error)
    assert error < 0.05
    flat = Labelled(torch.zeros(90, 4), drawings(10, 0, 0.0).y)  # collapsed
    collapsed = character_probe(flat, flat, ALPHABET)
    assert collapsed["accuracy"].tolist() == pytest.approx(collapsed["chance"].tolist())


def test_only_the_first_of_each_character_count() -> None:
    """Five to train on, of which one chooses the penalty, and five to test."""
    train, test = drawings(15, 0, 12.0), drawings(9, 1, 12.0)
    for data in (train, test):
        later = torch.tensor([int((data.y[:i] == y).sum()) >= 5 for i, y in enumerate(data.y)])
        data.x[later] = data.x[later].roll(1, 1)  # looks like the next character
    got = character_probe(train, test, ALPHABET, [5, 15])
    assert got.query("labels == 5")["accuracy"].eq(1).all()
    assert got.query("labels == 15")["accuracy"].lt(1).any()


def test_a_character_with_fewer_examples_gives_all_it_has() -> None:
    train, test = drawings(12, 0, 12.0), drawings(5, 1, 12.0)
    kept = torch.ones(len(train.y), dtype=torch.bool)
    kept[(train.y == 3).nonzero()[2:, 0]] = False
    few, untested = Labelled(train.x[kept], train.y[kept]), test.y != 8
    got = character_probe(few, Labelled(test.x[untested], test.y[untested]), ALPHABET, [15])
    assert got["accuracy"].eq(1).all()
    assert got["chance"].tolist() == [1 / 4, 1 / 2, 1 / 3]


def test_what_no_character_can_be_read_from_is_refused() -> None:
    train, test = drawings(5, 0, 1.0), drawings(5, 1, 1.0)
    with pytest.raises(VaelibError, match=r"budgets \[1\]: give 2 or more"):
        character_probe(train, test, ALPHABET, [1, 5])
    for bare in (torch.isin(train.y, torch.tensor([5])), train.y // 4 == 1):
        with pytest.raises(VaelibError, match="alphabet 1 has too few examples"):
            character_probe(Labelled(train.x[~bare], train.y[~bare]), test, ALPHABET, [5])
    with pytest.raises(VaelibError, match="alphabet 0 has too few examples"):
        character_probe(train, Labelled(test.x[test.y > 3], test.y[test.y > 3]), ALPHABET, [5])


def test_the_catalogue_states_the_draws_there_are() -> None:
    assert len(inspect.signature(linear_probe).parameters["seeds"].default) == LABEL_DRAWS
