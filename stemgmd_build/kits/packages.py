"""Debian packages as a source of kits, unpacked into the cache: no root, no Debian needed.

A package is taken from, in this order: what was unpacked before; a .deb in a folder of the
user's; a Debian mirror that the user names; apt, where it is installed. Whatever the source, the
.deb is verified by size and SHA-256 before a byte is unpacked. Only the wanted files and the
package's copyright file are unpacked, as plain files: a link inside the package becomes a copy of
what it points to. A folder of unpacked files appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote

from stemgmd_build.download import download, sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.files import lock_file, publish
from stemgmd_build.kits.archives import unpack_deb

MARKER: Final = ".unpacked.json"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_VERSION: Final = re.compile(r"[A-Za-z0-9.+:~-]+")
_STANDARD_ERROR: Final = 2


@dataclass(frozen=True)
class Package:
    """A Debian package: ``deb`` is its path below a mirror's root, such as "pool/main/a/…"."""

    name: str
    version: str
    deb: str
    sha256: str
    n_bytes: int


def fetch_package(
    package: Package,
    cache: Path,
    *,
    mirror: str | None,
    deb_folder: Path | None,
    wanted: Sequence[str],
) -> Path:
    """The folder ``<cache>/packages/<name>_<version>`` with the wanted files unpacked in it.

    ``wanted`` are paths of files or folders inside the package ("usr/share/…"); what an earlier
    call unpacked is kept. ``mirror`` is the address of a Debian mirror's root, ``deb_folder`` a
    folder that may hold the .deb under any name that begins with the package's.

    Raises UserError, naming the ways out, if no source has exactly this package, if it lacks a
    wanted file, or if the disk is full.
    """
    if not _NAME.fullmatch(package.name) or not _VERSION.fullmatch(package.version):
        raise UserError(f"{package.name!r} {package.version!r} is no Debian package and version")
    paths = {_inner_path(path) for path in wanted}
    folder = cache / "packages" / f"{package.name}_{package.version}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(Path(f"{folder}.lock")):
            unpacked = _unpacked_paths(folder, package)
            if unpacked is None or not all(_is_below(path, unpacked) for path in paths):
                with _verified_deb(package, cache, mirror, deb_folder) as deb:
                    _unpack_whole(deb, package, folder, paths | (unpacked or set()))
    except OSError as error:
        where = error.filename or folder
        raise UserError(
            f"{where}: cannot be read or written ({error.strerror or error})"
        ) from error
    return folder


def _inner_path(path: str) -> str:
    inner = posixpath.normpath(path).lstrip("/")
    if inner in ("", ".") or inner.split("/")[0] == "..":
        raise UserError(f"{path!r} is no path inside a package")
    return inner


def _is_below(path: str, roots: set[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _unpacked_paths(folder: Path, package: Package) -> set[str] | None:
    """What an earlier call unpacked from this very package, or None."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        paths = {str(path) for path in marker["wanted"]}
        is_whole = marker["sha256"] == package.sha256 and all(
            (folder / path).exists() for path in paths
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return paths if is_whole else None


def _unpack_whole(deb: Path, package: Package, folder: Path, paths: set[str]) -> None:
    """Unpack beside ``folder``, then put it in its place."""
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        unpack_deb(deb, part, paths, optional={f"usr/share/doc/{package.name}/copyright"})
        marker = {"sha256": package.sha256, "wanted": sorted(paths)}
        (part / MARKER).write_text(json.dumps(marker), encoding="utf-8")
        if folder.exists():
            os.replace(folder, old)
        publish(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _verified_deb(
    package: Package, cache: Path, mirror: str | None, deb_folder: Path | None
) -> Iterator[Path]:
    """The package's .deb from the first source that has it; downloads are removed afterwards."""
    tried = []
    if deb_folder is not None:
        found = _deb_in_folder(package, deb_folder)
        if found is not None:
            yield found
            return
        tried.append(f"{deb_folder} holds no {package.name}_*.deb with the right SHA-256")
    with tempfile.TemporaryDirectory(prefix=f".{package.name}.", dir=cache / "packages") as folder:
        deb = None
        if mirror:
            try:
                deb = _download_deb(package, cache, mirror)
            except UserError as error:
                tried.append(str(error))
        if deb is None:
            deb = _deb_of_apt(package, Path(folder), tried)
        if deb is None:
            raise UserError(_no_source(package, tried))
        yield deb
        deb.unlink()


def _deb_in_folder(package: Package, folder: Path) -> Path | None:
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder with .deb files")
    candidates = sorted(folder.glob(f"{escape(package.name)}_*.deb"))
    return next((deb for deb in candidates if _is_right(deb, package)), None)


def _is_right(deb: Path, package: Package) -> bool:
    return deb.stat().st_size == package.n_bytes and sha256_of_file(deb) == package.sha256


def _download_deb(package: Package, cache: Path, mirror: str) -> Path:
    return download(
        f"{mirror.rstrip('/')}/{quote(package.deb)}",
        cache / "packages" / posixpath.basename(package.deb),
        sha256=package.sha256,
        n_bytes=package.n_bytes,
        description=package.name,
    )


def _deb_of_apt(package: Package, folder: Path, tried: list[str]) -> Path | None:
    """The .deb through ``apt-get download``, which needs no root; or None, and why in ``tried``."""
    if shutil.which("apt-get") is None:
        tried.append("apt-get is not installed")
        return None
    for what in (f"{package.name}={package.version}", package.name):
        offer = _apt_download(folder, "--print-uris", what)
        if offer is None or ("SHA256:" in offer and f"SHA256:{package.sha256}" not in offer):
            continue  # unknown to apt, or another build: not worth the download
        if _apt_download(folder, what) is not None:
            for deb in folder.glob("*.deb"):
                if _is_right(deb, package):
                    return deb
    tried.append(f"apt offers no {package.name} {package.version} with the right SHA-256")
    return None


def _apt_download(folder: Path, *options: str) -> str | None:
    """Standard output of ``apt-get download`` in ``folder``, or None where it fails."""
    is_query = options[0].startswith("-")
    result = subprocess.run(
        ["apt-get", "download", *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if is_query else _STANDARD_ERROR,  # its progress is for the user
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return (result.stdout or "") if result.returncode == 0 else None


def _no_source(package: Package, tried: Sequence[str]) -> str:
    return (
        f"{package.name} {package.version} was not found ({'; '.join(tried)}); on Debian or Ubuntu "
        f"run: sudo apt-get install {package.name}; elsewhere give --mirror with the address of a "
        f"Debian mirror, or --deb-folder with {posixpath.basename(package.deb)} in it"
    )
