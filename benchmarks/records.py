"""What a run leaves behind: one JSON line per stem of each estimate, one per system.

JSON knows no infinity: those are the strings "inf" and "-inf". A value that is not defined is left
out, as is every field that has its default. `benchmarks.results_folder` says where lines lie.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

METRIC_VERSIONS: Final = MappingProxyType(
    {
        "nsdr": 1,
        "nsdr_mdx": 1,
        "si_sdr": 1,
        "leakage": 1,
        "bss_eval": 1,
        "onsets": 1,
        "false_onsets": 1,
        "crosstalk": 1,
        "idle": 1,
    }
)
"""Metric -> version, which goes up whenever a score of the same estimate may change."""

METRIC_OF_FIELD: Final = MappingProxyType(
    {
        "nsdr_db": "nsdr",
        "nsdr_mdx_db": "nsdr_mdx",
        "si_sdr_db": "si_sdr",
        "leakage_db": "leakage",
        **dict.fromkeys(("sdr_db", "isr_db", "sir_db", "sar_db"), "bss_eval"),
        **dict.fromkeys(("onset_f", "onset_f_true", "onset_f_mixture"), "onsets"),
        **dict.fromkeys(("n_false", "false_share"), "false_onsets"),
        **dict.fromkeys(("crosstalk_db", "spill_db"), "crosstalk"),
        "idle_db": "idle",
    }
)
"""Score of a record -> the metric whose version it follows."""

Key = tuple[str, str, str, str, str, str]


class StemRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Scores of one stem of one estimate. A score is None where the data do not allow it.

    Attributes:
        system, revision: what made the estimate.
        track, data: the track's id and the hash of what it sounds like.
        stem: which of the five.
        n_stems: how many stems of the clip were scored; fewer of them are what a crash has left.
        present: whether it is played; leakage and false onsets are of absent stems, all else of
            present ones.
        duration_sec: of the track.
        metrics: metric -> version, of the metrics in this record.
        n_hits: annotated hits; None where there is no annotation.
        kit, kit_split: the drum kit and its side ("train", "test"), where there is one.
        board: the board of the track's source.
        group: tracks of one group are not independent. Empty: the track's id.
        material: names under which a system may have been trained on the track.
        commit: the benchmark's own, or its version, when the scores were made.
        n_frames, n_sir_frames: active one-second frames whose medians the BSS Eval scores are.
        onset_f_true, onset_f_mixture: the detector's F-measure on the true stem, on the mixture.
        n_false, n_false_mixture: onsets that the detector finds in the estimate of a stem that
            nobody plays, and in the mixture.
        crosstalk_db: stem -> level of its estimate at this stem's ``n_isolated`` isolated hits.
        idle_db: level of the estimate in the ``idle_sec`` seconds in which the stem is not played.
    """

    system: str
    revision: str
    track: str
    data: str
    stem: str
    present: bool
    duration_sec: float
    metrics: dict[str, int]
    n_hits: int | None = None
    n_stems: int = 5
    kit: str = ""
    kit_split: str = ""
    board: str = "kits"
    group: str = ""
    material: tuple[str, ...] = ()
    commit: str = ""
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
    onset_f_mixture: float | None = None
    n_false: int | None = None
    n_false_mixture: int | None = None
    crosstalk_db: dict[str, float] | None = None
    n_isolated: int | None = None
    idle_db: float | None = None
    idle_sec: float | None = None

    @property
    def key(self) -> Key:
        """What the record is of, its stem aside: a clip's stems are scored together."""
        return (self.board, self.system, self.revision, self.track, self.kit, self.data)

    @property
    def spill_db(self) -> float | None:
        """Of ``crosstalk_db``, what goes into the four other stems together."""
        if self.crosstalk_db is None:
            return None
        others = [x for stem, x in self.crosstalk_db.items() if stem != self.stem]
        total = sum(10 ** (x / 10) for x in others)
        return 10 * math.log10(total) if total > 0 else -math.inf

    @property
    def false_share(self) -> float | None:
        """Of the mixture's onsets, how many the estimate of a stem still has that nobody plays."""
        if self.n_false is None or not self.n_false_mixture:
            return None
        return self.n_false / self.n_false_mixture

    @property
    def cluster(self) -> str:
        """What intervals resample."""
        return self.group or self.track

    @property
    def up_to_date(self) -> bool:
        """Whether every metric in it is of today's version; a metric that is new is not missed."""
        return all(METRIC_VERSIONS.get(name) == version for name, version in self.metrics.items())


class SystemRecord(msgspec.Struct, frozen=True, omit_defaults=True):
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
    return msgspec.json.encode(_written(msgspec.to_builtins(record))).decode() + "\n"


def from_line(line: bytes, kind: type[Record]) -> Record | None:
    """The record of a line, None for one that a crash has torn (it is no JSON object).

    Raises ValueError, in one short line, for JSON of another shape.
    """
    try:
        values = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(values, dict):
        return None
    for name in _floats(kind) & values.keys():
        values[name] = _read(values[name])
    return msgspec.convert(values, kind)


def whole_keys(records: Sequence[StemRecord]) -> set[Key]:
    """Keys of the estimates that were scored to the end, by today's metrics."""
    stems: dict[Key, set[str]] = {}
    wanted = {record.key: record.n_stems for record in records}
    for record in records:
        if record.up_to_date:
            stems.setdefault(record.key, set()).add(record.stem)
    return {key for key, found in stems.items() if len(found) == wanted[key]}


def latest(records: Iterable[StemRecord]) -> list[StemRecord]:
    """The records with the last of those that share key and stem, in order of first sight."""
    return list({(*record.key, record.stem): record for record in records}.values())


def _written(value: Any) -> Any:
    """Infinities as words, what is not defined left out."""
    if isinstance(value, Mapping):
        known = {k: v for k, v in value.items() if not (isinstance(v, float) and math.isnan(v))}
        return {name: _written(item) for name, item in known.items()}
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _read(value: Any) -> Any:
    """The words of :func:`_written` as infinities; anything else as it is."""
    if isinstance(value, dict):
        return {name: _read(item) for name, item in value.items()}
    return float(value) if value in ("inf", "-inf") else value


@functools.cache
def _floats(kind: type) -> frozenset[str]:
    """Fields that may hold an infinity."""
    return frozenset(f.name for f in msgspec.structs.fields(kind) if "float" in str(f.type))
