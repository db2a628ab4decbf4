"""What finished runs write: sentences, responses and images, as texts."""

import re
from collections.abc import Callable

import pytest
import torch

from vaelib.errors import VaelibError
from vaelib.run import Run, run
from vaelib.store import Store

Make = Callable[..., Run]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A run in seconds, on the usual backbone of its data."""
    store = Store(tmp_path_factory.mktemp("writing"))

    def made(method: str, data: str, **changes: object) -> Run:
        quick = {"metrics": ("kl",), "store": store, "progress": False}
        return run(method, data=data, profile="smoke", **quick, **changes)

    return made


def test_a_model_of_pairs_answers_posts(make: Make) -> None:
    cvae = make("cvae", "pairs")
    answers = cvae.generate(3)
    assert len(answers) == 3
    assert answers == cvae.generate(3)
    posts = [cvae.example(i).split("\t")[0] for i in range(3)]
    assert cvae.generate(posts=posts) == answers  # the same codes, the same posts
    assert cvae.generate(posts=posts, seed=1) != cvae.generate(posts=posts[::-1], seed=2)
    assert len(cvae.generate(posts=["a word that it never saw", "and"])) == 2
    assert len(make("seq2seq", "pairs").generate(2)) == 2


def test_a_walk_between_pairs_answers_the_first_post(make: Make) -> None:
    cvae = make("cvae", "pairs")
    path = cvae.interpolate(0, 5, steps=4)
    assert len(path) == 4
    assert path == cvae.interpolate(cvae.example(0), cvae.example(5), steps=4)
    first = cvae.model().reconstruct(cvae.corpus.test.mixed(torch.tensor([0])))[0]
    assert path[0] == " ".join(cvae.corpus.vocabulary.decode(first))
    for wrong in ("no tab", "two\thalves\tand more", "post\t"):
        with pytest.raises(VaelibError, match="post<TAB>response"):
            cvae.interpolate(0, wrong)


@pytest.mark.parametrize("backbone", ["conv", "resnet"])
def test_images_are_rows_of_pixels(make: Make, backbone: str) -> None:
    digits = make("vae", "digits", backbone=backbone)
    for images in (digits.generate(2), digits.interpolate(0, 3, steps=2), [digits.example(4)]):
        assert all(re.fullmatch("[01]{64}", image) for image in images)
    assert digits.interpolate(0, 3) == digits.interpolate(digits.example(0), digits.example(3))
    assert digits.generate(4, sample_words=True) != digits.generate(4)
    for wrong in ("the food was good", "01", "2" * 64):
        with pytest.raises(VaelibError, match="no image .* give 64 pixels of 0 and 1"):
            digits.interpolate(wrong, 0)
    with pytest.raises(VaelibError, match="posts are what models of pairs answer"):
        digits.generate(posts=["how are you ?"])


@pytest.mark.parametrize("method", ["lm", "gru_lm"])
def test_a_language_model_draws_its_words(make: Make, method: str) -> None:
    """The likeliest words would be the same ones in every sentence."""
    lm = make(method, "grammar")
    assert len({*lm.generate(4)}) == 4
    assert lm.generate(4) == lm.generate(4) != lm.generate(4, seed=1)
    assert len({*lm.generate(4, sample_words=False)}) == 1
    with pytest.raises(VaelibError, match="no codes, so there is nothing to walk between"):
        lm.interpolate("the food was good .", "i hated it .")


def test_sentences_and_their_numbers(make: Make) -> None:
    vae = make("vae", "grammar")
    assert vae.interpolate(0, 1) == vae.interpolate(vae.example(0), vae.example(1))
    assert vae.generate(3) == vae.generate(3, sample_words=False)


@pytest.mark.parametrize("data", ["grammar", "pairs", "digits"])
def test_what_cannot_be_written_is_one_sentence(make: Make, data: str) -> None:
    made = make("vae", data)
    size = len(made.corpus.test)
    for none in (
        made.generate,
        lambda: made.generate(0),
        lambda: made.generate(2, posts=["how is the food ?"]),
        lambda: made.generate(posts="how is the food ?"),
        lambda: made.interpolate(size, 0),
        lambda: made.interpolate(0, -1),
        lambda: made.interpolate(0, 1.5),
        lambda: made.interpolate(0, 1, steps=0),
        lambda: made.example(size),
    ):
        with pytest.raises(VaelibError, match=r"[a-z0-9 ].*\.$"):
            none()


@pytest.mark.parametrize("backbone", ["lstm", "gru", "cnn", "transformer"])
def test_any_text_may_be_an_end(make: Make, backbone: str) -> None:
    made = make("vae", "grammar", backbone=backbone)
    assert len(made.interpolate("the food was nosuchword", "  ", steps=2)) == 2
