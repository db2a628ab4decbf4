"""Forward and reverse perplexity, and nearest neighbours in the latent space."""

import pytest
import torch

from vaelib.errors import VaelibError
from vaelib.metrics.generation import forward_perplexity, reverse_perplexity
from vaelib.metrics.neighbours import nearest_neighbours
from vaelib.metrics.ngram import kneser_ney

REAL = [text.split() for text in ("a b c d", "a b c e", "a c d e", "b c d e a", "e d a b c")]


def test_both_are_the_perplexity_of_a_model_of_the_other() -> None:
    generated = [["a", "b", "c"], ["e", "d"]]
    assert forward_perplexity(REAL, generated) == kneser_ney(REAL).perplexity(generated)
    assert reverse_perplexity(generated, REAL, 2) == kneser_ney(generated, 2).perplexity(REAL)


def test_one_good_sentence_repeated_is_fluent_and_covers_nothing() -> None:
    """What the two are for: the forward one is deceived by it, the reverse one is not."""
    repeated = [min(REAL, key=lambda sentence: forward_perplexity(REAL, [sentence]))] * len(REAL)
    assert forward_perplexity(REAL, repeated) < forward_perplexity(REAL, REAL)
    assert reverse_perplexity(repeated, REAL) > 2 * reverse_perplexity(REAL, REAL)


def test_silence_deceives_the_reverse_one_unless_every_word_is_known() -> None:
    """The pitfall that the book warns of, and its cure: each word once as a sentence."""
    words = [[word] for word in "abcde"]
    assert reverse_perplexity([[]] * 50, REAL) < reverse_perplexity([REAL[0]] * 50, REAL)
    assert reverse_perplexity([*words, *[[]] * 50], REAL) > 2 * reverse_perplexity(
        [*words, *REAL], REAL
    )


def test_word_salad_is_not_fluent() -> None:
    salad = [sentence[::-1] for sentence in REAL]
    assert forward_perplexity(REAL, salad) > 2 * forward_perplexity(REAL, REAL)


# ---------------------------------------------------------------- neighbours


def test_neighbours_on_a_circle() -> None:
    """Points at known angles, of different lengths: only the angle counts."""
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 25.0, 80.0, 180.0]))
    lengths = torch.tensor([1.0, 5.0, 0.1, 2.0, 3.0])
    mu = lengths[:, None] * torch.stack([angles.cos(), angles.sin()], 1)
    positions, similarity = nearest_neighbours(mu, torch.tensor([0, 3]), count=4)
    assert positions.tolist() == [[1, 2, 3, 4], [2, 1, 0, 4]]
    expected = torch.tensor([[10.0, 25.0, 80.0, 180.0], [55.0, 70.0, 80.0, 100.0]]).deg2rad()
    torch.testing.assert_close(similarity, expected.cos().double(), atol=1e-6, rtol=0)


def test_a_copy_is_the_nearest_and_the_query_itself_is_left_out() -> None:
    mu = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    mu[7] = mu[3]
    positions, similarity = nearest_neighbours(mu, torch.tensor([3, 7, 3]), count=19)
    assert positions[:, 0].tolist() == [7, 3, 7]
    torch.testing.assert_close(similarity[:, 0], torch.ones(3, dtype=torch.float64))
    for query, row in zip([3, 7, 3], positions.tolist(), strict=True):
        assert sorted([*row, query]) == list(range(20))
    assert (similarity.diff(dim=1) <= 0).all()


def test_a_zero_mean_has_no_direction() -> None:
    mu = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -2.0]])
    _, similarity = nearest_neighbours(mu, torch.tensor([0]), count=2)
    assert similarity.tolist() == [[0.0, 0.0]]


def test_bad_queries_are_refused() -> None:
    mu = torch.eye(3)
    for count in (0, 3):
        with pytest.raises(VaelibError, match="give 1 to 2 neighbours"):
            nearest_neighbours(mu, torch.tensor([0]), count=count)
    for queries in (torch.tensor([3]), torch.tensor([-1]), torch.tensor(0)):
        with pytest.raises(VaelibError, match="from 0 to 2"):
            nearest_neighbours(mu, queries, count=1)
