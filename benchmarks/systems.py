"""The registry: which systems the benchmark knows, none of them imported before it is asked for.

Systems of other packages register under the entry-point group ``stemgmd.systems``
(:mod:`baselines.system` says how). A name of ours cannot be taken by another package, and a
package whose entry is broken is named when that system is loaded; the listing never breaks.
NAME=FILE is a system as well: a checkpoint of `stemgmd train`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from baselines.system import Input, System, SystemInfo
from larsnet.separation.models import MODELS
from stemgmd_build.errors import UserError

GROUP: Final = "stemgmd.systems"


@dataclass(frozen=True)
class Entry:
    """A system as the listing tells it, without its package or its model.

    ``factory`` is "module:function", called with the torch device. ``inputs``: what it sees; None
    where only its package says.
    """

    factory: str
    inputs: tuple[Input, ...] | None
    summary: str


_MIXTURE: Final[tuple[Input, ...]] = ("mixture",)
_ORACLE: Final[tuple[Input, ...]] = ("mixture", "references")

_BOUNDS_AND_INFORMED: Final = {
    name: Entry(factory, inputs, summary)
    for name, factory, inputs, summary in (
        ("mixture", "baselines.systems:make_mixture", _MIXTURE, "the mixture as every stem"),
        ("zero", "baselines.systems:make_zero", _MIXTURE, "silence as every stem"),
        ("ideal-binary", "baselines.systems:make_ideal_binary", _ORACLE, "ideal binary mask"),
        ("ideal-ratio", "baselines.systems:make_ideal_ratio", _ORACLE, "ideal ratio mask"),
        ("magnitude", "baselines.systems:make_magnitude", _ORACLE, "ideal magnitude mask"),
        ("phase-sensitive", "baselines.systems:make_phase_sensitive", _ORACLE,
         "ideal phase-sensitive mask"),
        ("nmfd-score-informed", "baselines.systems:make_nmfd_score_informed",
         ("mixture", "score"), "NMFD that is told every onset"),
    )
}  # fmt: skip

SYSTEMS: Final[dict[str, Entry]] = _BOUNDS_AND_INFORMED | {
    model_id: Entry(model.factory, _MIXTURE, model.summary) for model_id, model in MODELS.items()
}
"""Id -> entry of the systems of this project."""


def available() -> tuple[str, ...]:
    """Ids of all systems: ours, then those of other packages by name. Nothing is imported."""
    others = {entry.name for entry in metadata.entry_points(group=GROUP)}
    return (*SYSTEMS, *sorted(others - set(SYSTEMS)))


def entries() -> dict[str, Entry]:
    """Id -> entry of all systems, ours first. Nothing is imported."""
    others = {
        entry.name: Entry(entry.value, None, f"of the package {_origin(entry)}")
        for entry in metadata.entry_points(group=GROUP)
    }
    return {name: SYSTEMS.get(name) or others[name] for name in available()}


def check(system: str) -> None:
    """Raise UserError for what :func:`load` cannot know. Nothing is imported."""
    name, given, file = system.partition("=")
    if given:
        check_name(name)
        if not Path(file).is_file():
            raise UserError(f"{system}: there is no such file; give NAME=FILE, FILE from training")
    elif system not in available():
        raise UserError(f"no system {system!r}; there are {', '.join(available())}")


def load(system: str, device: str = "cpu") -> System:
    """Import and make one system.

    Args:
        system: one of :func:`available`, or NAME=FILE for a checkpoint of `stemgmd train`.
        device: as torch names it ("cpu", "cuda:0").

    Raises:
        UserError: there is no such system, its package is broken, its file is no checkpoint, its
            name is not to be had, or the device is not there.
    """
    check(system)
    if "=" in system:
        return _checkpoint(system, device)
    if system in SYSTEMS:
        module, _, name = SYSTEMS[system].factory.partition(":")
        made: System = getattr(importlib.import_module(module), name)(device)
        return made
    entries = list(metadata.entry_points(group=GROUP, name=system))
    if len({entry.value for entry in entries}) > 1:
        values = " and ".join(sorted(_origin(entry) for entry in entries))
        raise UserError(f"two packages register a system {system!r}: {values}; remove one")
    return _checked(system, entries[0], device)


def id_of(system: str) -> str:
    """The name in the table: the id, or the NAME of NAME=FILE."""
    return system.partition("=")[0]


def check_name(name: str) -> None:
    """A name becomes a folder and a table's row, and those of the registry are taken.

    Raises UserError for a name that cannot be had.
    """
    if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
        raise UserError(f"name {name!r}: letters, digits, '-', '_' and '.' only")
    if name in (*available(), "reference"):
        raise UserError(f"name {name!r} is taken; choose another")


def _checkpoint(system: str, device: str) -> System:
    from larsnet.separation.system import make_larsnet

    name, _, file = system.partition("=")
    return make_larsnet(Path(file), id=name, name=name, licence="not stated", device=device)


def _checked(system: str, entry: metadata.EntryPoint, device: str) -> System:
    """What another package's entry point makes, if it is a system of that id.

    Whatever its code raises is the package's fault and not the user's: one line that names it.
    """
    try:
        factory: Callable[[str], Any] = entry.load()
        made = factory(device)
        info = made.info
        problem = _problem(system, made, info)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        words = " ".join(str(error).split())
        problem = f"it raises {type(error).__name__}: {words}"
    if problem:
        raise UserError(f"the system {system!r} of {_origin(entry)} is broken: {problem}")
    checked: System = made
    return checked


def _problem(system: str, made: Any, info: Any) -> str:
    if not isinstance(info, SystemInfo):
        return "its info is no SystemInfo"
    if info.id != system:
        return f"it calls itself {info.id!r}"
    try:
        repr(info).encode()
    except UnicodeEncodeError:
        return "its info holds text that is not Unicode"
    return "" if callable(getattr(made, "separate", None)) else "it has no method separate"


def _origin(entry: metadata.EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "an unknown package"
    return f"{package} ({entry.value})"
