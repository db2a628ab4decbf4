"""Readers of OMNIGLOT on small files made here, safe zips, and images by character."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from vaelib.data import drawings, omniglot
from vaelib.data.download import Source, git_blob_sha1
from vaelib.data.omniglot import Drawings, read_chardata, read_standin
from vaelib.data.texts import Slicing, sha256
from vaelib.errors import VaelibError

PATH = "someone/something/0123abc/datasets/chardata.mat"
CHARDATA = Source(
    "omniglot",
    "yburda/iwae/78a6075484bd7dd6f47a4bb9880d2295bc7a5220/datasets/OMNIGLOT/chardata.mat",
    "016a3536ffe5e1d38e42563a18d7a78bfaf643ec",
)


def picture(number: int) -> np.ndarray:
    """A 28 by 28 image in [0, 1], like no transposed, turned or other one, with its number."""
    image = np.zeros((28, 28))
    image[0, :20], image[:9, 0], image[5, 6] = 1.0, 1.0, 0.4
    image[20, 20] = number / 255
    return image


def arrays(n_train: int = 12, n_test: int = 5) -> dict[str, Any]:
    """The contents of a `chardata.mat`: image i has alphabet i mod 3, character i mod 6."""

    def part(numbers: range, prefix: str) -> dict[str, Any]:
        flat = np.stack([picture(i).ravel(order="F") for i in numbers], axis=1)
        alphabet = np.array([i % 3 for i in numbers])
        number = np.array([[1 + (i % 6) // 3 for i in numbers]], dtype=np.uint8)
        target = np.eye(50)[:, alphabet]
        return {f"{prefix}data": flat, f"{prefix}target": target, f"{prefix}targetchar": number}

    return part(range(n_train), "") | part(range(100, 100 + n_test), "test")


def mat(**changes: Any) -> bytes:
    """The bytes of such a file."""
    stream = io.BytesIO()
    savemat(stream, arrays() | changes)
    return stream.getvalue()


def number_of(pixels: Any) -> int:
    return int(pixels[20 * 28 + 20])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files have small validation splits."""
    monkeypatch.setattr(omniglot, "VALID_SIZE", 4)


# ---- Burda's file ----------------------------------------------------------------------------


def test_columns_written_column_by_column_become_upright_rows() -> None:
    found, n_train = read_chardata(mat(), "chardata.mat")
    assert n_train == 12
    assert len(found) == 17
    for i, number in enumerate([*range(12), *range(100, 105)]):
        assert np.array_equal(found.pixels[i], np.rint(picture(number) * 255).ravel())
    assert found.alphabet.tolist() == [i % 3 for i in [*range(12), *range(100, 105)]]
    names = {(int(a), int(c)) for a, c in zip(found.alphabet, found.character, strict=True)}
    assert len(names) == len(set(found.character)) == 6  # numbered through all alphabets
    assert len(found.names) == 50


def test_the_last_shuffled_training_images_are_for_validation(
    few: None, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = mat()
    place = tmp_path / "mirror" / PATH
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    monkeypatch.setenv("VAELIB_MIRROR", str(tmp_path / "mirror"))
    source = Source("omniglot", PATH, git_blob_sha1(content))
    data, again = omniglot.images(source), omniglot.images(source, "fixed")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [8, 4, 5]
    assert data.checksums == {"chardata.mat": sha256(content)}
    order = [number_of(p) for p in data.train.pixels]
    assert order != sorted(order)
    assert data.train.labels.tolist() == [n % 3 for n in order]
    held_out = sorted(set(range(12)) - set(order))
    assert sorted(data.valid.labels.tolist()) == sorted(n % 3 for n in held_out)
    assert data.test.labels.tolist() == [n % 3 for n in range(100, 105)]
    for split in (data.valid, data.test, again.train):
        assert not split.grey
        assert set(split.pixels.unique().tolist()) == {0, 255}
    assert data.train.grey
    assert torch.equal(data.test.pixels, again.test.pixels)


def test_where_the_file_cannot_be_had_it_says_where_to_put_it(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_MIRROR", str(tmp_path))
    with pytest.raises(VaelibError, match=r"omniglot: cannot fetch chardata\.mat from .*016a3536"):
        omniglot.images(CHARDATA)


@pytest.mark.parametrize(
    "content",
    [
        b"not a mat file",
        mat(data=arrays()["data"] * 2),
        mat(data=arrays()["data"][:783]),
        mat(targetchar=np.ones((1, 3))),
        mat()[:700],
    ],
)
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(VaelibError, match=r"x\.mat is not the OMNIGLOT file") as caught:
        read_chardata(content, "x.mat")
    assert "\n" not in str(caught.value)


# ---- The stand-in ----------------------------------------------------------------------------


def npz(folder: Path, **changes: Any) -> Path:
    """A stand-in's folder: nine images, six for training."""
    images = np.stack([np.rint(picture(i) * 255) for i in range(9)]).astype(np.uint8)
    held = {
        "images": images,
        "alphabet": np.arange(9, dtype=np.uint8) % 2,
        "alphabet_names": np.array(["Latin", "Greek"]),
        "character": np.arange(9, dtype=np.uint16) + 1,
        "drawer": np.ones(9, dtype=np.uint8),
        "train_index": np.array([0, 1, 3, 4, 6, 8]),
        "test_index": np.array([2, 5]),
    }
    np.savez_compressed(folder / omniglot.STANDIN_FILE, **(held | changes))
    return folder


def test_the_standin_keeps_its_own_split(few: None, tmp_path: Path) -> None:
    folder = npz(tmp_path)
    content = (folder / omniglot.STANDIN_FILE).read_bytes()
    data = omniglot.standin_images(folder, sha256(content))
    assert [len(s) for s in (data.train, data.valid, data.test)] == [2, 4, 2]
    assert {number_of(p) for p in data.train.pixels} < {0, 1, 3, 4, 6, 8}
    assert data.test.labels.tolist() == [0, 1]
    assert data.label_names == ("Latin", "Greek")
    found, train, test = read_standin(content, "x")
    assert np.array_equal(found.pixels[3], np.rint(picture(3) * 255).ravel())
    assert (train.tolist(), test.tolist()) == ([0, 1, 3, 4, 6, 8], [2, 5])
    assert found.character.tolist() == list(range(9))


def test_an_unknown_or_missing_standin_is_refused(few: None, tmp_path: Path) -> None:
    with pytest.raises(VaelibError, match="cannot be read"):
        omniglot.standin_images(tmp_path)
    with pytest.raises(VaelibError, match="is not the known file"):
        omniglot.standin_images(npz(tmp_path), "0" * 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"test_index": np.array([2, 3])},  # also in training
        {"test_index": np.array([2, 9])},
        {"alphabet": np.arange(9)},
        {"character": np.arange(8)},
        {"images": np.zeros((9, 28, 28))},
        {"alphabet_names": np.array([None])},  # would need pickle
    ],
)
def test_a_malformed_standin_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    content = (npz(tmp_path, **changes) / omniglot.STANDIN_FILE).read_bytes()
    with pytest.raises(VaelibError, match="is not the OMNIGLOT file"):
        read_standin(content, "x")


def test_too_few_training_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VaelibError, match="has 6 training images"):
        omniglot.standin_images(npz(tmp_path))


ROOT = Path(os.environ.get("VAELIB_STANDIN", "/nowhere"), "omniglot")


@pytest.mark.skipif(not (ROOT / omniglot.STANDIN_FILE).is_file(), reason="no stand-in here")
def test_the_standin_has_burdas_sizes() -> None:
    data = omniglot.standin_images(ROOT)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [22_345, 2_000, 8_070]
    assert len(data.vocabulary) == 784
    assert len(data.label_names) == 50
    assert set(data.train.labels.tolist()) == set(range(50))
    assert 0.05 < data.train.pixels.float().mean() / 255 < 0.2  # ink, not paper


# ---- The original drawings -------------------------------------------------------------------


def drawing(ink: np.ndarray | None = None, size: int = 105) -> bytes:
    """A PNG of one bit, black on white, with a square of ink or `ink`."""
    black = np.zeros((size, size), dtype=bool)
    black[:15, :30] = True
    stream = io.BytesIO()
    paper = ~(black if ink is None else ink)
    Image.fromarray(paper.astype(np.uint8) * 255).convert("1").save(stream, "PNG")
    return stream.getvalue()


def name(alphabet: str, character: int, number: int, drawer: int) -> str:
    return f"images_background/{alphabet}/character{character:02}/{number:04}_{drawer:02}.png"


WHOLE = [
    name(alphabet, character + 1, 2 * place + character + 1, drawer)
    for place, alphabet in enumerate(("Latin", "Greek"))
    for character in range(2)
    for drawer in range(1, 21)
]


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Writes a zip of members by name."""

    def write(members: dict[str, bytes]) -> Path:
        path = tmp_path / "images_background.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for member, content in members.items():
                out.writestr(member, content)
        return path

    return write


def test_drawings_are_read_from_their_paths(pack: Callable[..., Path]) -> None:
    members = {"images_background/": b"", "images_background/readme.txt": b"hello"}
    found = drawings.read_zips([pack(members | dict.fromkeys(WHOLE, drawing()))])
    assert len(found) == 80
    assert found.names == ("Greek", "Latin")
    assert found.alphabet.tolist() == [0] * 40 + [1] * 40
    assert found.character.tolist() == [2] * 20 + [3] * 20 + [0] * 20 + [1] * 20
    # 3.75 pixels of the original are one here: a square of 15 by 30 covers 4 by 8 exactly.
    wanted = np.zeros((28, 28), dtype=np.uint8)
    wanted[:4, :8] = 255
    assert np.array_equal(found.pixels[0].reshape(28, 28), wanted)


def test_shrinking_keeps_the_share_of_ink(pack: Callable[..., Path]) -> None:
    ink = np.random.default_rng(0).random((105, 105)) < 0.3
    found = drawings.read_zips([pack(dict.fromkeys(WHOLE, drawing(ink)))])
    assert abs(found.pixels[0].mean() / 255 - 0.3) < 0.02


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"../../evil.png": b"x"}, "which OMNIGLOT does not"),
        ({"/etc/evil.png": b"x"}, "which OMNIGLOT does not"),
        ({"images_background/../../evil.png": b"x"}, "which OMNIGLOT does not"),
        ({"C:\\evil.png": b"x"}, "which OMNIGLOT does not"),
        ({"images_background/bomb.png": bytes(1 << 20)}, "of 1048576 bytes"),
        ({WHOLE[0]: b"not a picture"}, "is not a drawing"),
        ({WHOLE[0]: drawing(np.zeros((200, 200), dtype=bool))}, "200 by 200 pixels"),
        ({WHOLE[0]: drawing()[:60]}, "is not a drawing"),
        ({WHOLE[0]: drawing()}, "needs its 20 drawings"),
        ({}, "needs its 20 drawings"),
    ],
)
def test_hostile_and_incomplete_zips_are_refused(
    pack: Callable[..., Path], tmp_path: Path, members: dict[str, bytes], told: str
) -> None:
    path = pack(members)
    with pytest.raises(VaelibError, match=told):
        drawings.read_zips([path])
    assert list(tmp_path.rglob("*")) == [path]  # nothing was unpacked


def test_a_zip_of_too_many_members_is_refused(
    pack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawings, "MOST_MEMBERS", 3)
    with pytest.raises(VaelibError, match="has 4 members"):
        drawings.read_zips([pack({f"{i}.txt": b"" for i in range(4)})])


def test_a_damaged_or_missing_zip_is_refused(pack: Callable[..., Path], tmp_path: Path) -> None:
    path = pack(dict.fromkeys(WHOLE, drawing()))
    content = bytearray(path.read_bytes())
    content[120:140] = bytes(20)
    path.write_bytes(content)
    for wrong in (path, tmp_path / "nowhere.zip"):
        with pytest.raises(VaelibError, match="cannot be read"):
            drawings.read_zips([wrong])


# ---- By character ----------------------------------------------------------------------------


def whole_of(split: Any) -> list[int]:
    """The number of each image, which is the place of its one pixel of ink."""
    return split.pixels.float().argmax(1).tolist()


def made() -> omniglot.DrawingData:
    """Five characters in two alphabets, 20 drawings each, shuffled; image i holds its number."""
    character = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 20))
    pixels = np.zeros((100, 784), dtype=np.uint8)
    pixels[np.arange(100), np.arange(100)] = 255
    found = Drawings(pixels, np.array([0, 1, 0, 1, 1])[character], character, ("A", "B"))
    data = omniglot.image_data(found, np.arange(70), np.arange(70, 98), {"x": ""}, "dynamic")
    assert isinstance(data, omniglot.DrawingData)
    return data


def test_a_probe_reads_the_whole_file_and_keeps_its_split(few: None) -> None:
    """None of the test images was trained on, whatever the slice of a run."""
    data = made().sliced(Slicing(train_size=3, valid_size=2, test_size=2))
    assert isinstance(data, omniglot.DrawingData)
    train, test = data.by_character()
    assert sorted(whole_of(train)) == list(range(70))
    assert sorted(whole_of(test)) == list(range(70, 98))
    for split in (train, test):
        assert whole_of(split) != sorted(whole_of(split))
        assert split.labels.tolist() == data.drawings.character[whole_of(split)].tolist()
        assert not split.grey
    assert data.drawings.alphabets.tolist() == [0, 1, 0, 1, 1]
    assert whole_of(made().by_character()[0]) == whole_of(train)


@pytest.mark.skipif(not (ROOT / "images_background.zip").is_file(), reason="no originals here")
def test_the_originals_give_burdas_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "fetch", lambda source: ROOT / source)
    zips = ("images_background.zip", "images_evaluation.zip")
    data = drawings.images(*zips)  # type: ignore[arg-type]
    assert [len(s) for s in (data.train, data.valid, data.test)] == [22_345, 2_000, 8_070]
    assert sorted(data.checksums) == sorted(zips)
    assert len(data.label_names) == 50
