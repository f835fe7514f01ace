"""Where things are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from stemgmd_build.errors import UserError


class CacheError(UserError):
    """The cache cannot be written; what was to be kept there is in order."""


def cache_folder() -> Path:
    """Where downloads and banks are kept: STEMGMD_CACHE, else the user's cache folder."""
    return Path(os.environ.get("STEMGMD_CACHE") or user_cache_path("stemgmd"))


def unwritable(folder: Path, what: str, error: OSError) -> CacheError:
    """What to raise where a folder of the cache takes no file; ``what`` was to be kept there."""
    return CacheError(
        f"{folder}: {what} cannot be written there: {error.strerror or error}; set STEMGMD_CACHE "
        "to a folder with room"
    )
