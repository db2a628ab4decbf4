import gzip
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from data_helpers import CONTENT

from vaelib.data import download
from vaelib.data.download import Source, fetch, find_locally, git_blob_sha1
from vaelib.errors import VaelibError


class Server(ThreadingHTTPServer):
    """Serves `content` at any path; cuts the first `cuts` answers after half of what is due."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cuts = 0
        self.status = 0
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.honours_range = True
        self.headers: dict[str, str] = {}
        self.location = ""
        self.silent_after: int | None = None
        self.endless = False
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/some/mirror"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        self.server.paths.append(self.path)
        start = 0
        if wanted and self.server.honours_range:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        status = self.server.status or (206 if start else 200)
        status = 416 if start >= len(self.server.content) else status
        body = self.server.content[start:] if status < 400 else b"no"
        if self.server.location and len(self.server.paths) < 50:
            self.send_response(302)
            self.send_header("Location", self.server.location)
            self.end_headers()
            return
        self.send_response(status)
        headers = {"Content-Length": str(len(body))} | self.server.headers
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.server.silent_after is not None:
            self.wfile.write(body[: self.server.silent_after])
            self.server.release.wait(20)
            return
        with suppress(OSError):
            while self.server.endless:
                self.wfile.write(bytes(1 << 16))
        if self.server.cuts:
            self.server.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("VAELIB_MIRROR", running.url)
        yield running
        running.release.set()
        running.endless = False
        running.shutdown()
        thread.join()


@pytest.fixture
def mirror(tmp_path: Path, source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder mirror that holds the file; returns where the file is in it."""
    root = tmp_path / "mirror"
    monkeypatch.setenv("VAELIB_MIRROR", str(root))
    place = root / source.path
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    return place


def files_in(cache: Path) -> list[str]:
    files = (path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.name for path in files)


def refusal(source: Source) -> str:
    with pytest.raises(VaelibError) as caught:
        fetch(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_git_blob_sha1_is_that_of_git() -> None:
    # printf 'hello\n' | git hash-object --stdin
    assert git_blob_sha1(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_folder_mirror(source: Source, mirror: Path, cache: Path) -> None:
    path = fetch(source)
    assert path == cache / source.path
    assert path.read_bytes() == CONTENT
    assert files_in(cache) == ["small.txt"]
    shutil.rmtree(mirror.parents[4])
    assert fetch(source) == path  # from the cache


def test_a_folder_mirror_as_file_url(
    source: Source, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_MIRROR", mirror.parents[4].as_uri())
    assert fetch(source).read_bytes() == CONTENT


def test_only_the_git_checksum_may_be_known(source: Source, mirror: Path, cache: Path) -> None:
    bare = Source(source.dataset, source.path, source.git_sha1)
    assert fetch(bare).read_bytes() == CONTENT
    mirror.write_bytes(CONTENT[:-1])
    (cache / source.path).unlink()
    assert f"its git-blob SHA-1 is {git_blob_sha1(CONTENT[:-1])}" in refusal(bare)
    assert files_in(cache) == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (CONTENT[:1000], "it has 1000 bytes"),
        (b"", "it has 0 bytes"),
        (b"X" + CONTENT[1:], "its git-blob SHA-1 is"),
    ],
)
def test_a_wrong_file_in_the_mirror_never_enters_the_cache(
    content: bytes, fault: str, source: Source, mirror: Path, cache: Path
) -> None:
    mirror.write_bytes(content)
    message = refusal(source)
    assert f"small: cannot fetch small.txt from {mirror} (not the expected file: {fault}" in message
    assert f"expected git-blob SHA-1 {source.git_sha1}, SHA-256 {source.sha256}, " in message
    assert files_in(cache) == []


def test_a_wrong_sha256_is_noticed(source: Source, mirror: Path, cache: Path) -> None:
    wrong = Source(source.dataset, source.path, source.git_sha1, "0" * 64)
    assert f"its SHA-256 is {source.sha256}" in refusal(wrong)
    assert files_in(cache) == []


def test_an_absent_file_says_what_to_do(source: Source, mirror: Path, cache: Path) -> None:
    mirror.unlink()
    message = refusal(source)
    assert f"from {mirror} (no such file)" in message
    assert f"set VAELIB_MIRROR to a folder or URL that holds {source.path}, or put" in message
    assert message.endswith(f"or put the file at {cache / source.path}.")
    (cache / source.path).write_bytes(CONTENT)  # put there by hand
    assert fetch(source).read_bytes() == CONTENT


def test_a_corrupt_cached_file_is_fetched_again_or_named(
    source: Source, mirror: Path, cache: Path
) -> None:
    path = fetch(source)
    path.write_bytes(CONTENT[:500])
    assert fetch(source).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:500])
    mirror.unlink()
    assert f"in place of the corrupt {path} (it has 500 bytes)" in refusal(source)
    assert path.read_bytes() == CONTENT[:500]  # not ours to delete
    assert files_in(cache) == ["small.txt"]


def test_an_unwritable_cache_is_named(
    source: Source, mirror: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = mirror.parent / "occupied"
    occupied.write_text("a file, no folder")
    monkeypatch.setenv("VAELIB_CACHE", str(occupied))
    assert "small: cannot fetch small.txt" in refusal(source)


def test_find_locally_looks_in_the_cache_and_the_mirror(
    source: Source, mirror: Path, cache: Path
) -> None:
    assert find_locally(source) == mirror
    fetch(source)
    assert find_locally(source) == cache / source.path
    shutil.rmtree(cache)
    mirror.unlink()
    assert find_locally(source) is None


def test_http(source: Source, server: Server, cache: Path) -> None:
    assert fetch(source).read_bytes() == CONTENT
    assert server.paths == [f"/some/mirror/{source.path}"]
    assert files_in(cache) == ["small.txt"]
    fetch(source)
    assert len(server.paths) == 1


def test_an_interrupted_transfer_resumes(source: Source, server: Server, cache: Path) -> None:
    server.cuts = 2
    message = refusal(source)
    assert "the connection failed" in message
    assert "bytes are kept and a new attempt goes on from there" in message
    assert files_in(cache) == ["small.txt.part"]
    first = (cache / source.path).with_name("small.txt.part").stat().st_size
    assert 0 < first < len(CONTENT)
    refusal(source)
    second = (cache / source.path).with_name("small.txt.part").stat().st_size
    assert first < second < len(CONTENT)
    assert fetch(source).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={first}-", f"bytes={second}-"]
    assert files_in(cache) == ["small.txt"]


def test_a_server_without_ranges_and_a_spoilt_part_start_again(
    source: Source, server: Server, cache: Path
) -> None:
    part = (cache / source.path).with_name("small.txt.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    server.honours_range = False
    assert fetch(source).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]
    (cache / source.path).unlink()
    server.honours_range = True
    part.write_bytes(b"spoilt")
    assert fetch(source).read_bytes() == CONTENT
    (cache / source.path).unlink()
    part.write_bytes(b"longer than the file" + CONTENT)  # 416
    assert fetch(source).read_bytes() == CONTENT
    assert files_in(cache) == ["small.txt"]


def test_a_complete_part_needs_no_transfer(source: Source, server: Server, cache: Path) -> None:
    part = (cache / source.path).with_name("small.txt.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert fetch(source).read_bytes() == CONTENT
    assert server.paths == []


def test_corrupt_over_http_leaves_nothing(source: Source, server: Server, cache: Path) -> None:
    server.content = CONTENT.replace(b"7", b"8")
    assert "not the expected file: its git-blob SHA-1 is" in refusal(source)
    server.content = CONTENT[:777]
    assert "not the expected file: it has 777 bytes" in refusal(source)
    assert files_in(cache) == []


@pytest.mark.parametrize("status", [404, 503])
def test_the_servers_refusal_is_passed_on(
    status: int, source: Source, server: Server, cache: Path
) -> None:
    server.status = status
    assert f"from {server.url}/{source.path} (the server answered {status})" in refusal(source)
    assert files_in(cache) == []


@pytest.mark.parametrize("after", [0, 100_000])
def test_a_server_that_falls_silent_is_named(
    after: int, source: Source, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SILENCE", 0.3)
    server.silent_after = after
    begun = time.monotonic()
    assert "(the server was silent for 0.3 s)" in refusal(source)
    assert time.monotonic() - begun < 5
    assert files_in(cache) == ["small.txt.part"] * (after > 0)
    server.silent_after = None
    assert fetch(source).read_bytes() == CONTENT


def test_a_redirection_is_followed_and_a_circle_named(
    source: Source, server: Server, cache: Path
) -> None:
    server.location = "/round"
    assert "(it redirects in a circle)" in refusal(source)
    assert files_in(cache) == []
    server.paths += ["/"] * 50  # from here on it answers
    assert fetch(source).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[bad/x", "//"]
)
def test_a_redirection_out_of_the_web_is_refused(
    place: str, source: Source, server: Server, cache: Path
) -> None:
    server.location = place
    assert "small: cannot fetch small.txt" in refusal(source)
    assert files_in(cache) == []


@pytest.mark.parametrize("known", [True, False])
def test_more_than_the_file_is_never_fills_the_disk(
    known: bool, source: Source, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST", len(CONTENT))
    server.endless, server.headers = True, {"Content-Length": ""}
    asked = source if known else replace(source, bytes=None, sha256="")
    assert "not the expected file" in refusal(asked)
    assert files_in(cache) == []
    server.endless = False
    server.headers = {"Content-Encoding": "gzip"}
    server.content = gzip.compress(bytes(50 << 20))  # a bomb
    assert "not the expected file" in refusal(asked)
    assert files_in(cache) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "many"},
        {"Content-Length": "-5"},
        {"Content-Length": "9" * 30},
        {"Content-Encoding": "gzip"},
        {"Transfer-Encoding": "chunked"},
        {"Content-Range": "bytes 7-3/1"},
    ],
)
def test_senseless_headers_are_refused_or_do_not_matter(
    headers: dict[str, str], source: Source, server: Server, cache: Path
) -> None:
    server.headers = headers
    with suppress(VaelibError):
        assert fetch(source).read_bytes() == CONTENT
    server.headers = {}
    assert fetch(source).read_bytes() == CONTENT
    assert files_in(cache) == ["small.txt"]


@pytest.mark.parametrize("mirror", ["http://[bad", "http://", "https://:99999999", "http://a b/"])
def test_a_mirror_that_is_no_address_is_named(
    mirror: str, source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_MIRROR", mirror)
    assert f"small: cannot fetch small.txt from {mirror.rstrip('/')}" in refusal(source)


def test_no_network(source: Source, server: Server, cache: Path) -> None:
    server.shutdown()
    server.server_close()
    assert "(the connection failed: ConnectionError)" in refusal(source)
    assert files_in(cache) == []


def test_all_who_ask_at_once_get_the_file(source: Source, server: Server, cache: Path) -> None:
    bare = Source(source.dataset, source.path, source.git_sha1)
    with ThreadPoolExecutor(8) as pool:
        results = [f.result().read_bytes() for f in [pool.submit(fetch, bare) for _ in range(8)]]
    assert results == [CONTENT] * 8
    assert len(server.paths) == 1  # the others waited for the first
    assert files_in(cache) == ["small.txt"]
