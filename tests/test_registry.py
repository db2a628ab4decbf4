"""Names, aliases and the sentences said about unknown ones."""

import subprocess
import sys
from typing import Any

import pytest

from vaelib import METHODS
from vaelib.backbones import BACKBONES
from vaelib.build import PARTS, backbones_of, resolve
from vaelib.errors import UnknownName, VaelibError, check_name
from vaelib.evaluate import MEASURES
from vaelib.metrics import METRICS
from vaelib.objectives.free_bits import VARIANTS
from vaelib.registry import Registry, _plain
from vaelib.testing import USUAL_DATA


@pytest.fixture
def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour")
    registry.add("crimson", 1, ("red", "rouge"))
    registry.add("azure", 2)
    return registry


def test_behaves_as_an_ordered_mapping(colours: Registry[int]) -> None:
    assert list(colours) == ["crimson", "azure"]
    assert len(colours) == 2
    assert dict(colours) == {"crimson": 1, "azure": 2}


def test_aliases_lead_to_the_same_entry_and_are_not_listed(colours: Registry[int]) -> None:
    assert colours["red"] == colours["rouge"] == 1
    assert "red" in colours
    assert colours.canonical("rouge") == "crimson"
    assert colours.aliases("crimson") == ("red", "rouge")
    assert colours.aliases("azure") == ()


@pytest.mark.parametrize("name", ["crimson", "red"])
def test_a_name_cannot_be_taken_twice(colours: Registry[int], name: str) -> None:
    with pytest.raises(VaelibError, match=f"colour {name!r} is registered twice"):
        colours.add(name, 3)
    with pytest.raises(VaelibError, match="registered twice"):
        colours.add("new", 3, (name,))
    assert "new" not in colours


def test_one_more_name_and_what_is_said_of_a_variation(colours: Registry[int]) -> None:
    colours.alias("red", "Vermilion, deep")
    assert colours.canonical("vermilion deep") == "crimson"
    with pytest.raises(VaelibError, match="'azure' is registered twice"):
        colours.alias("crimson", "azure")
    colours.note("dark-red", "give crimson with light=0")
    with pytest.raises(UnknownName, match="'Dark red' is no colour of its own: give crimson with"):
        colours["Dark red"]
    assert "dark red" not in colours


def test_methods_are_found_by_their_titles_and_variants_are_explained() -> None:
    assert [METHODS.canonical(method.title) for method in METHODS.values()] == list(METHODS)
    for variant in VARIANTS:
        name = f"FB-{variant}".replace("_", "-")
        with pytest.raises(UnknownName, match=f"give free_bits with variant={variant}"):
            METHODS.canonical(name)


def test_removing_an_entry_takes_its_aliases_along(colours: Registry[int]) -> None:
    colours.remove("crimson")
    assert "crimson" not in colours
    assert "red" not in colours
    colours.add("scarlet", 4, ("red",))
    assert colours["red"] == 4


def test_removing_by_an_alias_leaves_no_alias_behind(colours: Registry[int]) -> None:
    colours.remove("red")
    assert "rouge" not in colours
    assert "red" not in colours


def test_unknown_names_get_the_nearest_one(colours: Registry[int]) -> None:
    with pytest.raises(VaelibError, match="unknown colour 'azur': did you mean 'azure'") as caught:
        colours["azur"]
    assert "Known: crimson, azure" in str(caught.value)


def test_an_unknown_name_is_what_a_mapping_says_it_is(colours: Registry[int]) -> None:
    assert colours.get("nope") is None
    assert colours.get("nope", 3) == 3
    assert colours.get("Red") == 1
    with pytest.raises(KeyError) as caught:
        colours["nope"]
    assert isinstance(caught.value, VaelibError)
    assert str(caught.value) == "unknown colour 'nope': Known: crimson, azure."


@pytest.mark.parametrize("name", ["Crimson", "RED", "nope", "", 3, None, ["red"]])
def test_what_is_found_is_in_it_and_nothing_else(colours: Registry[int], name: Any) -> None:
    assert (name in colours) == (colours.get(name) is not None)


def test_methods_are_offered_where_they_are_complete_and_nowhere_else() -> None:
    told = "import vaelib.objectives as o; print(hasattr(o, 'METHODS')); import vaelib; "
    told += "print(len(vaelib.METHODS))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(METHODS))]


def test_a_name_like_none_other_gets_the_list_alone() -> None:
    with pytest.raises(VaelibError) as caught:
        check_name("zzz", ["bn", "dg"], "method")
    assert str(caught.value) == "unknown method 'zzz': Known: bn, dg."


def test_methods_are_found_as_the_papers_print_them() -> None:
    assert METHODS.canonical("DG-VAE") == "dg"
    assert METHODS.canonical("BN-VAE") == "bn"
    assert METHODS.canonical("FB-VAE") == "free_bits"


def test_a_slip_in_an_alias_finds_the_name_behind_it() -> None:
    with pytest.raises(VaelibError, match="unknown method 'bn_vea': did you mean 'bn'"):
        METHODS["bn_vea"]


def test_every_method_names_registered_parts_and_says_where_it_comes_from() -> None:
    for name, method in METHODS.items():
        assert method.name == name
        assert method.paper
        assert method.equation
        assert method.summary.endswith(".")
        for field, registry in PARTS.items():
            assert method.changes.get(field) is None or method.changes[field] in registry
    titles = [method.title for method in METHODS.values()]
    assert len(set(titles)) == len(titles)


def test_only_the_vae_does_not_differ_from_the_vae() -> None:
    plain = [name for name, method in METHODS.items() if "nothing" in method.differs]
    assert plain == ["vae"]


def test_every_metric_that_is_computed_is_documented_and_the_other_way_round() -> None:
    assert set(MEASURES) == set(METRICS)


PAPERS_NAMES = (
    # DG-VAE, Tables 2 and Appendix A
    "VAE AE beta-VAE β-VAE cyclic-VAE skip-VAE bow-VAE delta-VAE δ-VAE BN-VAE FB-VAE vMF-VAE "
    "DG-VAE DG-vMF-VAE WAE AAE iVAE_MI "
    # DU-VAE, Tables 1 to 3
    "DU-VAE DU-IAF IAF+FB IAF+BN MAE SA-VAE Agg-VAE "
    # VAE-MINE, Table 2
    "LSTM-LM VAE-0.5 VAE-BOW InfoVAE CyclicalVAE LaggingVAE VAE-MINE "
    # Coupled-VAE, Tables 1 to 9
    "GRU-LM DAE vMF-VAE-kappa CNN-VAE WAE-NF VAE-NF CycAnn-VAE PreFB-VAE Lagging-VAE Coupled-VAE "
    "Coupled-beta-VAE Coupled-vMF-VAE Coupled-CNN-VAE Coupled-WAE Coupled-VAE-NF Coupled-WAE-NF "
    "Coupled-CycAnn-VAE Coupled-PreFB-VAE Coupled-Lagging-VAE GRU-encdec CVAE Coupled-CVAE"
)


@pytest.mark.parametrize("name", PAPERS_NAMES.split())
def test_a_method_is_found_by_the_name_its_paper_gives_it(name: str) -> None:
    assert name in METHODS
    assert METHODS[name].name == METHODS.canonical(name)


@pytest.mark.parametrize(
    "name",
    [
        "GRU Encoder-Decoder",
        "GRU Encoder–Decoder",
        "Coupled-β-VAE",
        "CycAnn",
        "iVAE-MI",
        "dg-vae",
        "Coupled_VAE",
        "Coupled-CycAnn",
        "Coupled-beta",
        "DG",
    ],
)
def test_case_and_joints_of_a_name_do_not_matter(name: str) -> None:
    assert METHODS.canonical(name) in METHODS


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        # The headings of the protocol, and what else they call a method
        ("VAE + linear KL annealing", "vae"),
        ("KL annealing", "vae"),
        ("Cyclical annealing", "cyclic"),
        ("Free bits", "free_bits"),
        ("Bag-of-words loss", "bow"),
        ("Word dropout", "word_dropout"),
        ("vMF-VAE, fixed κ", "vmf"),
        ("BN-VAE with fixed shift", "bn_shift"),
        ("BN with fixed shift", "bn_shift"),
        ("DG-VAE(default)", "dg"),
        ("IAF-VAE", "iaf"),
        ("planar NF", "nf"),
        ("BOW loss", "bow"),
        ("MPD regularisation", "mae"),
        ("MPD regularization", "mae"),
        ("Semi-amortized VAE", "sa"),
        ("Adversarial autoencoder", "aae"),
        ("language model", "lm"),
        ("vMF-VAE, learnable κ", "vmf_learned"),
        ("MPD", "mae"),
        ("Aggressive training", "lagging"),
        ("Aggressive", "lagging"),
        ("VAE-NF (planar)", "nf"),
        ("Deterministic autoencoder", "dae"),
        # Joints left out
        ("SAVAE", "sa"),
        ("DUVAE", "du"),
        ("DU vae", "du"),
        ("Coupled-LaggingVAE", "coupled_lagging"),
        ("freebits", "free_bits"),
        ("wordDropout", "word_dropout"),
    ],
)
def test_headings_are_names_as_well(heading: str, name: str) -> None:
    assert heading in METHODS
    assert METHODS.canonical(heading) == name


def test_no_two_methods_differ_by_joints_alone() -> None:
    meant: dict[str, set[str]] = {}
    for name in METHODS:
        for known in (name, *METHODS.aliases(name)):
            meant.setdefault(_plain(known), set()).add(name)
    assert {plain: names for plain, names in meant.items() if len(names) > 1} == {}


def test_a_name_that_could_be_two_is_unknown(colours: Registry[int]) -> None:
    colours.add("light-blue", 3)
    colours.add("light_blue", 4)
    assert colours.canonical("CRIMSON") == "crimson"
    assert colours.canonical("light-blue") == "light-blue"
    with pytest.raises(VaelibError, match="unknown colour 'Light Blue'"):
        colours.canonical("Light Blue")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_can_be_built_on_every_backbone_it_is_listed_with(name: str) -> None:
    assert backbones_of(name)
    for backbone in backbones_of(name):
        data = USUAL_DATA[BACKBONES[backbone].reads]
        config = resolve(name, data=data, profile="smoke", backbone=backbone)
        assert config.backbone == backbone


def test_a_backbone_for_other_data_is_refused() -> None:
    with pytest.raises(VaelibError, match=r"'lstm' reads text, and digits holds images; take conv"):
        resolve("vae", data="digits", profile="smoke", backbone="lstm")
    with pytest.raises(VaelibError, match="BagOfWords needs text, and digits holds images"):
        resolve("bow", data="digits", profile="smoke")
    with pytest.raises(VaelibError, match="'skip' sets skip, which none of its parts has"):
        resolve("skip", data="grammar", profile="smoke", backbone="gru")
    with pytest.raises(VaelibError, match="LSTMEncoder reads padding as text"):
        resolve("vae", data="grammar", profile="smoke", batching="mixed")


@pytest.mark.parametrize(
    ("name", "method"),
    [("FB(0.1)", "free_bits"), ("DU-VAE (0.5, 0.9)", "du"), ("BN-VAE(0.6)", "bn")],
)
def test_a_name_with_its_setting_says_how_both_are_given(name: str, method: str) -> None:
    with pytest.raises(UnknownName) as caught:
        METHODS.canonical(name)
    said = (
        f"{name!r} is the method {method!r} with a setting: give the setting apart, as NAME=VALUE."
    )
    assert str(caught.value) == said
