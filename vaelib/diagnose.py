"""What a posterior says about its model: whether and where it collapsed, and whether it has holes.

For models trained anywhere: all that is needed are the means and log variances of q(z|x) on a set
of examples, as tensors or in a file.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vaelib.errors import VaelibError, check_name
from vaelib.metrics.closed_form import check_posteriors, kl_normal
from vaelib.metrics.information import mutual_information
from vaelib.metrics.units import ACTIVE, CONSISTENT, active_units, unit_divergences

NOTHING = 0.1  # nats of mutual information below which a model is called collapsed
NEAR_BOUND = 0.5  # nats below ln N from where the mutual information says "at least"
_DRAWS = 10_000  # latent samples behind the mutual information, at least
_NAMED = 8  # dimensions that a sentence lists
MOST_LOGVAR = 80.0  # single precision ends at 88
MOST_MU = 1e15
_ARRAYS = ("mu", "logvar", "log_likelihoods")


@dataclass(frozen=True)
class Diagnosis:
    """What was found. Nats, means over examples.

    Attributes:
        examples: N.
        dimensions: D.
        kl: KL(q(z|x) || p(z)).
        mi_global: Mutual information of data and latent code, at most `mi_bound` in expectation.
        mi_bound: ln N.
        au: Active units.
        cu_pq: Consistent units.
        collapse: "complete" where no unit is active or `mi_global` is below 0.1, "partial" where
            some unit is not active, else "none".
        distortion: -log p(x|z), if log likelihoods were given.
        nll_elbo: `distortion + kl`, likewise.
        units: A row a dimension: `kl`; `mean_variance`, the unbiased variance of the means;
            `variance`, the mean posterior variance; `divergence`, KL(p(z_i) || q(z_i)); `active`;
            `consistent`; `shape`, how q(z_i) differs from N(0, 1): "" (it does not), "shifted",
            "wide", "narrow", or "uneven" where mean and variance explain less than half.
    """

    examples: int
    dimensions: int
    kl: float
    mi_global: float
    mi_bound: float
    au: int
    cu_pq: int
    collapse: Literal["complete", "partial", "none"]
    distortion: float | None
    nll_elbo: float | None
    units: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values; `units` is a list of rows that begin with `dimension`."""
        rows = self.units.reset_index().to_dict("records")
        return {**vars(self), "units": rows, "summary": self.summary()}

    def summary(self) -> list[str]:
        """The findings in plain sentences."""
        size = f"{self.examples:,} posteriors of {self.dimensions} dimensions"
        return [
            f"{size}: KL {self.kl:.2f} nats, {self._information()}.",
            *([] if self.nll_elbo is None else [self._likelihood()]),
            self._collapse(),
            self._holes(),
        ]

    def _information(self) -> str:
        found = f"mutual information {max(self.mi_global, 0):.2f} nats"
        bound = f"ln N = {self.mi_bound:.2f}"
        if self.mi_global > self.mi_bound - NEAR_BOUND:
            return f"{found}, near the most that can be seen, {bound}; give more examples"
        return f"{found} of at most {bound}"

    def _likelihood(self) -> str:
        return f"Distortion {self.distortion:.2f} nats; NLL at most {self.nll_elbo:.2f} (the ELBO)."

    def _collapse(self) -> str:
        idle = _listed(self.units.index[~self.units["active"]])
        active = f"{self.au} of {self.dimensions} dimensions are active"
        if self.collapse == "none":
            return f"No collapse: {active}."
        if self.collapse == "partial":
            return f"Partial collapse: {active}; the others ({idle}) hardly depend on the input."
        told = f"Collapsed: {active}, and the code tells next to nothing about the input"
        wasted = f" although {self.kl:.2f} nats are paid for it" if self.kl > 2 * NOTHING else ""
        return f"{told}{wasted}."

    def _holes(self) -> str:
        off = self.units[~self.units["consistent"]]
        if off.empty:
            fits = "No holes seen: in each dimension the aggregated posterior matches the prior"
            trivial = ", as it does in every collapsed model" if self.collapse == "complete" else ""
            return f"{fits}{trivial}."
        kinds = [
            f"{shape}: {_listed(off.index[off['shape'] == shape])}"
            for shape in dict.fromkeys(off["shape"])
        ]
        return (
            f"Holes: in {len(off)} of {self.dimensions} dimensions the aggregated posterior does "
            f"not match the prior ({'; '.join(kinds)}); a sample from the prior can fall where no "
            "example is encoded."
        )


def _listed(dimensions: Sequence[int]) -> str:
    """Numbers of dimensions in words, a few of many."""
    shown = ", ".join(map(str, dimensions[:_NAMED]))
    return f"{shown} and {len(dimensions) - _NAMED} more" if len(dimensions) > _NAMED else shown


@torch.no_grad()
def diagnose(
    mu: Tensor | np.ndarray,
    logvar: Tensor | np.ndarray,
    log_likelihoods: Tensor | np.ndarray | None = None,
    generator: torch.Generator | None = None,
) -> Diagnosis:
    """Say whether and where a model has collapsed, and whether its latent space has holes.

    Args:
        mu: Posterior means `[N, D]`, N >= 2, best of a test set.
        logvar: Log variances `[N, D]`.
        log_likelihoods: log p(x|z) `[N]` in nats, one z each; adds the distortion and the ELBO.
        generator: Source of the samples behind the mutual information; None has seed 0.

    Raises:
        VaelibError: The shapes differ or a value is not finite.

    Example:
        >>> diagnose(torch.zeros(100, 2), torch.zeros(100, 2)).collapse
        'complete'
    """
    mu, logvar = (torch.as_tensor(value).double().cpu() for value in (mu, logvar))
    check_posteriors(mu, logvar)
    size, au = len(mu), active_units(mu, ACTIVE)
    units = _units(mu, logvar)
    rate = float(units["kl"].sum())
    samples = math.ceil(_DRAWS / size)
    mi = mutual_information(mu, logvar, samples=samples, generator=generator)
    distortion = None if log_likelihoods is None else -_mean(log_likelihoods, size)
    partial: Literal["partial", "none"] = "none" if au == mu.shape[1] else "partial"
    return Diagnosis(
        examples=size,
        dimensions=mu.shape[1],
        kl=rate,
        mi_global=mi,
        mi_bound=math.log(size),
        au=au,
        cu_pq=int(units["consistent"].sum()),
        collapse="complete" if au == 0 or mi < NOTHING else partial,
        distortion=distortion,
        nll_elbo=None if distortion is None else distortion + rate,
        units=units,
    )


def _mean(log_likelihoods: Tensor | np.ndarray, size: int) -> float:
    values = torch.as_tensor(log_likelihoods).double()
    if values.shape != (size,) or not torch.isfinite(values).all():
        raise VaelibError(
            f"the log likelihoods {list(values.shape)} are not one finite number for each of the "
            f"{size} examples; give log p(x|z) [N]."
        )
    return float(values.mean())


def _units(mu: Tensor, logvar: Tensor) -> pd.DataFrame:
    """The table of dimensions."""
    spread, variance = mu.var(0), logvar.exp().mean(0)
    columns = {
        "kl": kl_normal(mu, logvar).mean(0),
        "mean_variance": spread,
        "variance": variance,
        "divergence": unit_divergences(mu, logvar),
    }
    table = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
    table.index.name = "dimension"
    table["active"] = table["mean_variance"] >= ACTIVE
    table["consistent"] = table["divergence"] < CONSISTENT
    total = variance + mu.var(0, correction=0)
    shapes = map(_shape, mu.mean(0).tolist(), total.tolist(), table["divergence"])
    table["shape"] = ["" if ok else s for ok, s in zip(table["consistent"], shapes, strict=True)]
    return table


def _shape(mean: float, variance: float, divergence: float) -> str:
    """How a density with these moments, `divergence` nats from N(0, 1), differs from it."""
    shift = mean**2 / variance / 2
    scale = (math.log(variance) + 1 / variance - 1) / 2
    if shift + scale < divergence / 2:
        return "uneven"
    if shift > scale:
        return "shifted"
    return "wide" if variance > 1 else "narrow"


# ---------------------------------------------------------------- files


def read_posteriors(path: Path | str) -> dict[str, np.ndarray]:
    """Read posteriors from a file; nothing in it is ever executed.

    Args:
        path: An `.npz` with the arrays `mu` and `logvar` `[N, D]` and, if wanted,
            `log_likelihoods` `[N]`; or a `.csv` whose header names the columns `mu_0`, `mu_1`, ...,
            `logvar_0`, `logvar_1`, ... and, if wanted, `log_likelihoods`. Others are ignored.

    Returns:
        The arguments of `diagnose`.

    Raises:
        VaelibError: The file cannot be read, or lacks what it must hold.
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".csv": _read_csv}
    read = readers[check_name(path.suffix.lower(), readers, "ending of a file of posteriors")]
    try:
        found = read(path)
    except OSError:  # no such file: the message of the system says it
        raise
    except Exception as error:
        raise VaelibError(f"cannot read {path}: {error}; write it anew.") from error
    lacking = [name for name in _ARRAYS[:2] if name not in found]
    if lacking:
        raise VaelibError(
            f"{path} has no {' and no '.join(lacking)}; give means and log variances, in a .csv as "
            "columns mu_0, mu_1, ... and logvar_0, logvar_1, ..."
        )
    for name, values in found.items():
        if values.dtype.kind not in "fiu":
            raise VaelibError(f"{name} in {path} holds {values.dtype}, no numbers; write numbers.")
    if (np.abs(found["mu"]) > MOST_MU).any():
        raise VaelibError(
            f"mu in {path} is as large as {np.abs(found['mu']).max():.3g}; beyond {MOST_MU:.0g} no "
            "distance from the prior can be computed, so write it anew."
        )
    if (np.abs(found["logvar"]) > MOST_LOGVAR).any():
        raise VaelibError(
            f"logvar in {path} is as large as {np.abs(found['logvar']).max():.3g}; it is the "
            f"logarithm of a variance, and beyond {MOST_LOGVAR:.0f} that is no number here."
        )
    return found


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in _ARRAYS if name in arrays.files}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    table = pd.read_csv(path)
    if twice := [c for c in table.columns if re.fullmatch(r"(mu|logvar)_\d+\.\d+", c.strip())]:
        raise VaelibError(f"it has the column {twice[0].rpartition('.')[0]!r} twice")
    found = {}
    for name in _ARRAYS[:2]:
        numbered = {
            int(match[1]): column
            for column in table.columns
            if (match := re.fullmatch(rf"{name}_(\d+)", column.strip()))
        }
        if numbered:
            found[name] = table[[numbered[i] for i in sorted(numbered)]].to_numpy()
    if _ARRAYS[2] in table:
        found[_ARRAYS[2]] = table[_ARRAYS[2]].to_numpy()
    return found
