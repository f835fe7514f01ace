"""Files that appear whole or not at all, wherever the project writes one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
