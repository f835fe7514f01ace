"""Recorded kits of public repositories: one TOML file each, in the folder ``recorded``.

Acoustic kits come before electronic ones.

A file says which drum set it is, from which commits, which files with their sizes and SHA-256
(licences among them), and how each velocity layer is made from them. A *take* is the sum of its
parts: file, first sample, factor left, factor right. Samples are counted at 44,100 Hz. The sum is
cut to ``n`` samples, the last ``fade`` of which fade out; ``offset`` is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from stemgmd_build.files import read_toml
from stemgmd_build.kits.kit import Kit, Sound, parse_sounds
from stemgmd_build.kits.repositories import RepositoryFile, folder_of
from stemgmd_build.samplers.takes import Part, Take, files_of

FOLDER: Final = Path(__file__).with_name("recorded")
_FACTS: Final = ("id", "name", "author", "licence", "url", "family", "split", "description")


def recorded_kits() -> tuple[Kit, ...]:
    """Every recorded kit, in the order of their files."""
    return tuple(_kit_of(read_toml(path)) for path in sorted(FOLDER.glob("*/*.toml")))


def _kit_of(entry: Mapping[str, Any]) -> Kit:
    files = {
        path: RepositoryFile(repository, facts["commit"], path, n_bytes, sha256)
        for repository, facts in entry["repositories"].items()
        for path, (n_bytes, sha256) in facts["files"].items()
    }
    takes = {name: _take_of(take, files) for name, take in entry["takes"].items()}
    sounds = parse_sounds(entry["sounds"], entry.get("gain_db", {}), entry["id"])
    commits = [folder_of(name, facts["commit"]) for name, facts in entry["repositories"].items()]
    return Kit(
        **{name: entry[name] for name in _FACTS},
        kind="samples",
        path=" and ".join(commits),
        sha256=entry["sha256"],
        sounds={name: _sound_of(sound, takes) for name, sound in sounds.items()},
        files=tuple(files.values()),
    )


def _take_of(take: Mapping[str, Any], files: Mapping[str, RepositoryFile]) -> Take:
    parts = tuple(
        Part(files[path].place, left, right, start) for path, start, left, right in take["parts"]
    )
    return Take(parts, take["n"], take["fade"], tuple(take.get("offset", (0.0, 0.0))))


def _sound_of(sound: Sound, takes: Mapping[str, Take]) -> Sound:
    layers = tuple(takes[name] for name in sound.files)
    return replace(sound, files=files_of(layers), takes=layers)
