"""Where things are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Where downloads and banks are kept: STEMGMD_CACHE, else the user's cache folder."""
    return Path(os.environ.get("STEMGMD_CACHE") or user_cache_path("stemgmd"))
