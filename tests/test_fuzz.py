"""Everything a reader can hand in, made up by the thousand: each ends well or in one sentence.

`VAELIB_FUZZ=5000 pytest tests/test_fuzz.py` tries as many of each, drawn anew every time.
"""

import contextlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_helpers import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from vaelib import _listings, diagnose
from vaelib._book_parameters import check_parameters, parse_value, validate
from vaelib._commands import parse_parameters, parse_seeds, parse_settings
from vaelib.build import resolve
from vaelib.claims.failures import ATTEMPT_KEYS, CAUSE_KEYS, _attempts, _causes
from vaelib.config import FIELDS, Config, read_toml
from vaelib.data.datasets import check_data
from vaelib.data.drawings import read_zips
from vaelib.data.omniglot import read_chardata, read_standin
from vaelib.data.pairs import build_pairs, read_pairs
from vaelib.data.switchboard import read_dialogues
from vaelib.data.texts import SPLITS, Slicing, build_corpus, read_texts
from vaelib.data.yelp13 import read_reviews
from vaelib.errors import VaelibError
from vaelib.export import find_run, stale_paths
from vaelib.run import Run, run_config
from vaelib.store import Key, Store, read_json
from vaelib.studies import Study

MANY = int(os.environ.get("VAELIB_FUZZ", "0"))
fuzz = settings(
    max_examples=MANY or 200,
    derandomize=not MANY,
    database=None,
    deadline=None if not MANY else 60_000,
    suppress_health_check=list(HealthCheck),
)
few = settings(fuzz, max_examples=MANY or 60)
slow = settings(fuzz, max_examples=MANY // 10 or 15)  # each in a process of its own
ROOT = Path(__file__).parents[1]

SPACES = ["\t", "\n", "\r", "\r\n", " ", "\x00", "\ufeff", "\u2028", "\x85", "\x1c", "5\t\t"]
TOKENS = [
    "a",
    "b c",
    "1",
    "-3",
    "<s>",
    "<unk>",
    "__eou__",
    "A:",
    "<script>1</script>",
    "word " * 60,
]
pieces = st.sampled_from([*SPACES, *TOKENS])
texts = st.lists(pieces | st.text(max_size=5), max_size=30).map("".join)
contents = texts.map(str.encode) | st.binary(max_size=80) | texts.map(lambda t: t.encode("utf-16"))
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, -1, 0, 1e308, "nan", "kl", "lstm", "cpu", "grammar", "auto"])
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


def ends(act: Callable[[], Any]) -> Any:
    """What an action gives, or None where it was refused in one sentence."""
    with contextlib.suppress(VaelibError):
        return act()
    return None


# ---------------------------------------------------------------- corpora


@fuzz
@given(contents, st.integers(1, 100), st.booleans())
def test_sentences(content: bytes, most: int, labelled: bool) -> None:
    read = ends(lambda: read_texts(content, "x.txt", most, labelled))
    if read is not None:
        assert all(0 < len(line.split()) <= most for line in read.lines)
        assert read.labels is None or len(read.labels) == len(read.lines)


@fuzz
@given(contents, st.integers(1, 100))
def test_pairs_dialogues_and_reviews(content: bytes, most: int) -> None:
    ends(lambda: read_pairs(content, "x.txt", most))
    ends(lambda: read_dialogues(content, "x.txt"))
    ends(lambda: read_reviews(content, "x.txt"))


@fuzz
@given(st.tuples(texts, texts, texts), st.integers(-1, 3), st.integers(-1, 12), st.booleans())
def test_corpora(three: tuple[str, str, str], least: int, most: int, labelled: bool) -> None:
    cut = Slicing(train_size=most, min_count=least, max_vocabulary=most if most > 4 else None)
    for read, build in ((read_texts, build_corpus), (read_pairs, build_pairs)):
        more = (labelled,) if read is read_texts else ()

        def whole(read: Any = read, build: Any = build, more: Any = more) -> Any:
            parts = [read(text.encode(), "x", 50, *more) for text in three]
            return build("x", "x", dict(zip(SPLITS, parts, strict=True)), {}, cut)

        corpus = ends(whole)
        if corpus is not None:
            assert len(corpus.train) >= 1
            corpus.statistics()
            corpus.vocabulary.decode(corpus.train.sentence(0))


# ---------------------------------------------------------------- the command line, notebooks

words = st.text(alphabet="[]'\",.0123456789eE+-~ truefalsn=\\\n\t\u0660", max_size=14) | st.text(
    max_size=9
)
names = st.sampled_from(
    [*FIELDS, "beta", "gamma", "aggregation_size", "kappa", "target", "nothing"]
)


@fuzz
@given(words)
def test_values(text: str) -> None:
    value = ends(lambda: parse_value(text))
    assert isinstance(value, bool | int | float | str | list | None)
    ends(lambda: parse_seeds(text))
    ends(lambda: check_data(text))


@fuzz
@given(st.lists(words | st.builds("{}={}".format, names, words), max_size=4))
def test_settings_and_arguments(given: list[str]) -> None:
    ends(lambda: parse_settings(given, ("method", "data")))
    ends(lambda: parse_parameters(given))


@few
@given(
    st.sampled_from(["vae", "dg", "bn", "free_bits", "vmf", "coupled", "lagging", "nothing"]),
    st.dictionaries(names, values | words.map(lambda t: ends(lambda: parse_value(t))), max_size=3),
)
def test_overrides(method: str, changes: dict[str, Any]) -> None:
    where = {"data": "grammar", "profile": "smoke"}
    config = ends(lambda: resolve(**(where | {"method": method} | changes)))
    if config is not None:
        assert Config.from_dict(config.to_dict()) == config
        json.dumps(config.to_dict(), allow_nan=False)


parameters = ["profile", "dataset", "seeds", "jobs", "device", "methods", "train_missing", "x"]


@few
@given(
    st.sampled_from(["dg_vae_tables", "nothing", "../x", ""]),
    st.dictionaries(
        st.sampled_from(parameters), values | words.map(lambda t: ends(lambda: parse_value(t)))
    ),
)
def test_notebook_parameters(notebook: str, given: dict[str, Any]) -> None:
    ends(lambda: validate(notebook, given, ROOT))
    ends(lambda: check_parameters(given))


# ---------------------------------------------------------------- records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run."""
    return run_config(tiny("vae"), store=Store(tmp_path_factory.mktemp("made")))


def changed(value: Any, path: list[int], new: Any, remove: bool) -> Any:
    """A copy of some JSON with one place changed, the one that the numbers lead to."""
    if not path or not isinstance(value, dict | list) or not value:
        return new
    keys = sorted(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    copy = dict(value) if isinstance(value, dict) else list(value)
    if remove and (len(path) == 1):
        del copy[key]
    else:
        copy[key] = changed(value[key], path[1:], new, remove)
    return copy


def use(store: Store) -> None:
    """What the commands do with a store's records."""
    for entry in store.entries():
        run = Run(entry, store)
        for act in (
            lambda run=run: (run.metrics, run.provenance, run.texts),
            lambda run=run: (run.epochs, run.config.hash, run.stale),
            lambda run=run: run.history,
            lambda run=run: _listings.measured(run),
            lambda entry=entry: find_run(store, str(entry.key)[:9]),
        ):
            ends(act)
    _listings.run_cells(_listings.runs(store, ["grammar"], "smoke"))
    stale_paths(store)
    ends(lambda: Study("dg_vae", "smoke", data="grammar", store=store).results())


@few
@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), values, st.booleans())
def test_records(
    made: Run, tmp_path_factory: pytest.TempPathFactory, path: list[int], new: Any, remove: bool
) -> None:
    folder = tmp_path_factory.mktemp("records")
    place = folder / f"{made.entry.key}.json"
    record = changed(made.entry.record, path, new, remove)
    place.write_text(json.dumps(record), "utf-8")
    content = place.read_bytes()
    ends(lambda: use(Store(folder / "none", folder)))
    own = Store(folder / "own")
    inside = own.record_path(made.entry.key)
    inside.parent.mkdir(parents=True)
    inside.write_bytes(content)
    ends(lambda: use(own))
    assert (place.read_bytes(), inside.read_bytes()) == (content, content)


@fuzz
@given(
    st.binary(max_size=60)
    | words.map(str.encode)
    | st.integers(1, 3).map(lambda n: b"[" * 10**5 * n)
)
def test_json(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    ends(lambda: read_json(path))


@fuzz
@given(st.dictionaries(names, values, max_size=4))
def test_configs_come_back_or_are_refused(changes: dict[str, Any]) -> None:
    config = ends(lambda: Config.from_dict(tiny_config() | changes))
    if config is not None:
        assert Config.from_dict(config.to_dict()) == config
        assert re.fullmatch(r"[0-9a-f]{12}", config.hash)


def tiny_config() -> dict[str, Any]:
    return Config("vae", "grammar").to_dict()


@fuzz
@given(st.text(max_size=20), st.text(alphabet="0123456789abcdef", max_size=12))
def test_keys_come_back(trained: str, evaluated: str) -> None:
    assert Key.parse(str(Key(trained, evaluated))) == Key(trained, evaluated)
    Key.parse(trained)


# ---------------------------------------------------------------- TOML

TOML = [b"", *(p.read_bytes()[:3000] for p in sorted((ROOT / "vaelib").rglob("*.toml")))]


@fuzz
@given(st.sampled_from(TOML), st.lists(st.tuples(st.integers(0, 3000), contents), max_size=3))
def test_toml(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, put: list[tuple[int, bytes]]
) -> None:
    for place, piece in put:
        whole = whole[:place] + piece + whole[place:]
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(whole)
    ends(lambda: read_toml(path))


@fuzz
@given(
    *(
        values | st.lists(st.dictionaries(st.sampled_from(keys), values), max_size=2)
        for keys in (ATTEMPT_KEYS, CAUSE_KEYS)
    )
)
def test_attempts_and_causes(attempts: Any, causes: Any) -> None:
    ends(lambda: _attempts(attempts))
    ends(lambda: _causes(causes))


# ---------------------------------------------------------------- arrays


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


GOOD = npz(mu=np.ones((4, 2)), logvar=np.zeros((4, 2)), log_likelihoods=np.zeros(4))
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
kinds = st.sampled_from(["f2", "f4", "f8", "i4", "u1", "bool", "c8", "U3", "S2", "M8[s]", "V4"])
arrays = st.builds(np.zeros, shapes, kinds)
odd = st.sampled_from([np.nan, np.inf, 1e300, -1e300, 79.0])


@st.composite
def spoilt(draw: Any, whole: bytes = GOOD) -> bytes:
    """A file with a few bytes changed, or cut."""
    content = bytearray(whole)
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


def headed(header: str) -> bytes:
    """An .npz whose arrays have such a header."""
    text = header.encode("latin1", "replace").ljust(118) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as pack:
        for name in ("mu", "logvar"):
            pack.writestr(f"{name}.npy", array)
    return stream.getvalue()


headers = st.builds(
    "{{'descr': {!r}, 'fortran_order': {}, 'shape': {}}}".format,
    st.sampled_from(["<f8", "|O", "<i4", "f", [("a", "<f4")], "|V99999999"]),
    st.booleans(),
    st.sampled_from(["(2, 2)", "(10**15,)", "(1000000000000000, 2)", "(-1,)", "()", "2", "'a'"]),
)
posteriors = (
    spoilt()
    | st.dictionaries(st.sampled_from(["mu", "logvar", "log_likelihoods"]), arrays).map(
        lambda held: npz(**held)
    )
    | st.builds(lambda v: npz(mu=np.full((3, 2), v), logvar=np.zeros((3, 2))), odd)
    | st.builds(lambda v: npz(mu=np.zeros((3, 2)), logvar=np.full((3, 2), v)), odd)
    | headers.map(headed)
    | st.binary(max_size=60)
)
cells = st.sampled_from(
    ["0", "1.5", "", "nan", "inf", "x", '"', "1e999", "-", "0x1", "1,2", "\x00"]
)
columns = st.sampled_from(
    ["mu_0", "mu_1", "logvar_0", "logvar_1", "log_likelihoods", "mu_", " mu_0 "]
)
tables = st.builds(
    lambda head, rows: "\n".join(",".join(row) for row in [head, *rows]).encode(),
    st.lists(columns | st.text(max_size=3), max_size=5),
    st.lists(st.lists(cells, max_size=5), max_size=5),
)


def examine(path: Path) -> Any:
    return diagnose.diagnose(**diagnose.read_posteriors(path)).to_dict()


@pytest.mark.filterwarnings("ignore")  # of numpy, about headers that are none
@fuzz
@given(posteriors, tables | contents)
def test_posteriors(tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes) -> None:
    for suffix, content in ((".npz", first), (".csv", second)):
        path = tmp_path_factory.getbasetemp() / f"given{suffix}"
        path.write_bytes(content)
        found = ends(lambda path=path: examine(path))
        assert found is None or json.dumps(found)


def mat() -> bytes:
    """A small file in the format of Burda's."""
    stream = io.BytesIO()
    one = {"data": np.zeros((784, 2)), "target": np.eye(50)[:, :2], "targetchar": np.ones((1, 2))}
    savemat(stream, one | {f"test{name}": value for name, value in one.items()})
    return stream.getvalue()


def pack() -> bytes:
    """A zip with one drawing."""
    picture, stream = io.BytesIO(), io.BytesIO()
    Image.new("L", (105, 105), 255).save(picture, "PNG")
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr("images_background/A/character01/0001_01.png", picture.getvalue())
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore")
@fuzz
@given(posteriors, spoilt(pack()))
def test_images(tmp_path_factory: pytest.TempPathFactory, arrays: bytes, pictures: bytes) -> None:
    ends(lambda: read_standin(arrays, "x"))
    path = tmp_path_factory.getbasetemp() / "any.zip"
    path.write_bytes(pictures)
    ends(lambda: read_zips([path]))


@slow
@given(spoilt(mat()))
def test_matrices(content: bytes) -> None:
    ends(lambda: read_chardata(content, "x"))


def test_a_damaged_matrix_ends_its_reader_alone() -> None:
    content = bytearray(mat())
    content[145] = 14  # which bits say of what kind the first matrix is: scipy follows them astray
    with pytest.raises(VaelibError, match="x is not the OMNIGLOT file .*its reader crashes"):
        read_chardata(bytes(content), "x")


def test_a_zip_that_lies_about_its_sizes_unpacks_no_more_than_it_says(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("images_background/A/character01/0001_01.png", bytes(50 << 20))
    bomb = stream.getvalue().replace((50 << 20).to_bytes(4, "little"), (90).to_bytes(4, "little"))
    (tmp_path / "bomb.zip").write_bytes(bomb)
    with pytest.raises(VaelibError, match=r"bomb\.zip cannot be read"):
        read_zips([tmp_path / "bomb.zip"])
