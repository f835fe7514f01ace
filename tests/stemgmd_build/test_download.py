"""stemgmd_build.download against a real HTTP server on the loopback interface."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stemgmd_build.download import download, sha256_of_file
from stemgmd_build.errors import UserError

CONTENT = np.random.default_rng(5).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server under test does, and what it was asked."""

    url: str = ""
    honours_range: bool = True
    breaks_after: int | None = None  # bytes of every answer, then the connection ends
    content: bytes = CONTENT
    redirect: str | None = None
    ranges: list[str | None] = field(default_factory=list)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.ranges.append(asked)
            if server.redirect is not None:
                self.send_response(302)
                self.send_header("Location", server.redirect)
                self.end_headers()
                return
            if not self.path.startswith("/file"):
                self.send_error(404)
                return
            start = 0
            if asked and server.honours_range:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
                last = len(server.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
            else:
                self.send_response(200)
            body = server.content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.breaks_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(state)) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/file.bin"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def _download(url: str, target: Path, content: bytes = CONTENT) -> Path:
    sha256 = hashlib.sha256(content).hexdigest()
    return download(url, target, sha256=sha256, n_bytes=len(content), description="file")


def test_download_brings_the_very_bytes_and_leaves_no_part(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    assert _download(server.url, target) == target
    assert target.read_bytes() == CONTENT
    assert not (tmp_path / "new" / "file.bin.part").exists()
    assert sha256_of_file(target) == SHA256


def test_a_target_that_is_right_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    _download(server.url, tmp_path / "a")
    _download(server.url, tmp_path / "a")
    assert len(server.ranges) == 1


def test_a_connection_that_breaks_off_is_taken_up_where_it_ended(
    server: Server, tmp_path: Path
) -> None:
    server.breaks_after = 140_000
    assert _download(server.url, tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=140000-", "bytes=280000-"]


def test_an_earlier_part_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:1234])
    assert _download(server.url, tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1234-"]


def test_a_server_that_ignores_range_starts_the_file_over(server: Server, tmp_path: Path) -> None:
    server.honours_range = False
    (tmp_path / "a.part").write_bytes(b"x" * 1234)
    assert _download(server.url, tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1234-"]


def test_a_server_that_ignores_range_and_breaks_off_is_an_error_not_a_loop(
    server: Server, tmp_path: Path
) -> None:
    server.honours_range = False
    server.breaks_after = 1000
    with pytest.raises(UserError, match=r"file\.bin.*1,000 bytes"):
        _download(server.url, tmp_path / "a")
    assert len(server.ranges) == 2
    assert not (tmp_path / "a").exists()


def test_a_part_of_another_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"wrong" * 100)
    assert _download(server.url, tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=500-", None]


@pytest.mark.parametrize("sent", [CONTENT[:-1] + b"?", CONTENT[:-1], CONTENT + b"!", b""])
def test_other_bytes_are_refused_and_leave_an_older_target_alone(
    server: Server, tmp_path: Path, sent: bytes
) -> None:
    server.content = sent
    (tmp_path / "a").write_bytes(b"older")
    with pytest.raises(UserError, match=r"file\.bin"):
        _download(server.url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"older"


def test_what_was_refused_does_not_spoil_the_next_try(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match="not the expected file"):
        _download(server.url, tmp_path / "a")
    server.content = CONTENT
    assert _download(server.url, tmp_path / "a").read_bytes() == CONTENT


def test_a_missing_file_and_a_dead_server_are_one_line(server: Server, tmp_path: Path) -> None:
    for url in (server.url.replace("/file", "/nothing"), "http://127.0.0.1:9/file.bin"):
        with pytest.raises(UserError) as caught:
            _download(url, tmp_path / "a")
        assert url in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "a.part").exists()


def test_a_file_address_works(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    target = _download((tmp_path / "source").as_uri(), tmp_path / "a")
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "data:,x", "/etc/passwd", "", "http://"])
def test_other_schemes_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        _download(url, tmp_path / "a")


@pytest.mark.parametrize("where", ["ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_a_redirect_cannot_leave_http(server: Server, tmp_path: Path, where: str) -> None:
    server.redirect = where
    with pytest.raises(UserError):
        _download(server.url, tmp_path / "a")
    assert not (tmp_path / "a").exists()
