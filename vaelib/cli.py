"""The command `vaelib`. Every listing can also be had as JSON; nothing heavy is imported early."""

import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaelib._commands import (
    Data,
    Jobs,
    Json,
    Profile,
    Settings,
    book_app,
    parse_seeds,
    parse_settings,
    print_list,
    runs_app,
)
from vaelib.errors import VaelibError, check_name
from vaelib.literals import visible

if TYPE_CHECKING:
    from vaelib.run import Run
    from vaelib.studies import Planned, Study

INTERRUPTED = 130
_STUDY_OPTIONS = ("method", "data", "profile", "seed", "seeds", "labels", "store", "paper")
_STOPPED = "stopped; what is done is kept, the same command resumes from the last checkpoint"

app = typer.Typer(
    help="Text VAEs and posterior collapse: methods, metrics, runs, studies, claims, and the book.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(runs_app, name="runs", invoke_without_command=True)
app.add_typer(book_app, name="book", no_args_is_help=False)


# ---------------------------------------------------------------- what there is


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from vaelib import __version__

        print(f"vaelib {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods, each as its difference from the plain VAE."""
    from vaelib import _listings

    print_list(_listings.methods(), as_json)


@app.command()
def metrics(as_json: Json = False) -> None:
    """List the metrics: estimator, unit, bound, source."""
    from vaelib import _listings

    print_list(_listings.metrics(), as_json)


@app.command()
def datasets(as_json: Json = False) -> None:
    """List the data sets, "published | here" in each cell."""
    from vaelib import _listings

    print_list(_listings.datasets(), as_json, _listings.dataset_cells)


@app.command()
def studies(as_json: Json = False) -> None:
    """List the studies: profiles, runs, tables, figures."""
    from vaelib import _listings
    from vaelib.store import default_store

    rows = _listings.studies(default_store())
    if as_json:
        _listings.print_json(rows)
        return
    for row in rows:
        profiles = [{"profile": name, **about} for name, about in row["profiles"].items()]
        _listings.print_table(profiles, f"{row['paper']}: {row['title']} ({row['reference']})\n")
        items = [{"item": f"{row['paper']}/{one.pop('id')}", **one} for one in row["items"]]
        _listings.print_table(items, "")


# ---------------------------------------------------------------- single runs


def _print_run(run: "Run", as_json: bool, columns: Sequence[str]) -> None:
    """A run's metrics, its key and its folder."""
    from vaelib import _listings

    rows, folder = _listings.measured(run), run.entry.folder
    if any(row["why"] for row in rows):
        columns = [*columns[:2], "why", *columns[2:]]
    about = {"key": str(run.entry.key), "folder": folder and str(folder), "stale": run.stale}
    if as_json:
        _listings.print_json({**about, "config": run.config.to_dict(), "metrics": rows})
        return
    config = run.config
    title = f"{config.method} on {config.data}, profile {config.profile}, seed {config.seed}"
    _listings.print_table(rows, f"{title}; {run.provenance['device']}\n", columns)
    stale = " (stale: made by older code)" if run.stale else ""
    print(f"\nrun     {about['key']}{stale}")
    print(f"folder  {folder or 'a committed record, without weights'}")


@app.command()
def train(
    method: Annotated[str, typer.Argument(help="As listed by `vaelib methods`.")],
    data: Annotated[str, typer.Option(help="A data set's id, your own folder, or pairs:FOLDER.")],
    settings: Settings = None,
    profile: Profile = "laptop",
    seed: Annotated[int, typer.Option(help="The run's seed.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Even if a record is committed.")] = False,
    as_json: Json = False,
) -> None:
    """Train a method and print its metrics.

    A run that is there is only shown. Settings are key=value, taken as they stand: fields of a run
    (epochs=5) and options of parts (aggregation_size=8). A paper's own values are in its study.
    """
    from vaelib.build import resolve
    from vaelib.data.datasets import check_data
    from vaelib.run import run_config
    from vaelib.store import default_store

    changes = parse_settings(settings, ("method", "data", "profile", "seed"))
    config = resolve(method, data=check_data(data), profile=profile, seed=seed, **changes)
    run = run_config(config, store=default_store(), fresh=fresh, progress=True)
    _print_run(run, as_json, ("name", "value", "unit", "samples"))


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="The beginning of a run's key, or its folder.")],
    settings: Settings = None,
    recorded: Annotated[bool, typer.Option("--recorded", help="Only what the record has.")] = False,
    as_json: Json = False,
) -> None:
    """Print every metric of a run, and what each one is.

    What the record lacks is computed now and not recorded; a dash stands where a metric is not
    defined for the run. Without the trained model there is only what is recorded. Settings of the
    evaluation (iw_samples=1000 metrics="[mpd, bleu]") evaluate the model anew, as a record beside
    the old one; --recorded does so only where a metric's code has changed since.
    """
    from vaelib.export import evaluated_anew, find_run, whole_table
    from vaelib.run import Run
    from vaelib.store import default_store

    store = default_store()
    entry, changes = find_run(store, run), parse_settings(settings, ())
    whole = None if recorded or changes else whole_table(store, entry)
    found = whole or evaluated_anew(store, entry, changes) or Run(entry, store)
    _print_run(found, as_json, ("name", "value", "unit", "estimator", "samples", "bound"))
    if not (whole or recorded or changes or as_json):
        print("metrics only those recorded: the weights are not here, or were made by older code")


@app.command()
def diagnose(
    file: Annotated[Path, typer.Argument(help="An .npz or .csv with mu and logvar.")],
    as_json: Json = False,
) -> None:
    """Say whether a model has collapsed, and whether its latent space has holes.

    For models trained anywhere. The file holds means and log variances of q(z|x) on a set of
    examples: arrays mu and logvar in an .npz, columns mu_0, mu_1, ... and logvar_0, ... in a .csv;
    log_likelihoods, log p(x|z) of each example, adds the ELBO.
    """
    from vaelib import _listings
    from vaelib.diagnose import diagnose as examine
    from vaelib.diagnose import read_posteriors

    found = examine(**read_posteriors(file)).to_dict()
    if as_json:
        _listings.print_json(found)
    else:
        _listings.print_table(found["units"], "\n".join([*found["summary"], ""]))


@app.command()
def bench(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    together: Annotated[int, typer.Option(help="Models that train at the same time.")] = 1,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Time training steps at the papers' sizes on a device, and what share of its speed they take.

    The shares are of one large matrix product in the same precision, and of a copy of a large
    tensor, on the same device.
    """
    from vaelib.throughput import throughput

    table = throughput(device, precision, together=together, seconds=seconds)
    print_list(table.round(3).to_dict("records"), as_json)


# ---------------------------------------------------------------- studies and claims


def open_item(name: str, profile: str, **more: Any) -> tuple["Study", str | None]:
    """The study and item of PAPER or PAPER/ITEM; of an item, only the runs it shows.

    Raises:
        VaelibError: An unknown paper or item, or an item that no runs of the grid make.
    """
    from vaelib.studies import Study

    paper, _, item = name.partition("/")
    study = Study(paper, profile, labels=[item] if item else None, **more)
    if item and not study.labels_of(item):
        page = study.item(item)["page"]
        raise VaelibError(f"{name} is not made of runs of the study: see the book's page {page}.")
    return study, item or None


@app.command()
def study(
    name: Annotated[str, typer.Argument(metavar="PAPER[/ITEM]", help="Such as dg_vae/table2.")],
    settings: Settings = None,
    profile: Profile = "laptop",
    data: Data = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2.")] = None,
    jobs: Jobs = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Also make stale runs anew.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Run on Dask: tcp://HOST:8786, local, slurm or cuda.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run what a study, table or figure lacks; print it.

    Stopped at any moment, the same command goes on where it was. Settings are key=value changes to
    every run.
    """
    from vaelib import _listings
    from vaelib.sweep import estimate, execute, possible

    changes = parse_settings(settings, _STUDY_OPTIONS)
    opened, item = open_item(name, profile, data=data, seeds=parse_seeds(seeds), **changes)
    todo, jobs = opened.missing(stale_too=stale), jobs or os.cpu_count() or 1
    if dry_run:
        print_list(_listings.planned(opened, todo), as_json)
        _listings.say(estimate(opened, todo).text(jobs))
        return
    todo, why = possible(todo, insist=data is not None)
    for left_out, reason in why.items():
        _listings.say(f"leaving out {left_out}: {reason}")
    if todo and scheduler:
        _run_on(scheduler, opened, todo, jobs)
    else:
        _listings.say(estimate(opened, todo).text(jobs))
        if todo:
            execute(todo, opened.store, jobs=jobs)
    opened.refresh()
    if item and opened.item(item).get("columns"):
        _print_compared(opened, item, "json" if as_json else "text")
    else:
        print_list(_listings.coverage(opened), as_json)


def _run_on(scheduler: str, study: "Study", todo: "list[Planned]", jobs: int) -> None:
    """Make runs on a cluster; say before what they may cost, and after what they did."""
    from vaelib import _listings, cluster
    from vaelib.sweep import estimate

    with cluster.connected(scheduler, jobs) as client:
        there = cluster.slots(client)
        _listings.say(estimate(study, todo).text(there or jobs))
        if not there:
            _listings.say("no worker is there yet; the runs wait for the first")
        cluster.execute(client, todo, study.store, say=_listings.say)


def _print_compared(study: "Study", item: str, style: str) -> None:
    """Print an item's comparison table in one of the formats of `vaelib table`.

    Raises:
        VaelibError: The item has no columns, or there are no runs.
    """
    from vaelib import _listings, tables

    about = study.item(item)
    if not about.get("columns"):
        known = [one["id"] for one in study.about["item"] if one.get("columns")]
        raise VaelibError(f"{item} is no table: take one of {', '.join(known)}.")
    if not study.found:
        told = f"vaelib study {study.paper}/{item} --profile {study.profile}"
        raise VaelibError(f"no runs yet: `{told}` makes them.")
    if style != "text":
        print(tables.render(study, item, style), end="")
        return
    shown = tables.present(study, item)
    _listings.print_table(shown.table.reset_index().to_dict("records"), f"{shown.caption}\n")
    print("\n" + "\n".join(map(visible, shown.notes)))


@app.command()
def table(
    name: Annotated[str, typer.Argument(metavar="PAPER/ITEM", help="Such as dg_vae/table2.")],
    settings: Settings = None,
    profile: Profile = "laptop",
    data: Data = None,
    style: Annotated[str, typer.Option("--format", help="text, md, csv, latex or json.")] = "md",
) -> None:
    """Print a table: published | obtained, mean ± sd.

    Mean and standard deviation are over seeds. Nothing is trained.
    Settings are those the runs were made with.
    """
    check_name(style, ("text", "md", "csv", "latex", "json"), "format")
    changes = parse_settings(settings, _STUDY_OPTIONS)
    opened, item = open_item(name, profile, data=data, **changes)
    if item is None:
        known = [one["id"] for one in opened.about["item"] if one.get("columns")]
        raise VaelibError(f"{name!r} is a whole study: add a table, such as {name}/{known[-1]}.")
    _print_compared(opened, item, style)


@app.command()
def claims(
    paper: Annotated[str | None, typer.Option(help="A study; all of them by default.")] = None,
    profile: Profile = "laptop",
    data: Data = None,
    toy: Annotated[bool, typer.Option("--toy", help="Train the toy too: half a minute.")] = False,
    as_json: Json = False,
) -> None:
    """List every claim of the papers with its verdict."""
    from vaelib import _listings

    rows = _listings.claims(paper, profile, data, toy)
    shown = ("id", "data", "statement", "published", "obtained", "interval", "tolerance", "verdict")
    print_list(rows, as_json, columns=shown)


# ---------------------------------------------------------------- running


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0, 1 for findings, 2 for a mistake that one sentence explains."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(_guarded(arguments))


def _guarded(arguments: list[str] | None) -> int:
    try:
        code = app(arguments, standalone_mode=False, prog_name="vaelib")
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _refused(error)
    if code == INTERRUPTED:
        words = sys.argv[1:] if arguments is None else arguments
        print(f"\n{_STOPPED}:\n  {visible(shlex.join(['vaelib', *words]))}", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _refused(error: Exception) -> int:
    """Say in one sentence what was wrong; errors that no user can mend are raised on."""
    if isinstance(error, VaelibError):
        text = str(error)
    elif isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}."
    elif (usage := getattr(error, "format_message", None)) is not None:
        context = getattr(error, "ctx", None)
        place = f" See `{context.command_path} --help`." if context else ""
        said = usage()
        text = f"{said}{'' if said[-1:] in ('.', '?') else '.'}{place}"
    else:
        raise error
    print(f"error: {visible(' '.join(text.split()))}", file=sys.stderr)
    return 2
