"""Coupled-VAE's pictures: right panels, points and names, legible on both pages."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from plot_helpers import check_fits, check_ink, words

from vaelib import plots
from vaelib.claims.coupled_vae import COUPLED, COUPLED_10, published_results
from vaelib.pages_coupled import LINES
from vaelib.plots.style import Picture

PRINTED = published_results()
SHARES = np.arange(1, 13) / 12


def results(seeds: int = 3) -> pd.DataFrame:
    """The printed numbers as if obtained on the grammar, a little apart from seed to seed."""
    numbers = PRINTED.select_dtypes("number").columns.drop("seed")
    frames = []
    for seed in range(seeds):
        frame = PRINTED.assign(data="grammar", seed=seed)
        frame[numbers] += 0.01 * seed
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def followed(data: tuple[str, ...] = ("grammar",)) -> pd.DataFrame:
    rows = []
    for place, where in enumerate(data):
        for label in ("DAE", "VAE", COUPLED_10):
            for seed in range(2):
                table = pd.DataFrame({"share": SHARES, "weight": (SHARES * 2.4).clip(max=1)})
                table["grad_rec"] = SHARES + seed
                table["grad_kl"] = 0.0 if label == "DAE" else 2 - SHARES
                table["grad_signal"] = 0.1 + SHARES + place
                if label == COUPLED_10:
                    table["grad_total"] = 10 * SHARES + seed
                rows.append(table.assign(data=where, label=label, seed=seed))
    return pd.concat(rows, ignore_index=True)


def tables() -> dict[str, pd.DataFrame]:
    return {"grammar": results(), "PTB (printed)": PRINTED}


PICTURES: dict[str, Callable[[], Picture]] = {
    "paths": plots.two_paths,
    "conditional": lambda: plots.two_paths(post=True),
    "twins": lambda: plots.twin_dots(tables()),
    "dynamics": lambda: plots.gradient_dynamics(followed(("grammar", "ptb"))),
    "match": lambda: plots.weight_curves(
        tables(), LINES["lambda_m"], ("kl", "bleu_1"), r"\lambda_m", "VAE"
    ),
    "dialogue": lambda: plots.weight_curves(
        tables(), LINES["dialogue"], ("distinct_1", "ppl_iw500"), r"\lambda_m", "CVAE"
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_fits_the_book(name: str, pictures: dict[str, Picture]) -> None:
    check_fits(pictures[name])
    check_ink(pictures[name])


@pytest.mark.parametrize(("post", "boxes", "arrows"), [(False, 14, 14), (True, 18, 20)])
def test_the_two_paths_share_the_encoder(post: bool, boxes: int, arrows: int) -> None:
    (axes,) = plots.two_paths(post).axes
    assert len([p for p in axes.patches if isinstance(p, FancyBboxPatch)]) == boxes
    assert len([p for p in axes.patches if isinstance(p, FancyArrowPatch)]) == arrows
    dashed = [p for p in axes.patches if p.get_linestyle() == "--"]
    assert len(dashed) == 1  # the match, which pulls one way


def test_a_dot_is_the_twin_less_its_base(pictures: dict[str, Picture]) -> None:
    ours, printed = (pictures["twins"].axes[i] for i in (0, 4))
    for axes in (ours, printed):
        assert axes.get_title() == "NLL (nats)"
        assert axes.get_yticklabels()[0].get_text() == "VAE"
        assert axes.get_yticklabels()[1].get_text() == "β(0.8)-VAE"
        found = axes.lines[0].get_xdata()
        assert found[0] == pytest.approx(103.1 - 103.6)
        assert len(found) == 11
    assert "coupled less alone; mean and 95 % interval over 3 seeds" in words(pictures["twins"])


def test_a_metric_that_some_methods_lack_leaves_their_places_empty() -> None:
    table = results()
    table.loc[table["label"].str.contains("NF"), "mi_skip_self"] = np.nan
    axes = plots.twin_dots({"grammar": table}, ("nll_iw500", "mi_skip_self")).axes
    assert [np.isfinite(np.asarray(a.lines[0].get_xdata(), float)).sum() for a in axes] == [11, 9]


def test_no_pairs_and_no_courses_are_said() -> None:
    assert "no runs yet" in words(plots.twin_dots({"grammar": pd.DataFrame()}))
    assert "no run tracked its gradients" in words(plots.gradient_dynamics(pd.DataFrame()))
    nothing = plots.weight_curves({}, LINES["lambda_r"], ("kl",), "w", "VAE")
    assert "no runs yet" in words(nothing)
    assert "as printed" in " ".join(words(plots.twin_dots({"PTB (printed)": PRINTED})))


def test_the_coupled_model_shows_both_reconstructions(pictures: dict[str, Picture]) -> None:
    first = pictures["dynamics"].axes[0]
    lines = {line.get_label(): line.get_ydata() for line in first.lines}
    assert lines["VAE"] == pytest.approx(SHARES + 0.5)  # the mean of two seeds
    coupled = next(y for name, y in lines.items() if "lambda" in str(name))
    assert coupled == pytest.approx(10 * SHARES + 0.5)
    assert "DAE" not in {line.get_label() for line in pictures["dynamics"].axes[1].lines}


def test_the_upright_line_is_where_the_weight_is_full(pictures: dict[str, Picture]) -> None:
    line = pictures["dynamics"].axes[0].lines[-1]
    assert line.get_xdata()[0] == pytest.approx(5 / 12)


def test_a_data_set_has_a_row_of_its_own(pictures: dict[str, Picture]) -> None:
    titles = [axes.get_title() for axes in pictures["dynamics"].axes]
    assert len(titles) == 6
    assert titles[2:4] == ["decoding signal, grammar", "reconstruction, ptb"]


def test_points_stand_at_their_weights(pictures: dict[str, Picture]) -> None:
    axes = pictures["match"].axes[2]  # printed KL
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "0.1", "1", "5", "10"]
    kernel = axes.lines[0]
    assert list(kernel.get_xdata()) == [1, 2, 3]  # KL at 0 and 10 is not printed
    assert list(kernel.get_ydata()) == [9.5, 10.7, 16.1]
    level = next(line for line in axes.lines if line.get_label() == "VAE")
    assert level.get_ydata()[0] == 8.6


def test_distinct_words_are_percentages(pictures: dict[str, Picture]) -> None:
    axes = pictures["dialogue"].axes[2]
    assert axes.get_title() == "Dist-1 (%)"
    assert list(axes.lines[0].get_ydata()) == pytest.approx([0.61, 0.71, 0.78, 0.86, 0.99])


def test_a_table_without_any_point_is_left_out() -> None:
    table = results()
    bare = table[table["label"] != COUPLED]
    bare = bare[~bare["label"].str.contains("Coupled-VAE")]
    figure = plots.weight_curves(
        {"grammar": bare, "PTB (printed)": PRINTED}, LINES["lambda_r"], ("kl",), "w", "VAE"
    )
    assert [axes.get_ylabel() for axes in figure.axes] == ["PTB (printed)"]
