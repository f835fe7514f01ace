"""Which kits and performances a name means: the one rule for build, readers, bench and training.

Kits are named by id, by the path of your own kit, or by a set: "train", "test", "default", "all".
Where kits are rendered, a set is the catalogue's (:func:`choose_kits`). In a dataset on disk it is
what the folder holds (:func:`choose_rows`): "train" and "test" go by the split that each kit had
when it was built, so your own kit counts with the split that it states.

Splits are "train", "validation", "test", "eval_session" and "all". A limit of N keeps the first N
performances, in the natural order of their ids ("session2" before "session10"), on every kit.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import KIT_SETS, select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import (
    BUILTIN_DRUMMER,
    EVAL_SESSION,
    Collection,
    Performance,
    checked_splits,
    in_order,
    is_in_split,
)
from stemgmd_build.rendering.bank import Bank, load_bank, require_at_hand
from stemgmd_build.rendering.gain import tuned

Names = str | Sequence[str]
"""A name, or several. A string is one name: its letters are none."""


def as_names(names: Names) -> tuple[str, ...]:
    """The names as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)


def choose_kits(names: Names) -> tuple[Kit, ...]:
    """Kits to render. Raises UserError for an unknown name, or where two kits have one id."""
    return select_kits(as_names(names))


def choose_performances(
    collection: Collection, split: Names, limit: int | None = None
) -> tuple[Performance, ...]:
    """Performances to render. Raises UserError for an unknown split or a negative limit.

    The eval_session is GMD's, and results on it are compared with the paper's. Where the built-in
    grooves stand in for GMD, it is refused unless they were asked for by name.
    """
    if collection.stands_in and EVAL_SESSION in as_names(split):
        raise UserError(
            f"the split {EVAL_SESSION} is the Groove MIDI Dataset's, which is not on this machine: "
            "`stemgmd gmd fetch` downloads it (3 MB), or ask for the built-in grooves with "
            f"--gmd {BUILTIN_DRUMMER}"
        )
    return collection.select(as_names(split), limit)


def load_banks(names: Names, collection: Collection) -> list[Bank]:
    """The banks of some kits, each with the gain under which nothing of the collection clips.

    Raises UserError where a kit is missing or broken.
    """
    kits = choose_kits(names)
    require_at_hand(kits)
    return [load_bank(tuned(kit, collection)) for kit in kits]


def choose_rows(
    root: Path,
    rows: Sequence[dict[str, str]],
    split: Names,
    kits: Names | None,
    limit: int | None = None,
) -> list[dict[str, str]]:
    """Rows of a dataset's metadata.csv, in its order; ``kits`` None means all that it holds.

    Raises UserError, naming ``root``, for an unknown split, a kit or set of which the folder
    holds nothing, or a negative limit.
    """
    splits = checked_splits(as_names(split))
    if limit is not None and limit < 0:
        raise UserError(f"a limit of {limit} performances: give 0 or more")
    chosen = None if kits is None else _held(root, as_names(kits), rows)
    found = [
        row
        for row in rows
        if is_in_split(row["split"], row["session"], splits)
        and (chosen is None or row["kit"] in chosen)
    ]
    if limit is not None:
        first = set(in_order({row["id"] for row in found})[:limit])
        found = [row for row in found if row["id"] in first]
    return found


def _held(root: Path, names: Many[str], rows: Sequence[dict[str, str]]) -> set[str]:
    """The ids of these kits and sets that a dataset holds. UserError for a name without any."""
    held = {row["kit"] for row in rows}
    chosen: set[str] = set()
    for name in names:
        ids = {name} & held or _ids_of(name, rows) & held
        if not ids:
            raise UserError(f"{root} holds no kit {name!r}; its kits are {', '.join(sorted(held))}")
        chosen |= ids
    return chosen


def _ids_of(name: str, rows: Sequence[dict[str, str]]) -> set[str]:
    if name == "all":
        return {row["kit"] for row in rows}
    if name in ("train", "test"):
        return {row["kit"] for row in rows if row["kit_split"] == name}
    if name in KIT_SETS:
        return {kit.id for kit in select_kits([name])}
    with suppress(UserError):  # no kit at all: refused by the caller, with the kits that there are
        return {kit.id for kit in select_kits([name])}
    return set()
