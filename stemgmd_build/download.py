"""Downloads that can break off at any moment: resumed, bounded, verified, then renamed.

What has arrived lies in ``<target>.part`` until its size and SHA-256 are right; only then
does ``<target>`` come to be. A connection that breaks off is taken up again at once for as
long as every try brings new bytes. Only http, https and file addresses are opened.
"""

from __future__ import annotations

import hashlib
import re
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit

from stemgmd_build.errors import UserError
from stemgmd_build.files import lock_file, publish
from stemgmd_build.progress import progress

SCHEMES: Final = ("http", "https", "file")
TIMEOUT_SEC: Final = 30.0
BLOCK_BYTES: Final = 1 << 17


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(url: str, target: Path, *, sha256: str, n_bytes: int, description: str) -> Path:
    """Bring ``url`` to ``target``, resuming an earlier try; returns ``target``.

    A target that is already there with the right bytes is not fetched again. A bar with
    ``description`` shows progress; none where it is empty.

    Raises UserError if the address cannot be read, the disk is full, or the bytes are not
    those of ``sha256`` and ``n_bytes``; ``target`` is then untouched.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise UserError(f"{url}: only http, https and file addresses can be downloaded")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(Path(f"{target}.lock")):
            if not _is_right(target, sha256, n_bytes):
                _fetch_verified(url, target, sha256, n_bytes, description)
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(
            f"cannot download {url} to {target}: {_reason(error)}; "
            "the same command goes on where it stopped"
        ) from error
    return target


def _fetch_verified(url: str, target: Path, sha256: str, n_bytes: int, description: str) -> None:
    part = target.with_name(target.name + ".part")
    was_resumed = _n_bytes_of(part) > 0
    _fetch_whole(url, part, n_bytes, description)
    if was_resumed and not _is_right(part, sha256, n_bytes):
        # The beginning may be left from another file: one clean try before blaming the server.
        part.unlink()
        _fetch_whole(url, part, n_bytes, description)
    if not _is_right(part, sha256, n_bytes):
        part.unlink(missing_ok=True)
        raise UserError(
            f"{url}: the downloaded bytes are not the expected file (SHA-256 {sha256}, "
            f"{n_bytes:,} bytes); nothing was kept, try another source"
        )
    publish(part, target)


def _fetch_whole(url: str, part: Path, n_bytes: int, description: str) -> None:
    """Append to ``part`` until it holds ``n_bytes``; every try must bring it forward."""
    if _n_bytes_of(part) > n_bytes:
        part.unlink()
    with progress(
        total=n_bytes,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        desc=description,
        disable=not description,
    ) as bar:
        while (n_before := _n_bytes_of(part)) < n_bytes:
            bar.update(n_before - bar.n)
            error: Exception | None = None
            try:
                _fetch_rest(url, part, n_bytes, bar)
            except HTTPError:
                raise
            except (OSError, HTTPException) as broken_off:
                error = broken_off
            if _n_bytes_of(part) <= n_before:
                raise error or UserError(
                    f"{url}: the server sent {_n_bytes_of(part):,} bytes and stopped, "
                    f"{n_bytes:,} were expected"
                )
        bar.update(n_bytes - bar.n)


def _fetch_rest(url: str, part: Path, n_bytes: int, bar: Any) -> None:
    offset = _n_bytes_of(part)
    headers = {"Range": f"bytes={offset}-", "User-Agent": "stemgmd-bench"} if offset else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (scheme checked)
    with _opener().open(request, timeout=TIMEOUT_SEC) as response:
        start = _starts_at(response)
        if start not in (0, offset):
            raise UserError(f"{url}: asked for the bytes from {offset:,} on, got others")
        with part.open("r+b" if offset else "wb") as stream:
            # A server that ignores Range sends the whole file: start over.
            stream.seek(start)
            stream.truncate()
            bar.update(start - bar.n)
            _copy(response, stream, n_bytes, bar, url)


def _copy(response: IO[bytes], stream: IO[bytes], n_bytes: int, bar: Any, url: str) -> None:
    while block := response.read(BLOCK_BYTES):
        if stream.tell() + len(block) > n_bytes:
            raise UserError(f"{url}: the server sends more than the expected {n_bytes:,} bytes")
        stream.write(block)
        bar.update(len(block))


def _starts_at(response: Any) -> int:
    """Where in the file the response's body begins."""
    if getattr(response, "status", None) != 206:
        return 0
    match = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range") or "")
    if match is None:
        raise UserError(f"{response.url}: a partial answer without a Content-Range header")
    return int(match[1])


def _opener() -> urllib.request.OpenerDirector:
    """Only these handlers: a redirect cannot lead to ftp, data or any other scheme."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.FileHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _n_bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_right(path: Path, sha256: str, n_bytes: int) -> bool:
    return (
        path.is_file() and path.stat().st_size == n_bytes and sha256_of_file(path) == sha256.lower()
    )


def _reason(error: Exception) -> str:
    text = str(getattr(error, "reason", "") or error) or type(error).__name__
    return f"HTTP {error.code} {text}" if isinstance(error, HTTPError) else text
