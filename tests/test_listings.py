"""A run's table: what every number is, what bounds it here, and why one is missing."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from vaelib import _listings
from vaelib.run import run
from vaelib.store import Store

Rows = dict[str, dict[str, Any]]
Measured = Callable[..., Rows]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The table of a quick run by the names of its rows."""
    store = Store(tmp_path_factory.mktemp("listings"))

    def rows(method: str, data: str, **changes: Any) -> Rows:
        quick = {"profile": "smoke", "store": store, "progress": False}
        made = run(method, data=data, **(quick | changes))
        return {row["name"]: row for row in _listings.measured(made)}

    return rows


POSTERIOR = {"mi_global", "mi_in_batch", "au", "cu_pq", "cu_qp", "mpd", "ce"}
POSTERIOR |= {"mi_skip_self", "mi_aggregate_kl"}
DENSITY = {"kl", "nll_elbo", "nll_iw500", "ppl_iw500", "ppl_elbo", "prior_ll", "post_ll"}
PROBES = {f"probe_{n}" for n in (500, 1000, 2000, 10000)}
WORDS = {f"rouge_l_{i:02d}" for i in range(11)} | {"self_bleu", "path_distinct", "bleu_1", "bleu_2"}
WORDS |= {f"{way}_ppl{end}" for way in ("forward", "reverse") for end in ("", "_greedy")}


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("vmf", "grammar", {"no Gaussian posterior": POSTERIOR}),
        (
            "dae",
            "grammar",
            {"no Gaussian posterior": POSTERIOR, "the posterior has no density": DENSITY},
        ),
        (
            "vae",
            "digits",
            {"images have no words": WORDS | {"ppl_iw500", "ppl_elbo", "distinct_1", "distinct_2"}},
        ),
        ("cvae", "pairs", {"only for single sentences": WORDS}),
    ],
)
def test_what_is_not_defined_says_why(
    measured: Measured, method: str, data: str, expected: dict[str, set[str]]
) -> None:
    rows = measured(method, data, metrics="whole")
    missing = {name: row["why"] for name, row in rows.items() if math.isnan(row["value"])}
    assert all(not row["why"] for name, row in rows.items() if name not in missing)
    probes = {name: why for name, why in missing.items() if name.startswith("probe")}
    assert set(probes) == PROBES | ({"probe_100"} if data == "pairs" else set())
    assert all(f"{int(name[6:]):,} labelled" in why for name, why in probes.items())
    for why, names in expected.items():
        assert {name for name in missing if missing[name] == why} == names
    assert set(missing) == set(probes).union(*expected.values())


def test_characters_are_of_omniglot_alone(measured: Measured) -> None:
    rows = measured("vae", "digits", metrics=("kl", "character_probe"))
    why = "needs drawings of characters in alphabets, as those of OMNIGLOT"
    found = {name: row["why"] for name, row in rows.items() if row["why"]}
    assert found == dict.fromkeys([f"character_probe_{n}" for n in (5, 10, 15)], why)


def test_bounds_are_those_of_the_run(measured: Measured) -> None:
    rows = measured("vae", "grammar", metrics="whole", batch_size=16)
    about = {name: row["bound"] for name, row in rows.items()}
    assert about["mi_global"] == f"<= ln N = {math.log(32):.3f} for N = 32"
    assert about["mi_aggregate_kl"] == f"<= kl, <= ln N = {math.log(32):.3f} for N = 32"
    assert about["mi_in_batch"] == f"<= ln B = {math.log(16):.3f} for B = 16"
    assert about["au"] == about["cu_pq"] == about["cu_qp"] == "<= D = 4"
    assert about["nll_iw500"] == ">= NLL, <= nll_elbo of the same examples: the first 4 of 32"
    assert rows["nll_iw500"]["estimator"].startswith("importance sampling from q(z|x), K = 4 ")
    assert about["nll_elbo"] == ">= NLL"
    assert "sqrt(D / 2N) = 0.250" in rows["mi_global"]["estimator"]
    assert "2 + 2 samples" in rows["prior_ll"]["estimator"]


def test_a_bound_on_all_examples_needs_no_remark(measured: Measured) -> None:
    rows = measured("vae", "grammar", metrics=("nll_iw500",), nll_size=None, iw_samples=2)
    assert rows["nll_iw500"]["bound"] == ">= NLL, <= nll_elbo of the same examples"


def test_single_sentences_have_no_way_between_them(measured: Measured) -> None:
    rows = measured("vae", "grammar", metrics=("kl", "rouge_l"), batch_size=1, min_batch=1)
    assert rows["rouge_l_05"]["why"] == "no batch holds two sentences"


def test_a_perplexity_too_large_to_write_says_so(measured: Measured) -> None:
    rows = measured("bn", "grammar", gamma=1e9, metrics=("nll_iw500", "ppl_iw500"))
    assert not rows["nll_iw500"]["why"]
    assert rows["ppl_iw500"]["why"] == "too large for a number"
