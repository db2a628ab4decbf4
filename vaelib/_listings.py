"""The rows that the commands list, and how rows are printed: as a table or as JSON."""

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vaelib import pages
from vaelib._formats import clean, to_json
from vaelib.backbones import BACKBONES
from vaelib.build import backbones_of
from vaelib.claims.failures import PAPERS as CLAIMING
from vaelib.claims.ledger import COLUMNS as CLAIM_COLUMNS
from vaelib.config import Config
from vaelib.data.datasets import statistics_table
from vaelib.export import is_stale
from vaelib.literals import visible
from vaelib.metrics import METRICS
from vaelib.metrics.catalogue import (
    BLEU_SAMPLES,
    DISTINCT_SENTENCES,
    LABEL_DRAWS,
    MI_SAMPLES,
    NGRAM_SENTENCES,
    SELF_BLEU_SENTENCES,
    spec_of,
)
from vaelib.objectives.base import METHODS
from vaelib.progress import unfinished
from vaelib.run import Run
from vaelib.store import Store
from vaelib.studies import Study, declaration, papers
from vaelib.toy import kept_toy

Row = dict[str, Any]
SHOWN = ("nll_iw500", "kl", "mi_global", "au", "cu_pq", "prior_ll", "post_ll")
EXAMPLES = {"text": "sentences", "pairs": "pairs", "images": "images"}
_PIPE_WIDTH = 2000  # columns of a table that no terminal bounds

# ---------------------------------------------------------------- what there is


def methods() -> list[Row]:
    """Every method as its difference from the plain VAE."""
    return [
        {
            "name": name,
            "aliases": list(METHODS.aliases(name)),
            "paper": entry.paper,
            "equation": entry.equation,
            "differs_from_vae": entry.differs,
            "backbones": backbones_of(name),
        }
        for name, entry in METHODS.items()
    ]


def metrics() -> list[Row]:
    """Every metric, with how it is estimated."""
    keys = ("name", "estimator", "unit", "bound", "paper")
    return [{key: getattr(spec, key) for key in keys} for spec in METRICS.values()]


def datasets() -> list[Row]:
    """Every data set, its statistics beside the published ones."""
    keys = ("id", "splits", "statistics", "published", "available")
    return [{key: row[key] for key in keys} for row in statistics_table()]


def dataset_cells(rows: Iterable[Row]) -> list[Row]:
    """The same for a table: "published | obtained" in each cell, as DG-VAE's Table 1 has them."""
    return pages.statistics(rows, cell).to_dict("records")


def studies(store: Store) -> list[Row]:
    """Every study: its profiles with how many runs are planned and there, and its items."""
    rows = []
    for paper in papers():
        about = declaration(paper)
        opened = {name: Study(paper, name, store=store) for name in about["profile"]}
        items = [{k: item[k] for k in ("id", "title", "source", "page")} for item in about["item"]]
        profiles = {name: _profile(study) for name, study in opened.items()}
        row = {"paper": paper, "title": about["title"], "reference": about["reference"]}
        rows.append(row | {"profiles": profiles, "items": items})
    return rows


def _profile(study: Study) -> Row:
    counts = {"runs": len(study.planned()), "there": len(study.found)}
    counts["stale"] = sum(run.stale for _, run in study.found)
    return {"data": study.data, "seeds": study.seeds, **counts}


# ---------------------------------------------------------------- runs


def runs(store: Store, data: Sequence[str] = (), profile: str | None = None) -> list[Row]:
    """Every finished run of a store, those committed included."""
    rows = []
    for entry in store.entries():
        config = entry.record["config"]
        if (data and config["data"] not in data) or profile not in (None, config["profile"]):
            continue
        about = {key: config[key] for key in ("method", "data", "profile", "seed")}
        about["device"] = entry.record["provenance"]["device"]
        rest = {"metrics": entry.record["metrics"], "stale": is_stale(entry)}
        rows.append({"key": str(entry.key), **about, **rest})
    return rows


def run_cells(rows: Iterable[Row]) -> list[Row]:
    """The same for a table: the key of the training, and a few metrics."""
    return [
        {
            "key": row["key"].rpartition("-")[0],
            **{k: row[k] for k in ("method", "data", "profile", "seed")},
            **{name: row["metrics"].get(name) for name in SHOWN},
            "stale": row["stale"],
        }
        for row in rows
    ]


def measured(run: Run) -> list[Row]:
    """A run's whole metrics table: what each column is, its bound here, why a value is missing."""
    rows, order = [], [*METRICS, ""]
    config, size = run.config, run.provenance["test_size"]
    for name, value in run.metrics.items():
        spec = spec_of(name)
        base = spec.name if spec else ""
        about = {key: getattr(spec, key, "") for key in ("unit", "estimator", "bound", "paper")}
        about |= {key: _own(about[key], base, config, size) for key in ("estimator", "bound")}
        samples = "" if math.isnan(value) else _samples(base, config, size)
        row = {"name": name, "value": value, "samples": samples, **about}
        rows.append((order.index(base), row | {"why": _why(name, run) if spec else ""}))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _own(text: str, metric: str, config: Config, size: int) -> str:
    """What the catalogue says about a metric, with the numbers of a run put in."""
    batch, subset = min(config.batch_size, size), min(config.nll_size or size, size)
    known = {"ln N": (math.log(size), size), "ln B": (math.log(batch), batch)}
    for name, (value, count) in known.items():
        text = text.replace(name, f"{name} = {value:.3f} for {name[-1]} = {count:,}")
    noise = math.sqrt(config.latent_dim / (2 * size))
    for name, own in (
        ("<= D", f"<= D = {config.latent_dim}"),
        ("sqrt(D / 2N)", f"sqrt(D / 2N) = {noise:.3f}"),
        ("K samples", f"K = {config.iw_samples:,} samples"),
        ("8 + 8 samples", f"{config.mixture_samples} + {config.mixture_samples} samples"),
    ):
        text = text.replace(name, own)
    few = metric == "nll_iw500" and subset < size
    return f"{text}: the first {subset:,} of {size:,}" if few and "same examples" in text else text


_DENSITY = ("kl", "nll_elbo", "nll_iw500", "prior_ll", "post_ll")


def _why(column: str, run: Run) -> str:
    """Why a run has no value in a column; nothing where it has one."""
    spec, values, holds = spec_of(column), run.metrics, BACKBONES[run.config.backbone].reads
    if spec is None or math.isfinite(values[column]):
        return ""
    perplexity = spec.name.startswith("ppl_")
    if spec.name == "probe":
        return f"needs {int(column.partition('_')[2]):,} labelled training examples"
    if spec.name == "character_probe":
        return "needs drawings of characters in alphabets, as those of OMNIGLOT"
    if holds == "images" and (spec.needs == "text" or perplexity):
        return "images have no words"
    if holds == "pairs" and spec.needs == "text":
        return "only for single sentences"
    if spec.needs == "posterior" and spec.name != "kl":
        return "no Gaussian posterior"
    if spec.name in _DENSITY or any(math.isnan(values.get(name, 0)) for name in _DENSITY):
        return "the posterior has no density"
    return "too large for a number" if perplexity else "no batch holds two sentences"


ONE_CODE = ("mi_global", "mi_in_batch", "mi_aggregate_kl", "nll_elbo", "ppl_elbo", "distortion")
ONE_CODE += ("gradients",)
CODES = {"mi_skip_self": MI_SAMPLES, "bleu": BLEU_SAMPLES}


def _samples(metric: str, config: Config, size: int) -> str:
    """What a metric was computed from, in words."""
    what = EXAMPLES[BACKBONES[config.backbone].reads]
    if metric in ("nll_iw500", "ppl_iw500"):
        return f"{min(config.nll_size or size, size)} {what} x {config.iw_samples} z"
    if metric in ("prior_ll", "post_ll"):
        return f"{size} {what} x {2 * config.mixture_samples} z"
    if metric in ONE_CODE:
        return f"{size} {what} x 1 z"
    if metric in CODES:
        return f"{size} {what} x {CODES[metric]} z"
    if metric == "rouge_l":
        return f"pairs among {size} {what}"
    if metric in ("forward_ppl", "reverse_ppl"):
        return f"{NGRAM_SENTENCES[config.profile]:,} prior samples"
    if metric == "distinct":
        return f"{DISTINCT_SENTENCES:,} prior samples" if what != "pairs" else f"{size} responses"
    if metric == "self_bleu":
        return f"{SELF_BLEU_SENTENCES:,} prior samples"
    if metric == "probe":
        return f"{size} {what} x {LABEL_DRAWS} draws of the labels"
    return f"{size} {what}"


def watch(store: Store, every: float = 2.0) -> None:
    """Show the unfinished runs of a store and how many are finished until Ctrl-C.

    In a terminal the table is drawn anew; elsewhere a line is printed whenever one has changed.
    """
    seen: set[str] = set()
    with contextlib.suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        while True:
            rows = unfinished(store)
            done = f"{len(list(store.root.glob('*/record-*.json')))} finished in {store.root}"
            if live.console.is_terminal:
                live.update(Group(Text(visible(done)), table_of(rows)), refresh=True)
            else:
                lines = [done, *(", ".join(f"{k} {cell(v)}" for k, v in r.items()) for r in rows)]
                sys.stdout.writelines(f"{line}\n" for line in lines if line not in seen)
                sys.stdout.flush()
                seen = set(lines)
            time.sleep(every)


def planned(study: Study, todo: Iterable[Any]) -> list[Row]:
    """Every run of a study, with its state: there, stale or missing; and whether it would run."""
    questions = {plan.config.question for plan in todo}
    found = {plan.config.question: run for plan, run in study.found}
    rows = []
    for plan in study.planned():
        about = {k: getattr(plan, k) for k in ("label", "method", "data", "profile", "seed")}
        run = found.get(plan.config.question)
        state = "missing" if run is None else "stale" if run.stale else "there"
        row = {"paper": study.paper, **about, "state": state}
        row["to_run"] = plan.config.question in questions
        rows.append(row | {"key": None if run is None else str(run.entry.key)})
    return rows


def coverage(study: Study) -> list[Row]:
    """Planned, found and stale runs of a study, a row a data set."""
    return pages.coverage({study.paper: study}).to_dict("records")


# ---------------------------------------------------------------- claims


def claims(paper: str | None, profile: str, data: list[str] | None, with_toy: bool) -> list[Row]:
    """The ledger of one paper, or of all that have claims."""
    points = kept_toy().results if with_toy else None
    chosen = list(CLAIMING) if paper is None else [paper]
    frames = [Study(name, profile, data=data).claims(toy=points) for name in chosen]
    return [row for frame in frames for row in frame[list(CLAIM_COLUMNS)].to_dict("records")]


# ---------------------------------------------------------------- printing


def print_json(rows: Any) -> None:
    """Print rows as a JSON array."""
    print(to_json(rows))


def cell(value: Any) -> str:
    """A value as a table shows it."""
    value = clean(value)
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int | float):
        return f"{value:.0f}"
    return ", ".join(map(cell, value)) if isinstance(value, list) else visible(str(value))


def print_table(rows: Sequence[Row], title: str = "", columns: Sequence[str] = ()) -> None:
    """Print rows as a table; in a pipe one line a row, without colours.

    Args:
        rows: What to print.
        title: A line above.
        columns: The keys shown; all of them by default.
    """
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    if title:
        print("\n".join(map(visible, title.split("\n"))))
    if not rows:
        print("  (none)")
        return
    with console.capture() as printed:
        console.print(table_of(rows, columns))
    print("\n".join(line.rstrip() for line in printed.get().splitlines()).strip("\n"))


def table_of(rows: Sequence[Row], columns: Sequence[str] = ()) -> Table:
    """Rows as a table of cells, numbers to the right."""
    names = list(columns or (rows[0] if rows else ()))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(visible(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row[name])) for name in names))
    return table


def say(text: str) -> None:
    """A remark, on stderr."""
    print(visible(text), file=sys.stderr, flush=True)
