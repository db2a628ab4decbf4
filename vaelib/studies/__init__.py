"""Studies: what each table and figure of a paper is made of, and the results there are."""

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from vaelib.build import options_of, parts, settle, try_out
from vaelib.claims import checks, judge
from vaelib.claims.further import further
from vaelib.config import FIELDS, Config, listed, read_toml
from vaelib.data.datasets import check_data
from vaelib.errors import VaelibError, check_name
from vaelib.published import published
from vaelib.run import Run, key_of
from vaelib.store import Entry, Store, default_store
from vaelib.studies.summary import summary

Panel = tuple[str, np.ndarray, np.ndarray]
_RUN_KEYS = ("label", "family", "method", "sweep", "total_for_latent", "on", "only")


@dataclass(frozen=True)
class Planned:
    """One run of a study.

    Attributes:
        label, family, method: As the study names it.
        value: The swept number as printed in the paper, or None.
        options: What it sets, before scaling.
        total_for_latent: The latent size for which the swept number is a total, or None.
        data, profile, seed: Where it is run.
        on: By data set, what it sets there in place of `options`.
        given: What the study's profile sets for every run on these data.
        overrides: Changes a reader made to every run of the study.
    """

    label: str
    family: str
    method: str
    value: float | None
    options: dict[str, Any]
    sweep: str | None
    total_for_latent: int | None
    data: str
    profile: str
    seed: int
    on: dict[str, dict[str, Any]] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def config(self) -> Config:
        """The resolved configuration, totals scaled to the latent size in use."""
        where = {"data": self.data, "profile": self.profile, "seed": self.seed}
        given = {k: v for k, v in self.given.items() if k in FIELDS}
        settings = given | self._applicable(self.overrides)
        plain = settle(self.method, **where, overrides=settings)
        options = dict(self.options)
        if self.total_for_latent and self.sweep:
            options[self.sweep] = self.value * plain.latent_dim / self.total_for_latent
        options |= self.on.get(self.data, {})
        known = {name: v for part in parts(plain) for name, v in options_of(part).items()}
        given |= {k: v for k, v in self.given.items() if k in known}
        floats = {k: float(v) for k, v in options.items() if isinstance(known.get(k), float)}
        settings = given | options | floats | self.overrides
        config = settle(self.method, **where, overrides=settings)
        if self.overrides:
            try_out(config)
        return config

    def _applicable(self, overrides: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in overrides.items() if k not in self.options}


def papers() -> list[str]:
    """The papers that have a study."""
    folder = resources.files("vaelib.studies")
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def declaration(paper: str) -> dict[str, Any]:
    """A study file as read; `item` is empty where it names no table or figure.

    Raises:
        VaelibError: No such study, or its file is no TOML.
    """
    name = check_name(paper, papers(), "study")
    return {"item": []} | read_toml(resources.files("vaelib.studies") / f"{name}.toml")


def grid(paper: str) -> list[dict[str, Any]]:
    """Every labelled run of a study, sweeps expanded: label, family, method, value, options."""
    return [row for entry in declaration(paper)["run"] for row in _expand(entry)]


def _expand(entry: dict[str, Any]) -> list[dict[str, Any]]:
    sweep = entry.get("sweep")
    fixed = {k: v for k, v in entry.items() if k not in _RUN_KEYS}
    values = fixed.pop(sweep) if sweep else [None]
    rows = []
    for value in values:
        options = fixed | ({sweep: value} if sweep else {})
        rows.append(
            {
                "label": entry["label"].format(**options),
                "family": entry["family"],
                "method": entry["method"],
                "value": value,
                "options": options,
                "sweep": sweep,
                "total_for_latent": entry.get("total_for_latent"),
                "on": entry.get("on", {}),
                "only": entry.get("only", []),
            }
        )
    return rows


class Study:
    """A paper's grid at a profile, and what the store holds of it.

    Args:
        paper: A study's name ("dg_vae").
        profile: "smoke", "laptop" or "paper".
        data: Ids of data sets, or folders; one or several. None takes the profile's.
        seeds: One seed or several; None takes the profile's.
        labels: Labels, families or ids of items to restrict the grid to; None takes all. A label
            is planned on every data set; of a family or an item, what the profile has there.
        store: Where runs are looked up.
        overrides: Changes to every run, such as `epochs=5`.

    Raises:
        VaelibError: An unknown study, profile, data set, label or family.
    """

    def __init__(
        self,
        paper: str,
        profile: str = "laptop",
        *,
        data: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
        seeds: int | Iterable[int] | None = None,
        labels: str | Iterable[str] | None = None,
        store: Store | None = None,
        **overrides: Any,
    ) -> None:
        self.paper, self.profile = paper, profile
        self.about = declaration(paper)
        self.settings = self.about["profile"][check_name(profile, self.about["profile"], "profile")]
        chosen = listed(self.settings["data"] if data is None else data)
        self.data = list(dict.fromkeys(map(check_data, chosen)))
        self.seeds = listed(self.settings["seeds"] if seeds is None else seeds)
        self.store = store or default_store()
        self.overrides = overrides
        self.asked = set() if labels is None else set(self._known(listed(labels)))
        self.wanted = None if labels is None else self._labels(self.asked)

    def _known(self, names: list[str]) -> list[str]:
        items = [item["id"] for item in self.about["item"]]
        known = dict.fromkeys(row[k] for row in grid(self.paper) for k in ("label", "family"))
        what = f"label, family or item of {self.paper}"
        return [check_name(name, [*known, *items], what) for name in names]

    def _labels(self, names: set[str]) -> set[str]:
        items = names & {item["id"] for item in self.about["item"]}
        inside = {r["label"] for r in grid(self.paper) if names & {r["label"], r["family"]}}
        return inside.union(*map(self.labels_of, items))

    def item(self, name: str) -> dict[str, Any]:
        """What the study says about a table or figure.

        Raises:
            VaelibError: No such item.
        """
        items = {item["id"]: item for item in self.about["item"]}
        return items[check_name(name, items, f"item of {self.paper}")]

    def labels_of(self, name: str) -> list[str]:
        """The labels an item shows, in the order of the grid."""
        item = self.item(name)
        families, runs = item.get("families", []), item.get("runs", [])
        return [
            r["label"] for r in grid(self.paper) if r["family"] in families or r["label"] in runs
        ]

    def planned(self) -> list[Planned]:
        """Every run of the study, data set by data set, seed by seed."""
        return list(self._planned)

    @cached_property
    def _planned(self) -> list[Planned]:
        rows: list[Planned] = []
        for data in self.data:
            rows_here = [r for r in grid(self.paper) if self._chosen(r, data)]
            chosen = [{k: v for k, v in r.items() if k != "only"} for r in rows_here]
            given = self.settings.get("set", {}) | self.settings.get("on", {}).get(data, {})
            where = {"data": data, "profile": self.profile, "overrides": self.overrides}
            where |= {"given": given}
            once = self.settings.get("once", {}).get(data, [])
            for place, seed in enumerate(self.seeds):
                now = [row for row in chosen if not place or row["label"] not in once]
                rows += [Planned(**row, **where, seed=seed) for row in now]
        return rows

    def _chosen(self, row: dict[str, Any], data: str) -> bool:
        """Whether a run is asked for by its name, or is the profile's and not left out."""
        label, there = row["label"], self.settings.get("labels", {}).get(data, "all")
        there = there if there == "all" else [*there, *self.settings.get("once", {}).get(data, [])]
        wanted = self.wanted is None or label in self.wanted
        here = there == "all" and (not row["only"] or data in row["only"])
        return label in self.asked or (wanted and (here or (there != "all" and label in there)))

    @cached_property
    def _index(self) -> dict[str, list[Entry]]:
        index: dict[str, list[Entry]] = {}
        for entry in self.store.entries():
            index.setdefault(entry.record["question"], []).append(entry)
        return index

    def refresh(self) -> "Study":
        """Look at the store again, as after a sweep."""
        for known in ("_index", "found", "_results", "_ledger", "whole"):
            self.__dict__.pop(known, None)
        return self

    @cached_property
    def found(self) -> list[tuple[Planned, Run]]:
        """Planned runs with their facts, those of today's code or else the newest of older code."""
        pairs = []
        for plan in self.planned():
            entries = self._index.get(plan.config.question, [])
            if entries:
                key = key_of(plan.config)
                best = max(entries, key=lambda e: (e.key == key, e.record["provenance"]["started"]))
                pairs.append((plan, Run(best, self.store)))
        return pairs

    def missing(self, *, stale_too: bool = False) -> list[Planned]:
        """Planned runs without a fact; with `stale_too` also those of older code."""
        have = {id(plan) for plan, run in self.found if not (stale_too and run.stale)}
        known = {plan.config.question for plan, _ in self.found if id(plan) in have}
        return [plan for plan in self.planned() if plan.config.question not in known]

    def results(self) -> pd.DataFrame:
        """One row a run: label, family, method, value, data, profile, seed, stale, metrics.

        And what the paper's claims read off its epochs and posteriors, see `claims.further`.
        """
        return self._results.copy()

    @cached_property
    def _results(self) -> pd.DataFrame:
        more = further(self.paper, self.found)
        rows = [
            _row(plan, run) | more.get((plan.data, plan.label, plan.seed), {})
            for plan, run in self.found
        ]
        return pd.DataFrame(rows, columns=None if rows else ["label", "family", "data", "seed"])

    def table(self, name: str, data: str | None = None) -> pd.DataFrame:
        """Obtained values of an item, long form: data, label, metric, mean, sd, seeds, stale.

        Fractions that the item wants in per cent (`percent`) are; a number that no run has is NaN.

        Args:
            name: An item with columns ("table2", "figure2", "ablation").
            data: One of the study's data sets; None takes all of them.
        """
        labels = self.labels_of(name)
        if not labels or "columns" not in self.item(name):
            raise VaelibError(
                f"{name} of {self.paper} is no table of runs; see its page in the book."
            )
        item, results, rows = self.item(name), self.results(), []
        results = results[results["data"].eq(data)] if data is not None else results
        for _, group in results.groupby(["data", "label"], sort=False):
            if group["label"].iloc[0] in labels:
                rows += [summary(group, item, column) for column in item["columns"]]
        return pd.DataFrame(rows)

    def compare(self, name: str, data: str | None = None) -> pd.DataFrame:
        """The item's table with the printed value beside each obtained one.

        Where the paper has numbers on the same data they are taken, elsewhere those of the item's
        `published_data`, which `on.<data>` of the item may change for one data set. `difference` is
        given only for the paper's own data at the `paper` profile; elsewhere the note says "other
        data: direction only".
        """
        item, table = self.item(name), self.table(name, data)
        if table.empty:
            return table
        known = {id_: there for there, id_ in self.about["data"].items()}
        on, usual = item.get("on", {}), self._printed(item)
        printed, own = dict[str, Any](), set[str]()
        for here in table["data"].unique():
            beside = item | on.get(here, {})
            found = self._printed(beside) if here in on else usual
            own |= {here} if known.get(here) in found else set()
            there = known[here] if here in own else beside.get("published_data")
            printed[here] = found.get(there, {})
        places = zip(table["data"], table["label"], table["metric"], strict=True)
        values = [printed[d].get((label, m), math.nan) for d, label, m in places]
        table["published"] = table["percent"].map({True: 100.0, False: 1.0}) * values
        same = table["data"].isin(own) & (self.profile == "paper")
        table["difference"] = (table["mean"] - table["published"]).where(same)
        table["note"] = same.map({True: "", False: "other data: direction only"})
        return table

    def _printed(self, item: dict[str, Any]) -> dict[str, dict[tuple[str, str], float]]:
        """Data set as printed -> (label, column of the results) -> value, fractions for percent."""
        frames = [published(self.paper, t) for t in item.get("published", [])]
        labels = {_plain(row["label"]): row["label"] for row in grid(self.paper)}
        labels |= {_plain(k): v for k, v in item.get("published_as", {}).items()}
        columns, found = self.about["print"] | item["columns"], dict[str, Any]()
        for row in pd.concat(frames).to_dict("records") if frames else []:
            metric, model = row["metric"], row["model"]
            in_percent = metric.endswith("(%)") or item.get("percent") is True
            place = labels.get(_plain(model), model), columns.get(metric, metric)
            value = float(row["value"]) / (100.0 if in_percent else 1.0)
            found.setdefault(row["dataset"], {}).setdefault(place, value)
        return found

    def first_runs(self, name: str, data: str) -> dict[str, Run]:
        """Label -> an item's run of the first seed on one data set, in the item's order."""
        found = {p.label: run for p, run in reversed(self.found) if p.data == data}
        return {label: found[label] for label in self.labels_of(name) if label in found}

    def panels(self, name: str, data: str, seed: int | None = None) -> list[Panel]:
        """(label, mu [N, D], logvar [N, D]) of an item's runs on one data set and seed.

        Args:
            name: An item, whose order is kept.
            data: A data set of the study.
            seed: None takes the first seed that has arrays.
        """
        order = self.labels_of(name)
        mine = [(p, r) for p, r in self.found if p.data == data and p.label in order]
        mine = [(p, r) for p, r in mine if r.entry.arrays_path is not None]
        chosen = seed if seed is not None else next((p.seed for p, _ in mine), None)
        found = {p.label: r.posterior for p, r in mine if p.seed == chosen}
        return [
            (x, found[x]["mu"], found[x]["logvar"]) for x in order if "logvar" in found.get(x, ())
        ]

    @cached_property
    def whole(self) -> "Study":
        """The same study with all its rows; itself where it is not restricted to some."""
        if self.wanted is None:
            return self
        where: dict[str, Any] = {"data": self.data, "seeds": self.seeds, "store": self.store}
        return Study(self.paper, self.profile, **where, **self.overrides)

    def declared(self) -> dict[tuple[str, str], list[str]]:
        """(profile, data) -> labels planned, for the ledger."""
        plans = self.planned()
        return {
            (self.profile, d): list(dict.fromkeys(p.label for p in plans if p.data == d))
            for d in self.data
        }

    def claims(self, toy: pd.DataFrame | None = None) -> pd.DataFrame:
        """The verdict on every claim of the paper, one row a claim and data set."""
        if toy is None:
            return self._ledger.copy()
        return judge(self.paper, self.results(), toy=toy, declared=self.declared())

    @cached_property
    def _ledger(self) -> pd.DataFrame:
        return judge(self.paper, self.results(), declared=self.declared())

    def checks(self, toy: pd.DataFrame | None = None) -> pd.DataFrame:
        """Every single check behind the verdicts."""
        return checks(self.paper, self.results(), toy=toy, declared=self.declared())


def _plain(label: str) -> str:
    return label.replace(" ", "")


def _row(plan: Planned, run: Run) -> dict[str, Any]:
    about = dataclasses.asdict(plan)
    row = {k: about[k] for k in ("label", "family", "method", "value", "data", "profile", "seed")}
    sizes = {"latent_dim": run.config.latent_dim, "test_size": run.provenance["test_size"]}
    return row | {"stale": run.stale, **sizes, **run.metrics}
