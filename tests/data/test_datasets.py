import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vaelib.data import DATASETS, DatasetSpec, available, load, statistics_table
from vaelib.data.datasets import _spec, check_data, data_name
from vaelib.data.download import git_blob_sha1
from vaelib.errors import VaelibError

IDS = (
    "grammar synthetic pairs digits ptb snli short_yelp yahoo yelp yelp13 switchboard omniglot "
    "omniglot_original "
    "short_yelp_standin snli_standin yahoo_standin omniglot_standin switchboard_standin"
)
TEXTS = {"train": "1\ta b\n0\tc etorch.\n", "valid": "1\ta etc.\n", "test": "0\tb torch.\n"}


@pytest.fixture
def tiny(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetSpec:
    """A downloadable data set in a folder mirror, registered under the id `tiny`."""
    files = {}
    for split, text in TEXTS.items():
        path = f"owner/repo/commit/{split}.txt"
        place = tmp_path / "mirror" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        files[split] = {"path": path, "git_sha1": git_blob_sha1(text.encode())}
    monkeypatch.setenv("VAELIB_MIRROR", str(tmp_path / "mirror"))
    entry = {"title": "Tiny", "kind": "download", "licence": "none", "note": "", "files": files}
    spec = _spec("tiny", entry | {"damage": DATASETS["yelp"].damage})
    monkeypatch.setattr(DATASETS, "_entries", {**dict(DATASETS.items()), "tiny": spec})
    return spec


def test_the_ids() -> None:
    assert list(DATASETS) == IDS.split()


def files_of(spec: DatasetSpec) -> list[str]:
    if spec.reader == "zips":
        return ["background", "evaluation"]
    return ["images"] if spec.holds == "images" else ["train", "valid", "test"]


def test_sources_are_complete() -> None:
    for spec in DATASETS.values():
        if spec.kind == "download":
            assert list(spec.sources) == files_of(spec)
        for source in spec.sources.values():
            assert len(source.git_sha1) == 40
            assert len(source.sha256) in (0, 64)
            assert (source.bytes is None) == (not source.sha256)
            assert len(source.path.split("/")[2]) == 40
        pinned = files_of(spec) if spec.kind == "folder" else []
        assert list(spec.sha256) == pinned
        assert all(len(digest) == 64 for digest in spec.sha256.values())
        assert spec.title
        assert spec.licence
        assert spec.note
        assert set(spec.published) <= set(load("grammar", train_size=10).statistics())


def test_a_downloaded_data_set(tiny: DatasetSpec) -> None:
    corpus = load("tiny")
    assert corpus.id == "tiny"
    assert corpus.label_names == ("0", "1")
    assert not corpus.stand_in
    assert sorted(corpus.checksums) == ["test.txt", "train.txt", "valid.txt"]
    # damage is undone where its sign occurs, file by file
    assert corpus.vocabulary.words[4:] == ("a", "b", "c", "etc.")
    assert corpus.vocabulary.decode(corpus.valid.sentence(0)) == ["a", "etc."]


def test_a_corrupt_download_fails_by_name(tiny: DatasetSpec, tmp_path: Path) -> None:
    (tmp_path / "mirror" / tiny.sources["valid"].path).write_text("1\tsomething else\n")
    with pytest.raises(VaelibError, match=r"tiny: cannot fetch valid\.txt from .*mirror"):
        load("tiny")


def known_as(monkeypatch: pytest.MonkeyPatch, id: str, content: str) -> DatasetSpec:
    """A stand-in whose files are known to hold `content`."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    spec = replace(DATASETS[id], sha256=dict.fromkeys(("train", "valid", "test"), digest))
    monkeypatch.setattr(DATASETS, "_entries", {**dict(DATASETS.items()), id: spec})
    return spec


def test_a_standin_of_other_content_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_STANDIN", str(tmp_path))
    known_as(monkeypatch, "short_yelp_standin", "good food .\n")
    folder = tmp_path / "short_yelp"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text("good food .\n")
    assert load("short_yelp_standin").stand_in
    (folder / "valid.txt").write_text("bad food .\n")
    told = r"short_yelp_standin: .*valid\.txt is not the known file: its SHA-256 is .*data='.*yelp'"
    with pytest.raises(VaelibError, match=told) as caught:
        load("short_yelp_standin")
    assert "\n" not in str(caught.value)
    assert load(folder).id == "folder:short_yelp"
    (row,) = statistics_table(["short_yelp_standin"])
    assert "not the known file" in row["problem"]


def test_a_corpus_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corp").mkdir()
    (tmp_path / "ptb").mkdir()
    monkeypatch.chdir(tmp_path)
    whole = str(tmp_path.resolve() / "corp")
    for name in ("corp", "corp/", "./corp", "../" + tmp_path.name + "/corp", whole, Path("corp")):
        assert data_name(name) == check_data(name) == whole
    assert [data_name(id) for id in DATASETS] == list(DATASETS)
    assert data_name(Path("ptb")) == str(tmp_path.resolve() / "ptb")
    assert data_name("toy") == "toy"
    for unknown in ("toy", ""):
        with pytest.raises(VaelibError, match="unknown data set"):
            check_data(unknown)


@pytest.mark.parametrize("wrong", [3, None, ["grammar"], b"grammar"])
def test_a_data_set_is_a_name_or_a_path(wrong: Any) -> None:
    with pytest.raises(VaelibError, match="give a data set's id or a folder's path"):
        load(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_size": 0},
        {"valid_size": "5"},
        {"test_size": 2.0},
        {"min_count": None},
        {"max_words": -1},
        {"seed": -1},
        {"seed": True},
    ],
)
def test_sizes_are_whole_numbers(wrong: dict[str, Any]) -> None:
    with pytest.raises(VaelibError, match=next(iter(wrong))):
        load("grammar", **wrong)


def test_a_standin_needs_its_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(VaelibError, match=r"snli_standin is a .* VAELIB_STANDIN is not set; set"):
        load("snli_standin")
    monkeypatch.setenv("VAELIB_STANDIN", str(tmp_path))
    with pytest.raises(VaelibError, match=r"which has no folder snli; set it to a folder that"):
        load("snli_standin")
    assert not available("snli_standin")
    content = "a man\tsits .\n"
    spec = known_as(monkeypatch, "snli_standin", content)
    (tmp_path / "snli").mkdir()
    for split in spec.sha256:
        (tmp_path / "snli" / f"{split}.txt").write_text(content)
    assert available("snli_standin")
    corpus = load("snli_standin")
    assert corpus.stand_in
    assert corpus.id == "snli_standin"
    assert corpus.train.labels is None


def test_availability_needs_no_network(cache: Path, tiny: DatasetSpec, tmp_path: Path) -> None:
    assert available("grammar")
    assert available("tiny")
    assert not available("yelp")
    (tmp_path / "mirror" / tiny.sources["test"].path).unlink()
    assert not available("tiny")
    with pytest.raises(VaelibError, match="unknown data set 'tinny': did you mean 'tiny'"):
        available("tinny")


def test_the_table_lists_everything_and_never_fails(
    cache: Path, tiny: DatasetSpec, tmp_path: Path
) -> None:
    rows = {row["id"]: row for row in statistics_table()}
    assert list(rows) == list(DATASETS)
    assert rows["tiny"]["available"]
    assert rows["tiny"]["statistics"]["vocab_size"] == 8
    assert rows["grammar"]["splits"] == {"train": 10_000, "valid": 1_000, "test": 1_000}
    assert not rows["yelp"]["available"]
    assert rows["yelp"]["problem"] == "not on this machine"
    assert rows["yelp"]["published"]["length_mean"] == 98.01
    assert rows["yelp"]["statistics"] == {}
    json.dumps(list(rows.values()))
    (tmp_path / "mirror" / tiny.sources["train"].path).write_text("spoilt")
    (cache / tiny.sources["train"].path).unlink()
    (row,) = statistics_table(["tiny"])
    assert not row["available"]
    assert "cannot fetch train.txt" in row["problem"]


@pytest.mark.skipif(
    not os.environ.get("VAELIB_MIRROR"), reason="needs PTB: set VAELIB_MIRROR to a mirror with it"
)
def test_ptb_is_the_standard_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protocol C.1 and C.2: sentences, words and 9,998 types beside the four specials."""
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path))
    corpus = load("ptb")
    assert [len(s) for s in corpus.splits.values()] == [42_068, 3_370, 3_761]
    words = [int((s.lengths - 2).sum()) for s in corpus.splits.values()]
    assert words == [887_521, 70_390, 78_669]
    assert len(corpus.vocabulary) == 10_002
    assert corpus.statistics().items() >= DATASETS["ptb"].published.items()
    assert max(int(s.lengths.max()) for s in corpus.splits.values()) == 84
    assert corpus.train.labels is None
    laptop = load("ptb", train_size=10_000, valid_size=1_000, test_size=1_000, min_count=2)
    assert [len(s) for s in laptop.splits.values()] == [10_000, 1_000, 1_000]
    counts = laptop.train.tokens.bincount(minlength=len(laptop.vocabulary))
    assert counts[4:].min() == 2
    assert len(laptop.vocabulary) < len(load("ptb", train_size=10_000).vocabulary) < 10_002
