"""Settings and records from outside become checked values here: one decoder at the border."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from stemgmd_build.errors import UserError

T = TypeVar("T")

_AT: Final = re.compile(r"(?P<what>.*?)(?: - at (?:key in )?`\$?\.?(?P<where>.*)`)?", re.DOTALL)


def decoded(table: Mapping[str, Any] | object, kind: type[T], name: str) -> T:
    """What was read from TOML or JSON as a ``kind``: a msgspec.Struct, or any type with bounds.

    Raises UserError of one line, calling the source ``name``, that says which field is wrong and
    what it must be. A value is never repeated in it: it may be a number of thousands of digits.
    """
    try:
        return msgspec.convert(table, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        found = _AT.fullmatch(str(error))
        where = found["where"] if found else None
        what = (found["what"] if found else str(error)).replace("`", "")
        problem = " ".join(what.split())[:200]
        known = getattr(kind, "__struct_encode_fields__", ())
        if not where and "unknown field" in what:
            problem += f"; there are {', '.join(known)}"
        raise UserError(f"{name}: {where}: {problem}" if where else f"{name}: {problem}") from error


def one_line(text: str, longest: int = 200) -> str:
    """The text in one printable line of at most ``longest`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
