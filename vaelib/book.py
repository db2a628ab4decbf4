"""The book: notebooks with typed parameters, run by papermill, and rendered by Jupyter Book.

Needs the extra `[book]`; nothing of it is imported before it is used. What a build makes lies in
`_build/<profile>/`: `executed/` (notebooks with their outputs and logs), `site-src/` (the pages as
Jupyter Book sees them) and `html/` (the site).
"""

import contextlib
import functools
import hashlib
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import IO, Any

from vaelib._book_checks import check_outputs, scan, strip_for_site
from vaelib._book_parameters import (
    SPEC,
    check_parameters,
    extra,
    find_notebook,
    notebooks,
    pages,
    parameters,
    parse_value,
    project_root,
    validate,
)
from vaelib._workers import follow_parent, interrupts_held
from vaelib.config import profiles
from vaelib.errors import VaelibError, check_name
from vaelib.literals import visible
from vaelib.progress import duration
from vaelib.store import atomic, default_store, read_json, write_json

__all__ = ["SPEC", "build", "check_parameters", "execute", "notebooks", "parameters"]
__all__ += ["parse_value", "run_notebook", "scan", "serve", "validate"]
_STRICT = ("-W", "--keep-going")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_WARNING = re.compile(
    r"^(?:.*?/site-src/)?(?P<where>[^\s:]*)(?::\d+)?: (?:WARNING|ERROR): (?P<what>.*)"
)


class _Relay(io.TextIOBase):
    """Passes a running notebook's stderr on: its newest line, at most every two seconds."""

    def __init__(self, name: str, stream: IO[str]) -> None:
        self.name, self.stream, self.last = name, stream, 0.0

    def write(self, text: str) -> int:
        lines = re.split(r"[\r\n]+", _COLOUR.sub("", text).strip())
        if lines[-1] and time.monotonic() - self.last >= 2:
            self.last = time.monotonic()
            print(f"  {self.name}: {visible(lines[-1])}", file=self.stream, flush=True)
        return len(text)


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)


def _work(profile: str) -> Path:
    return project_root() / "_build" / check_name(profile, profiles(), "profile")


# ---------------------------------------------------------------- running notebooks


def run_notebook(
    notebook: str | Path, given: Mapping[str, Any], output: str | Path | None = None
) -> Path:
    """Execute a notebook with papermill; it appears under `output` only when all of it ran.

    Args:
        notebook: A path, or a name under `notebooks/`.
        given: Parameter values by name; those left out keep the notebook's defaults.
        output: Where the executed copy goes, by default `_build/run/<name>.ipynb`.

    Returns:
        The executed copy. What it writes to stderr is passed on while it runs.

    Raises:
        VaelibError: A parameter is wrong, or the notebook stopped; then no copy is left. The
            traceback of an error that no sentence explains lies beside, in `<output>.log`.
    """
    source = find_notebook(notebook)
    values = validate(source, given)
    target = Path(output) if output else project_root() / "_build" / "run" / source.name
    papermill, log = extra("papermill"), target.with_suffix(".log")
    target.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".run-") as scratch:
        draft = Path(scratch) / source.name
        try:
            papermill.execute_notebook(
                source,
                draft,
                parameters=values,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                extra_arguments=["--IPKernelApp.log_level=50"],
                stderr_file=_Relay(source.stem, sys.stderr),
            )
        except Exception as error:
            raise VaelibError(_why(source.stem, error, log)) from None
        os.replace(draft, target)
    return target


def _why(name: str, error: Exception, log: Path) -> str:
    kind = getattr(error, "ename", type(error).__name__)
    said = str(getattr(error, "evalue", error)).strip().split("\n")[0]
    if kind == VaelibError.__name__:
        return f"notebook {name}: {said}"
    with atomic(log) as file:
        file.write(_COLOUR.sub("", str(error)).encode())
    return f"notebook {name} stopped with {kind}: {said} (traceback in {log})."


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@functools.cache
def _package_digest() -> str:
    folder = Path(__file__).parent
    kinds = {".py", ".toml", ".csv"}
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in kinds]
    return _digest(*(path.read_bytes() for path in files))


def _stamp(source: Path, values: Mapping[str, Any]) -> dict[str, str]:
    """What an executed copy depends on; equal stamps mean it would come out the same."""
    records = sorted(str(entry.key) for entry in default_store().entries())
    return {
        "notebook": _digest(source.read_bytes()),
        "parameters": repr(sorted(values.items())),
        "code": _package_digest(),
        "records": _digest("\n".join(records).encode()),
    }


def execute(profile: str = "laptop", jobs: int = 2, force: bool = False) -> list[Path]:
    """Execute the book's notebooks, those that would come out unchanged excepted.

    Args:
        profile: Given to every notebook that has a parameter of this name.
        jobs: Notebooks run at the same time.
        force: Execute all of them.

    Returns:
        The executed copies, in reading order.

    Raises:
        VaelibError: A notebook stopped; the message names it.
    """
    folder, names, done = _work(profile) / "executed", notebooks(), []
    for left in folder.glob(".run-*"):  # by an interrupted build
        shutil.rmtree(left, ignore_errors=True)
    with contextlib.chdir(project_root()):
        given = {name: _profile_only(name, profile) for name in names}
        todo = {n: v for n, v in given.items() if force or not _fresh(folder, n, v)}
        _say(
            f"{len(names) - len(todo)} of {len(names)} notebooks unchanged, {len(todo)} to execute"
        )
        try:
            for name in _run_all(todo, folder, jobs):
                done.append(name)
        finally:  # stamped last: what a later notebook trained makes no earlier one stale
            for name in done:
                write_json(folder / f"{name}.json", _stamp(find_notebook(name), given[name]))
    return [folder / f"{name}.ipynb" for name in names]


def _profile_only(name: str, profile: str) -> dict[str, Any]:
    defaults = {p.name: p.default for p in parameters(name)}
    return {"profile": profile} if defaults.get("profile", profile) != profile else {}


def _fresh(folder: Path, name: str, values: Mapping[str, Any]) -> bool:
    stamp = folder / f"{name}.json"
    if not (stamp.is_file() and (folder / f"{name}.ipynb").is_file()):
        return False
    return read_json(stamp) == _stamp(find_notebook(name), values)


def _begin(jobs: int) -> None:
    """What a worker does first: its kernels share the processors instead of fighting for them."""
    follow_parent()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))


def _weights(given: Iterable[str], folder: Path) -> dict[str, float]:
    """How long notebooks take beside each other: seconds of the copies that are there."""
    known: dict[str, float] = {}
    for name in given:
        with contextlib.suppress(VaelibError, KeyError, TypeError):
            copy = read_json(folder / f"{name}.ipynb")
            known[name] = float(copy["metadata"]["papermill"]["duration"])
    usual = sum(known.values()) / len(known) if known else 1.0
    return {name: known.get(name, usual) for name in given}


def _run_all(given: Mapping[str, Mapping[str, Any]], folder: Path, jobs: int) -> Iterator[str]:
    """Execute notebooks, `jobs` at a time; yields each name when its copy is there.

    Raises:
        VaelibError: Some stopped; raised when the others are done.
    """
    start, wrong, weights, done = time.monotonic(), [], _weights(given, folder), 0.0
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (jobs,)) as pool:
        with interrupts_held():
            running = {
                pool.submit(run_notebook, name, values, folder / f"{name}.ipynb"): name
                for name, values in given.items()
            }
        try:
            for number, future in enumerate(as_completed(running), 1):
                done += weights[running[future]]
                spent = time.monotonic() - start
                left = spent * (sum(weights.values()) - done) / done
                seconds = f"{duration(spent)} so far, about {duration(left)} left"
                if error := future.exception():
                    wrong.append(str(error))
                    _say(f"[{number}/{len(given)}] {error} {seconds}")
                else:
                    _say(f"[{number}/{len(given)}] {running[future]} executed, {seconds}")
                    yield running[future]
        except BaseException:  # interrupted: neither wait for what runs nor begin what is queued
            for worker in active_children():
                worker.terminate()
            raise
    if wrong:
        raise VaelibError("; ".join(wrong))


# ---------------------------------------------------------------- building the site


def build(
    profile: str = "laptop",
    execute_notebooks: bool = True,
    strict: bool = True,
    jobs: int = 2,
    force: bool = False,
) -> Path:
    """Execute the notebooks, render the book from clean, and look it over.

    Args:
        profile: "smoke", "laptop" or "paper".
        execute_notebooks: False renders the executed copies that are there.
        strict: Every warning of the renderer and every finding of `scan` is an error.
        jobs: Notebooks executed at the same time.
        force: Execute unchanged notebooks too.

    Returns:
        The absolute path of `index.html`; an earlier site is replaced only when all went well.

    Raises:
        VaelibError: A notebook stopped, a page is missing, or the book is not clean; one sentence
            names the page or notebook.
    """
    root = project_root()
    with contextlib.chdir(root):
        work = _work(profile)
        if execute_notebooks:
            execute(profile, jobs, force)
        _stage(root, work, strict)
        _say(f"rendering {len(pages(root))} pages")
        draft = _render(root, work, strict)
        _copy_mathjax(draft / "_static" / "mathjax")
        _refuse(scan(draft) if strict else [], work / "scan.log")
        shutil.rmtree(work / "html", ignore_errors=True)
        shutil.move(draft, work / "html")
    return work / "html" / "index.html"


def _refuse(problems: list[str], log: Path) -> None:
    log.unlink(missing_ok=True)
    if problems:
        log.write_text("\n".join(problems) + "\n", "utf-8")
        more = f" ({len(problems) - 1} more in {log})" if len(problems) > 1 else ""
        raise VaelibError(f"the book is not clean: {problems[0]}{more}.")


def _stage(root: Path, work: Path, strict: bool) -> None:
    """Lay prose, executed notebooks and assets side by side, as `_toc.yml` names them."""
    target = work / "site-src"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for asset in (root / "book").iterdir():
        if asset.is_dir():
            shutil.copytree(asset, target / asset.name)
        elif asset.suffix != ".md":
            shutil.copy(asset, target)
    problems: list[str] = []
    for page in pages(root):
        source = _source(root, work / "executed", page)
        if source.suffix == ".md":
            shutil.copy(source, target)
            continue
        notebook = read_json(source)
        problems += [f"notebook {page}: {problem}" for problem in check_outputs(notebook)]
        write_json(target / source.name, strip_for_site(notebook))
    _refuse(problems if strict else [], work / "outputs.log")


def _source(root: Path, executed: Path, page: str) -> Path:
    prose, notebook = root / "book" / f"{page}.md", root / "notebooks" / f"{page}.ipynb"
    if prose.is_file() == notebook.is_file():
        found = "both" if prose.is_file() else "neither"
        raise VaelibError(
            f"page {page!r} of _toc.yml needs either book/{page}.md or notebooks/{page}.ipynb; "
            f"{found} of them exist."
        )
    if prose.is_file():
        return prose
    copy = executed / notebook.name
    if not copy.is_file():
        raise VaelibError(f"notebook {page} has not been executed; build without --no-execute.")
    return copy


def _render(root: Path, work: Path, strict: bool) -> Path:
    """Run Jupyter Book on the staged pages from clean; its messages go to `render.log`."""
    extra("jupyter_book")
    out, log = work / "render", work / "render.log"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = "from jupyter_book.cli.main import main; main()"
    command: list[str | Path] = [sys.executable, "-c", start, "build"]
    command += [work / "site-src", "--path-output", out, "--all", *(_STRICT if strict else ())]
    command += ["--config", root / "_config.yml", "--toc", root / "_toc.yml"]
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise VaelibError(_first_warning(_COLOUR.sub("", log.read_text("utf-8")), log))
    return out / "_build" / "html"


def _first_warning(text: str, log: Path) -> str:
    matches = [m for line in text.splitlines() if (m := _WARNING.match(line))]
    if not matches:
        return f"Jupyter Book stopped: see {log}."
    where, what = matches[0]["where"] or "_config.yml or _toc.yml", matches[0]["what"]
    return f"page {where}: {what} ({len(matches)} warnings in all, see {log})."


def _copy_mathjax(target: Path) -> None:
    """MathJax from the installed package: the parts pages load, 2 MB of its 24."""
    source = Path(extra("sphinx-mathjax-offline").__file__).parent / "static" / "mathjax"
    for part in ("output/chtml/fonts", "input/tex/extensions"):
        shutil.copytree(source / part, target / part)
    shutil.copy(source / "tex-chtml.js", target)


# ---------------------------------------------------------------- reading it


def serve(profile: str = "laptop", port: int = 8000) -> None:
    """Serve the built site on this machine until interrupted.

    Raises:
        VaelibError: The site has not been built, or the port is taken.
    """
    folder = _work(profile) / "html"
    if not (folder / "index.html").is_file():
        raise VaelibError(
            f"no book at {folder}: build it with `vaelib book build --profile {profile}`."
        )
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise VaelibError(f"port {port}: {error.strerror}; choose another with --port.") from error
    with server, contextlib.suppress(KeyboardInterrupt):
        _say(f"the book is at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)")
        server.serve_forever()
