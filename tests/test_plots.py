"""Pictures of fabricated results: right axes, labels and numbers, legible on both pages."""

import re
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from plot_helpers import check_fits, check_ink, words

from vaelib import plots
from vaelib.claims import interval
from vaelib.claims.dg_vae import published_results
from vaelib.errors import VaelibError
from vaelib.plots.curves import points
from vaelib.plots.posteriors import family_of, ranking
from vaelib.plots.style import COLORS, INK, LOOKS, Picture
from vaelib.studies import Study, grid
from vaelib.toy import METHODS, toy

DEFAULT = "DG-VAE(default)"
ROUGE = [f"rouge_l_{i:02}" for i in range(11)]
METRICS = ["kl", "mi_global", "au", "cu_pq", "prior_ll", "post_ll"]
LIGHT, DARK = (1.0, 1.0, 1.0), to_rgb("#121212")


def fabricate(data: str = "grammar", seeds: int = 3, only: tuple[str, ...] = ()) -> pd.DataFrame:
    """The study's grid with numbers that say where they came from: row + seed / 10."""
    rows = []
    for number, run in enumerate(grid("dg_vae")):
        about = {k: run[k] for k in ("label", "family", "method", "value")}
        for seed in range(seeds):
            values = {m: -10.0 * i - number + seed / 10 for i, m in enumerate(METRICS)}
            values |= dict.fromkeys(ROUGE, 0.3 + number / 1000 + seed / 100)
            where = {"data": data, "profile": "laptop", "seed": seed, "stale": False}
            rows.append(about | where | values)
    table = pd.DataFrame(rows)
    return table[table["label"].isin(only)] if only else table


def posterior(n: int = 400, d: int = 4, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scale = spread / np.arange(1, d + 1)
    mu = rng.normal(size=(n, d)) * scale
    return mu.astype(np.float32), np.full((n, d), -1.0, dtype=np.float32)


HISTORY = pd.DataFrame(
    {
        "step": np.arange(1, 401),
        "epoch": np.repeat(np.arange(4), 100),
        "lr": 0.001,
        "weight": np.linspace(0, 1, 400),
        "loss": 9.0,
        "distortion": np.linspace(50, 30, 400),
        "rate": 3.0,
        "regulariser": 2.0,
        "bag_of_words": 1.0,
        "grad_encoder": 1.0,
        "grad_decoder": 2.0,
        "grad_norm": 3.0,
    }
)
EPOCHS = pd.DataFrame({"epoch": range(4), "valid_distortion": 31.0, "valid_rate": 2.5})
PANELS = [("VAE (default)", *posterior(spread=0.01)), ("DG-VAE(default)", *posterior())]

PICTURES: dict[str, Callable[[], Picture]] = {
    "posteriors": lambda: plots.posterior_panels(PANELS),
    "dimensions": lambda: plots.dimension_panels(*posterior(d=16)),
    "activity": lambda: plots.activity(PANELS),
    "likelihood": lambda: plots.likelihood_curves(fabricate()),
    "printed": lambda: plots.likelihood_curves(fabricate(), printed=published_results()),
    "tradeoff": lambda: plots.tradeoff(fabricate()),
    "interpolation": lambda: plots.interpolation_curves(fabricate()),
    "aggregation": lambda: plots.aggregation_curve(fabricate(), published_results()),
    "history": lambda: plots.history(HISTORY, EPOCHS),
}


def contrast(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """The ratio of WCAG 2."""

    def luminance(color: tuple[float, float, float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


# ---- Every picture --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_fits_the_book(name: str, pictures: dict[str, Picture]) -> None:
    check_fits(pictures[name])
    check_ink(pictures[name])


def test_svg_is_the_same_each_time_and_whatever_the_settings(pictures: dict[str, Picture]) -> None:
    first = pictures["tradeoff"]._repr_svg_()
    with mpl.rc_context({"text.color": "red", "xtick.color": "red", "font.size": 30}):
        second = PICTURES["tradeoff"]().svg()
    assert first == second
    assert re.match(r"<\?xml", first)
    assert INK in first


def test_pictures_leave_no_trace_in_the_settings() -> None:
    before = dict(mpl.rcParams)
    PICTURES["history"]()
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("color", sorted({INK, *COLORS, *(look.color for look in LOOKS.values())}))
def test_colours_stand_out_on_both_pages(color: str) -> None:
    assert contrast(to_rgb(color), LIGHT) > 2.9
    assert contrast(to_rgb(color), DARK) > 2.9


def test_families_differ_by_more_than_colour() -> None:
    drawn = [(look.marker, str(look.line)) for look in LOOKS.values()]
    assert len(set(drawn)) == len(drawn)
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


@pytest.mark.parametrize(
    "make",
    [
        plots.likelihood_curves,
        plots.tradeoff,
        plots.interpolation_curves,
        plots.aggregation_curve,
    ],
)
def test_no_results_is_said_so(make: Callable[[pd.DataFrame], Picture]) -> None:
    nothing = pd.DataFrame([], columns=["label", "family", "data", "seed"])
    assert words(make(nothing)) == ["no runs yet"]


def test_no_posteriors_is_said_so() -> None:
    assert words(plots.posterior_panels([])) == ["no runs yet"]
    assert words(plots.activity([])) == ["no runs yet"]


# ---- The latent space -----------------------------------------------------------------------


def test_a_density_integrates_to_one() -> None:
    mu, logvar = posterior()
    density = plots.density_grid(mu, logvar, dims=(2, 3), size=200)
    assert density.sum() * (10 / 200) ** 2 == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("sigma", [1e-4, 0.01, 0.02])
def test_posteriors_narrower_than_a_cell_keep_their_mass(sigma: float) -> None:
    mu = np.random.default_rng(1).uniform(-3, 3, (50, 2))
    density = plots.density_grid(mu, np.full((50, 2), 2 * np.log(sigma)))
    assert density.sum() * (10 / 500) ** 2 == pytest.approx(1, abs=1e-3)


def test_a_density_is_that_of_the_prior_where_posteriors_are() -> None:
    density = plots.density_grid(torch.zeros(7, 2), torch.zeros(7, 2), size=501)
    place = np.linspace(-5, 5, 502)
    middle = (place[1:] + place[:-1]) / 2
    one = np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi)
    assert np.abs(density - np.outer(one, one)).max() < 2e-5


def test_the_first_dimension_runs_across() -> None:
    density = plots.density_grid(np.array([[3.0, -2.0]]), np.full((1, 2), -4.0), size=100)
    row, column = np.unravel_index(density.argmax(), density.shape)
    assert column == pytest.approx(80, abs=1)
    assert row == pytest.approx(30, abs=1)


def test_dimensions_are_ranked_by_the_variance_of_their_means() -> None:
    mu = np.array([[0.0, 3.0, 1.0], [0.1, -3.0, -1.0]])
    assert ranking(mu).tolist() == [1, 2, 0]


def test_panels_show_the_two_most_active_dimensions() -> None:
    mu = np.zeros((600, 5), dtype=np.float32)
    mu[:, 3], mu[:, 1] = np.linspace(-4, 4, 600), np.linspace(-2, 2, 600)
    figure = plots.posterior_panels([("BN-VAE(1.2)", mu, np.zeros_like(mu))])
    above, below = figure.axes[:2]
    assert above.get_title() == "BN-VAE(1.2)"
    assert above.images[0].get_clim() == (0, 0.25)
    assert above.images[0].get_cmap().name == "hot"
    shown = np.asarray(below.collections[0].get_offsets())
    assert np.array_equal(shown, mu[:, [3, 1]])
    assert below.collections[0].get_rasterized()


def test_twenty_four_panels_stand_in_four_rows_of_six() -> None:
    panels = [(f"FB-VAE({i})", *posterior(40, 2)) for i in range(24)]
    figure = plots.posterior_panels(panels)
    boxes = [axes.get_position() for axes in figure.axes[:48]]
    assert len({round(b.x0, 4) for b in boxes}) == 6
    assert len({round(b.y0, 4) for b in boxes}) == 8
    assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


def rows_of(figure: Picture) -> list[list[str]]:
    """The titles of a picture's panels, row by row, in the order across."""
    places: dict[float, list[tuple[float, str]]] = {}
    for axes in figure.axes:
        if axes.get_title():
            box = axes.get_position()
            places.setdefault(round(box.y0, 4), []).append((box.x0, axes.get_title()))
    return [[title for _, title in sorted(row)] for _, row in sorted(places.items(), reverse=True)]


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_figure_4_has_a_row_a_family_in_the_declared_order(profile: str) -> None:
    study = Study("dg_vae", profile, data=["grammar"], seeds=[0])
    planned = {plan.label for plan in study.planned()}
    labels = [label for label in study.labels_of("figure4") if label in planned]
    panels = [(label, *posterior(30, 2)) for label in labels]
    found = rows_of(plots.posterior_panels(panels, families=study.item("figure4")["rows"]))
    declared = [
        [f"BN-VAE({g})" for g in (0.6, 0.7, 0.9, 1.2, 1.5, 1.8)],
        [f"FB-VAE({t})" for t in (4, 9, 16, 25, 36, 49)],
        ["VAE (default)", *(f"β-VAE({b})" for b in (0.8, 0.4, 0.2, 0.1, 0.0))],
        [f"DG-VAE(|b|={b})" for b in (1, 2, 4, 8, 16, 32)],
    ]
    there = {label.replace("beta-", "β-") for label in labels}
    assert found == [[label for label in row if label in there] for row in declared]
    assert profile == "smoke" or found == declared


def test_rows_of_families_without_a_model_are_left_out() -> None:
    panels = [(label, *posterior(30, 2)) for label in ("VAE (default)", "DG-VAE(|b|=1)")]
    assert rows_of(plots.posterior_panels(panels, families=["BN", "DG"])) == [["DG-VAE(|b|=1)"]]
    assert words(plots.posterior_panels(panels, families=["BN"])) == ["no runs yet"]


def test_more_than_six_pairs_of_dimensions_wrap() -> None:
    pairs = [(i, i + 1) for i in range(0, 16, 2)]
    assert [len(row) for row in rows_of(plots.dimension_panels(*posterior(50, 16), pairs))] == [
        6,
        2,
    ]


def test_ten_thousand_posteriors_keep_a_small_svg() -> None:
    figure = plots.posterior_panels([("DG-VAE(default)", *posterior(10_000, 2))])
    assert len(figure.svg()) < 400_000


def test_pairs_beyond_the_latent_size_are_left_out() -> None:
    shown = words(plots.dimension_panels(*posterior(50, 16), about="VAE, on grammar"))
    titles = [t for t in shown if "ranks" in t]
    assert any("VAE, on grammar" in t for t in shown)
    assert titles == ["ranks 1, 2", "ranks 7, 8", "ranks 13, 14"]
    with pytest.raises(VaelibError, match="ranks"):
        plots.dimension_panels(*posterior(50, 2), pairs=[(6, 7)])


def test_one_dimension_makes_no_panel() -> None:
    with pytest.raises(VaelibError, match="two latent dimensions"):
        plots.posterior_panels([("VAE", *posterior(20, 1))])


def test_the_toy_has_a_column_a_step_and_two_rows_a_method() -> None:
    found = toy(seeds=[1], steps=4, every=2)
    figure = plots.toy_snapshots(found.of_seed(1))
    panels = figure.axes[:-1]
    assert len(panels) == 2 * 2 * len(METHODS)
    assert [t for t in words(figure) if "step" in t] == ["step 2", "step 4"]
    names = [axes.get_ylabel() for axes in panels if axes.get_ylabel()]
    assert names[:2] == ["VAE\ndensity", "VAE\ncentres"]
    assert names[-1] == "DG-VAE\ncentres"


def test_the_toy_shows_one_seed() -> None:
    found = toy(["vae"], seeds=[0, 1], steps=1, every=1)
    with pytest.raises(VaelibError, match="one seed"):
        plots.toy_snapshots(found.snapshots)


def test_activity_is_drawn_against_its_thresholds(pictures: dict[str, Picture]) -> None:
    variance, kl, divergence = pictures["activity"].axes
    active = variance.lines[1].get_ydata()
    assert active.shape == (4,)
    assert (np.diff(active) <= 0).all()
    assert variance.lines[-1].get_ydata()[0] == 0.01
    assert divergence.lines[-1].get_ydata()[0] == 0.03
    own = 0.5 * (np.square(posterior()[0]).mean(axis=0) + np.exp(-1) + 1 - 1)
    assert kl.lines[1].get_ydata() == pytest.approx(own, rel=1e-4)


@pytest.mark.parametrize(
    ("label", "family"),
    [("VAE (default)", "VAE"), ("BN-VAE(0.6)", "BN"), ("DG-vMF-VAE(13)", "DG-vMF")],
)
def test_a_label_tells_its_family(label: str, family: str) -> None:
    assert family_of(label) == family


# ---- Curves ---------------------------------------------------------------------------------


def test_points_are_in_the_order_of_the_paper() -> None:
    table = fabricate(seeds=1)
    order = {f: points(table, f)["point"].to_list() for f in ("BN", "beta", "DG")}
    assert order["BN"] == ["0.6", "0.7", "0.9", "1.2", "1.5", "1.8"]
    assert order["beta"] == ["1", "0.8", "0.4", "0.2", "0.1", "0"]
    assert order["DG"] == ["1", "2", "4", "8", "16", "32", "all"]


def test_the_vae_is_the_end_of_the_beta_curve() -> None:
    table = fabricate(seeds=1)
    first = points(table, "beta").iloc[0]
    assert first["label"] == "VAE (default)"


def test_likelihoods_are_means_with_the_interval_over_seeds() -> None:
    table = fabricate()
    figure = plots.likelihood_curves(table, ["BN"])
    prior, post = figure.axes[0].containers
    mine = table[table["family"] == "BN"].groupby("label", sort=False)
    assert prior.lines[0].get_ydata() == pytest.approx(mine["prior_ll"].mean())
    assert post.lines[0].get_ydata() == pytest.approx(mine["post_ll"].mean())
    low, high = interval(mine["prior_ll"].get_group("BN-VAE(0.6)").to_list())
    bar = prior.lines[2][0].get_segments()[0]
    assert bar[:, 1] == pytest.approx([low, high])


def test_one_seed_has_no_bars() -> None:
    figure = plots.likelihood_curves(fabricate(seeds=1), ["BN"])
    assert not figure.axes[0].containers[0].has_yerr
    assert any("one seed, no interval" in t for t in words(figure))


def test_several_data_sets_are_columns_of_one_scale() -> None:
    table = pd.concat([fabricate("grammar"), fabricate("ptb", only=("BN-VAE(0.6)",))])
    figure = plots.likelihood_curves(table, ["BN", "FB"])
    assert [axes.get_title() for axes in figure.axes] == [
        "BN-VAE, grammar",
        "BN-VAE, ptb",
        "FB-VAE, grammar",
        "FB-VAE, ptb",
    ]
    a, _, b, empty = figure.axes
    assert a.get_ylim() == b.get_ylim()
    assert [t.get_text() for t in empty.texts] == ["no runs yet"]
    assert len(a.get_yticks()) > 2  # an empty neighbour takes no ticks away


def test_figure_2_has_the_printed_curves_in_a_grey_column_of_their_own() -> None:
    table = pd.concat([fabricate("grammar"), fabricate("ptb")])
    figure = plots.likelihood_curves(table, printed=published_results())
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "BN-VAE,\ngrammar",
        "BN-VAE,\nptb",
        "BN-VAE,\nyahoo (printed)",
    ]
    printed = published_results().set_index("label")
    for axes, labels in (
        (figure.axes[2], [f"BN-VAE({g})" for g in (0.6, 0.7, 0.9, 1.2, 1.5, 1.8)]),
        (figure.axes[11], [*(f"DG-VAE(|b|={b})" for b in (1, 2, 4, 8, 16, 32)), DEFAULT]),
    ):
        prior, post = (c.lines[0] for c in axes.containers)
        assert prior.get_ydata() == pytest.approx(printed.loc[labels, "prior_ll"])
        assert post.get_ydata() == pytest.approx(printed.loc[labels, "post_ll"])
        assert prior.get_color() == post.get_color() == prior.get_markerfacecolor() == INK
        assert post.get_markerfacecolor() == "none"
    assert figure.axes[0].containers[0].lines[0].get_color() != INK
    assert figure.axes[0].get_ylim() != figure.axes[2].get_ylim()
    assert any("compare directions only" in t and "yahoo, D = 32" in t for t in words(figure))


def test_two_families_can_share_a_panel() -> None:
    figure = plots.likelihood_curves(fabricate(), [("vMF", "DG-vMF")])
    assert len(figure.axes) == 1
    assert len(figure.axes[0].containers) == 4
    assert "DG-vMF-VAE" in words(figure)
    assert figure.axes[0].get_xlabel() == "κ"


def test_the_trade_off_is_posterior_against_prior() -> None:
    table = fabricate()
    axes = plots.tradeoff(table, ["FB"]).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("postLL (nats)", "priorLL (nats)")
    mine = table[table["family"] == "FB"].groupby("label", sort=False)
    line = axes.containers[0].lines[0]
    assert line.get_xdata() == pytest.approx(mine["post_ll"].mean())
    assert line.get_ydata() == pytest.approx(mine["prior_ll"].mean())
    low, high = axes.get_xlim()
    assert low < line.get_xdata().min() < line.get_xdata().max() < high


def test_interpolations_have_eleven_points_and_the_vae_in_every_panel() -> None:
    figure = plots.interpolation_curves(fabricate())
    assert [axes.get_title() for axes in figure.axes] == ["BN-VAE", "FB-VAE", "β-VAE", "DG-VAE"]
    for axes, size in zip(figure.axes, (6, 6, 5, 7), strict=True):
        assert len(axes.lines) == size + 1
        assert axes.lines[0].get_label() == "VAE"
        assert all(len(line.get_xdata()) == 11 for line in axes.lines)
        assert len(axes.collections) == size + 1
        drawn = {(x.get_color(), x.get_marker()) for x in axes.lines}
        assert len(drawn) == size + 1


def test_interpolations_of_two_data_sets_are_refused() -> None:
    with pytest.raises(VaelibError, match="one data set"):
        plots.interpolation_curves(pd.concat([fabricate(), fabricate("ptb")]))


def test_printed_values_stand_apart_from_obtained_ones() -> None:
    figure = plots.aggregation_curve(fabricate(), published_results())
    ours, theirs = (half.axes for half in figure.subfigs)
    assert [len(ours), len(theirs)] == [6, 6]
    assert "other data" in figure.subfigs[1].get_suptitle()
    line = theirs[0].containers[0].lines[0]
    assert line.get_ydata() == pytest.approx([0.0, 4.1, 14.3, 32.1, 57.6, 65.2, 70.8])
    assert line.get_markerfacecolor() == "none"
    assert ours[0].containers[0].lines[0].get_markerfacecolor() != "none"
    ticks = [tick.get_text() for tick in theirs[0].get_xticklabels()]
    assert ticks == ["1", "2", "4", "8", "16", "32", "all"]


def test_data_sets_of_the_ablation_are_told_apart() -> None:
    table = pd.concat([fabricate(data) for data in ("grammar", "ptb", "snli", "yelp")])
    lines = [c.lines[0] for c in plots.aggregation_curve(table).axes[0].containers]
    assert len({line.get_color() for line in lines}) == len(lines) == 4
    assert len({line.get_marker() for line in lines}) == 4


def test_without_printed_values_there_is_one_part() -> None:
    assert len(plots.aggregation_curve(fabricate()).subfigs) == 1


# ---- Training -------------------------------------------------------------------------------


def test_history_shows_every_logged_part(pictures: dict[str, Picture]) -> None:
    distortion, latent, weight, norms = pictures["history"].axes
    labels = {line.get_label() for line in latent.lines}
    assert labels == {"rate", "regulariser", "bag of words", "validation rate"}
    assert len(distortion.lines[0].get_xdata()) == 200
    assert distortion.lines[0].get_ydata().mean() == pytest.approx(40)
    assert distortion.lines[1].get_xdata().tolist() == [100, 200, 300, 400]
    assert weight.lines[0].get_ydata().max() == pytest.approx(1, abs=0.01)
    assert norms.get_yscale() == "log"


def test_history_needs_no_epochs() -> None:
    assert len(plots.history(HISTORY.head(7)).axes[0].lines) == 1
