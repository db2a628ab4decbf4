"""The groups `vaelib runs` and `vaelib book`, and what all commands share: options and values."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vaelib.config import profiles
from vaelib.errors import VaelibError, check_name
from vaelib.literals import parse_literal

runs_app = typer.Typer(help="The store: list it, clear it, export records.", rich_markup_mode=None)
book_app = typer.Typer(help="Run notebooks; build, check and read the book.", rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Profile = Annotated[str, typer.Option(help="smoke, laptop or paper.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="A data set's id or an own folder; give it again for more."),
]
Paper = Annotated[str, typer.Option(help="A study, as listed by `vaelib studies`.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Any setting of a run, such as epochs=5."),
]
Jobs = Annotated[int, typer.Option(min=0, help="How many at a time; 0 takes every processor.")]


# ---------------------------------------------------------------- values on the command line


def parse_settings(pairs: Iterable[str] | None, reserved: Sequence[str]) -> dict[str, Any]:
    """Settings written key=value.

    Args:
        pairs: As on the command line.
        reserved: Names that have an option of their own.

    Raises:
        VaelibError: No `=`, a name given twice, or a reserved one.
    """
    settings: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not (equals and name):
            raise VaelibError(f"{pair!r} is no setting: write key=value, such as epochs=5.")
        if name in reserved:
            raise VaelibError(f"{pair!r} is not given as a setting: see --help for its place.")
        if name in settings:
            raise VaelibError(f"{name} is given twice: {settings[name]!r} and {text!r}.")
        settings[name] = parse_literal(text)
    return settings


def parse_seeds(text: str | None) -> list[int] | None:
    """Seeds written 0,1,2.

    Raises:
        VaelibError: Something else stands there.
    """
    if text is None:
        return None
    seeds = text.strip("[] ").split(",")
    if not all(re.fullmatch(r"\s*\d+\s*", seed) for seed in seeds):
        raise VaelibError(f"--seeds {text!r}: write whole numbers with commas, such as 0,1,2.")
    return list(dict.fromkeys(map(int, seeds)))


def parse_parameters(arguments: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The notebook and its parameters, as text, of NOTEBOOK [-p NAME VALUE]...

    Raises:
        VaelibError: Something is missing or superfluous.
    """
    rest, names, given = list(arguments), [], {}
    while rest:
        word = rest.pop(0)
        if word not in ("-p", "--parameters"):
            names.append(word)
        elif len(rest) < 2:
            raise VaelibError("-p takes a name and a value, such as -p profile laptop.")
        else:
            name, value = rest.pop(0), rest.pop(0)
            given[name] = value
    if len(names) != 1:
        what = f"there are {', '.join(names)}" if names else "there is none"
        raise VaelibError(f"give one notebook, and parameters as -p NAME VALUE; {what}.")
    return names[0], given


def print_list(
    rows: list[dict[str, Any]],
    as_json: bool,
    cells: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list,
    columns: Sequence[str] = (),
) -> None:
    """Print a listing: all of it as JSON, or its cells as a table."""
    from vaelib import _listings

    if as_json:
        _listings.print_json(rows)
    else:
        _listings.print_table(cells(rows), columns=columns)


# ---------------------------------------------------------------- the store


@runs_app.callback()
def _runs(
    context: typer.Context,
    data: Data = None,
    profile: Annotated[str | None, typer.Option(help="Only runs at this profile.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="What is at work in the own store, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the finished runs, the committed records included; clear and export them."""
    if context.invoked_subcommand:
        return
    from vaelib import _listings
    from vaelib.data.datasets import check_data
    from vaelib.store import default_store

    store, chosen = default_store(), [check_data(name) for name in data or ()]
    if watch:
        if data or profile or as_json:
            raise VaelibError("--watch shows the whole store as a table: give it alone.")
        _listings.watch(store)
        return
    if profile is not None:
        check_name(profile, profiles(), "profile")
    print_list(_listings.runs(store, chosen, profile), as_json, _listings.run_cells)
    if begun := store.unfinished():
        _listings.say(f"{len(begun)} more were begun and are not finished; see `vaelib runs gc`.")


@runs_app.command("gc")
def runs_gc(
    stale: Annotated[bool, typer.Option("--stale", help="Runs made by older code.")] = False,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Runs never finished.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove stale or unfinished runs from the own store.

    Committed records are never touched.
    """
    from vaelib import export
    from vaelib.store import default_store

    if not (stale or unfinished):
        raise VaelibError("say what to remove: --stale, --unfinished, or both.")
    store = default_store()
    paths = export.stale_paths(store) if stale else []
    paths += export.unfinished_paths(store) if unfinished else []
    for path in paths:
        print(path)
    if not paths:
        print("nothing to remove")
    elif yes or typer.confirm(f"Remove these {len(paths)} ({_megabytes(export.size_of(paths))})?"):
        busy = [path for path in paths if not export.remove(path)]
        print(f"removed {len(paths) - len(busy)}" + (f", {len(busy)} in use" if busy else ""))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


@runs_app.command("export")
def runs_export(
    folder: Annotated[Path, typer.Argument(help="Folder of committed records: results.")],
    paper: Paper = "dg_vae",
    profile: Profile = "laptop",
    data: Data = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove superseded records.")] = False,
    run: Annotated[
        list[str] | None, typer.Option(help="Single runs instead, to FOLDER/attempts.")
    ] = None,
) -> None:
    """Copy a study's records to a folder, to be committed.

    They go to FOLDER/<paper>/<profile>/<key>.json, 20 MB in all at most. The
    posteriors of the first seed go along, in half precision.
    """
    from vaelib.export import export_records, export_runs
    from vaelib.store import default_store
    from vaelib.studies import Study

    if run:
        made = export_runs(default_store(), run, folder)
    else:
        made = export_records(Study(paper, profile, data=data), folder, prune=prune)
    print(
        f"{made.folder}: {made.records} records, {made.arrays} with arrays; {made.written} files "
        f"written, {made.pruned} removed; {folder} holds {_megabytes(made.size)}"
    )


@runs_app.command("history")
def runs_history(
    run: Annotated[str, typer.Argument(help="The beginning of a run's key, or its folder.")],
    folder: Annotated[Path, typer.Argument(help="Where to; made if need be.")],
    style: Annotated[str, typer.Option("--format", help="csv or tensorboard.")] = "csv",
) -> None:
    """Write the steps and epochs of a run as CSV, or as event files for TensorBoard.

    Of a committed record the steps are 200 means, and only the first seed has them.
    """
    from vaelib.export import find_run, write_history
    from vaelib.run import Run
    from vaelib.store import default_store

    store = default_store()
    for path in write_history(Run(find_run(store, run), store), folder, style):
        print(path)


@runs_app.command("carry")
def runs_carry(
    folder: Annotated[Path, typer.Argument(help="Folder of committed records: results.")],
    within: Annotated[
        float, typer.Option(help="Largest difference, in parts of a number; 0: the same digits.")
    ] = 0.0,
    before: Annotated[
        str | None,
        typer.Option(help="Commit whose code the records are of: make witnesses by both codes."),
    ] = None,
    sentences: Annotated[
        int | None,
        typer.Option(help="With --before: at most so many training sentences in a witness."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes at a time.")] = 2,
) -> None:
    """Carry stale records over to rewritten code, where it makes the same numbers.

    One run of every kind is made anew; where it comes out the same, the records of its kind get
    the newer code's name, and say so. Other processors give other digits: there let --before make
    each witness by both codes; these may be small, which saves most of the time.
    """
    from vaelib.carry import carry
    from vaelib.store import Store, default_store

    store = Store(default_store().root)
    done = carry(folder, store, within=within, before=before, sentences=sentences, jobs=jobs)
    print(f"{done.records} records carried over by {done.witnesses} witnesses")
    for name in done.differing:
        print(f"came out otherwise, so its records stay stale: {name}")


# ---------------------------------------------------------------- the book


@book_app.command("build")
def book_build(
    profile: Profile = "laptop",
    execute: Annotated[bool, typer.Option(help="Execute changed notebooks first.")] = True,
    strict: Annotated[bool, typer.Option(help="Refuse a book with warnings.")] = True,
    jobs: Jobs = 2,
    force: Annotated[bool, typer.Option("--force", help="Execute all notebooks.")] = False,
) -> None:
    """Execute the notebooks, render the book, check it."""
    from vaelib import book

    print(book.build(profile, execute, strict, jobs or os.cpu_count() or 1, force))


@book_app.command("run", context_settings={"ignore_unknown_options": True})
def book_run(
    notebook: Annotated[str, typer.Argument(help="A page's name, or a path.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(metavar="-p NAME VALUE", help="Values as YAML: -p seeds '[0, 1]'."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The copy.")] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Also an HTML page: published left, this run right.")
    ] = False,
) -> None:
    """Execute one notebook with parameters of your own.

    The copy ends with this run's numbers against the published ones. With --beside each of its
    tables and pictures stands next to the published one, on a page of its own.
    """
    from vaelib import book
    from vaelib._book_beside import run_beside

    notebook, given = parse_parameters([notebook, *(parameters or ())])
    values = {name: book.parse_value(text) for name, text in given.items()}
    if not beside:
        print(book.run_notebook(notebook, values, output))
        return
    for path in run_beside(notebook, values, output):
        print(path)


@book_app.command("serve")
def book_serve(
    profile: Profile = "laptop",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
) -> None:
    """Serve the built book on this machine until Ctrl-C."""
    from vaelib import book

    book.serve(profile, port)


@book_app.command("scan")
def book_scan(
    folder: Annotated[Path | None, typer.Argument(help="Pages; the built book's.")] = None,
    profile: Profile = "laptop",
) -> None:
    """Look for what built pages must not hold.

    Tracebacks, broken links, images without alt text, requests to other hosts.
    """
    from vaelib import book

    pages = folder or book.project_root() / "_build" / profile / "html"
    if not pages.is_dir():
        raise VaelibError(f"no pages in {pages}: `vaelib book build` makes them.")
    problems = book.scan(pages)
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print(f"{pages}: nothing found")
