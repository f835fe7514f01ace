"""The Groove MIDI Dataset: found, fetched, verified.

It is looked for where ``--gmd`` says, where STEMGMD_GMD says, then in the cache folder's "groove";
where there is none, the built-in grooves stand in, and ``Collection.source`` says so.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from stemgmd_build.errors import UserError
from stemgmd_build.performances import Collection, Performance, read_collection

GMD_VARIABLE: Final = "STEMGMD_GMD"


def cache_folder() -> Path:
    """Where downloads are kept: STEMGMD_CACHE, else the user's cache folder."""
    return Path(os.environ.get("STEMGMD_CACHE") or user_cache_path("stemgmd"))


def find_collection(gmd: str | Path | None = None, *, allow_builtin: bool = True) -> Collection:
    """The performances to use: ``gmd``, else STEMGMD_GMD, else the cache, else built-in grooves.

    A folder that was named must be readable: nothing else stands in for it. Raises UserError
    where it is not, or where there is no GMD and ``allow_builtin`` is false.
    """
    named = gmd or os.environ.get(GMD_VARIABLE)
    if named:
        return read_collection(Path(named).expanduser())
    cached = cache_folder() / "groove"
    if (cached / "info.csv").exists():
        return read_collection(cached)
    if allow_builtin:
        from stemgmd_build.grooves import cached_grooves

        return cached_grooves(cache_folder())
    raise UserError(
        "the Groove MIDI Dataset is not on this machine: `stemgmd gmd fetch` downloads it (3 MB), "
        "or give its folder with --gmd"
    )


def row_sha256(performance: Performance) -> str:
    """First 16 hex digits of the SHA-256 of one row of info.csv, however it was spelt.

    The audio's name is left out: copies without the audio may leave it empty.
    """
    p = performance
    fields = [p.id, p.drummer, p.session, p.style, p.bpm, p.beat_type, p.time_signature]
    fields += [p.midi_filename, f"{p.duration_sec:.6f}", p.split]
    return hashlib.sha256("\n".join(map(str, fields)).encode()).hexdigest()[:16]
