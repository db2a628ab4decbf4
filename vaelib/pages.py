"""The tables of the book's pages, as DataFrames made of results, ledgers and registries."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vaelib.backbones import BACKBONES
from vaelib.config import profiles
from vaelib.errors import VaelibError
from vaelib.run import Run
from vaelib.store import read_json
from vaelib.studies import Study

SHOWN = ("prior_ll", "post_ll", "nll_iw500", "kl", "mi_global", "au", "cu_pq", "cu_qp")


def means(results: pd.DataFrame, by: str) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every numeric column, as "mean ± sd"."""
    groups = results.drop(columns=["seed", "profile"], errors="ignore").groupby(by, sort=False)
    mean, sd = groups.mean(), groups.std(ddof=1)
    text = {c: [_spread(m, s) for m, s in zip(mean[c], sd[c], strict=True)] for c in mean}
    return pd.DataFrame(text, index=mean.index).reset_index()


def _spread(mean: float, sd: float) -> str:
    if pd.isna(mean):
        return "–"
    number = "{:.3f}".format if abs(mean) < 1000 else "{:,.0f}".format
    return number(mean) if pd.isna(sd) else f"{number(mean)} ± {number(sd)}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def statistics(
    rows: Iterable[dict[str, Any]], number: Callable[[Any], str] = _number
) -> pd.DataFrame:
    """Data sets, "published | obtained" in each cell (DG-VAE Table 1).

    Args:
        rows: As of `vaelib.data.statistics_table`.
        number: How a number, or None, is written.
    """
    names = {"n_train": "train", "n_valid": "valid", "n_test": "test"}
    names |= {"vocab_size": "vocabulary", "length_mean": "mean length", "length_std": "sd length"}
    table = []
    for row in rows:
        pairs = {n: (row["published"].get(k), row["statistics"].get(k)) for k, n in names.items()}
        cells = {n: " | ".join(map(number, pair)) for n, pair in pairs.items()}
        table.append({"id": row["id"], "at hand": "yes" if row["available"] else "no", **cells})
    return pd.DataFrame(table)


def interpolations(study: Study, item: str, data: str) -> pd.DataFrame:
    """The first interpolation of each of an item's runs: a row a step, a column a model."""
    columns: dict[str, list[str]] = {}
    for label, run in study.first_runs(item, data).items():
        pair = run.texts["interpolations"][0]
        path = [" ".join(words) for words in pair["path"]]
        columns[label] = [f"[a] {' '.join(pair['a'])}", *path, f"[b] {' '.join(pair['b'])}"]
    longest = max((len(c) for c in columns.values()), default=0)
    steps = ["a", *(f"{i / max(1, longest - 3):.1f}" for i in range(longest - 2)), "b"]
    return pd.DataFrame({"lambda": steps, **columns}) if columns else pd.DataFrame()


def samples(study: Study, item: str, data: str, count: int | None = None) -> pd.DataFrame:
    """The first `count` sentences (None: all) that an item's runs drew from the prior, by label."""
    first = study.first_runs(item, data)
    written = {label: run.texts["samples"][:count] for label, run in first.items()}
    return pd.DataFrame({x: [" ".join(words) for words in rows] for x, rows in written.items()})


def runs(found: Mapping[str, Run]) -> pd.DataFrame:
    """The main metrics of some runs, a row a run."""
    rows = [{"run": name, **{k: run.metrics[k] for k in SHOWN}} for name, run in found.items()]
    return pd.DataFrame(rows).round(2)


def ledger(claims: pd.DataFrame) -> pd.DataFrame:
    """What a page shows of the ledger: the short columns, and below them the notes.

    Returns:
        A row a claim and data set. `attrs["details"]` has the notes, a block a claim.
    """
    columns = ["id", "statement", "data", "verdict", "obtained", "tolerance", "interval"]
    table = claims[[*columns, "published"]].reset_index(drop=True)
    noted = claims[claims["note"].astype(bool)]
    table.attrs["details"] = [
        (f"{claim}: {statement}", [f"{r.data}: {r.verdict}; {r.note}" for r in rows.itertuples()])
        for (claim, statement), rows in noted.groupby(["id", "statement"], sort=False)
    ]
    if len(noted):
        table.attrs["notes"] = ["What stands behind each verdict, claim by claim:"]
    return table


def verdict_counts(claims: pd.DataFrame) -> pd.DataFrame:
    """How many claims met which verdict, a row a paper and data set."""
    counts = pd.crosstab([claims["paper"], claims["data"]], claims["verdict"].astype(str))
    return counts.reset_index().rename_axis(columns=None)


def backbone_settings() -> pd.DataFrame:
    """What a backbone changes: at every profile, at one, and there for single data sets."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, backbone in BACKBONES.items():
        found[name, "every"] = backbone.fields | backbone.options
        for profile, table in profiles().items():
            own = dict(table.get("backbone", {}).get(name, {}))
            finer = own.pop("data", {})
            found[name, profile] = own
            found |= {(name, f"{profile}, {data}"): values for data, values in finer.items()}
    rows = [
        {"backbone": name, "profile": where, "changes": _pairs(own)}
        for (name, where), own in found.items()
        if own
    ]
    return pd.DataFrame(rows)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def coverage(studies: Mapping[str, Study]) -> pd.DataFrame:
    """Planned, found and stale runs of each study and data set."""
    rows = []
    for paper, study in studies.items():
        for data in study.data:
            planned = sum(p.data == data for p in study.planned())
            mine = [r for p, r in study.found if p.data == data]
            stale = sum(r.stale for r in mine)
            where = {"paper": paper, "profile": study.profile, "data": data}
            rows.append(where | {"planned": planned, "there": len(mine), "stale": stale})
    return pd.DataFrame(rows)


def provenance(studies: Mapping[str, Study]) -> pd.DataFrame:
    """A row a run: what, when, where, how long, by which code."""
    rows = []
    for paper, study in studies.items():
        for plan, run in study.found:
            about = run.provenance
            rows.append(
                {
                    "paper": paper,
                    "label": plan.label,
                    "data": plan.data,
                    "seed": plan.seed,
                    "key": str(run.entry.key),
                    "stale": run.stale,
                    "started": about["started"],
                    "train s": about["train_seconds"],
                    "evaluate s": about["evaluate_seconds"],
                    "device": about["device"],
                    "torch": about["versions"]["torch"],
                }
            )
    return pd.DataFrame(rows)


def machines(studies: Mapping[str, Study]) -> pd.DataFrame:
    """Devices and versions behind the records, with the time they took."""
    table = provenance(studies)
    if table.empty:
        return table
    groups = table.groupby(["device", "torch"], sort=False)
    hours = groups[["train s", "evaluate s"]].sum().sum(axis=1) / 3600
    return pd.DataFrame({"runs": groups.size(), "hours": hours.round(2)}).reset_index()


def _three_digits(value: float) -> str:
    """Three digits behind which a timing says nothing, thousands set apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _aim(ratio: float, asked: float | None) -> str:
    if asked is None:
        return "no slower"
    return f"{asked:g}" + (", short of it" if ratio < asked else "")


def ratios(path: Path) -> pd.DataFrame:
    """Fast paths beside their plain versions, as `make bench` measured them on one machine.

    Args:
        path: What `make bench RATIOS=path` has written.

    Returns:
        A row a comparison, times in milliseconds; machine and further findings are its notes.

    Raises:
        VaelibError: The file is missing, or holds something else.
    """
    try:
        return ratio_table(read_json(path))
    except (KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise VaelibError(f"{path} holds no ratios of `make bench`; make it anew.") from error


def ratio_table(made: Mapping[str, Any]) -> pd.DataFrame:
    """The same table of what a benchmark has just measured."""
    rows = [
        {
            "what": row["what"],
            "plain [ms]": _three_digits(row["plain_ms"]),
            "here [ms]": _three_digits(row["fast_ms"]),
            "times faster": _three_digits(row["ratio"]),
            "aim": _aim(row["ratio"], row["asked"]),
            "plain did": "all" if row["share"] > 0.7 else f"1/{round(1 / row['share'])}",
        }
        for row in made["rows"]
    ]
    machine = f"{made['processor']}, one thread, torch {made['torch']}."
    table = pd.DataFrame(rows)
    table.attrs["notes"] = [machine, *(f"{note}." for note in made["notes"])]
    return table
