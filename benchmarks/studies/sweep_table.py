"""The table of the sweep: a row for each setting that was tried, and which row wins.

Of rows that differ along one axis the best wins, unless another is within `KNEE_DB` of it and
takes at most `KNEE_TIME` of the time; settings slower than `SLOWEST` x real time on one core
cannot win.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole

KNEE_DB: Final = 0.1
KNEE_TIME: Final = 0.67
SLOWEST: Final = 3.0


@dataclass(frozen=True)
class Row:
    """One setting and its scores: nSDR in dB, mean over clips a stem, pooled, mean over stems.

    ``seconds`` is the processor time of all clips on one core, ``real_time_ratio`` seconds of
    audio a second of it. ``clips`` is a hash of the clips' audio.
    """

    system: str
    n_fft: int
    template_sec: float
    n_variants: int
    attack_frames: int | None
    n_iterations: int
    adaptation: str
    adaptation_power: float
    mask_exponent: float
    decay_sec: float
    elsewhere: float
    extrapolate: bool
    pooled_nsdr_db: float
    macro_nsdr_db: float
    kick: float
    snare: float
    toms: float
    hihat: float
    cymbals: float
    seconds: float
    real_time_ratio: float
    clips: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What was tried, on what."""
        return (*(getattr(self, name) for name in ("system", *TRIED)), self.clips)


TRIED: Final = tuple(field.name for field in fields(Row))[1:12]
"""The columns that say what was tried."""


def winner(rows: Sequence[Row]) -> int:
    """Index of the row that the rule at the top of this module picks."""
    fast = [i for i, row in enumerate(rows) if row.real_time_ratio >= SLOWEST] or [
        max(range(len(rows)), key=lambda i: rows[i].real_time_ratio)
    ]
    best = max(fast, key=lambda i: rows[i].pooled_nsdr_db)
    cheaper = [
        i
        for i in fast
        if rows[i].pooled_nsdr_db >= rows[best].pooled_nsdr_db - KNEE_DB
        and rows[i].seconds <= rows[best].seconds * KNEE_TIME
    ]
    return min(cheaper, key=lambda i: rows[i].seconds) if cheaper else best


def read_table(path: Path) -> list[Row]:
    """The rows of a table; none where there is no file. Raises UserError for a damaged one."""
    if not path.exists():
        return []
    kinds = {field.name: _PARSERS[str(field.type)] for field in fields(Row)}
    try:
        lines = csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""), strict=True)
        if lines.fieldnames != list(kinds):
            raise ValueError("columns")
        return [Row(**{name: kinds[name](line[name]) for name in kinds}) for line in lines]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is no table of a sweep; give another with --table") from error


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows, whole or not at all. Raises UserError where that fails."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    try:
        write_whole(path, text.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


_PARSERS: Final[Mapping[str, Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": {"False": False, "True": True}.__getitem__,
    "int | None": lambda text: int(text) if text else None,
}
