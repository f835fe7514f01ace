"""Where things are kept on this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from stemgmd_build.errors import UserError


class CacheError(UserError):
    """The cache cannot be written; what was to be kept there is in order."""


def path_variable(name: str) -> Path | None:
    """The path that a variable of the environment holds, None where it holds none.

    A leading ``~`` is the home folder: systemd, Docker and .env files leave it as it is.
    """
    value = os.environ.get(name)
    return home_expanded(Path(value)) if value else None


def home_expanded(path: Path) -> Path:
    """The path with ``~`` replaced; as it is where nobody knows the home folder."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def cache_folder() -> Path:
    """Where downloads and banks are kept: STEMGMD_CACHE, else the user's cache folder.

    A user without a home folder (some containers) has one in the folder for temporary files.
    """
    named = path_variable("STEMGMD_CACHE")
    if named:
        return named
    kept = home_expanded(user_cache_path("stemgmd"))
    if kept.is_absolute() and "~" not in kept.parts:
        return kept
    return Path(tempfile.gettempdir()) / f"stemgmd-{os.getuid()}"


def unwritable(folder: Path, what: str, error: OSError) -> CacheError:
    """What to raise where a folder of the cache takes no file; ``what`` was to be kept there."""
    return CacheError(
        f"{folder}: {what} cannot be written there: {error.strerror or error}; set STEMGMD_CACHE "
        "to a folder with room"
    )
