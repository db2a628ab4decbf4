"""Columns of the results beyond the metrics: what claims read off epochs, posteriors and labels."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vaelib.claims.clusters import columns
from vaelib.claims.dynamics import dynamics
from vaelib.claims.vae_mine import derived
from vaelib.run import Run

if TYPE_CHECKING:
    from vaelib.studies import Planned

Place = tuple[str, str, int]
# Of a run by itself, and of several runs together, by paper.
OF_A_RUN: dict[str, Callable[[Run], dict[str, float]]] = {
    "coupled_vae": dynamics,
    "du_vae": columns,
}
OF_ALL = {"vae_mine": derived}


def further(paper: str, found: Iterable[tuple["Planned", Run]]) -> dict[Place, dict[str, float]]:
    """Further columns of a study's results.

    Args:
        paper: The study's name.
        found: Its runs, as of `Study.found`.

    Returns:
        (data, label, seed) -> columns; nothing where the paper's claims need none.
    """
    if paper in OF_ALL:
        return OF_ALL[paper](found)
    if paper not in OF_A_RUN:
        return {}
    return {(p.data, p.label, p.seed): OF_A_RUN[paper](run) for p, run in found}
