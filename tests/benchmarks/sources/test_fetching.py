"""A set is downloaded whole or not at all, from where it stopped, and is what was published."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from small_builds import error_line, stemgmd_here

from benchmarks.sources import Archive
from benchmarks.sources.fetching import fetch
from stemgmd_build.errors import UserError


def make_zip(prefix: str = "set/") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        noise = np.random.default_rng(1).bytes(600_000)
        file.writestr(f"{prefix}audio/A#MIX.wav", noise)
        file.writestr(f"{prefix}readme.txt", "hello")
    return data.getvalue()


@dataclass
class Server:
    """Serves ``data`` and notes where each request begins; ``break_after`` ends one early."""

    data: bytes
    address: str = ""
    break_after: int | None = None
    knows_ranges: bool = True
    starts: list[int] = field(default_factory=list)

    def archive(self) -> Archive:
        return Archive(f"{self.address}/set.zip", hashlib.md5(self.data).hexdigest(), 1, 10, 10)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(make_zip())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            start = int(wanted[6:-1]) if wanted and state.knows_ranges else 0
            state.starts.append(start)
            body = state.data[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.break_after])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield state
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_download_that_breaks_off_is_resumed(
    tmp_path: Path, server: Server, knows_ranges: bool
) -> None:
    server.break_after, server.knows_ranges = 300_000, knows_ranges
    with pytest.raises(UserError, match="goes on where it stopped"):
        fetch(server.archive(), tmp_path / "d")
    assert not (tmp_path / "d" / "set").exists()
    server.break_after = None
    folder = fetch(server.archive(), tmp_path / "d")
    assert (folder / "audio" / "A#MIX.wav").stat().st_size == 600_000
    assert server.starts[0] == 0
    assert (server.starts[1] > 0) == knows_ranges
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["set"], "nothing beside it"
    fetch(server.archive(), tmp_path / "d")
    assert len(server.starts) == 2, "what is there is not fetched again"


def test_an_archive_without_its_own_folder_gets_one(tmp_path: Path, server: Server) -> None:
    server.data = make_zip(prefix="")
    assert (fetch(server.archive(), tmp_path) / "readme.txt").read_text() == "hello"


def test_other_bytes_are_refused_and_the_next_try_is_clean(tmp_path: Path, server: Server) -> None:
    archive, right = server.archive(), server.data
    server.data = b"<html>not here</html>"
    with pytest.raises(UserError, match="is not the published file"):
        fetch(archive, tmp_path)
    server.data = right
    assert fetch(archive, tmp_path).is_dir()
    assert server.starts == [0, 0]


def test_what_may_not_be_downloaded_is_told_how_to_get() -> None:
    line = error_line(stemgmd_here("bench", "fetch", "enst", "--data", "x"))
    assert "Zenodo record 7432188" in line
