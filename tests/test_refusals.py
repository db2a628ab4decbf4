"""Combinations that make no sense are refused in one sentence, before anything is written."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vaelib.build import PARTS, resolve
from vaelib.errors import VaelibError
from vaelib.run import key_of, run
from vaelib.store import Store
from vaelib.testing import usual_data


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("vae", {"strategy": "decoder_only"}, "this model has an encoder or terms to train"),
        ("lm", {"extra_terms": ["coupled"]}, "coupled needs a posterior with something to learn"),
        ("gru_lm", {"extra_terms": ["coupled"]}, "PriorPosterior has nothing"),
        ("lm", {"extra_terms": ["mine"]}, "terms to train as well"),
        ("vae", {"extra_terms": ["coupled", "coupled"]}, "names something twice"),
        ("dae", {"select": "nll"}, "has no density, so its NLL is infinite; take select='dist"),
        ("vae", {"strategy": "multi_sample"}, "needs the regulariser 'importance_weighted'"),
        ("vae", {"strategy": "semi_amortized"}, "needs the regulariser 'refined_kl'"),
        ("prefb", {"pretrain": "foo"}, "unknown pretrain 'foo'"),
        ("vmf", {"prior": "normal"}, "no KL from the posterior 'vmf' to the prior 'normal'"),
        ("nf", {"strategy": "aggressive"}, "information, which is not known of .* 'planar'"),
        ("nf", {"regulariser": "density_gap"}, "the posterior 'planar' has no mean and log var"),
        ("bn", {"strategy": "after_warmup"}, "has nothing to switch on"),
        ("vae", {"encoder": "resnet"}, "encoder 'resnet' reads images, and grammar holds text"),
        ("vae", {"encoder": "pair_bigru"}, "encoder 'pair_bigru' reads pairs, and grammar holds"),
        ("vae", {"decoder": "categorical"}, "'categorical' reads points, .* take lstm or "),
        ("vae", {"posterior": "conditional"}, "'conditional' reads pairs, and grammar holds text"),
        ("vae", {"binarisation": "fixed"}, "binarisation='fixed' is for images, and grammar holds"),
        ("vae", {"decoder": "lm"}, "'lm' reads no code; take another one, or the method 'lm'"),
        ("vae", {"backbone": "gru", "decoder": "gru_lm"}, "no code; .* or the method 'gru_lm'"),
        ("vae", {"batch_size": 1}, "batch_size=1 is below min_batch=2, so that every"),
        ("vae", {"batch_size": 8, "min_batch": 9}, "batch_size=8 is below min_batch=9"),
    ],
)
def test_it_is_refused_and_leaves_nothing(
    method: str, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    with pytest.raises(VaelibError, match=said):
        run(method, data="grammar", profile="smoke", store=store, progress=False, **settings)
    assert not store.unfinished() if store.root.exists() else True


@pytest.mark.parametrize(
    ("method", "data", "said"),
    [
        ("bn", "pairs", "'bn' changes the posterior, which the backbone 'conditional' needs"),
        ("lm", "digits", "'lm' has a decoder of text, and digits holds images"),
        ("cvae", "grammar", "'cvae' reads pairs, and grammar holds text; take another method, or"),
        (
            "lm",
            "grammar",
            "'lm' on the backbone 'gru' would not be that method; take back",
        ),
        ("cvae", "grammar", "'cvae' on the backbone 'gru' would not be that method"),
        ("cnn", "digits", "'cnn' on the backbone 'conv' would not be that method"),
    ],
)
def test_a_method_for_other_data_is_refused(method: str, data: str, said: str) -> None:
    asked = re.search("on the backbone '(.*)' would", said)
    with pytest.raises(VaelibError, match=said):
        resolve(method, data=data, profile="smoke", **({"backbone": asked[1]} if asked else {}))


def test_settings_are_resolved_where_nothing_is_differentiated() -> None:
    with torch.no_grad():
        assert resolve("vae", data="grammar", profile="smoke", latent_dim=7).latent_dim == 7


@pytest.mark.parametrize(
    ("method", "data", "settings", "said"),
    [
        ("vae", "digits", {"min_count": 3}, "min_count=3 is for text and pairs, and digits holds"),
        ("vae", "digits", {"max_vocabulary": 9}, "max_vocabulary=9 is for text and pairs"),
        ("coupled_cvae", "pairs", {"decoder": "seq2seq_gru"}, "or the method 'seq2seq'"),
    ],
)
def test_a_setting_for_other_data_is_refused(
    method: str, data: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(VaelibError, match=said):
        resolve(method, data=data, profile="laptop", **settings)
    assert resolve(method, data=data, profile="laptop").data == data  # whose profile counts words


def test_what_a_backbone_needs_is_kept() -> None:
    """By the method, by hand, and by the first of two stages."""
    for settings in ({"posterior": "iaf"}, {"strategy": "pretrained", "pretrain": "dae"}):
        with pytest.raises(VaelibError, match="changes the posterior, which the backbone 'condit"):
            resolve("cvae", data="pairs", profile="smoke", **settings)
    made = resolve(
        "vae",
        data="pairs",
        profile="smoke",
        posterior="conditional",
        pretrain="ae",
        strategy="pretrained",
    )
    assert made.posterior == "conditional"
    assert resolve("seq2seq", data="pairs", profile="smoke").posterior == "prior"


def test_parts_that_read_nothing_go_with_all_data() -> None:
    """So a PixelCNN can be trained without codes."""
    alone = {"encoder": "none", "posterior": "prior", "backbone": "resnet"}
    assert resolve("vae", data="digits", profile="smoke", **alone).decoder == "pixelcnn"


def folder_of_pairs(folder: Path) -> Path:
    for name in ("train", "valid", "test"):
        lines = [f"how was the {a} ?\tthe {a} was fine ." for a in ("food", "room", "staff")]
        (folder / f"{name}.txt").write_text("\n".join(lines), "utf-8")
    return folder


def test_a_folder_of_ones_own_is_read_as_sentences(tmp_path: Path) -> None:
    """Of images there are only the data sets that have an id."""
    folder, read = folder_of_pairs(tmp_path), "folder .* is read as sentences"
    for method, backbone in (("vae", "conditional"), ("vae", "conv"), ("vae", "resnet")):
        with pytest.raises(VaelibError, match=f"{read}.* take lstm or gru"):
            resolve(method, data=folder, backbone=backbone)
    with pytest.raises(VaelibError, match=f"'cvae' reads pairs, and the {read}.* another method"):
        resolve("cvae", data=folder)
    with pytest.raises(VaelibError, match="line 1 starts with .* not a one-word label"):
        run("vae", data=folder, store=Store(tmp_path / "runs"), progress=False)


def test_behind_pairs_it_is_read_as_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, store = folder_of_pairs(tmp_path), Store(tmp_path / "runs")
    monkeypatch.chdir(folder.parent)
    data = f"pairs:{folder.name}"  # as typed; settings keep the whole path
    made = run("cvae", data=data, profile="smoke", store=store, progress=False, epochs=1)
    assert made.config.data == f"pairs:{folder}"
    assert made.example(0) == "how was the food ?\tthe food was fine ."
    assert len(made.generate(2)) == 2
    again = run("cvae", data=data, profile="smoke", store=store, progress=False, epochs=1)
    assert again.entry.key == made.entry.key
    (folder / "test.txt").write_text("is it good ?\tyes .\nis it far ?\tno .\n", "utf-8")
    assert key_of(made.config) != made.entry.key  # other text, another run
    with pytest.raises(VaelibError, match=f"{folder} is read as pairs; take conditional"):
        resolve("vae", data=data, backbone="lstm")
    with pytest.raises(VaelibError, match="no folder .*/nowhere"):
        run("cvae", data="pairs:nowhere", store=store, progress=False)


def test_no_batch_to_train_on_is_explained_by_what_there_is(tmp_path: Path) -> None:
    store, few = Store(tmp_path / "runs"), {"train_size": 4, "min_batch": 16, "profile": "smoke"}
    with pytest.raises(VaelibError, match="fewer than 16 examples") as plain:
        run("vae", data="grammar", store=store, progress=False, **few)
    assert "aggregation" not in str(plain.value)
    with pytest.raises(VaelibError, match="not divide into the groups .* smaller aggregation_size"):
        run("dg", data="grammar", store=store, progress=False, profile="smoke", aggregation_size=64)


# ---------------------------------------------------------------- every part in place of another

# What torch and Python say of themselves, and no sentence of ours does.
RAW = re.compile(
    r"mat1|multiplied|Expected|Error\b|attribute|[Tt]ensors?\b|torch|No KL|dimensions? |sizes? of|"
    r"running_mean|positional|must match|\bIndependent\b|FlowNormal|VonMisesFisher\b|NoneType|size="
)
PLAIN = ["vae", "nf", "vmf", "dae", "du", "dg", "coupled", "lm", "cvae", "seq2seq"]
SWAPS = [(method, usual_data(method)) for method in PLAIN] + [("vae", "digits"), ("dg", "pairs")]


@pytest.mark.parametrize(("method", "data"), SWAPS)
def test_every_part_fits_or_is_refused_in_plain_words(method: str, data: str) -> None:
    refused, raw = 0, []
    for kind, registry in PARTS.items():
        for name in registry:
            try:
                resolve(method, data=data, profile="smoke", **{kind: name})
            except VaelibError as error:
                refused += 1
                said = str(error)
                raw += [f"{kind}={name}: {said}"] if RAW.search(said) or said[-1] != "." else []
    assert raw == []
    assert refused
