"""Frozen records of plain values, as TOML and JSON hold them: kinds and keys are checked.

A setting that is misspelt, or of the wrong kind, must not be left at its default in silence.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

_WORDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}


def check_types(record: Any) -> None:
    """Raise ValueError with the field's name where a record of plain values holds another kind."""
    for name, kind in get_type_hints(type(record)).items():
        if not _suits(getattr(record, name), kind):
            raise ValueError(f"{name} must be {_in_words(kind)}")


def _suits(value: object, kind: Any) -> bool:
    """Whether a value is of an annotation's kind. Whole numbers are numbers, truths are not."""
    inner = get_args(kind)
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        return len(value) == len(kinds) and all(map(_suits, value, kinds))
    if get_origin(kind) is Literal:
        return value in inner
    if inner:  # one of several
        return any(_suits(value, one) for one in inner)
    if isinstance(value, bool):
        return kind is bool
    if kind is float and isinstance(value, int | float):
        return -sys.float_info.max <= value <= sys.float_info.max  # neither infinite nor NaN
    return isinstance(value, kind)


def _in_words(kind: Any) -> str:
    inner = get_args(kind)
    if get_origin(kind) is tuple:
        n = "a list, each" if inner[-1] is ... else f"a list of {len(inner)}, each"
        return f"{n} {_in_words(inner[0])}"
    if get_origin(kind) is Literal:
        return " or ".join(map(str, inner))
    if inner:
        return " or ".join(_in_words(one) for one in inner if one is not NoneType)
    return _WORDS.get(kind, f"a table of {getattr(kind, '__name__', kind)}")


def known(values: object, record: type[Any], table: str) -> dict[str, Any]:
    """The values of a record, as TOML and JSON hold them, with tuples for lists.

    Raises ValueError where they are no table or hold a key that the record does not.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{table} must be a table")
    unknown = sorted(set(values) - {entry.name for entry in fields(record)})
    if unknown:
        there = ", ".join(entry.name for entry in fields(record))
        raise ValueError(f"unknown key {unknown[0]!r} in {table}; there are {there}")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def record_from(values: object, record: type[Any], table: str) -> Any:
    """A record from plain values; fields that are records themselves are tables.

    Raises ValueError or TypeError where a key or a value is not one of the record's.
    """
    given = known(values, record, table)
    for name, kind in get_type_hints(record).items():
        if name in given and is_dataclass(kind) and isinstance(kind, type):
            given[name] = record_from(given[name], kind, f"{table}.{name}")
    return record(**given)
