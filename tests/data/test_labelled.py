import os
from pathlib import Path

import pytest

from vaelib.data.download import git_blob_sha1
from vaelib.data.labelled import FOLDER, SUBSETS, labelled_subset
from vaelib.errors import VaelibError

TEXT = "1\tgood food .\n0\tbad food .\n1\tfine\n"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """A subset of three sentences in place of the one of 100."""
    content = TEXT.encode()
    monkeypatch.setitem(SUBSETS, 100, (git_blob_sha1(content), "", len(content)))
    return "short_yelp.train.100.txt"


def test_a_subset_is_downloaded(
    small: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(VaelibError, match=r"short_yelp: cannot fetch short_yelp\.train\.100\.txt"):
        labelled_subset("short_yelp", 100)
    place = tmp_path / "mirror" / FOLDER / small
    place.parent.mkdir(parents=True)
    place.write_text(TEXT)
    expected = (["good food .", "bad food .", "fine"], [1, 0, 1])
    assert labelled_subset("short_yelp", 100) == expected
    assert (cache / FOLDER / small).is_file()


def test_a_right_copy_beside_the_standin_is_taken(
    small: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("VAELIB_STANDIN", str(tmp_path))
    place = tmp_path / "short_yelp" / "labelled" / small
    place.parent.mkdir(parents=True)
    place.write_text(TEXT)
    assert labelled_subset("short_yelp_standin", 100)[1] == [1, 0, 1]
    assert not cache.exists()
    place.write_text("1\tanother\n")
    with pytest.raises(VaelibError, match="short_yelp_standin: cannot fetch"):
        labelled_subset("short_yelp_standin", 100)


def test_only_known_subsets_can_be_asked_for() -> None:
    with pytest.raises(VaelibError, match="take 100, 500, 1000, 2000, 10000"):
        labelled_subset("short_yelp", 99)
    with pytest.raises(VaelibError, match="data set with labelled subsets 'yahoo'"):
        labelled_subset("yahoo", 100)


@pytest.mark.skipif(
    not os.environ.get("VAELIB_STANDIN"), reason="needs the subsets: set VAELIB_STANDIN"
)
@pytest.mark.parametrize("size", SUBSETS)
def test_the_genuine_subsets(size: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELIB_STANDIN", STANDIN)
    monkeypatch.setenv("VAELIB_MIRROR", str(cache / "nothing"))
    sentences, labels = labelled_subset("short_yelp", size)
    assert len(sentences) == len(labels) == size
    assert set(labels) == {0, 1}
    if size == 100:
        assert sum(labels) == 55  # protocol B.13
        assert sentences[3] == "great job !"


STANDIN = os.environ.get("VAELIB_STANDIN", "")
