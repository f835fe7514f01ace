"""The catalogue of drum kits as data, how kits are chosen, and where their files are."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from stemgmd_build.config import decoded
from stemgmd_build.errors import UserError
from stemgmd_build.files import read_toml
from stemgmd_build.kits.kit import GENERAL_MIDI, Kind, Kit, Split, parse_sounds, source_hash
from stemgmd_build.kits.own import own_kit
from stemgmd_build.kits.packages import Package
from stemgmd_build.kits.recorded import recorded_kits
from stemgmd_build.kits.repositories import is_there
from stemgmd_build.paths import cache_folder, path_variable

CATALOGUE: Final = Path(__file__).with_name("catalogue.toml")
KIT_SETS: Final = ("default", "train", "test", "all")


class _Entry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A kit of catalogue.toml."""

    id: str
    name: str
    kind: Kind
    path: str
    sha256: str
    package: str | None = None
    wheel: str = ""
    bank: int = 128
    preset: int = 0
    family: str
    split: Split
    default: bool = False
    author: str
    licence: str
    url: str
    note: str = ""
    gain: float | None = None
    sounds: dict[str, Any] = msgspec.field(default_factory=lambda: dict(GENERAL_MIDI))
    gain_db: dict[str, float] = {}


class _PackageEntry(msgspec.Struct, forbid_unknown_fields=True):
    version: str
    deb: str
    n_bytes: int
    sha256: str


class _Catalogue(msgspec.Struct, forbid_unknown_fields=True):
    package: dict[str, _PackageEntry]
    kit: list[_Entry]


@functools.cache
def catalogue() -> tuple[Kit, ...]:
    """Every kit of the catalogue, in its order: recorded kits first."""
    found = decoded(read_toml(CATALOGUE), _Catalogue, CATALOGUE.name)
    packages = {
        name: Package(name=name, **msgspec.structs.asdict(entry))
        for name, entry in found.package.items()
    }
    return (*recorded_kits(), *(_kit_of_entry(entry, packages) for entry in found.kit))


def _kit_of_entry(entry: _Entry, packages: Mapping[str, Package]) -> Kit:
    fields = msgspec.structs.asdict(entry)
    fields["package"] = packages[entry.package] if entry.package else None
    fields["sounds"] = parse_sounds(entry.sounds, fields.pop("gain_db"), entry.id)
    return Kit(**fields)


def find_kit(name: str) -> Kit:
    """The catalogue's kit of this id, or an own kit where ``name`` is a path.

    Raises UserError for an unknown id or a path that is no kit.
    """
    by_id = {kit.id: kit for kit in catalogue()}
    if name in by_id:
        return by_id[name]
    if "/" in name or Path(name).exists():
        return own_kit(Path(name))
    raise UserError(
        f"no kit {name!r}; `stemgmd kits list` names them all, and an own kit is given by its path"
    )


def select_kits(names: Sequence[str]) -> tuple[Kit, ...]:
    """Kits by id, path or set: "default" (the ten), "train", "test" (of the ten), "all".

    Empty names, as a comma at the end leaves them, are ignored. Raises UserError where there are
    no others, for an unknown name, and where two kits have one id.
    """
    named = [name for name in names if name.strip()]
    if names and not named:
        raise UserError("no kit is named; `stemgmd kits list` names them all")
    sets = {
        "all": catalogue(),
        "default": tuple(kit for kit in catalogue() if kit.default),
        "train": tuple(kit for kit in catalogue() if kit.default and kit.split == "train"),
        "test": tuple(kit for kit in catalogue() if kit.default and kit.split == "test"),
    }
    chosen: dict[str, Kit] = {}
    for name in named:
        for kit in sets.get(name) or (find_kit(name),):
            if chosen.setdefault(kit.id, kit) != kit:
                raise UserError(f"two different kits are both called {kit.id!r}; rename one")
    return tuple(chosen.values())


def repository_roots() -> tuple[Path, ...]:
    """Where files of public repositories may lie: the folder STEMGMD_KITS, and the cache."""
    named = path_variable("STEMGMD_KITS")
    ours = cache_folder() / "repositories"
    return (named, ours) if named else (ours,)


def locate(kit: Kit) -> Path | None:
    """The kit's file or folder, if it is on this machine.

    Looked for in the folder STEMGMD_KITS, in what `stemgmd kits fetch` unpacked, and where
    Debian's packages put it; a kit of a Python package is in that package. That it is the right
    file is checked when it is read.
    """
    if kit.wheel:
        spec = importlib.util.find_spec(kit.wheel)
        return Path(spec.origin).with_name(kit.path) if spec and spec.origin else None
    if kit.files:
        return next((root for root in repository_roots() if is_there(kit.files, root)), None)
    if kit.package is None:
        return Path(kit.path)
    roots = [cache_folder() / "packages" / f"{kit.package.name}_{kit.package.version}", Path("/")]
    named = path_variable("STEMGMD_KITS")
    if named:
        roots.insert(0, named)
    for root in roots:
        for candidate in (root / kit.path, root / Path(kit.path).name):
            if candidate.exists() and candidate != Path("/"):
                return candidate
    return None


def require(kit: Kit) -> Path:
    """The kit's file or folder. Raises UserError where it is missing or not the one catalogued."""
    path = locate(kit)
    if path is None:
        instead = f", or install the Debian package {kit.package.name}" if kit.package else ""
        raise UserError(
            f"kit {kit.id} is not on this machine; `stemgmd kits fetch {kit.id}` downloads it"
            f"{instead}"
        )
    if (kit.package or kit.wheel or kit.files) and source_hash(path, kit.sounds) != kit.sha256:
        raise UserError(
            f"{path} is not the {kit.id} of the catalogue (its SHA-256 differs); "
            f"`stemgmd kits fetch {kit.id}` downloads the right one, or give the file as an own kit"
        )
    return path


def available(kits: Sequence[Kit]) -> tuple[Kit, ...]:
    """Those of the kits that are on this machine."""
    return tuple(kit for kit in kits if locate(kit))
