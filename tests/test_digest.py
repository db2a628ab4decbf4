"""The code digest: what changes a run's key and what does not, on edited copies of the package."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import Tensor

from vaelib import METHODS, TERMS, Outputs, Term, digest
from vaelib.build import resolve
from vaelib.layers import Shape
from vaelib.run import Run, key_of, run_config
from vaelib.store import Key, Store

Edit = Callable[[str, str, str], None]
GUARD = "    if p > 1:\n        raise ValueError(p)\n"


def forget() -> None:
    """Let the digest read definitions anew."""
    digest._definition.cache_clear()
    digest._text.cache_clear()


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Edit]:
    """Change the source of one module as the digest reads it, the files left as they are."""
    read, edited = digest._module, {}

    def module(name: str) -> digest._Module | None:
        return edited[name] if name in edited else read(name)

    def change(file: str, old: str, new: str) -> None:
        name = f"vaelib.{file.removesuffix('.py').replace('/', '.')}"
        text = (digest.ROOT / file).read_text("utf-8")
        assert old in text, f"{file} no longer holds {old!r}: mend this test"
        edited[name] = digest._Module(name, text.replace(old, new, 1))
        forget()

    monkeypatch.setattr(digest, "_module", module)
    forget()
    yield change
    forget()


def key(method: str = "dg", **changes: object) -> Key:
    return key_of(resolve(method, data="grammar", profile="smoke", **changes))


def test_the_key_is_stable(edit: Edit) -> None:
    before = key()
    assert key() == before
    edit("objectives/kl.py", "", "")
    assert key() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("objectives/density_gap.py", "BLOCK = 1 << 15  # densities", "BLOCK = 1 << 15  # points"),
        ("objectives/density_gap.py", "The density gap of the batch, a scalar", "A scalar"),
        ("train.py", '"""Train a run to its end', '"""Train it to its end'),
        ("train.py", "Nothing of this run is recorded.", "There is no record."),
        ("objectives/density_gap.py", "give at least one sample", "one sample or more"),
        ("layers.py", "    return x * mask.div_(1 - p)", "\n    return x  *  mask.div_(1 - p)"),
        ("layers.py", "    return x * mask.div_(1 - p)", f"{GUARD}    return x * mask.div_(1 - p)"),
    ],
    ids=[
        "comment",
        "docstring",
        "docstring of a function",
        "error",
        "error of a part",
        "layout",
        "check that only raises",
    ],
)
def test_words_and_layout_change_nothing(edit: Edit, file: str, old: str, new: str) -> None:
    before = key()
    edit(file, old, new)
    assert key() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("objectives/density_gap.py", "BLOCK = 1 << 15", "BLOCK = 1 << 14"),
        ("objectives/density_gap.py", "* math.log(mu.shape[2])", "* math.log(mu.shape[1])"),
        ("noise.py", "_SEED = 2_718", "_SEED = 2_719"),
        ("layers.py", 'f"{seed}/{purpose}"', 'f"{seed}-{purpose}"'),
        ("layers.py", "x * mask.div_(1 - p)", "x * mask"),
        (
            "layers.py",
            "    return x * mask.div_",
            f"{GUARD}    else:\n        p = 0\n    return x * mask.div_",
        ),
        (
            "layers.py",
            "    return x * mask.div_",
            "    if (p := 0):\n        raise\n    return x * mask.div_",
        ),
        ("decoding.py", "START, STOP, UNKNOWN = 1, 2, 3", "START, STOP, UNKNOWN = 2, 1, 3"),
        ("strategies.py", "loss.backward()", "(2 * loss).backward()"),
        ("train.py", '"sgd": torch.optim.SGD', '"sgd": torch.optim.Adam'),
        ("data/grammar.py", "SEED = 20_230", "SEED = 20_231"),
        ("data/corpus.py", "counts.items() if n >= min_count", "counts.items() if n > min_count"),
        ("model.py", "return self.log_px - self.rate", "return self.log_px"),
        ("distributions.py", "isinstance(base, Drawn):", "isinstance(base, Independent):"),
        ("schedules.py", "(1 - start) * step / length", "(1 - start) * step / (length + 1)"),
    ],
)
def test_code_that_makes_numbers_changes_the_training_key(
    edit: Edit, file: str, old: str, new: str
) -> None:
    before = key()
    edit(file, old, new)
    assert key().trained != before.trained


@pytest.mark.parametrize(
    ("method", "file", "old", "new"),
    [
        ("free_bits", "objectives/free_bits.py", "kl > target / kl.shape[1]", "kl > target"),
        ("bn", "layers.py", "momentum=0.1", "momentum=0.2"),
        ("delta", "posteriors.py", "+ 1e-6", "+ 1e-5"),
        ("cyclic", "schedules.py", "int(self.late_restart and clock.epoch > 0)", "0"),
        ("bow", "objectives/bag_of_words.py", "log_p.sum(dim=1)", "log_p.mean(dim=1)"),
        ("du", "posteriors_du.py", "torch.log(excess + ALPHA)", "torch.log(excess)"),
        ("du", "strategies_warmup.py", "weight >= 1", "weight > 0"),
        ("nf", "flows.py", "F.softplus(product) - 1", "F.softplus(product)"),
        ("iaf", "flows.py", "- p.log_prob(z)", "+ p.log_prob(z)"),
        ("iaf", "flows.py", "q.sampled_kl(p)", "2 * q.sampled_kl(p)"),
    ],
)
def test_a_part_changes_the_key_of_the_methods_that_use_it_alone(
    edit: Edit, method: str, file: str, old: str, new: str
) -> None:
    before, other = key(method), key("vae")
    edit(file, old, new)
    assert key(method).trained != before.trained
    assert key("vae") == other


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("bessel.py", "_SERIES_TERMS = 96", "_SERIES_TERMS = 90"),
        ("sphere.py", "to(q.concentration).expand(shape)", "expand(shape)"),  # by register_kl
    ],
)
def test_the_sphere_belongs_to_the_key_of_vmf(edit: Edit, file: str, old: str, new: str) -> None:
    before = key("vmf")
    edit(file, old, new)
    assert key("vmf").trained != before.trained


def test_how_files_are_read_belongs_to_the_key_of_real_corpora(edit: Edit) -> None:
    config = resolve("vae", data="ptb", profile="smoke")
    before, embedded = key_of(config), key("vae")
    edit("data/texts.py", "if not line.isspace() and line", "if line")
    assert key_of(config).trained != before.trained
    assert key("vae") == embedded


def test_metrics_change_the_second_part_alone(edit: Edit) -> None:
    before = key()
    edit("metrics/overlap.py", "2 * _lcs_length", "_lcs_length")
    assert key().trained == before.trained
    assert key().evaluated != before.evaluated
    assert key(metrics=("kl",)).trained == before.trained


def test_a_metric_that_is_not_computed_does_not_matter(edit: Edit) -> None:
    before = key(metrics=("kl", "au"))
    edit("metrics/overlap.py", "2 * _lcs_length", "_lcs_length")
    assert key(metrics=("kl", "au")) == before


@pytest.mark.parametrize("change", [{"nll_size": 3}, {"iw_samples": 9}, {"mixture_samples": 3}])
def test_evaluation_settings_change_the_second_part_alone(change: dict) -> None:
    assert key(**change).trained == key().trained
    assert key(**change).evaluated != key().evaluated


@pytest.mark.parametrize("file", ["sweep.py", "store.py", "book.py", "errors.py", "run.py"])
def test_plumbing_and_pictures_change_nothing(edit: Edit, file: str) -> None:
    before = key()
    edit(file, (digest.ROOT / file).read_text("utf-8"), "broken = 1\n")
    assert key() == before


def test_the_digest_reads_the_files_of_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = key()
    ignore = shutil.ignore_patterns("__pycache__", "*.csv", "*.toml")
    shutil.copytree(digest.ROOT, tmp_path / "vaelib", ignore=ignore)
    monkeypatch.setattr(digest, "ROOT", tmp_path / "vaelib")
    (tmp_path / "vaelib" / "noise.py").write_text("standard_normal = None\n", "utf-8")
    for clear in (digest._module.cache_clear, forget):
        clear()
    after = key()
    for clear in (digest._module.cache_clear, forget):
        clear()
    assert after.trained != before.trained


def test_equal_code_means_equal_digest_whatever_surrounds_it() -> None:
    plain = digest._Module("vaelib.a", "def f(x):\n    return x + 1\n")
    wordy = digest._Module("vaelib.a", 'def f(x):\n    """Say."""\n    # why\n    return (x + 1)\n')
    other = digest._Module("vaelib.a", "def f(x):\n    return x + 2\n")
    dumps = [[digest._dump(n) for n in m.definitions["f"]] for m in (plain, wordy, other)]
    assert dumps[0] == dumps[1]
    assert dumps[0] != dumps[2]


def test_a_name_defined_twice_counts_twice() -> None:
    module = digest._Module("vaelib.a", "x = 1\nx += 1\n")
    assert len(module.definitions["x"]) == 2


def test_a_change_in_code_makes_records_stale(edit: Edit, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    config = resolve("vae", data="grammar", profile="smoke", epochs=1, metrics=("kl",))
    made = run_config(config, store=store)
    assert not made.stale
    edit("train.py", "p.lr *= cfg.lr_factor", "p.lr *= cfg.lr_factor**2")
    old = Run(made.entry, store)
    assert old.stale
    assert store.finished(key_of(config)) is None
    new = run_config(config, store=store)
    assert not new.stale
    assert new.entry.folder != old.entry.folder
    assert new.metrics == old.metrics
    assert {e.key for e in store.entries()} == {made.entry.key, new.entry.key}


class Outside(Term):
    """A term of somebody else's package."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def forward(self, outputs: Outputs, generator: object) -> Tensor:
        """Twice the rate."""
        return 2 * outputs.rate


def test_a_part_from_elsewhere_belongs_to_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TERMS._entries, "outside", Outside)
    first = key("vae", regulariser="outside")
    monkeypatch.setattr(digest.inspect, "getsource", lambda root: "class Outside: ...")
    assert key("vae", regulariser="outside").trained != first.trained
    assert "outside" not in METHODS


def test_a_part_typed_at_a_prompt_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"Term": Term, "__name__": "__main__"}
    exec("class Typed(Term):\n    def __init__(self, shape): super().__init__()\n", space)
    space["Typed"].forward = Outside.forward
    space["Typed"].__abstractmethods__ = frozenset()
    monkeypatch.setitem(TERMS._entries, "typed", space["Typed"])
    assert key("vae", regulariser="typed") != key("vae")
