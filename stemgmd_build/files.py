"""Files that appear whole or not at all, and folders with one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from stemgmd_build.errors import UserError

LOCK: Final = ".lock"


@contextmanager
def whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path beside ``path`` to write to; at the end it takes the place of ``path``.

    Whatever is raised leaves ``path`` as it was, and nothing beside it. A kill leaves the part,
    which the next writing of the same file replaces; unless the file is ``shared``, written by
    several processes at once (a cache), each with a part of its own. Folders are made. Raises
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = f".{os.getpid()}" if shared else ""
    part = path.with_name(f".{path.name}{owner}.partial")
    try:
        yield part
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, data: str | bytes, *, shared: bool = False) -> None:
    """Write bytes, or text as UTF-8, by way of :func:`whole`."""
    with whole(path, shared=shared) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold a lock, and wait for it as long as another process does. Raises OSError.

    The file is made first: where the file system refuses it (/proc), FileLock takes that for
    another's lock and would wait for ever.
    """
    path.touch()
    with FileLock(path):
        yield


@contextmanager
def locked(root: Path, doing: str) -> Iterator[None]:
    """Only one process at a time writes a folder; the lock ends with it.

    Args:
        root: the folder; made, and removed again if it stays empty.
        doing: what is done there ("build"), for the one who is turned away.

    Raises:
        UserError: another process is at it, or the folder cannot be written.
    """
    lock = FileLock(root / LOCK)
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / LOCK).touch()  # as above: where it cannot be made, nobody else has it
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another {doing} is writing {root}; wait for it to end") from error
    except OSError as error:
        raise UserError(f"{root} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        (root / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # not empty, unless it was refused at once
            root.rmdir()
