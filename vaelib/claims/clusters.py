"""Columns of the results that need a run's posteriors or its data's labels: how well clusters show.

DU-VAE's Figure 1 is judged by eye: five groups of points, five bright spots. Here both become a
number. The figures of trained runs are `columns`; what they are made of can be used alone.
"""

from functools import cache

import numpy as np
import pandas as pd
import torch

from vaelib.config import Config
from vaelib.data import DATASETS, available, load
from vaelib.data.synthetic import MEANS, latents
from vaelib.data.texts import slice_indices
from vaelib.errors import VaelibError
from vaelib.run import Run

CLUSTERS = len(MEANS)
# The window holds all there is under N(0, I); a cell is less than half the narrowest DU-VAE
# posterior wide. With 2,000 posteriors a smooth hill has dents of several per cent of its height.
EXTENT, CELLS, PROMINENCE = 5.0, 100, 0.1
_known: dict[str, dict[str, float]] = {}


def columns(run: Run) -> dict[str, float]:
    """What a run's record does not say of itself, for `Study.results`.

    Returns:
        `majority`, the share of the most frequent label among the test examples, where the data
        have labels and are at hand; `purity` and `maxima` of test posteriors with labels in two
        dimensions, where they were kept. Nothing else, and nothing is downloaded.
    """
    name = str(run.entry.key)
    if name not in _known:
        labels = labels_of(run.config)
        _known[name] = {} if labels is None else _described(run, labels)
    return _known[name]


def _described(run: Run, labels: np.ndarray) -> dict[str, float]:
    found = {"majority": float(np.bincount(labels).max() / len(labels))}
    if run.config.latent_dim == 2 and run.entry.arrays_path is not None:
        mu, logvar = run.posterior["mu"], run.posterior.get("logvar")
        found["purity"] = purity(mu, labels)
        if logvar is not None:
            found["maxima"] = float(maxima(aggregated(mu, logvar)))
    return found


def labels_of(config: Config) -> np.ndarray | None:
    """The label of each test example of a run `[N]`, in the order of `Run.posterior`.

    None where the data have none, or are not on this machine.
    """
    return _labels(config.data, config.test_size)


def true_codes(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """What the test sentences of a run on `synthetic` were written from.

    Returns:
        Component `[N]` and code `[N, 2]` of each, in the order of `Run.posterior`.
    """
    component, z = (value.numpy() for value in latents()["test"])
    kept = slice_indices(len(z), config.test_size, "test")
    return component[kept], z[kept]


@cache
def _labels(data: str, size: int | None) -> np.ndarray | None:
    if data in DATASETS and not available(data):
        return None
    try:
        labels = load(data, train_size=1, valid_size=1, test_size=size).test.labels
    except VaelibError:  # a folder that is no longer there
        return None
    return None if labels is None else labels.numpy()


def purity(points: np.ndarray, labels: np.ndarray, clusters: int = CLUSTERS) -> float:
    """The share of points whose cluster has their label as its most frequent one.

    Args:
        points: `[N, D]`, put into clusters by k-means: the best of ten starts from a fixed seed.
        labels: `[N]`, whole numbers from 0.
        clusters: How many.

    Returns:
        From the share of the most frequent label up to 1.

    Raises:
        VaelibError: Points and labels differ in number, or there are fewer points than clusters.
    """
    from sklearn.cluster import KMeans

    if len(points) != len(labels) or len(points) < clusters:
        raise VaelibError(
            f"{len(points)} points, {len(labels)} labels, {clusters} clusters: give one label to "
            "each point, and at least as many points as clusters."
        )
    found = KMeans(clusters, n_init=10, random_state=0).fit_predict(np.asarray(points, float))
    table = np.zeros((clusters, int(np.max(labels)) + 1), int)
    np.add.at(table, (found, np.asarray(labels)), 1)
    return float(table.max(axis=1).sum() / len(points))


def aggregated(
    mu: np.ndarray, logvar: np.ndarray, extent: float = EXTENT, cells: int = CELLS
) -> np.ndarray:
    """Mean density of the aggregated posterior in each cell of [-extent, extent]^2.

    Args:
        mu, logvar: Posteriors `[N, 2]`.
        extent: Half a side.
        cells: Along a side.

    Returns:
        Density per unit area `[cells, cells]`, the first dimension along the rows.
    """
    edges = torch.linspace(-extent, extent, cells + 1, dtype=torch.float64)[:, None, None]
    m, v = (torch.as_tensor(np.asarray(x, float)) for x in (mu, logvar))
    shares = torch.special.ndtr((edges - m) * torch.exp(-0.5 * v)).diff(dim=0)
    whole = torch.einsum("an,bn->ab", shares[..., 0], shares[..., 1]) / len(m)
    return (whole * (cells / (2 * extent)) ** 2).numpy()


def maxima(density: np.ndarray, prominence: float = PROMINENCE) -> int:
    """Hills of a density: cells that one cannot leave upwards without going far down first.

    Args:
        density: On a grid `[A, B]`; cells touch at sides and corners.
        prominence: How far down is far, as a fraction of the highest value: smaller dents are
            noise of the sample.

    Returns:
        The number of hills, 1 or more.
    """
    from scipy import ndimage

    whole = np.asarray(density, float)
    depth, touching = prominence * whole.max(), np.ones((3, 3))
    tops = whole == ndimage.maximum_filter(whole, 3, mode="nearest")
    count = 0
    for place in np.argwhere(tops):
        top = whole[tuple(place)]
        islands, _ = ndimage.label(whole > top - depth, touching)
        count += whole[islands == islands[tuple(place)]].max() == top
    return int(count)


def selected(results: pd.DataFrame, families: dict[str, str], least: float = 1.0) -> pd.DataFrame:
    """What the paper's rule chooses of a grid: the lowest NLL among runs with enough information.

    Args:
        results: A results table of one data set; of several seeds the mean counts.
        families: Family of the study -> what to call it.
        least: Mutual information that a run must exceed, nats.

    Returns:
        A row a family: `family`, `label` (a dash where no run is informative), `nll_iw500`,
        `mi_global`, and of how many runs it was chosen, `runs`.
    """
    rows, columns = [], ["label", "nll_iw500", "mi_global"]
    for family, name in families.items():
        mine = results[results["family"] == family].reindex(columns=columns)
        means = mine.groupby("label", sort=False).mean()
        able = means[means["mi_global"] > least].sort_values("nll_iw500", kind="stable")
        best = able.head(1).rename_axis("label").reset_index().to_dict("records")
        row = best[0] if best else {"label": "–"}
        rows.append({"family": name, **row, "runs": len(means)})
    return pd.DataFrame(rows, columns=["family", *columns, "runs"])
