"""What finished runs write: sentences, responses and images, as texts."""

import re
from collections.abc import Callable

import pytest
import torch

from vaelib.distributions import rsample
from vaelib.errors import VaelibError
from vaelib.metrics.search import beam_search
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
    with pytest.warns(UserWarning, match="does not know word, saw,"):
        assert len(cvae.generate(posts=["the food a word that it never saw", "and"])) == 2
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
def test_texts_of_known_words_are_ends(make: Make, backbone: str) -> None:
    made = make("vae", "grammar", backbone=backbone)
    assert len(made.interpolate("the food was the", "the", steps=2)) == 2


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda made: made.interpolate(0, 1, steps=2.5), r"^steps=2.5: give a whole number"),
        (lambda made: made.interpolate(0, 1, steps="3"), r"^steps='3': give a whole number"),
        (lambda made: made.interpolate(0, 1, sample_seed="x"), r"^sample_seed='x': give a whole"),
        (lambda made: made.generate(1, seed="x"), r"^seed='x': give a whole number"),
        (lambda made: made.generate(1, seed=-1), r"^seed=-1: give a whole number"),
        (lambda made: made.generate(1.5), r"^n=1.5: give a whole number"),
        (lambda made: made.generate("3"), r"^n='3': give a whole number"),
        (lambda made: made.generate(True), r"^n=True: give a whole number"),
    ],
)
@pytest.mark.parametrize("data", ["grammar", "pairs", "digits"])
def test_numbers_are_whole(make: Make, data: str, call: Callable[[Run], object], told: str) -> None:
    with pytest.raises(VaelibError, match=told):
        call(make("vae", data))


def test_words_that_the_model_never_saw_are_named(make: Make) -> None:
    made = make("vae", "grammar")
    with pytest.warns(UserWarning, match="does not know asdf, qwerty, and reads <unk>"):
        path = made.interpolate("asdf qwerty asdf the food", 0)
    assert path == made.interpolate("<unk> <unk> <unk> the food", 0)
    cvae = make("cvae", "pairs")
    with pytest.warns(UserWarning, match="does not know qwerty,"):
        cvae.interpolate(cvae.example(0).replace("\t", " qwerty\t"), 0)


@pytest.mark.parametrize("end", ["qwerty asdf", "<pad>", "", "  "])
def test_an_end_without_a_word_that_the_model_knows_is_refused(make: Make, end: str) -> None:
    made, cvae = make("vae", "grammar"), make("cvae", "pairs")
    for call in (
        lambda: made.interpolate(end, 0),
        lambda: made.interpolate(0, end),
        lambda: cvae.generate(posts=[end]),
        lambda: cvae.interpolate(f"{end}\t{end}", 0),
    ):
        with pytest.raises(VaelibError, match=r"no word that|a post of|post<TAB>response|of posts"):
            call()
    with pytest.raises(VaelibError, match=f"^{end!r} holds no word that the model knows; give"):
        made.interpolate(end, end)


def test_a_beam_writes_likelier_sentences(make: Make) -> None:
    vae, cvae = make("vae", "grammar"), make("cvae", "pairs")
    model, noise = vae.model(), torch.Generator().manual_seed(3)
    z = rsample(model.prior(), (4,), noise)
    found = beam_search(model.decoder, z, 5)
    assert vae.generate(4, seed=3, beam=5) == [
        " ".join(vae.corpus.vocabulary.decode(one)) for one in found
    ]
    posts = [cvae.example(i).split("\t")[0] for i in range(3)]
    assert cvae.generate(posts=posts, beam=4) == cvae.generate(3, beam=4)
    assert len({*make("lm", "grammar").generate(3, beam=2)}) == 1
    for wrong, told in (
        (lambda: vae.generate(2, beam=0), r"beam=0: give a whole number"),
        (lambda: vae.generate(2, beam=2.5), r"beam=2.5: give a whole number"),
        (lambda: vae.generate(2, beam=2, sample_words=True), "beam .* sample_words"),
        (lambda: make("vae", "digits").generate(2, beam=2), "writes no text"),
    ):
        with pytest.raises(VaelibError, match=told):
            wrong()
