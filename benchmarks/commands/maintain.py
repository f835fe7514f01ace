"""`stemgmd speed` and `stemgmd study`: what the project's own figures and settings come from."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
_HELPERS = ("sweep_clips", "sweep_table", "variants")


def speed(argv: list[str]) -> int:
    """Run one measurement of `benchmarks/speed`."""
    return _run_one("speed", "measurement", argv)


def study(argv: list[str]) -> int:
    """Run one study of `benchmarks/studies`."""
    return _run_one("study", "study", argv, folder="studies")


def _run_one(command: str, what: str, argv: list[str], folder: str | None = None) -> int:
    folder = folder or command
    names = sorted(
        path.stem for path in (_PACKAGE / folder).glob("[a-z]*.py") if path.stem not in _HELPERS
    )
    if not names:
        print(f"stemgmd {command}: error: it is part of the repository alone", file=sys.stderr)
        return 2
    name, rest = (argv[0] if argv else ""), argv[1:]
    if name not in names:
        text = (
            f"usage: stemgmd {command} NAME ...\n\nnames: {', '.join(names)}\n\n"
            f"examples:\n  stemgmd {command} {names[0]} --help   explains a {what}"
        )
        is_asked = name in ("-h", "--help")
        print(text, file=sys.stdout if is_asked else sys.stderr)
        return 0 if is_asked else 2
    return int(importlib.import_module(f"benchmarks.{folder}.{name}").main(rest) or 0)
