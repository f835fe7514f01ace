"""Sets of recordings from the net: pooch checks what arrives, a break costs nothing.

pooch writes to a file of a new name at each try, so it cannot resume. The downloader here keeps
what has arrived in ``<archive>.part`` and gives pooch the whole file.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

from benchmarks.sources import Archive
from stemgmd_build.errors import UserError
from stemgmd_build.files import locked, publish
from stemgmd_build.performances.archives import unpack_zip
from stemgmd_build.progress import progress

TIMEOUT_SEC: Final = 60.0
BLOCK_BYTES: Final = 1 << 18


def fetch(archive: Archive, folder: Path) -> Path:
    """Download an archive and unpack it into a folder; the folder with the set.

    What is there already is not fetched again. A download that breaks off is taken up by the next
    call. Raises UserError where it cannot be downloaded, is not what was published, or the folder
    cannot be written.
    """
    name = archive.url.rpartition("/")[2]
    target = folder / name.removesuffix(".zip")
    if target.is_dir():
        return target
    with locked(folder, "download"):
        try:
            path = _archive(archive, folder / name)
            making = folder / f".{name}.partial"
            shutil.rmtree(making, ignore_errors=True)  # what a killed run has left
            unpack_zip(
                path,
                making,
                max_members=archive.max_members,
                max_bytes=archive.max_unpacked_megabytes << 20,
            )
            # The archive may hold the set's folder or its content.
            inner = making / target.name
            publish(inner if inner.is_dir() else making, target)
            shutil.rmtree(making, ignore_errors=True)
            path.unlink()
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    return target


def _archive(archive: Archive, path: Path) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # the bar says what it would say
    try:
        pooch.retrieve(
            archive.url,
            known_hash=f"md5:{archive.md5}",
            fname=path.name,
            path=path.parent,
            downloader=_resuming(Path(f"{path}.part")),
        )
    except requests.RequestException as error:
        raise UserError(
            f"cannot download {archive.url}: {type(error).__name__}; the same command goes on "
            "where it stopped"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{archive.url}: what arrived is not the published file (MD5 {archive.md5}); nothing "
            "was kept"
        ) from error
    return path


def _resuming(part: Path) -> Any:
    """A downloader for pooch that goes on where an earlier one stopped."""
    import requests

    def download(url: str, output_file: str, _: object) -> None:
        start = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SEC) as answer:
            whole = answer.status_code == 416  # nothing is left to send
            if not whole:
                answer.raise_for_status()
                if answer.status_code != 206:  # the server sends all of it again
                    start = 0
                _append(answer, part, start)
        os.replace(part, output_file)

    return download


def _append(answer: Any, part: Path, start: int) -> None:
    import requests

    rest = int(answer.headers.get("Content-Length") or 0)
    with (
        part.open("r+b" if start else "wb") as file,
        progress(total=start + rest or None, initial=start, unit="B", unit_scale=True,
                 desc=part.stem) as bar,
    ):  # fmt: skip
        file.seek(start)
        for block in answer.iter_content(BLOCK_BYTES):
            file.write(block)
            bar.update(len(block))
        end = file.tell()
    if rest and end < start + rest:
        raise requests.ConnectionError(f"{start + rest - end} bytes are missing")
