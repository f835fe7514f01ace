"""What a run of the benchmark leaves behind: one JSON line for each stem of each estimate.

A results folder holds ``records.jsonl`` (scores), ``systems.jsonl`` (what each system is, how
fast and on what machine), ``run.json`` (what was run) and ``audio/`` (a few clips). Lines are
only ever appended, so nothing that was scored is lost; a line torn by a crash is skipped, and
of two lines with one key the later holds. JSON knows no infinity: those are the strings "inf"
and "-inf", and None is a value that is not defined. Files ending in ``.gz`` are compressed.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from stemgmd_build.errors import UserError

METRICS_VERSION: Final = "1"
"""Changes whenever a score of the same estimate may."""

RECORDS: Final = "records.jsonl"
SYSTEMS: Final = "systems.jsonl"
RUN: Final = "run.json"
AUDIO: Final = "audio"

Key = tuple[str, str, str, str, str, str]


@dataclass(frozen=True)
class StemRecord:
    """Scores of one stem of one estimate.

    ``track`` is GMD's performance id, ``kit_split`` the kit's side ("train" or "test"),
    ``data`` the hash of the track's audio as rendered, ``metrics`` :data:`METRICS_VERSION`.
    A present stem has every score but ``leakage_db``; an absent stem has that alone. BSS Eval
    figures are medians over ``n_frames`` active one-second frames (SIR over
    ``n_sir_frames``); ``onset_f_true`` is the detector's F-measure on the true stem.
    """

    system: str
    revision: str
    track: str
    kit: str
    kit_split: str
    data: str
    metrics: str
    stem: str
    present: bool
    duration_sec: float
    n_hits: int
    nsdr_db: float | None = None
    nsdr_mdx_db: float | None = None
    si_sdr_db: float | None = None
    leakage_db: float | None = None
    sdr_db: float | None = None
    isr_db: float | None = None
    sir_db: float | None = None
    sar_db: float | None = None
    n_frames: int | None = None
    n_sir_frames: int | None = None
    onset_f: float | None = None
    onset_precision: float | None = None
    onset_recall: float | None = None
    onset_f_true: float | None = None

    @property
    def key(self) -> Key:
        """What the record is of, its stem aside: a clip's stems are scored together."""
        return (self.system, self.revision, self.track, self.kit, self.data, self.metrics)


@dataclass(frozen=True)
class SystemRecord:
    """A system as it was run: `baselines.system.SystemInfo`, its speed and the machine.

    Speed is None where it was not measured (estimates that another tool made).
    """

    system: str
    revision: str
    name: str
    inputs: tuple[str, ...]
    trained_on: str
    kits_seen: tuple[str, ...]
    n_parameters: int
    licence: str
    summary: str
    url: str = ""
    real_time_ratio: float | None = None
    device: str = ""
    device_name: str = ""
    n_threads: int | None = None
    dtype: str = ""
    peak_memory_bytes: int | None = None


Record = TypeVar("Record", StemRecord, SystemRecord)


def to_line(record: StemRecord | SystemRecord) -> str:
    """One line of JSON, its end included."""
    return json.dumps({k: _encode(v) for k, v in asdict(record).items()}) + "\n"


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """Every whole line of a file as ``kind``, in order; none where there is no file.

    Raises UserError where the file cannot be read or a line is JSON of another shape.
    """
    if not path.exists():
        return []
    found = []
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                values = _parse(line)
                if values is not None:
                    found.append(_record(values, kind, f"{path}, line {number}"))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return found


def latest(records: Iterable[StemRecord]) -> list[StemRecord]:
    """The records with the last of those that share key and stem, in order of first sight."""
    return list({(*record.key, record.stem): record for record in records}.values())


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _parse(line: str) -> dict[str, Any] | None:
    """The object of a line, None for one that a crash has torn."""
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _record(values: dict[str, Any], kind: type[Record], where: str) -> Record:
    """A record of the values, of each of which the type is checked."""
    decoded: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in values:
            decoded[field.name] = _decode(
                values[field.name], str(field.type), f"{where}: {field.name}"
            )
    try:
        return kind(**decoded)
    except TypeError as error:
        raise UserError(f"{where}: no {kind.__name__}: {error}") from error


def _encode(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (float, int),
}


def _decode(value: Any, wanted: str, where: str) -> Any:
    base = wanted.removesuffix(" | None")
    if value is None and base != wanted:
        return None
    if base == "float" and isinstance(value, str) and value in ("inf", "-inf"):
        return float(value)
    if base.startswith("tuple") and isinstance(value, list):
        return tuple(str(item) for item in value)
    fits = isinstance(value, _TYPES.get(base, ()))
    if fits and (base == "bool" or not isinstance(value, bool)):
        return float(value) if base == "float" else value
    raise UserError(f"{where} is {value!r}, not {wanted}")
