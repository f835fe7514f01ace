"""Public repositories as a source of recorded kits: single files of one commit, into the cache.

Every file has its size and SHA-256 in the catalogue and is verified before it gets its name. A
fetch that breaks off is taken up again where it stopped, inside a file too. Files come from the
host's raw address of the commit, or from where the user says: a mirror, or a folder that holds a
checkout of each repository.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from stemgmd_build.download import download
from stemgmd_build.errors import UserError
from stemgmd_build.progress import progress

HOST: Final = "https://raw.githubusercontent.com"
VARIABLE: Final = "STEMGMD_REPOSITORIES"


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """A file of a commit. ``repository`` is "owner/name", ``path`` is inside it."""

    repository: str
    commit: str
    path: str
    n_bytes: int
    sha256: str

    @property
    def place(self) -> str:
        """Where it lies below the folder of all repositories."""
        return f"{folder_of(self.repository, self.commit)}/{self.path}"


def folder_of(repository: str, commit: str) -> str:
    """The folder of a repository's commit, such as "owner/name@0123456789ab"."""
    return f"{repository}@{commit[:12]}"


def is_there(files: tuple[RepositoryFile, ...], root: Path) -> bool:
    """Whether every file is below the folder, by its size. What is in it is checked on use."""
    return all(_has_size(root / file.place, file.n_bytes) for file in files)


def fetch_files(
    files: tuple[RepositoryFile, ...], root: Path, *, source: str | None, description: str
) -> None:
    """Bring the files below ``root``; those that are there with the right bytes are kept.

    ``source`` replaces the host: an address below which lie owner/name/commit/path, or a folder
    with owner/name/path. Raises UserError where a file cannot be had; the others stay.
    """
    total = sum(file.n_bytes for file in files)
    with progress(
        total=total, unit="B", unit_scale=True, unit_divisor=1024, desc=description
    ) as bar:
        for file in files:
            target = root / file.place
            if not _has_size(target, file.n_bytes):
                download(
                    _address(file, source),
                    target,
                    sha256=file.sha256,
                    n_bytes=file.n_bytes,
                    description="",
                )
            bar.update(file.n_bytes)


def _address(file: RepositoryFile, source: str | None) -> str:
    base = source or os.environ.get(VARIABLE) or HOST
    if "://" in base:
        return f"{base.rstrip('/')}/{file.repository}/{file.commit}/{quote(file.path)}"
    checkout = Path(base).expanduser().resolve() / file.repository / file.path
    if not checkout.is_file():
        raise UserError(f"{checkout} is missing; {VARIABLE} names a folder with owner/name/path")
    return checkout.as_uri()


def _has_size(path: Path, n_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == n_bytes
