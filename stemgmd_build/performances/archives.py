"""Zip archives, unpacked without trust: bounded, inside one new folder, nothing but plain files."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from stat import S_ISDIR, S_ISREG
from typing import Final

from stemgmd_build.errors import UserError
from stemgmd_build.performances.midi import quoted

_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FORBIDDEN: Final = frozenset('\\:*?"<>|')  # separators, drives and streams of other systems


def unpack_zip(archive: Path, folder: Path, *, max_members: int, max_bytes: int) -> None:
    """Unpack a zip archive into ``folder``, which must not exist yet.

    Everything is checked before the first byte is written, and no member can grow beyond the
    size that was checked. Raises UserError naming the archive for anything but plain files and
    folders, for absolute, climbing or repeated names, for more than ``max_members`` or
    ``max_bytes`` (unpacked), and for damage; ``folder`` may then be there in part.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            _check_size(archive, members, max_members, max_bytes)
            for member in members:
                _check_member(archive, member)
            folder.mkdir(parents=True)
            for member in members:
                _unpack_member(file, member, folder)
    except FileExistsError as error:
        raise UserError(f"{archive}: unpacks to {error.filename} twice") from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be unpacked: {error.strerror or error}") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OverflowError,
    ) as error:
        raise UserError(
            f"{archive}: is not a readable zip archive ({quoted(str(error))}); fetch it again"
        ) from error


def _check_size(
    archive: Path, members: list[zipfile.ZipInfo], max_members: int, max_bytes: int
) -> None:
    n_bytes = sum(member.file_size for member in members)
    if len(members) > max_members or n_bytes > max_bytes:
        raise UserError(
            f"{archive}: holds {len(members):,} files of {n_bytes:,} bytes, "
            f"at most {max_members:,} of {max_bytes:,} are unpacked: it is not what it should be"
        )


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename  # `filename` has what follows a NUL cut off
    path = PurePosixPath(name)
    if (
        not name.isprintable()
        or _FORBIDDEN.intersection(name)
        or path.is_absolute()
        or ".." in path.parts
        or not path.parts
    ):
        raise UserError(f"{archive}: a file in it is called {quoted(name)}: nothing is unpacked")
    mode = member.external_attr >> 16
    if mode & 0o170000 and not (S_ISREG(mode) or S_ISDIR(mode)):
        raise UserError(f"{archive}: {quoted(name)} in it is a link or device: nothing is unpacked")
    if member.flag_bits & 1 or member.compress_type not in _METHODS:
        raise UserError(f"{archive}: {quoted(name)} in it is encrypted or oddly compressed")


def _unpack_member(file: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / member.orig_filename
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # zipfile hands out at most the declared size and checks the CRC at its end.
    with file.open(member) as source, target.open("xb") as sink:
        shutil.copyfileobj(source, sink)
