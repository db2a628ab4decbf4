"""The claims of DU-VAE: printed numbers hold, broken ones fail, thin ones say so; what they use."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from claim_helpers import Edits, check_names_what_is_missing, edited, repeated, verdict_of

from vaelib import claims
from vaelib.build import resolve
from vaelib.claims import Evidence, Verdict, analytic_du, clusters, judge_interval
from vaelib.claims.analytic_du import KEEPS, closed_form, drop, random_posteriors, sampled
from vaelib.claims.du_vae import (
    BN,
    BUDGETS,
    CLAIMS,
    DU,
    GAMMAS,
    IMAGES,
    MAIN,
    SHIFT,
    TABLE1,
    VAE,
    printed,
    published_results,
)
from vaelib.claims.evidence import Sample
from vaelib.data.synthetic import MEANS, latents
from vaelib.errors import VaelibError
from vaelib.flows import FlowChain
from vaelib.metrics import conditional_entropy, mutual_posterior_divergence
from vaelib.posteriors_du import ALPHA
from vaelib.published import pivot, published
from vaelib.studies import Study, declaration, grid

TEXT = (1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 14)  # judged on text alone, or there as well
ANALYTIC = (6, 8)
ITEMS = {item["id"]: item for item in declaration("du_vae")["item"]}
PLANE = ["VAE", "BN-VAE(1.0), 2-D", "DU-VAE(1.0, 0.5), 2-D"]


# ---- Fabricated results ----------------------------------------------------------------------


def whole_grid() -> pd.DataFrame:
    """Printed Yahoo numbers; where print has none, a plane over gamma and p through its own."""
    rows = published_results().set_index("label")
    for gamma in GAMMAS:
        for label, keep in ((BN(gamma), 1.0), *((DU(gamma, p), p) for p in KEEPS)):
            if label not in rows.index:
                about = {"data": "yahoo", "seed": 0, "latent_dim": 32, "test_size": 10_000}
                kl = 20 * (gamma - 0.5) + 15 * (0.9 - keep) + 5.2
                values = {"kl": kl, "mi_global": 0.85 * kl, "au": 32.0, "nll_iw500": 327.5}
                rows.loc[label] = pd.Series(about | values | {"majority": 0.6046})
    rows.loc["BN-VAE(0.6)", "kl"], rows.loc["BN-VAE(0.6)", "mi_global"] = 5.4, 4.6
    return rows.reset_index()


def several(table: pd.DataFrame, data: str, **more: Any) -> pd.DataFrame:
    """The same for three seeds, a little apart."""
    return repeated(table, ["kl", "nll_iw500"], data=data, **more)


def results(edits: Edits | None = None, data: str = "yahoo", **more: Any) -> pd.DataFrame:
    return several(edited(whole_grid(), edits), data, **more)


def images(edits: Edits | None = None) -> pd.DataFrame:
    rows = printed("table1_images").rename_axis("label").reset_index()
    table = rows.assign(latent_dim=32, test_size=8070)
    return several(edited(table, edits), "omniglot")


def plane(edits: Edits | None = None) -> pd.DataFrame:
    numbers = {"purity": [0.3, 0.7, 0.75], "maxima": [1.0, 4.0, 5.0], "kl": 1.0, "nll_iw500": 60.0}
    table = pd.DataFrame({"label": PLANE} | numbers).assign(latent_dim=2, test_size=2000)
    return several(edited(table, edits), "synthetic")


def verdict(number: int, table: pd.DataFrame) -> str:
    return verdict_of(CLAIMS[number - 1], table)


# ---- Every claim -----------------------------------------------------------------------------


def test_the_printed_numbers_reproduce_themselves() -> None:
    ledger = claims.judge("du_vae", pd.concat([results(), images(), plane()]))
    assert list(dict.fromkeys(ledger["id"])) == [f"du_vae.{i}" for i in range(1, 15)]
    verdicts = ledger.set_index(["id", "data"])["verdict"]
    for number in TEXT:
        assert verdicts[f"du_vae.{number}", "yahoo"] == "reproduced", number
    assert verdicts["du_vae.13", "synthetic"] == "reproduced"
    assert verdicts["du_vae.1", "omniglot"] == "reproduced"
    for number in ANALYTIC:
        assert verdicts[f"du_vae.{number}", "random draws"] == "reproduced"


def test_what_print_has_not_is_all_that_is_invented() -> None:
    """On the printed rows alone every check that can be made holds; the rest names what lacks."""
    table = several(published_results(), "yahoo")
    made = [check for claim in CLAIMS for check in claim.check(Evidence(table))]
    assert {str(check.verdict) for check in made if check.values} == {"reproduced"}
    blank = [check for check in made if not check.values]
    assert blank
    assert all(check.sample.missing for check in blank)


BROKEN = [
    (1, {(VAE, "kl"): 2.0}),
    (1, {(VAE, "mi_global"): 0.9}),
    (2, {(MAIN, "kl"): 2.5}),
    (2, {(MAIN, "mi_global"): 3.0}),
    (2, {(MAIN, "nll_iw500"): 330.0}),
    (3, {(BN(0.5), "au"): 30.0}),
    (3, {(DU(0.6, 0.8), "au"): 32.0}),
    (4, {(DU(0.5, 0.8), "mi_global"): 2.5}),
    (4, {(DU(0.7, 0.8), "kl"): 6.0}),
    (5, {(DU(0.5, 0.8), "kl"): 4.0}),
    (7, {("IAF+BN", "kl"): 2.5}),
    (7, {("DU-IAF", "kl"): 0.3}),
    (9, {(SHIFT(0.5), "kl"): 5.0}),
    (9, {(SHIFT(0.1), "kl"): 0.4}),
    (9, {(SHIFT(0.3), "mi_global"): 1.0}),
    (9, {(SHIFT(0.7), "au"): 12.0}),
    (9, {(SHIFT(0.7), "probe_1000"): 0.64}),
    (9, {(SHIFT(0.7), "probe_100"): 0.57}),
    (9, {(SHIFT(0.5), "probe_10000"): 0.66}),
    (10, {(MAIN, "probe_100"): 0.7}),
    (10, {(BN(0.6), "probe_100"): 0.75}),
    (10, {("FB(3.2)", "probe_100"): 0.65}),
    (10, {("MAE", "probe_100"): 0.9}),
    (11, {("delta-VAE(0.1)", "probe_2000"): 0.7}),
    (11, {("delta-VAE(0.1)", "probe_100"): 0.55}),
    (12, {("MAE", "nll_iw500"): 320.0}),
    (14, {(DU(0.7, 0.6), "nll_iw500"): 300.0}),
    (14, {(BN(0.4), "nll_iw500"): 300.0}),
]


@pytest.mark.parametrize(("number", "edits"), BROKEN)
def test_broken_results_are_not_reproduced(number: int, edits: Edits) -> None:
    assert verdict(number, results(edits)) == "not reproduced"


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({}, "reproduced"),
        ({(PLANE[2], "purity"): 0.6}, "not reproduced"),
        ({(PLANE[1], "purity"): 0.5, (PLANE[2], "purity"): 0.5}, "direction only"),
        ({(PLANE[0], "purity"): 0.75}, "not reproduced"),
        ({(PLANE[2], "maxima"): 4.0}, "not reproduced"),
        ({(PLANE[0], "maxima"): 2.0}, "not reproduced"),
    ],
)
def test_synthetic_text(edits: Edits, expected: str) -> None:
    assert verdict(13, plane(edits)) == expected


def test_where_bn_has_not_all_units_du_must_still_have_fewer() -> None:
    """Units less than D are not enough: the paper's order is DU-VAE < BN-VAE = D."""
    table = results({(BN(0.5), "au"): 18.0, (DU(0.5, 0.9), "au"): 17.0, (MAIN, "au"): 18.0})
    found = claims.checks("du_vae", table).set_index(["id", "check"])["verdict"]["du_vae.3"]
    assert found[f"D - AU of {MAIN}"] == "reproduced"
    assert found[f"AU of {BN(0.5)} less {MAIN}"] == "not reproduced"
    assert found[f"AU of {BN(0.5)} less {DU(0.5, 0.9)}"] == "reproduced"
    assert found[f"AU of {BN(0.6)} less {DU(0.6, 0.8)}"] == "reproduced"


def test_one_curve_in_eight_that_turns_is_direction_only() -> None:
    turned = results({(DU(0.4, 0.7), "kl"): 1.0})
    assert verdict(5, turned) == "direction only"


def test_a_few_points_ahead_is_direction_only() -> None:
    assert verdict(10, results({(VAE, "probe_100"): 0.74, ("FB(3.2)", "probe_100"): 0.76,
                               ("Agg-VAE", "probe_100"): 0.76, (MAIN, "probe_100"): 0.83,
                               (BN(0.6), "probe_100"): 0.825})) == "direction only"  # fmt: skip


def test_images_are_asked_what_is_about_images() -> None:
    ledger = claims.judge("du_vae", images()).set_index("id")
    assert ledger.loc["du_vae.1", "published"] == 2.2
    assert verdict(1, images({(VAE, "kl"): 0.1})) == "not reproduced"
    for number in (2, 3, 7, 9, 10, 11, 12):
        assert ledger.loc[f"du_vae.{number}", "verdict"] == "not run"
        assert "missing: text, which it is about" in ledger.loc[f"du_vae.{number}", "note"]
    assert set(IMAGES) > {"omniglot", "digits"}


def test_images_stand_beside_omniglot_and_text_beside_yahoo() -> None:
    """Even where the same check is made of both."""
    table = claims.checks("du_vae", pd.concat([results(), images()]))
    grown = table["check"] == f"KL of {TABLE1[1]} less {TABLE1[0]}"
    found = table[grown].set_index("data")["published"]
    assert found["omniglot"] == pytest.approx(7.46 - 6.63)
    assert found["yahoo"] == pytest.approx(6.7 - 5.2)


@pytest.mark.parametrize("number", [n for n in range(1, 15) if n not in ANALYTIC])
def test_missing_runs_are_named(number: int) -> None:
    table = plane() if number == 13 else results()
    check_names_what_is_missing("du_vae", CLAIMS[number - 1], table)


def test_a_grid_without_some_runs_is_judged_by_the_others() -> None:
    """As the smaller grid of the reviews: no Agg-VAE, one shift, no p = 0.6."""
    kept = [VAE, "AE", "FB(3.2)", "delta-VAE(0.1)", "MAE", BN(0.5), BN(0.6), SHIFT(0.5), *TABLE1]
    table = results(data="short_yelp_standin", profile="laptop")
    table = table[table["label"].isin(kept)]
    declared = {("laptop", "short_yelp_standin"): kept}
    ledger = claims.judge("du_vae", table, declared=declared).set_index("id")
    for number in (1, 2, 3, 4, 5, 9, 10, 11, 12):
        assert ledger.loc[f"du_vae.{number}", "verdict"] == "reproduced", number
    assert "partial grid" in ledger.loc["du_vae.10", "note"]
    assert "a DU-VAE with p = 0.6" in ledger.loc["du_vae.14", "note"]
    assert ledger.loc["du_vae.7", "verdict"] == "not run"


def test_probes_of_components_are_no_sentiment() -> None:
    assert "a sentiment" in claims.judge("du_vae", plane()).set_index("id").loc["du_vae.10", "note"]


def test_the_shares_of_labels_are_missing_where_the_data_are() -> None:
    bare = results().drop(columns="majority")
    ledger = claims.judge("du_vae", bare).set_index("id")
    for number in (9, 11):
        assert ledger.loc[f"du_vae.{number}", "verdict"] == "not run"
        assert "majority of" in ledger.loc[f"du_vae.{number}", "note"]


def test_checks_have_unique_names_in_a_claim() -> None:
    table = claims.checks("du_vae", pd.concat([results(), images(), plane()]))
    assert not table.duplicated(["id", "check", "data"]).any()


# ---- What was printed ------------------------------------------------------------------------


def test_every_printed_row_finds_a_run_of_the_grid() -> None:
    known = {row["label"] for row in grid("du_vae")}
    for name in ("table1", "table1_yelp", "table1_images", "tableS1", "tableS2", "table2"):
        table = printed(name)
        assert set(table.index) <= known, name
        assert set(table.index) <= set(Study("du_vae", "smoke").labels_of(name)), name
        source = pivot("du_vae", ITEMS[name]["published"][0], ITEMS[name]["published_data"])
        assert table.shape == source.shape
        scale = 100 if ITEMS[name].get("percent") else 1
        assert np.allclose(table.to_numpy() * scale, source.to_numpy(), equal_nan=True)


def test_the_majority_is_that_of_table_s2() -> None:
    rows = published_results()
    assert set(rows["majority"]) == {0.6046}
    assert (published("du_vae", "tableS2")["value"] == 60.46).mean() > 0.5


def test_the_best_of_figure_2_is_on_the_grid() -> None:
    for gamma, keep in ITEMS["figure2"]["best"].values():
        assert DU(gamma, keep) in {row["label"] for row in grid("du_vae")}
    assert set(ITEMS["figure1"]["chosen"]) <= {row["label"] for row in grid("du_vae")}
    assert set(ITEMS["figure1"]["chosen"]) <= set(ITEMS["figure1"]["panels"])


# ---- Proposition 1 ---------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1.0, *KEEPS, 0.1])
def test_the_closed_form_is_what_the_packages_dropout_does(keep: float) -> None:
    q = random_posteriors(5)
    assert sampled(q, keep, seed=1, draws=400) == pytest.approx(closed_form(q, keep), rel=0.01)


def test_the_closed_form_is_equation_s14() -> None:
    """The paper's own way of writing the two expectations."""
    q, p = random_posteriors(2), 0.7
    s2, mu = q.variance, q.mu
    inverse = p**2 / (s2 + (p - 1) * ALPHA) + (1 - p) / ALPHA
    log = p * ((s2 + (p - 1) * ALPHA) / (p * ALPHA)).log() + math.log(ALPHA)
    pairs = (mu[:, None] - mu[None]).square() * inverse[None]
    mpd = 0.5 * (pairs.mean((0, 1)) + s2.mean(0) * inverse.mean(0) - 1).sum()
    ce = 0.5 * (log.mean(0) + math.log(2 * math.pi * math.e)).sum()
    assert closed_form(q, p) == pytest.approx((float(mpd), float(ce)), rel=1e-9)


def test_nothing_dropped_is_the_metric_itself() -> None:
    q = random_posteriors(3)
    logvar = q.variance.log()
    plain = mutual_posterior_divergence(q.mu, logvar), conditional_entropy(logvar)
    assert closed_form(q, 1.0) == pytest.approx(plain)
    assert torch.allclose(drop(q.excess, 1.0, 0), logvar)


def test_the_table_of_proposition_1_rises_falls_and_keeps_its_bound() -> None:
    table = analytic_du.proposition(GAMMAS)
    for _, rows in table.groupby("gamma"):
        assert rows["keep"].is_monotonic_decreasing
        assert rows["mpd"].is_monotonic_increasing
        assert rows["ce"].is_monotonic_decreasing
        assert (rows["mpd"] > rows["bound"]).all()
    at = table[table["keep"] == 0.8].set_index("gamma")
    assert at["mpd"].is_monotonic_increasing
    assert at["ce"].nunique() == 1, "the entropy knows nothing of the means"


def test_means_have_the_variance_that_batch_norm_gives() -> None:
    q = random_posteriors(0, gamma=0.6)
    assert torch.allclose(q.mu.var(0, correction=0), torch.tensor(0.36, dtype=torch.float64))


def test_scores_tell_a_dropout_that_shrinks_variances(monkeypatch: pytest.MonkeyPatch) -> None:
    def unscaled(excess: torch.Tensor, keep: float, seed: int) -> torch.Tensor:
        mask = torch.rand(excess.shape, generator=torch.Generator().manual_seed(seed)) < keep
        return torch.log(excess.exp() * mask + ALPHA)

    monkeypatch.setattr(analytic_du, "drop", unscaled)
    scores = list(analytic_du.variance_scores(0.8).values())
    assert judge_interval((min(scores), max(scores)), -2.0, 2.0) == Verdict.NOT_REPRODUCED


def test_flows_that_may_stretch_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wide(self: Any, z: torch.Tensor, context: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * z, torch.full_like(z, math.log(2.0))

    assert set(analytic_du.entropy_falls().values()) == {1.0}
    monkeypatch.setattr(FlowChain, "forward", wide)
    assert set(analytic_du.entropy_falls().values()) == {0.0}


# ---- Clusters --------------------------------------------------------------------------------


def test_purity_is_one_for_groups_apart_and_a_guess_for_none() -> None:
    labels = np.repeat(np.arange(5), 40)
    rng = np.random.default_rng(0)
    apart = 10 * np.eye(5)[labels][:, :2] + labels[:, None] * 5 + 0.1 * rng.normal(size=(200, 2))
    assert clusters.purity(apart, labels) == 1.0
    assert clusters.purity(rng.normal(size=(200, 2)), labels) < 0.45
    assert clusters.purity(apart, labels[rng.permutation(200)]) < 0.45


@pytest.mark.parametrize(("points", "labels"), [(10, 9), (3, 3)])
def test_purity_refuses_what_does_not_fit(points: int, labels: int) -> None:
    with pytest.raises(VaelibError, match="give one label to each point"):
        clusters.purity(np.zeros((points, 2)), np.zeros(labels, int))


def test_a_density_integrates_to_one_and_keeps_narrow_posteriors() -> None:
    rng = np.random.default_rng(1)
    mu = rng.normal(size=(50, 2)) * 0.5
    for logvar in (-12.0, -1.0):
        density = clusters.aggregated(mu, np.full((50, 2), logvar))
        assert density.shape == (100, 100)
        assert density.sum() * 0.1**2 == pytest.approx(1.0, abs=1e-3)


def test_hills_are_counted_by_how_far_down_it_goes_between_them() -> None:
    def hills(*means: tuple[float, float], narrow: float = 0.0) -> int:
        return clusters.maxima(
            clusters.aggregated(np.array(means), np.full((len(means), 2), narrow))
        )

    assert hills((0.0, 0.0)) == 1
    assert hills((-1.5, 0.0), (1.5, 0.0)) == 2
    assert hills((-0.9, 0.0), (0.9, 0.0)) == 1, "two normals less than two deviations apart"
    assert hills(*MEANS) == 5, "the truth of the synthetic text"
    assert hills((0.0, 0.0), (3.0, 3.0), (-3.0, 3.0), narrow=-2.0) == 3


def test_dents_of_a_sample_are_no_hills() -> None:
    component, z = (value.numpy() for value in latents()["test"])
    normal = np.random.default_rng(0).normal(size=z.shape)
    assert clusters.maxima(clusters.aggregated(normal * 0.95, np.full(z.shape, math.log(0.1)))) == 1
    assert clusters.maxima(clusters.aggregated(z, np.full(z.shape, math.log(0.1)))) == 5
    assert clusters.purity(z, component) > 0.8 > clusters.purity(normal, component)


@pytest.mark.parametrize("size", [None, 2000, 40])
def test_true_codes_are_those_of_the_slice(size: int | None) -> None:
    config = resolve("vae", data="synthetic", profile="smoke", test_size=size)
    component, z = clusters.true_codes(config)
    labels = clusters.labels_of(config)
    assert labels is not None
    assert np.array_equal(component, labels)
    assert len(z) == (size or 2000)
    near = np.linalg.norm(z[:, None] - np.array(MEANS)[None], axis=-1).argmin(1)
    assert (near == component).mean() > 0.6


def fact(name: str, latent_dim: int, posterior: dict[str, np.ndarray] | None, data: str) -> Any:
    """What `clusters.columns` reads of a run."""
    config = resolve("vae", data=data, profile="smoke", latent_dim=latent_dim, test_size=200)
    entry = SimpleNamespace(key=name, arrays_path=None if posterior is None else Path("a.npz"))
    return SimpleNamespace(entry=entry, config=config, posterior=posterior)


def test_columns_are_what_labels_and_posteriors_allow() -> None:
    labels = clusters.labels_of(resolve("vae", data="grammar", profile="smoke", test_size=200))
    assert labels is not None
    assert len(labels) == 200
    mu = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    both = {"mu": mu, "logvar": np.zeros_like(mu)}
    whole = clusters.columns(fact("a", 2, both, "grammar"))
    assert set(whole) == {"majority", "purity", "maxima"}
    assert whole["majority"] == max(labels.mean(), 1 - labels.mean())
    assert set(clusters.columns(fact("b", 2, {"mu": mu}, "grammar"))) == {"majority", "purity"}
    assert set(clusters.columns(fact("c", 4, both, "grammar"))) == {"majority"}
    assert set(clusters.columns(fact("d", 2, None, "grammar"))) == {"majority"}


def test_data_that_are_not_at_hand_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "available", lambda data: False)
    clusters._labels.cache_clear()
    assert clusters.columns(fact("e", 2, None, "grammar")) == {}
    clusters._labels.cache_clear()


def test_a_sample_of_seeds_is_what_the_ledger_reads() -> None:
    """The analytic checks are numbers a seed, so that they have an interval."""
    for number in ANALYTIC:
        for check in CLAIMS[number - 1].check(Evidence(pd.DataFrame())):
            assert isinstance(check.sample, Sample)
            assert len(check.values) == analytic_du.SEEDS


def test_every_budget_of_the_probe_is_a_column() -> None:
    assert list(ITEMS["table2"]["columns"].values()) == [f"probe_{n}" for n in BUDGETS]
