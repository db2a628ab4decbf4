"""What a posterior says about its model: whether and where it collapsed, and whether it has holes.

For models trained anywhere: all that is needed are the means and log variances of q(z|x) on a set
of examples, as tensors or in a file.
"""

import difflib
import math
import re
import zipfile
from collections.abc import Iterable, Sequence
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

NOTHING = 0.1  # nats of information below which a model, or a dimension of it, tells nothing
NEAR_BOUND = 0.5  # nats below ln N from where the mutual information says "at least"
_DRAWS = 10_000  # latent samples behind the mutual information, at least
_NAMED = 8  # dimensions that a sentence lists
MOST = {"mu": 1e15, "logvar": 80.0}  # beyond, single precision has no variance or distance
_SHARPEST = -25.0  # log variance beside a dimension's own scale; below, double precision is lost
_ARRAYS = ("mu", "logvar", "log_likelihoods")
_OTHER_NAMES = dict.fromkeys(("log_px", "log_p_x", "log_pxz"), _ARRAYS[2:])


@dataclass(frozen=True)
class Diagnosis:
    """What was found. Nats, means over examples.

    Attributes:
        examples: N.
        dimensions: D.
        kl: KL(q(z|x) || p(z)).
        mi_global: Mutual information of data and latent code, at most `mi_bound` in expectation.
            Taken in units of each dimension's scale, posteriors below 4e-6 of it widened to that,
            so that it never is too large.
        mi_bound: ln N.
        divergence: KL(q(z) || p(z)) of the whole code, `kl - mi_global`; None where the mutual
            information is within 0.5 of its bound, and so too small.
        au: Active units.
        cu_pq: Consistent units.
        collapse: "complete" where `mi_global` is below 0.1, "partial" where some unit is not active
            and tells less than 0.1 nats, else "none".
        distortion: -log p(x|z), if log likelihoods were given.
        nll_elbo: `distortion + kl`, likewise.
        units: A row a dimension: `kl`; `mean_variance`, the unbiased variance of the means;
            `variance`, the mean posterior variance; `divergence`, KL(p(z_i) || q(z_i)); `mi`, the
            mutual information of data and z_i, `kl` less KL(q(z_i) || p(z_i)); `active`;
            `consistent`; `shape`, how q(z_i) differs from N(0, 1): "" (it does not), "shifted",
            "wide", "narrow", or "uneven" where mean and variance explain less than half.
    """

    examples: int
    dimensions: int
    kl: float
    mi_global: float
    mi_bound: float
    divergence: float | None
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
        noise = f"{self._noise():.2f}"
        give = "" if float(noise) == 0 else f" (give or take {noise})"
        found = f"mutual information {max(self.mi_global, 0):.2f} nats{give}"
        bound = f"ln N = {self.mi_bound:.2f}"
        if self.divergence is None:
            return f"{found}, near the most that can be seen, {bound}; give more examples"
        return f"{found} of at most {bound}"

    def _likelihood(self) -> str:
        return f"Distortion {self.distortion:.2f} nats; NLL at most {self.nll_elbo:.2f} (the ELBO)."

    def _collapse(self) -> str:
        still = self.units[~self.units["active"]]
        idle = _listed(still.index[still["mi"] < NOTHING])
        are = "dimensions are" if self.dimensions > 1 else "dimension is"
        active = f"{self.au} of {self.dimensions} {are} active"
        told = _listed(still.index[still["mi"] >= NOTHING])
        if told:
            active += f" (AU counts means that vary; {told} tell of the input none the less, by "
            active += "means of a small scale or by their variances)"
        if self.collapse == "none":
            return f"No collapse: {active}."
        if self.collapse == "partial":
            which = f"dimensions {idle}" if told or not self.au else f"the others ({idle})"
            return f"Partial collapse: {active}; {which} hardly depend on the input."
        told = f"Collapsed: {active}, and the code tells next to nothing about the input"
        wasted = f" although {self.kl:.2f} nats are paid for it" if self.kl > 2 * NOTHING else ""
        return f"{told}{wasted}."

    def _holes(self) -> str:
        off = self.units[~self.units["consistent"]]
        if off.empty:
            return self._joint_holes()
        kinds = [
            f"{shape}: {_listed(off.index[off['shape'] == shape])}"
            for shape in dict.fromkeys(off["shape"])
        ]
        return (
            f"Holes: in {len(off)} of {self.dimensions} dimensions the aggregated posterior does "
            f"not match the prior ({'; '.join(kinds)}); a sample from the prior can fall where no "
            "example is encoded."
        )

    def _noise(self) -> float:
        """Nats that the mutual information, estimated by samples, has for a standard error."""
        return math.sqrt(self.dimensions / 2 / max(self.examples, _DRAWS))

    def _joint_holes(self) -> str:
        """What the whole code says where every single dimension matches the prior."""
        fits = "in each dimension the aggregated posterior matches the prior"
        if self.collapse == "complete":
            return f"No holes seen: {fits}, as it does in every collapsed model."
        if self.divergence is None:
            return f"No holes seen: {fits}; whether all together do takes more examples to see."
        shared = self.divergence - float((self.units["kl"] - self.units["mi"]).sum())
        if shared < NOTHING + 3 * self._noise():
            return f"No holes seen: {fits}, and so do all together."
        return (
            f"Holes between dimensions: {fits}, but they depend on one another ({shared:.2f} nats "
            "of total correlation), so that a sample from the prior can fall where no example is "
            "encoded."
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
        generator: Source of the samples behind the mutual information; None is a fresh one with a
            fixed seed.

    Raises:
        VaelibError: The shapes differ, or a value is not finite or beyond what can be computed.

    Example:
        >>> diagnose(torch.zeros(100, 2), torch.zeros(100, 2)).collapse
        'complete'
    """
    mu, logvar = (torch.asarray(value, copy=True).double().cpu() for value in (mu, logvar))
    check_posteriors(mu, logvar)
    _check_size(mu=mu, logvar=logvar)
    size, au, units = len(mu), active_units(mu, ACTIVE), _units(mu, logvar)
    rate = float(units["kl"].sum())
    mi = _information(mu, logvar, generator)
    distortion = None if log_likelihoods is None else -_mean(log_likelihoods, size)
    idle = bool((~units["active"] & (units["mi"] < NOTHING)).any())
    return Diagnosis(
        examples=size,
        dimensions=mu.shape[1],
        kl=rate,
        mi_global=mi,
        mi_bound=math.log(size),
        divergence=rate - mi if mi <= math.log(size) - NEAR_BOUND else None,
        au=au,
        cu_pq=int(units["consistent"].sum()),
        collapse="complete" if mi < NOTHING else "partial" if idle else "none",
        distortion=distortion,
        nll_elbo=None if distortion is None else distortion + rate,
        units=units,
    )


def _check_size(**given: Tensor) -> None:
    """Refuse means and log variances that no distance or variance can be computed of."""
    for name, values in given.items():
        most = float(values.abs().max())
        if most > MOST[name]:
            raise VaelibError(
                f"{name} is as large as {most:.3g}, and beyond {MOST[name]:.3g} nothing can be "
                "computed; give means [N, D] and logarithms of variances [N, D]."
            )


def _information(mu: Tensor, logvar: Tensor, generator: torch.Generator | None) -> float:
    """`mi_global` with each dimension in units of its scale, which changes no information.

    A posterior sharper than double precision resolves is widened: that only loses information.
    """
    scale = (mu.var(0, correction=0) + logvar.exp().mean(0)).sqrt()
    mu, logvar = (mu - mu.mean(0)) / scale, (logvar - 2 * scale.log()).clamp(min=_SHARPEST)
    samples = math.ceil(_DRAWS / len(mu))
    return mutual_information(mu, logvar, samples=samples, generator=generator)


def _mean(log_likelihoods: Tensor | np.ndarray, size: int) -> float:
    values = torch.asarray(log_likelihoods, copy=True).double()
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
    columns["mi"] = columns["kl"] - unit_divergences(mu, logvar, "q||p")
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
            `logvar_0`, `logvar_1`, ... and, if wanted, `log_likelihoods`. Others are ignored,
            unless they are nearly called like one of these.

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
    return found


def _refuse_near_misses(names: Iterable[str]) -> None:
    """What is nearly called like something that would be read is not silently left out."""
    numbered = {name: re.sub(r"_\d+(\.\d+)?$", "", name) for name in names}
    for name in [name for name, said in numbered.items() if said not in _ARRAYS]:
        said = numbered[name].casefold()
        if near := difflib.get_close_matches(said, _ARRAYS, 1, 0.8) or _OTHER_NAMES.get(said):
            raise VaelibError(f"it holds {name!r}, which is not read; name it {near[0]!r}")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if path.is_file() and not zipfile.is_zipfile(path):
        raise VaelibError("it is no .npz archive")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        _refuse_near_misses(arrays.files)
        return {name: arrays[name] for name in _ARRAYS if name in arrays.files}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    table = pd.read_csv(path).rename(columns=str.strip)
    _refuse_near_misses(table.columns)
    if not isinstance(table.index, pd.RangeIndex):
        raise VaelibError("its rows have more fields than its header names")
    if twice := [c for c in table.columns if re.fullmatch(r"(mu|logvar)_\d+\.\d+", c)]:
        raise VaelibError(f"it has the column {twice[0].rpartition('.')[0]!r} twice")
    numbered: dict[str, dict[int, str]] = {}
    for column in table.columns:
        if match := re.fullmatch(r"(mu|logvar)_(\d+)", column):
            first = numbered.setdefault(match[1], {}).setdefault(int(match[2]), column)
            if first is not column:
                raise VaelibError(f"it has both {first!r} and {column!r}, of one dimension")
    if apart := set(numbered.get("mu", ())) ^ set(numbered.get("logvar", numbered.get("mu", ()))):
        raise VaelibError(f"mu_{min(apart)} and logvar_{min(apart)} are not both there")
    places = {name: numbered[name] for name in _ARRAYS if name in numbered}
    found = {n: table[[at[i] for i in sorted(at)]].to_numpy() for n, at in places.items()}
    if _ARRAYS[2] in table:
        found[_ARRAYS[2]] = table[_ARRAYS[2]].to_numpy()
    return found
