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

import msgspec

from stemgmd_build.config import decoded
from stemgmd_build.files import read_toml
from stemgmd_build.kits.kit import Kit, Sound, Split, parse_sounds
from stemgmd_build.kits.repositories import RepositoryFile, folder_of
from stemgmd_build.samplers.takes import Part, Take, files_of

FOLDER: Final = Path(__file__).with_name("recorded")


class _Take(msgspec.Struct, forbid_unknown_fields=True):
    n: int
    fade: int
    parts: list[tuple[str, int, float, float]]
    offset: tuple[float, float] = (0.0, 0.0)


class _Repository(msgspec.Struct, forbid_unknown_fields=True):
    commit: str
    files: dict[str, tuple[int, str]]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    name: str
    author: str
    licence: str
    url: str
    family: str
    split: Split
    description: str
    sha256: str
    sounds: dict[str, Any]
    takes: dict[str, _Take]
    repositories: dict[str, _Repository]
    gain_db: dict[str, float] = {}


def recorded_kits() -> tuple[Kit, ...]:
    """Every recorded kit, in the order of their files."""
    paths = sorted(FOLDER.glob("*/*.toml"))
    return tuple(_kit_of(decoded(read_toml(path), _Entry, path.name)) for path in paths)


def _kit_of(entry: _Entry) -> Kit:
    files = {
        path: RepositoryFile(repository, facts.commit, path, n_bytes, sha256)
        for repository, facts in entry.repositories.items()
        for path, (n_bytes, sha256) in facts.files.items()
    }
    takes = {name: _take_of(take, files) for name, take in entry.takes.items()}
    sounds = parse_sounds(entry.sounds, entry.gain_db, entry.id)
    return Kit(
        id=entry.id,
        name=entry.name,
        kind="samples",
        path=" and ".join(folder_of(r, facts.commit) for r, facts in entry.repositories.items()),
        sha256=entry.sha256,
        sounds={name: _sound_of(sound, takes) for name, sound in sounds.items()},
        family=entry.family,
        split=entry.split,
        author=entry.author,
        licence=entry.licence,
        url=entry.url,
        description=entry.description,
        files=tuple(files.values()),
    )


def _take_of(take: _Take, files: Mapping[str, RepositoryFile]) -> Take:
    parts = tuple(
        Part(files[path].place, left, right, start) for path, start, left, right in take.parts
    )
    return Take(parts, take.n, take.fade, take.offset)


def _sound_of(sound: Sound, takes: Mapping[str, Take]) -> Sound:
    layers = tuple(takes[name] for name in sound.files)
    return replace(sound, files=files_of(layers), takes=layers)
