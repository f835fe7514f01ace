"""Archives that kits come in, unpacked in pure Python: Debian's packages and Hydrogen's exports.

A .deb is an ar archive that holds a compressed tar, a .h2drumkit a tar.gz.

Nothing is trusted: sizes are bounded, names must stay inside, only plain files are written. A
link to a file inside the package becomes a copy of that file; other links and devices are left.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Final, cast

from stemgmd_build.config import one_line
from stemgmd_build.errors import UserError

MAX_MEMBERS: Final = 50_000
MAX_UNPACKED_BYTES: Final = 2 << 30
MAX_TAR_BYTES: Final = 4 << 30
MAX_EXPORT_BYTES: Final = 1 << 30
_AR_MAGIC: Final = b"!<arch>\n"
_AR_HEADER_BYTES: Final = 60
_MAX_LINKS: Final = 16
_MAX_DEPTH: Final = 64  # far below where making folders would run out of stack


def unpack_deb(
    deb: Path, folder: Path, wanted: Collection[str], optional: Collection[str] = ()
) -> None:
    """Unpack the wanted files and folders ("usr/share/…") of a .deb below a new ``folder``.

    Where a wanted path is a link, the file that it points to is unpacked as well. Raises
    UserError naming the file if it is damaged, too large, or lacks something wanted (but not if
    it lacks what is only ``optional``); ``folder`` may then be there in part.
    """
    paths = {*wanted, *optional}
    try:
        folder.mkdir(parents=True)
        with _tar(deb) as tar:
            members = _unpack_files(tar, deb, folder, paths)
        links = _links(members, paths)
        beyond = {source for source in links.values() if not (folder / source).exists()}
        if beyond:
            with _tar(deb) as tar:
                _unpack_files(tar, deb, folder, beyond)
        for link, source in links.items():
            (folder / link).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / source, folder / link)
    except _damage() as error:
        raise UserError(f"{deb}: is damaged ({error}); fetch it again") from error
    except OSError as error:  # includes gzip's and bzip2's complaints
        raise UserError(f"{deb}: cannot be unpacked ({error.strerror or error})") from error
    for path in wanted:
        if not (folder / path).exists():
            raise UserError(f"{deb}: does not hold {path}")


def unpack_export(export: Path, folder: Path) -> None:
    """Unpack the plain files of a kit that Hydrogen exported (.h2drumkit) below a new ``folder``.

    Raises UserError naming the file if it is damaged or too large; ``folder`` may then be there
    in part. OSError where it cannot be written.
    """
    folder.mkdir(parents=True)
    clash = (FileExistsError, NotADirectoryError)  # a name is a file here and a folder there
    bad: tuple[type[BaseException], ...] = (gzip.BadGzipFile, *clash, *_damage())
    try:
        with gzip.open(export) as file, _tar_of(cast("IO[bytes]", file), MAX_EXPORT_BYTES) as tar:
            _unpack_files(tar, export, folder, wanted=None)
    except bad as error:
        raise UserError(
            f"{export}: is no tar.gz, damaged, or unpacks to more than {MAX_EXPORT_BYTES:,} bytes "
            f"({one_line(str(error))}); export it again, or unpack it and give the folder"
        ) from error


def _unpack_files(
    tar: tarfile.TarFile, archive: Path, folder: Path, wanted: Collection[str] | None
) -> dict[str, tarfile.TarInfo]:
    """Write the plain files that are wanted (None: all); returns every member by its path."""
    members: dict[str, tarfile.TarInfo] = {}
    n_bytes = 0
    for member in tar:
        name = _checked_name(member, archive)
        if name in members and not member.isdir():
            if wanted is None:
                continue  # Hydrogen exports a sample once for every instrument that plays it
            raise UserError(f"{archive}: holds {member.name!r} twice")
        members[name] = member
        if len(members) > MAX_MEMBERS:
            raise UserError(f"{archive}: holds more than {MAX_MEMBERS:,} files")
        if not member.isreg() or not (wanted is None or _is_wanted(name, wanted)):
            continue
        n_bytes += member.size
        if n_bytes > MAX_UNPACKED_BYTES:
            raise UserError(f"{archive}: unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with cast("IO[bytes]", tar.extractfile(member)) as data, target.open("xb") as out:
            shutil.copyfileobj(data, out, 1 << 20)
    return members


def _checked_name(member: tarfile.TarInfo, archive: Path) -> str:
    name = posixpath.normpath(member.name)
    if name.startswith(("/", "../")) or name == ".." or name.count("/") > _MAX_DEPTH:
        raise UserError(
            f"{archive}: holds a path that leads out of it or too deep ({one_line(name)!r})"
        )
    return name


def _is_wanted(name: str, wanted: Collection[str]) -> bool:
    return any(name == path or name.startswith(f"{path}/") for path in wanted)


def _links(members: Mapping[str, tarfile.TarInfo], wanted: Collection[str]) -> dict[str, str]:
    """Wanted links -> the plain files inside the package that they lead to."""
    links = {}
    for name, member in members.items():
        if not member.isreg() and _is_wanted(name, wanted):
            source = _followed(name, members)
            if source is not None:
                links[name] = source
    return links


def _followed(name: str, members: Mapping[str, tarfile.TarInfo]) -> str | None:
    """The plain file that a member is or leads to inside the package, or None."""
    for _ in range(_MAX_LINKS):
        member = members.get(name)
        if member is None or member.isreg():
            return name if member else None
        if member.issym():
            target = posixpath.join("/", posixpath.dirname(name), member.linkname)
        elif member.islnk():
            target = member.linkname
        else:
            return None
        name = posixpath.normpath(target).lstrip("/")
    return None


@contextmanager
def _tar(deb: Path) -> Iterator[tarfile.TarFile]:
    """The package's files as a tar stream, to be read once from front to back."""
    with deb.open("rb") as file:
        name, size = _find_data(file, deb)
        raw = io.BufferedReader(_Part(file, size))
        with _decompressed(raw, name, deb) as stream, _tar_of(stream, MAX_TAR_BYTES) as tar:
            yield tar


def _tar_of(stream: IO[bytes], n_bytes: int) -> tarfile.TarFile:
    """A tar stream of which no more than ``n_bytes`` are read."""
    limited = cast("IO[bytes]", io.BufferedReader(_Part(stream, n_bytes)))
    return tarfile.open(fileobj=limited, mode="r|")


def _find_data(file: IO[bytes], deb: Path) -> tuple[str, int]:
    """Seek to the member data.tar* of an ar archive; returns its name and size."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise UserError(f"{deb}: is not a Debian package")
    while len(header := file.read(_AR_HEADER_BYTES)) == _AR_HEADER_BYTES:
        name = header[:16].decode("ascii", errors="replace").strip().rstrip("/")
        digits = header[48:58].strip()
        if header[58:] != b"`\n" or not digits.isdigit():
            break
        if name.startswith("data.tar"):
            return name, int(digits)
        file.seek(int(digits) + int(digits) % 2, io.SEEK_CUR)
    raise UserError(f"{deb}: is a damaged Debian package (no data.tar in it); fetch it again")


def _decompressed(raw: IO[bytes], name: str, deb: Path) -> IO[bytes]:
    ending = name.removeprefix("data.tar")
    if ending == ".xz" or ending == ".lzma":
        return cast("IO[bytes]", lzma.open(raw))
    if ending == ".gz":
        return cast("IO[bytes]", gzip.open(raw))
    if ending == ".bz2":
        return cast("IO[bytes]", bz2.open(raw))
    if ending == ".zst":
        for module in _zstd_modules():
            return cast("IO[bytes]", module.open(raw, "rb"))
        raise UserError(f"{deb}: is compressed with Zstandard; pip install zstandard to read it")
    if ending == "":
        return raw
    raise UserError(f"{deb}: is compressed in an unknown way ({name!r})")


def _damage() -> tuple[type[BaseException], ...]:
    """What the decompressors raise when the bytes are not right."""
    zstd = (module.ZstdError for module in _zstd_modules())
    return (EOFError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error, *zstd)


def _zstd_modules() -> Iterator[ModuleType]:
    for name in ("compression.zstd", "zstandard"):  # Python 3.14's own, or the package
        with suppress(ImportError):
            yield importlib.import_module(name)


class _Part(io.RawIOBase):
    """The next ``n_bytes`` of a stream, as a stream of its own."""

    def __init__(self, stream: IO[bytes], n_bytes: int) -> None:
        self._stream = stream
        self._n_left = n_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), self._n_left))
        self._n_left -= len(data)
        buffer[: len(data)] = data
        return len(data)
