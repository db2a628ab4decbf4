"""The built book in a real headless Chromium, driven over its debugging pipe: no server, no net.

`VAELIB_SITE` names the folder with `index.html`; by default it is the newest site in `_build/`.
"""

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
LAUNCHER = """
import os, sys
source, sink = int(sys.argv[1]), int(sys.argv[2])
os.dup2(source, 3)
os.dup2(sink, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
SURVEY = """
(async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  const lost = (selector, bad) => [...document.querySelectorAll(selector)].filter(bad)
    .map(e => e.getAttribute('src') || e.textContent.trim().slice(0, 60));
  return {
    images: document.querySelectorAll('article img').length,
    flat: lost('article img:not(.toggler)',
               e => e.naturalWidth < 1 || e.clientWidth < 20 || e.clientHeight < 20),
    formulas: document.querySelectorAll('article .math').length,
    raw: lost('article .math',
              e => !e.querySelector('mjx-container') && !e.closest('mjx-container')),
    wrong: lost('article mjx-merror', e => true),
  };
})()
"""
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
# Brightness (0-255): of the page's ground, and of the toolbar's icons, each a computed colour.
SHADES = """
(() => {
  const shade = e => getComputedStyle(e)[e === document.body ? 'backgroundColor' : 'color']
    .match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
  return {ground: shade(document.body),
          icons: [...document.querySelectorAll('.bd-header-article .btn')].map(shade)};
})()
"""
PATIENCE = 180  # seconds; a machine under load is slow, and no test waits longer than it must


class BrowserError(AssertionError):
    """Chromium's answer to a command was an error, as when the page it asked for has just gone."""


class Browser:
    """A headless Chromium and one page in it."""

    def __init__(self, binary: str, profile: Path) -> None:
        (their_in, self.out), (self.inn, their_out) = (self._pipe() for _ in range(2))
        command = [sys.executable, "-c", LAUNCHER, str(their_in), str(their_out), binary]
        self.process = subprocess.Popen(
            [*command, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(their_in, their_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_in)
        os.close(their_out)
        self.ids, self.rest = itertools.count(1), b""
        self.events: list[dict[str, Any]] = []
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    @staticmethod
    def _pipe() -> tuple[int, int]:
        """A pipe whose ends lie above the numbers 3 and 4 that Chromium takes."""
        import fcntl

        low = os.pipe()
        high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
        for end in low:
            os.close(end)
        return high[0], high[1]

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Send one command and wait for its answer; events that come first are kept."""
        number = next(self.ids)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _read(self, seconds: float = PATIENCE) -> dict[str, Any]:
        while b"\0" not in self.rest:
            assert select.select([self.inn], [], [], seconds)[0], "Chromium does not answer"
            piece = os.read(self.inn, 1 << 20)
            assert piece, "Chromium ended"
            self.rest += piece
        first, _, self.rest = self.rest.partition(b"\0")
        return json.loads(first)

    def open(self, url: str) -> None:
        """Go to a page and wait for its load event."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Wait for an expression to become true, also while one page gives way to another."""
        end, found = time.monotonic() + seconds, None
        while not found and time.monotonic() < end:
            with contextlib.suppress(BrowserError):
                found = self.value(expression)
            if not found:
                time.sleep(0.05)
        return found

    def screen(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """Set the width of the window and whether the reader prefers light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def outside(self) -> list[str]:
        """The requests since `open` that went to the network."""
        sent = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in sent]
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:", "about:"))]

    def errors(self) -> list[str]:
        """The uncaught JavaScript errors since `open`."""
        thrown = [e for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        details = [event["params"]["exceptionDetails"] for event in thrown]
        return [d.get("exception", {}).get("description", d["text"]) for d in details]

    def close(self) -> None:
        """End the browser."""
        self.process.terminate()
        self.process.wait(20)
        os.close(self.inn)
        os.close(self.out)


def chromium() -> str | None:
    """The browser on this machine, `VAELIB_CHROMIUM` first."""
    names = (os.environ.get("VAELIB_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def site() -> Path:
    """The folder of the built site."""
    if named := os.environ.get("VAELIB_SITE"):
        assert (Path(named) / "index.html").is_file(), f"VAELIB_SITE={named} holds no index.html"
        return Path(named).resolve()
    built = sorted(ROOT.glob("_build/*/html/index.html"), key=lambda path: path.stat().st_mtime)
    if not built:
        pytest.skip("no site is built: `make book` or `make test` builds one")
    return built[-1].parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium with a fresh profile."""
    binary = chromium()
    if binary is None:
        pytest.skip("no Chromium on this machine: install Debian's package `chromium`")
    browser = Browser(binary, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def survey(site: Path, browser: Browser) -> dict[str, dict[str, Any]]:
    """Every page opened once, wide and narrow: page -> what was seen."""
    seen = {}
    for page in sorted(site.glob("*.html")):
        if page.name in ("index.html", "search.html"):
            continue
        browser.screen(1400)
        browser.open(page.as_uri())
        facts = browser.value(SURVEY)
        browser.screen(390)
        facts |= {"overflow": browser.value(OVERFLOW), "outside": browser.outside()}
        seen[page.name] = facts | {"errors": browser.errors()}
    return seen


def offenders(survey: dict[str, dict[str, Any]], fact: str) -> dict[str, Any]:
    """The pages for which a list of findings is not empty."""
    return {page: facts[fact] for page, facts in survey.items() if facts[fact]}


@pytest.mark.parametrize("fact", ["outside", "errors", "flat", "raw", "wrong"])
def test_every_page_is_whole(survey: dict[str, dict[str, Any]], fact: str) -> None:
    """No request outside, no script error, no image without size, no formula left or wrong."""
    assert offenders(survey, fact) == {}


def test_figures_and_math_are_there(survey: dict[str, dict[str, Any]]) -> None:
    """The survey saw something: a book without a figure or formula would pass the test above."""
    assert sum(facts["images"] for facts in survey.values()) > 0
    assert sum(facts["formulas"] for facts in survey.values()) > 0


def test_no_page_scrolls_sideways_on_a_narrow_screen(survey: dict[str, dict[str, Any]]) -> None:
    assert {page: f["overflow"] for page, f in survey.items() if f["overflow"] > 1} == {}


def test_search_finds_a_word(site: Path, browser: Browser) -> None:
    browser.open((site / "search.html").as_uri() + "?q=collapse")
    assert browser.until("document.querySelectorAll('#search-results li a').length") > 0
    assert browser.outside() == []


def test_search_says_so_when_there_is_nothing(site: Path, browser: Browser) -> None:
    browser.open((site / "search.html").as_uri() + "?q=zyzzyvas")
    assert browser.until("document.querySelector('#search-results .search-summary')?.innerText")
    assert browser.value("document.querySelectorAll('#search-results li a').length") == 0


def test_dark_mode_follows_the_reader(site: Path, browser: Browser) -> None:
    light, dark = (shades(browser, site, scheme) for scheme in ("light", "dark"))
    assert light["ground"] > 200
    assert dark["ground"] < 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_switch_changes_page_and_icons_at_once(
    site: Path, browser: Browser, scheme: str
) -> None:
    """Whatever the system prefers, no icon is left in the colour of the other theme."""
    shades(browser, site, "dark" if scheme == "light" else "light")
    switch = f"document.documentElement.dataset.theme = '{scheme}'"
    shown = browser.value(f"{switch}; {SHADES}")
    assert (shown["ground"] < 60) == (scheme == "dark")
    assert len(shown["icons"]) > 2
    assert min(abs(icon - shown["ground"]) for icon in shown["icons"]) > 100


def shades(browser: Browser, site: Path, scheme: str) -> dict[str, Any]:
    """How bright ground and icons are once the page has taken a colour scheme on."""
    browser.screen(1400, scheme=scheme)
    browser.open((site / "intro.html").as_uri())
    assert browser.until(f"document.documentElement.dataset.theme == '{scheme}'")
    return browser.value(SHADES)


def test_index_leads_to_the_preface(site: Path, browser: Browser) -> None:
    browser.open((site / "index.html").as_uri())
    assert browser.until("location.pathname.endsWith('intro.html')")
