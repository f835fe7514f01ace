"""Files: looked at before they are opened, written whole or not at all, one writer per folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from stemgmd_build.errors import UserError

LOCK: Final = ".lock"

MB: Final = 1 << 20
MOST_BYTES: Final = {
    "settings": 1 * MB,
    "MIDI": 16 * MB,
    "JSON": 64 * MB,
    "table": 2048 * MB,  # manifest.jsonl of 100 kits is 300 MB
    "audio": 64 * 1024 * MB,
    "kit": 4096 * MB,
    "weights": 8192 * MB,
}
"""The largest file of each kind that is opened. What is larger is not what it claims to be."""

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_DEEP_KEY: Final = re.compile(r"(?:[\w-]++[ \t]*\.[ \t]*){32}")
_TOML_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\.)*+"' + r"|'[^'\n]*+'")
_LONG_NAME_BYTES: Final = 200
"""File systems take 255, and a part's name is longer than the file's."""


def open_file(path: Path, kind: str) -> FileIO:
    """Open a file to read it, unbuffered.

    A pipe would be waited for without end and a device has no end, so neither is opened.

    Args:
        path: of the file. Links are followed.
        kind: a key of :data:`MOST_BYTES`.

    Raises:
        UserError: nothing there, no ordinary file, not readable, or larger than its kind can be.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            what = next((name for test, name in _KINDS if test(about.st_mode)), "no file")
            raise UserError(f"{path} is {what}, not a file")
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in the name
        raise UserError(f"{str(path)!r} is no file name: {error}") from error
    if about.st_size > MOST_BYTES[kind]:
        file.close()
        raise UserError(
            f"{path} has {about.st_size / 1e6:,.0f} MB, more than a file of its kind "
            f"({kind}) can have"
        )
    return file


def read_bytes(path: Path, kind: str) -> bytes:
    """A whole file. Raises UserError as :func:`open_file` does."""
    with open_file(path, kind) as file:
        try:
            return file.read()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def read_text(path: Path, kind: str) -> str:
    """A whole file of UTF-8. Raises UserError as :func:`open_file` does, and for other bytes."""
    data = read_bytes(path, kind)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} is not UTF-8 (line {line})") from error


def read_toml(path: Path) -> dict[str, Any]:
    """A file of settings. Raises UserError where it cannot be read or is not valid TOML."""
    return parse_toml(read_text(path, "settings"), str(path))


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Settings from text; ``name`` is what an error calls it.

    tomllib's time and memory grow with the square of a dotted key's depth: 100 kB take 6 GB.
    """
    if _DEEP_KEY.search(_TOML_STRING.sub("x", text)):
        raise UserError(f"{name}: a key has more than 32 parts")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"{name} is not valid TOML: {problem}") from error


def publish(part: Path, path: Path) -> None:
    """Give a finished file or folder its name, once it is on the disk.

    Without the flush a power loss may leave the name with zeros behind it. Raises OSError.
    """
    for item in (part, *part.rglob("*")) if part.is_dir() else (part,):
        _flush(item)
    os.replace(part, path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if path.is_file():  # some file systems flush no folders, and say so
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(handle)


@contextmanager
def whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path beside ``path`` to write to; at the end it takes the place of ``path``.

    Whatever is raised leaves ``path`` as it was, and nothing beside it. A kill leaves the part,
    which the next writing of the same file replaces; unless the file is ``shared``, written by
    several processes at once (a cache), each with a part of its own. Folders are made. Raises
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if len(os.fsencode(name)) > _LONG_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    owner = f".{os.getpid()}" if shared else ""
    part = path.with_name(f".{name}{owner}.partial")
    try:
        yield part
        publish(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, data: str | bytes, *, shared: bool = False) -> None:
    """Write bytes, or text as UTF-8, by way of :func:`whole`."""
    with whole(path, shared=shared) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder inside ``parent`` for what is in the making. Folders that a killed process left
    there are removed first. Raises OSError."""
    parent.mkdir(parents=True, exist_ok=True)
    ours = f".making-{socket.gethostname()[:64]}-"
    for left in parent.glob(f"{ours}*"):
        owner = left.name.removeprefix(ours).partition("-")[0]
        if owner.isdecimal() and not _is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        dir=parent, prefix=f"{ours}{os.getpid()}-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


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
