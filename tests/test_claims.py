"""Claims on fabricated results: printed numbers hold, broken ones fail, thin ones say so."""

import itertools
import json
import math
from importlib.resources import files
from pathlib import Path
from tomllib import loads

import numpy as np
import pandas as pd
import pytest
import torch
from claim_helpers import Edits, check_names_what_is_missing, edited, repeated, verdict_of
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vaelib import claims
from vaelib.claims import Check, Evidence, Sample, Verdict, interval, judge_interval, worst
from vaelib.claims import ledger as ledger_module
from vaelib.claims.analytic import gap_scores
from vaelib.claims.dg_vae import CLAIMS, FIGURE5, GAUSSIAN, KAPPAS, VAE, published_results
from vaelib.claims.evidence import combine
from vaelib.claims.failures import ATTEMPT_KEYS, CAUSE_KEYS, KINDS, PAPERS, _attempts, _causes
from vaelib.claims.ledger import CHECK_COLUMNS, COLUMNS
from vaelib.claims.quantities import interpolate, inversions
from vaelib.claims.verdicts import student_t
from vaelib.errors import VaelibError
from vaelib.published import published
from vaelib.studies import grid

ROUGE = [f"rouge_l_{i:02}" for i in range(11)]
NOISY = ["kl", "mi_global", "prior_ll", "post_ll"]
DG = "DG-VAE(default)"


# ---- Fabricated results ---------------------------------------------------------------------


def rouge(label: str) -> list[float]:
    if label == VAE:
        return [0.2] * 11
    middle = 0.29 if label == DG else 0.28
    return [0.4 - (0.4 - middle) * math.sin(math.pi * i / 10) for i in range(11)]


def base() -> pd.DataFrame:
    """Printed Yahoo numbers, invented ones for the sphere and the interpolations; one row a run."""
    gaussian = published_results()
    gaussian[ROUGE] = [rouge(label) for label in gaussian["label"]]
    rows = []
    for kappa, gain in itertools.product(KAPPAS, (0.0, 0.5)):
        name = f"DG-vMF-VAE({kappa})" if gain else f"vMF-VAE({kappa})"
        rows.append({"label": name, "kl": kappa / 5, "prior_ll": -330.0 + gain})
    sphere = pd.DataFrame(rows).assign(post_ll=-320.0, latent_dim=32, test_size=10_000)
    return pd.concat([gaussian, sphere], ignore_index=True)


def results(
    edits: Edits | None = None,
    data: str = "yahoo",
    profile: str = "paper",
    seeds: int = 3,
    spread: float = 0.01,
) -> pd.DataFrame:
    table = repeated(
        edited(base(), edits), NOISY, seeds=seeds, spread=spread, profile=profile, data=data
    )
    sphere = table["label"].str.contains("vMF")
    table.loc[sphere, "kl"] = table[sphere].groupby("label")["kl"].transform("first")
    return table


def toy(**changes: float) -> pd.DataFrame:
    level = {"vae": 0.0, "ae": 9.0, "aae": 2.0, "wae": 1.5, "dg": 0.1} | changes
    rows = [
        {
            "method": method,
            "seed": seed,
            "marginal_kl": value + 0.001 * seed,
            "accuracy": 1 / 128 if method == "vae" else 0.2,
            "mean_kl": 2.2 + 0.01 * seed,
        }
        for method, value in level.items()
        for seed in range(5)
    ]
    return pd.DataFrame(rows)


def verdict(number: int, table: pd.DataFrame, **options: object) -> str:
    """A claim's verdict; by way of the ledger where that is asked for something."""
    if not options and not table["stale"].any():
        return verdict_of(CLAIMS[number - 1], table)
    frame = claims.judge("dg_vae", table, **options).set_index("id")
    return frame.loc[f"dg_vae.{number}", "verdict"]


# ---- Every claim ----------------------------------------------------------------------------


def test_printed_numbers_reproduce_themselves() -> None:
    ledger = claims.judge("dg_vae", results(), toy=toy())
    assert list(ledger["id"]) == [f"dg_vae.{i}" for i in range(1, 16)]
    assert dict(zip(ledger["id"], ledger["verdict"], strict=True)) == dict.fromkeys(
        ledger["id"], "reproduced"
    )


BROKEN = [
    (1, {(VAE, "kl"): 3.0}),
    (1, {(VAE, "cu_pq"): 31}),
    (2, {(DG, "au"): 10}),
    (2, {(DG, "cu_pq"): 3}),
    (2, {(DG, "mi_global"): 1.0}),
    (3, {("DG-VAE(|b|=1)", "prior_ll"): -340.0}),
    (3, {("DG-VAE(|b|=1)", "au"): 5}),
    (4, {(f"DG-VAE(|b|={b})", "kl"): 0.0 for b in (1, 2, 4, 8, 16, 32)}),
    (4, {(f"DG-VAE(|b|={b})", "au"): 40 - b for b in (1, 2, 4, 8, 16, 32)}),
    (5, {("DG-VAE(|b|=2)", "cu_pq"): 8}),
    (6, {("BN-VAE(1.5)", "kl"): 20.0}),
    (6, {("BN-VAE(0.6)", "cu_pq"): 0, ("BN-VAE(0.7)", "cu_pq"): 0, ("BN-VAE(0.9)", "cu_pq"): 0}),
    (7, {("FB-VAE(16)", "kl"): 12.0}),
    (7, {("FB-VAE(36)", "cu_pq"): 32, ("FB-VAE(25)", "cu_pq"): 32, ("FB-VAE(49)", "cu_pq"): 32}),
    (8, {("beta-VAE(0.0)", "cu_pq"): 4}),
    (8, {("BN-VAE(1.8)", "prior_ll"): -500.0}),
    (9, {("delta-VAE(0.15)", "kl"): 5.2}),
    (9, {("delta-VAE(0.15)", "cu_pq"): 32}),
    (10, {("skip-VAE", "au"): 16}),
    (10, {("bow-VAE", "kl"): 2.0}),
    (11, {("DG-VAE(|b|=8)", "prior_ll"): -350.0}),
    (12, {("DG-vMF-VAE(25)", "kl"): 5.1}),
    (12, {("DG-vMF-VAE(25)", "prior_ll"): -332.0}),
    (12, {(f"DG-vMF-VAE({k})", "prior_ll"): -330.5 for k in KAPPAS}),
    (13, {(DG, "rouge_l_05"): 0.2}),
    (13, {(VAE, "rouge_l_05"): 0.3}),
    (13, {(VAE, m): 0.5 for m in ROUGE}),
    (13, {(label, "rouge_l_05"): 0.4 for label in FIGURE5}),
]


@pytest.mark.parametrize(("number", "edits"), BROKEN)
def test_broken_results_are_not_reproduced(number: int, edits: Edits) -> None:
    assert verdict(number, results(edits)) == "not reproduced"


@pytest.mark.parametrize(
    ("number", "edits"),
    [
        (2, {(DG, "au"): 24}),  # three quarters of the units
        (4, {("DG-VAE(|b|=8)", "kl"): 10.0}),  # one inversion of 6 % of the largest KL
        (5, {("DG-VAE(|b|=2)", "cu_pq"): 24}),
        (6, {("BN-VAE(0.9)", "cu_pq"): 31}),  # two of three gammas
        (8, {("beta-VAE(0.4)", "cu_pq"): 20}),  # one step of the curve the wrong way
        (13, {("DG-VAE(|b|=8)", "rouge_l_05"): 0.4}),  # all but one dip
    ],
)
def test_the_right_side_is_direction_only(number: int, edits: Edits) -> None:
    assert verdict(number, results(edits)) == "direction only"


def test_one_small_inversion_is_forgiven_in_claim_4() -> None:
    assert verdict(4, results({("DG-VAE(|b|=32)", "kl"): 57.0})) == "reproduced"


def test_a_wide_spread_is_inconclusive() -> None:
    table = results()
    table.loc[(table["label"] == VAE) & (table["seed"] == 0), "kl"] = 0.8
    assert verdict(1, table) == "inconclusive"


def test_one_seed_is_inconclusive_and_says_so() -> None:
    ledger = claims.judge("dg_vae", results(seeds=1)).set_index("id")
    assert ledger.loc["dg_vae.1", "verdict"] == "inconclusive"
    assert "one seed: no interval" in ledger.loc["dg_vae.1", "note"]
    assert ledger.loc["dg_vae.1", "interval"] == ""


@pytest.mark.parametrize("number", range(1, 14))
def test_missing_runs_are_named(number: int) -> None:
    check_names_what_is_missing("dg_vae", CLAIMS[number - 1], results())


def test_a_failing_check_outweighs_a_missing_run() -> None:
    table = results({(DG, "au"): 10})
    table.loc[table["label"] == DG, "mi_global"] = np.nan
    assert verdict(2, table) == "not reproduced"


def test_trade_off_reads_bn_on_short_sentences_only() -> None:
    edits = {(f"BN-VAE({g})", "prior_ll"): -200.0 for g in (0.6, 0.7, 0.9, 1.2, 1.5, 1.8)}
    assert verdict(11, results(edits)) == "reproduced"
    assert verdict(11, results(edits, data="snli")) == "not reproduced"


def test_thresholds_scale_with_the_latent_size_and_the_test_set() -> None:
    table = results()
    table[["au", "cu_pq"]] /= 2
    small = table["label"].str.match(r"(FB|BN|delta)-VAE")
    table.loc[small, "kl"] /= 2
    table["mi_global"] *= math.log(1000) / math.log(10_000)
    table = table.assign(latent_dim=16, test_size=1000)
    ledger = claims.judge("dg_vae", table).set_index("id")["verdict"]
    for number in (1, 2, 5, 6, 7, 9, 10):
        assert ledger[f"dg_vae.{number}"] == "reproduced"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "reproduced"),
        ({"dg": 0.3}, "not reproduced"),
        ({"wae": 0.15}, "not reproduced"),
        ({"aae": 0.5}, "direction only"),
    ],
)
def test_toy(changes: dict[str, float], expected: str) -> None:
    assert verdict(14, results(), toy=toy(**changes)) == expected


def test_toy_needs_five_seeds() -> None:
    few = toy()
    ledger = claims.judge("dg_vae", results(), toy=few[few["seed"] < 4]).set_index("id")
    assert ledger.loc["dg_vae.14", "verdict"] == "not run"
    assert "5 seeds of dg" in ledger.loc["dg_vae.14", "note"]


def plain_gap(
    mu: torch.Tensor,
    logvar: torch.Tensor,
    *,
    samples: int,
    aggregation_size: int | None,
    generator: torch.Generator,
) -> torch.Tensor:
    """The marginal density gap of the whole batch, or of each posterior alone, by its formula."""
    noise = torch.randn(samples, *mu.shape, generator=generator, dtype=mu.dtype)
    z = mu + (0.5 * logvar).exp() * noise
    normal = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    if aggregation_size == 1:
        density = normal.log_prob(z)
    else:
        density = normal.log_prob(z[:, :, None]).logsumexp(2) - math.log(len(mu))
    return (density - torch.distributions.Normal(0.0, 1.0).log_prob(z)).mean((0, 1)).sum()


def test_gap_scores_tell_a_biased_gap_from_an_unbiased_one() -> None:
    def biased(*args: torch.Tensor, **options: object) -> torch.Tensor:
        return plain_gap(*args, **options) + 1.0  # type: ignore[arg-type]

    one, whole = (list(gap_scores(plain_gap, size).values()) for size in (1, None))
    high, low = 2.0, -2.0
    assert judge_interval(interval(one), low, high) == Verdict.REPRODUCED
    assert judge_interval(interval(whole), -math.inf, high) == Verdict.REPRODUCED
    wrong = list(gap_scores(biased, 1).values())
    assert judge_interval(interval(wrong), low, high) == Verdict.NOT_REPRODUCED


# ---- The ledger -----------------------------------------------------------------------------


def test_ledger_has_the_listing_columns_and_is_json() -> None:
    ledger = claims.judge("dg_vae", results(seeds=2))
    assert tuple(ledger.columns) == COLUMNS
    assert len(json.loads(ledger.to_json(orient="records"))) == 15
    assert ledger["page"].str.fullmatch(r"dg_vae_\w+").all()
    assert ledger["statement"].str.endswith(".").all()


def test_checks_have_unique_names_in_a_claim() -> None:
    table = claims.checks("dg_vae", results(data="snli"), toy=toy())
    assert tuple(table.columns) == CHECK_COLUMNS
    assert not table.duplicated(["id", "check"]).any()
    assert (table["verdict"] == "reproduced").sum() >= 60


def test_nothing_at_all_is_not_run() -> None:
    ledger = claims.judge("dg_vae", results().iloc[:0]).set_index("id")
    assert len(ledger) == 15
    assert set(ledger.drop("dg_vae.15")["verdict"]) == {"not run"}


def test_planned_data_without_runs_are_not_run_rather_than_left_out() -> None:
    table = results(profile="laptop", data="grammar")
    declared = {("laptop", data): list(table["label"].unique()) for data in ("grammar", "ptb")}
    ledger = claims.judge("dg_vae", table, declared=declared)
    assert set(ledger.loc[ledger["data"] == "ptb", "verdict"]) == {"not run"}
    assert len(ledger[ledger["data"] == "ptb"]) == len(ledger[ledger["data"] == "grammar"]) == 13


def test_data_whose_grid_has_no_run_of_a_claim_are_left_out_unless_nothing_is_left() -> None:
    table = results(profile="laptop", data="grammar")
    whole = list(table["label"].unique())
    declared = {("laptop", "grammar"): whole, ("laptop", "ptb"): [VAE, DG]}
    asked = claims.judge("dg_vae", table, declared=declared).groupby("id")["data"].agg(list)
    assert asked["dg_vae.1"] == asked["dg_vae.2"] == ["grammar", "ptb"]
    assert asked["dg_vae.6"] == ["grammar"]  # it compares BN-VAEs
    alone = claims.judge("dg_vae", table.iloc[:0], declared={("laptop", "ptb"): [VAE, DG]})
    assert set(alone["id"]) == set(asked.index)


def test_difference_to_print_only_for_the_same_data_at_the_paper_profile() -> None:
    both = pd.concat([results(), results(profile="laptop"), results(data="snli")])
    notes = claims.judge("dg_vae", both).query("id == 'dg_vae.2'").set_index(["profile", "data"])
    assert "difference to print +0" in notes.loc[("paper", "yahoo"), "note"]
    for case in (("laptop", "yahoo"), ("paper", "snli")):
        assert "other data: direction only" in notes.loc[case, "note"]
        assert "difference" not in notes.loc[case, "note"]


def test_smoke_is_never_judged() -> None:
    ledger = claims.judge("dg_vae", results(profile="smoke")).set_index("id")
    assert ledger.loc["dg_vae.1", "verdict"] == "not run"
    assert "never claims" in ledger.loc["dg_vae.1", "note"]


def test_a_declared_grid_allows_partial_sweeps() -> None:
    kept = [VAE, DG, *(f"DG-VAE(|b|={b})" for b in (1, 4, 32))]
    table = results(profile="laptop")
    table = table[table["label"].isin(kept)]
    assert verdict(4, table) == "not run"
    declared = {("laptop", "yahoo"): kept}
    ledger = claims.judge("dg_vae", table, declared=declared).set_index("id")
    assert ledger.loc["dg_vae.4", "verdict"] == "reproduced"
    assert "partial grid: 3 of 6 runs" in ledger.loc["dg_vae.4", "note"]
    assert ledger.loc["dg_vae.6", "verdict"] == "not run"
    crashed = table[table["label"] != "DG-VAE(|b|=4)"]
    assert verdict(4, crashed, declared=declared) == "not run"


def test_a_curve_of_one_point_is_not_run() -> None:
    kept = [VAE, "DG-VAE(|b|=1)", DG, "beta-VAE(0.2)", "BN-VAE(1.2)", "FB-VAE(36)"]
    table = results(profile="laptop", data="ptb")
    table = table[table["label"].isin(kept)]
    ledger = claims.judge("dg_vae", table, declared={("laptop", "ptb"): kept}).set_index("id")
    for number in (4, 6, 7, 8, 9, 10, 11, 12):
        assert ledger.loc[f"dg_vae.{number}", "verdict"] == "not run"
    assert "a second point of the curve" in ledger.loc["dg_vae.4", "note"]
    for number in (1, 2, 3, 5, 13):
        assert ledger.loc[f"dg_vae.{number}", "verdict"] == "reproduced"


def test_stale_records_yield_to_fresh_ones_and_are_counted() -> None:
    fresh, old = results(), results({(VAE, "kl"): 9.0})
    old["stale"] = True
    assert verdict(1, pd.concat([old, fresh])) == "reproduced"
    assert verdict(1, pd.concat([fresh, old])) == "reproduced"
    ledger = claims.judge("dg_vae", old).set_index("id")
    assert ledger.loc["dg_vae.1", "verdict"] == "not reproduced"
    assert "3 of the records are stale" in ledger.loc["dg_vae.1", "note"]


ATTEMPT = {
    "claim": "dg_vae.1",
    "data": "yahoo",
    "profile": "paper",
    "tried": "Tried.",
    "outcome": "No.",
    "records": ["0123456789ab-0123456789ab"],
}


def test_failures_are_provisional_until_three_attempts() -> None:
    table = results({(VAE, "kl"): 3.0})
    for count, text in ((0, "provisional: 0 of 3"), (2, "provisional: 2 of 3"), (3, "3 attempts")):
        tried = _attempts([ATTEMPT | {"tried": f"Tried {i}."} for i in range(count)])
        ledger = claims.judge("dg_vae", table, recorded=tried).set_index("id")
        assert text in ledger.loc["dg_vae.1", "note"]
        assert ("provisional" in ledger.loc["dg_vae.1", "note"]) == (count < 3)
        assert ledger.loc["dg_vae.1", "note"].count("No. [0123456789ab]") == count


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"recods": ["x"]}, r"unknown key in attempt 1 of attempts.toml 'recods': did you mean"),
        ({"records": []}, r"attempt 1 of attempts.toml lacks records: give all keys\."),
        ({"outcome": ""}, "lacks outcome"),
        ({"records": ["BN-VAE(0.6)"]}, r"names the record 'BN-VAE\(0.6\)': list keys as `vaelib"),
        ({"records": "0123456789ab-0123456789ab"}, r"names the record \['0123456789ab-"),
        ({"claim": "dg_vae.99"}, "unknown claim of attempt 1 of attempts.toml 'dg_vae.99'"),
        ({"data": "gramar"}, "unknown data of attempt 1 .* did you mean 'grammar'"),
        ({"profile": "labtop"}, "unknown profile of attempt 1 .* did you mean 'laptop'"),
    ],
)
def test_a_malformed_attempt_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(VaelibError, match=sentence):
        _attempts([ATTEMPT | change])


def test_an_attempt_counts_once() -> None:
    with pytest.raises(VaelibError, match="attempt 3 of attempts.toml is attempt 1 once more"):
        _attempts([ATTEMPT, ATTEMPT | {"tried": "Otherwise."}, dict(ATTEMPT)])


CAUSE = {key: ATTEMPT[key] for key in ("claim", "data", "profile")} | {
    "kind": "scale",
    "why": "It is small.",
}


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([CAUSE | {"kind": "scales"}], "unknown kind of cause 1 .* did you mean 'scale'"),
        ([CAUSE | {"why": ""}], "cause 1 of attempts.toml lacks why"),
        ([CAUSE, CAUSE | {"kind": "data"}], "two causes for dg_vae.1 yahoo paper; make them one"),
        (["scale"], r"has a cause that is no table; begin it \[\[cause\]\]"),
    ],
)
def test_a_malformed_cause_is_refused(entries: list[object], sentence: str) -> None:
    with pytest.raises(VaelibError, match=sentence):
        _causes(entries)


@pytest.mark.parametrize("paper", list(PAPERS))
def test_a_grid_of_any_one_run_can_be_judged(paper: str) -> None:
    """As where a reader asks for a single label."""
    for row in grid(paper):
        one = pd.DataFrame([{"label": row["label"], "family": row["family"], "data": "grammar",
                             "profile": "laptop", "seed": 0, "stale": False, "kl": 1.0, "au": 2.0,
                             "latent_dim": 16}])  # fmt: skip
        judged = claims.judge(paper, one, declared={("laptop", "grammar"): {row["label"]}})
        assert len(judged) == len(set(judged["id"]) | {c.id for c in claims.claims(paper)})


def test_what_fails_or_stays_open_shows_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, text in (("scale", "likely cause (scale): It is small."), ("open", "no cause found")):
        monkeypatch.setattr(ledger_module, "causes", lambda k=kind: _causes([CAUSE | {"kind": k}]))
        failed = claims.judge("dg_vae", results({(VAE, "kl"): 3.0})).set_index("id")
        assert text in failed.loc["dg_vae.1", "note"]
        held = claims.judge("dg_vae", results()).set_index("id")
        assert text not in held.loc["dg_vae.1", "note"]
        undecided = claims.judge("dg_vae", results(seeds=1)).set_index("id")
        assert undecided.loc["dg_vae.1", "verdict"] == "inconclusive"
        assert text in undecided.loc["dg_vae.1", "note"]
        assert "attempts" not in undecided.loc["dg_vae.1", "note"]


def test_every_settled_failure_has_its_cause() -> None:
    """Where three attempts are on record, the book says what the failure is likely due to."""
    told = claims.causes()
    assert tuple(told.columns) == CAUSE_KEYS
    assert set(told["kind"]) <= set(KINDS)
    where = ["claim", "data", "profile"]
    counts = claims.attempts().groupby(where).size()
    settled = set(counts[counts >= 3].index)
    assert settled - set(told[where].itertuples(index=False, name=None)) == set()


def test_recorded_attempts_name_committed_records() -> None:
    recorded = claims.attempts()
    assert tuple(recorded.columns) == ATTEMPT_KEYS
    committed = [path.stem for path in (Path(__file__).parents[1] / "results").rglob("*.json")]
    named = [record for records in recorded["records"] for record in records]
    assert [n for n in named if not any(key.startswith(n) for key in committed)] == []


def test_unknown_paper_is_refused() -> None:
    with pytest.raises(VaelibError, match="did you mean 'dg_vae'"):
        claims.judge("dg_vea", results())


# ---- The verdict rule -----------------------------------------------------------------------

numbers = st.floats(-10, 10).map(lambda x: round(x, 2))
spans = st.tuples(numbers, numbers).map(sorted)


@given(spans, spans, numbers, st.sampled_from([-1, 1]))
def test_verdicts_are_exhaustive_and_exclusive(
    bounds: list[float], tolerance: list[float], e: float, direction: int
) -> None:
    (a, b), (low, high) = bounds, tolerance
    inside = low <= a and b <= high
    meets = max(a, low) <= min(b, high)
    beyond = a > e if direction > 0 else b < e
    reaches = b > e if direction > 0 else a < e
    truths = {
        Verdict.REPRODUCED: inside,
        Verdict.DIRECTION_ONLY: not inside and beyond,
        Verdict.INCONCLUSIVE: not inside and not beyond and (reaches or meets),
        Verdict.NOT_REPRODUCED: not meets and not reaches,
    }
    assert sum(truths.values()) == 1
    assert truths[judge_interval((a, b), low, high, e, direction)]


@given(spans, spans)
def test_without_an_effect_only_the_tolerance_decides(
    bounds: list[float], tolerance: list[float]
) -> None:
    (a, b), (low, high) = bounds, tolerance
    found = judge_interval((a, b), low, high)
    assert found != Verdict.DIRECTION_ONLY
    assert (found == Verdict.NOT_REPRODUCED) == (b < low or a > high)


@given(spans, spans, numbers)
def test_mirrored_axes_give_the_same_verdict(
    bounds: list[float], tolerance: list[float], e: float
) -> None:
    (a, b), (low, high) = bounds, tolerance
    assert judge_interval((a, b), low, high, e, 1) == judge_interval((-b, -a), -high, -low, -e, -1)


@given(spans, st.floats(0, 5), st.floats(0, 5), spans, numbers)
def test_a_wider_interval_is_never_reproduced_where_the_narrow_one_is_not(
    bounds: list[float], left: float, right: float, tolerance: list[float], e: float
) -> None:
    (a, b), (low, high) = bounds, tolerance
    wide = judge_interval((a - left, b + right), low, high, e, 1)
    if wide == Verdict.REPRODUCED:
        assert judge_interval((a, b), low, high, e, 1) == Verdict.REPRODUCED


@given(st.lists(st.sampled_from(list(Verdict)), min_size=1, max_size=6))
def test_worst_is_one_of_them_and_does_not_depend_on_order(found: list[Verdict]) -> None:
    assert worst(found) in found
    assert worst(found) == worst(reversed(found)) == worst([*found, Verdict.REPRODUCED])
    assert (worst(found) == Verdict.NOT_REPRODUCED) == (Verdict.NOT_REPRODUCED in found)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40, unique=True))
def test_interval_is_students(values: list[float]) -> None:
    if min(values) < max(values) - 1e-6:
        mean, error = np.mean(values), stats.sem(values)
        expected = stats.t.interval(0.95, len(values) - 1, mean, error)
        assert np.allclose(interval(values), expected, rtol=1e-4, atol=1e-4 * error)


def test_interval_edges() -> None:
    assert interval([]) is None
    assert interval([1.0]) is None
    assert interval([1.0], exact=True) == (1.0, 1.0)
    assert interval([0.1, 0.1, 0.1]) == (0.1, 0.1)
    assert judge_interval(None, 0, 1) == Verdict.INCONCLUSIVE
    assert worst([]) == Verdict.NOT_RUN


@pytest.mark.parametrize("freedom", [1, 2, 4, 10, 11, 15, 30, 200])
def test_student_t(freedom: int) -> None:
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-5)


def test_a_changed_tolerance_shows_both_verdicts() -> None:
    sample = Sample({0: 0.5, 1: 0.5})
    check = Check("x", sample, high=0.6, former=(-math.inf, 0.4), reason="a slip")
    assert check.verdict == Verdict.REPRODUCED
    assert check.former_verdict == Verdict.NOT_REPRODUCED
    assert Check("x", sample).former_verdict is None


# ---- Quantities -----------------------------------------------------------------------------


def test_combine_pairs_seeds() -> None:
    a, b = Sample({0: 1.0, 1: 2.0}), Sample({1: 5.0, 2: 7.0})
    assert (b - a).by_seed == {1: 3.0}
    apart = a - Sample({9: 1.0}, frozenset({"BN-VAE(0.6)"}))
    assert not apart.by_seed
    assert "BN-VAE(0.6)" in apart.missing[0]
    assert combine(lambda x: math.nan if x < 2 else x, a).by_seed == {1: 2.0}


def test_a_number_that_is_not_finite_is_missing() -> None:
    table = pd.DataFrame({"label": "m", "seed": [0, 1], "kl": [1.0, np.inf], "data": "d"})
    assert Evidence(table)("m", "kl").missing == ("kl of m",)
    assert Evidence(table)("m", "nope").missing == ("nope of m",)


def test_inversions() -> None:
    assert inversions([1, 2, 2, 3]) == 0
    assert inversions([3, 2, 1]) == 2
    assert inversions([3, 2, 1], rising=False) == 0
    assert inversions([0, 50, 49, 100], forgive=0.02) == 0
    assert inversions([0, 50, 47, 100], forgive=0.02) == 1
    assert inversions([0, 50, 49, 100, 99], forgive=0.02) == 1


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8, unique=True), st.floats(-50, 50))
def test_interpolation_is_numpys_inside_and_nan_outside(xs: list[float], x: float) -> None:
    order = sorted(xs)
    points = [(v, math.sin(v)) for v in order]
    found = interpolate(x, points)
    assert interpolate(x, points[::-1]) == pytest.approx(found, abs=1e-9, nan_ok=True)
    if order[0] <= x <= order[-1]:
        assert found == pytest.approx(np.interp(x, order, np.sin(order)), abs=1e-9)
    else:
        assert math.isnan(found)
        assert interpolate(x, points, margin=1000.0) in {math.sin(order[0]), math.sin(order[-1])}


# prior_ll of a curve that turns at x = 3 and runs back below itself to x = 1.
FOLDED = [(0.0, 0.0), (2.0, -1.0), (3.0, -2.0), (1.0, -20.0)]


@pytest.mark.parametrize(
    ("x", "y"),
    [(0.5, -0.25), (1.0, -0.5), (1.5, -0.75), (2.5, -1.5), (3.0, -2.0), (3.5, -2.0), (-0.5, 0.0)],
)
def test_a_folded_curve_is_read_at_its_upper_branch(x: float, y: float) -> None:
    assert interpolate(x, FOLDED, margin=0.5) == pytest.approx(y)
    assert interpolate(x, FOLDED[::-1], margin=0.5) == pytest.approx(y)


def test_equal_points_and_upright_lines_are_read_at_their_top() -> None:
    assert interpolate(1.0, [(1.0, 3.0), (1.0, 5.0)]) == 5.0
    assert interpolate(1.0, [(0.0, 0.0), (1.0, 2.0), (1.0, 9.0), (2.0, 0.0)]) == 9.0


def test_a_beta_curve_that_folds_back_gives_no_easy_win() -> None:
    """At beta = 0 both likelihoods fall; read in the order of post_ll, that run would be in the
    way between the VAE and beta = 0.4 and pull the curve below every DG-VAE there."""
    beta = {("beta-VAE(0.0)", "post_ll"): -326.0, ("beta-VAE(0.0)", "prior_ll"): -445.0}
    assert verdict(11, results(beta)) == "reproduced"
    worse = beta | {("DG-VAE(|b|=2)", "prior_ll"): -345.0}  # below the VAE and beta = 0.4
    assert verdict(11, results(worse)) == "not reproduced"


# ---- The study ------------------------------------------------------------------------------


def study() -> dict:
    return loads((files("vaelib") / "studies" / "dg_vae.toml").read_text(encoding="utf-8"))


def labels() -> list[str]:
    found = []
    for run in study()["run"]:
        key = run.get("sweep")
        for value in run[key] if key else [None]:
            found.append(run["label"].format(**(run | ({key: value} if key else {}))))
    return found


def test_the_grid_has_39_runs_and_they_are_those_of_the_claims() -> None:
    assert len(labels()) == len(set(labels())) == 39
    nothing = Evidence(pd.DataFrame())
    checks = [check for claim in CLAIMS[:13] for check in claim.check(nothing)]
    assert frozenset().union(*(check.sample.sources for check in checks)) == set(labels())
    assert set(GAUSSIAN) <= set(labels())


def test_published_rows_join() -> None:
    assert set(published_results()["label"]) == set(GAUSSIAN)


def test_profiles_name_runs_of_the_grid() -> None:
    profiles = study()["profile"]
    assert set(profiles) == {"smoke", "laptop", "paper"}
    for profile in profiles.values():
        assert set(profile["labels"]) == set(profile["data"])
        for chosen in profile["labels"].values():
            assert chosen == "all" or set(chosen) <= set(labels())
    laptop = profiles["laptop"]
    assert laptop["seeds"] == [0, 1, 2]
    assert laptop["labels"]["grammar"] == "all"
    assert len(laptop["labels"]["short_yelp_standin"]) <= 14
    assert len(laptop["labels"]["ptb"]) <= 6


def test_items_name_runs_and_pages() -> None:
    items = {item["id"]: item for item in study()["item"]}
    figures = [f"figure{i}" for i in range(1, 6)]
    expected = ["table1", "table2", *figures, "ablation", "interpolation", "toy"]
    assert list(items) == expected
    families = {run["family"] for run in study()["run"]}
    pages = {claim.page for claim in CLAIMS}
    assert items["table2"]["columns"] == study()["print"]
    for item in items.values():
        for table in item.get("published", []):
            assert set(item["columns"]) <= set(published("dg_vae", table)["metric"])
        assert set(item.get("runs", [])) <= set(labels())
        assert set(item.get("families", [])) <= families
        assert item["page"] in pages
