"""Progress: a bar on a terminal, in a log or a pipe a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any, Final

from tqdm import tqdm

_LINE_SEC: Final = 30.0
"""How often a log gets a line; and what takes less than a tenth of this gets none but its last."""

_LINE: Final = "{desc}: {n_fmt} of {total_fmt} {unit} [{elapsed}<{remaining}{postfix}]"
_LINE_WITHOUT_TOTAL: Final = "{desc}: {n_fmt} {unit} [{elapsed}]"


class _Lines(tqdm):  # type: ignore[misc]
    """tqdm's counting and estimates, written as whole lines."""

    disable: bool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._lasts = options.pop("leave", True)
        self._before = time.monotonic()
        self._shown: Any = None
        super().__init__(*arguments, mininterval=_LINE_SEC, miniters=1, **options)
        self.bar_format = _LINE if self.total else _LINE_WITHOUT_TOTAL
        if isinstance(self.total, float):
            self.bar_format = _LINE.replace("n_fmt", "n:.2f").replace("total_fmt", "total:.2f")

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        now = time.monotonic()
        if now - self._before >= _LINE_SEC:
            self._before = now
            self._say()
        return True

    def clear(self, *_: Any, **__: Any) -> None:
        pass

    def close(self) -> None:
        if self.disable:
            return
        self.disable = True
        self._decr_instances(self)
        took = time.time() - self.start_t
        if self.n and self._shown != self.n and (self._lasts or took >= _LINE_SEC / 10):
            self._say()

    def _say(self) -> None:
        self._shown = self.n
        text = str(self).replace("  ", " ").strip(": ")
        print(text, file=self.fp, flush=True)


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: float | None = None,
    disable: bool = False,
    leave: bool = True,
    **options: Any,
) -> Any:
    """A tqdm over the items, or one to be updated by hand.

    Args:
        iterable: as tqdm takes it.
        desc, unit: what is done, and what is counted (in the plural).
        total: how many, where the iterable does not say.
        disable: show nothing.
        leave: the bar, or the last line of a short job, stays.
        options: more of tqdm's.
    """
    stream = sys.stderr
    on_terminal = stream is not None and stream.isatty()
    kind = tqdm if on_terminal else _Lines
    if not on_terminal:
        options.pop("bar_format", None)
    return kind(
        iterable,
        desc=desc,
        unit=unit if not on_terminal else f" {unit}",
        total=total,
        disable=disable or stream is None,
        leave=leave,
        file=stream,
        **options,
    )
