"""A folder of results: the one place that knows its files.

``records.jsonl`` holds scores, ``systems.jsonl`` what each system is, how fast and on what
machine, ``run.json`` what was run, ``audio/`` a few clips. Lines are only ever appended, so nothing
that was scored is lost, and of two lines with one key the later counts. Each ``.jsonl`` may also be
there as ``.jsonl.gz``, which is read first: published results are compressed, and a run that
continues appends plain lines.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.records import Record, StemRecord, SystemRecord, from_line, latest, to_line
from stemgmd_build.building.workers import DISK_FULL
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole

RECORDS: Final = "records.jsonl"
SYSTEMS: Final = "systems.jsonl"
RUN: Final = "run.json"
AUDIO: Final = "audio"

MAX_BYTES: Final = 1 << 30
"""Of a file of lines, unpacked: 25 times the published results. gzip packs zeros a thousandfold."""

MAX_LINE_BYTES: Final = 1 << 20
MAX_FACTS_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class ResultsFolder:
    """Records, systems and facts of the runs of one folder."""

    root: Path

    def records(self) -> list[StemRecord]:
        """The scores. Raises UserError where a file cannot be read or a line is of other shape."""
        return latest(self._lines(RECORDS, StemRecord))

    def systems(self) -> list[SystemRecord]:
        """What is known of systems, in the order in which it was told; errors as above."""
        return self._lines(SYSTEMS, SystemRecord)

    def facts(self) -> dict[str, Any]:
        """What was run; nothing where run.json is missing or damaged, which stops no work."""
        path = self.root / RUN
        try:
            if path.stat().st_size > MAX_FACTS_BYTES:
                return {}
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def add_records(self, records: Sequence[StemRecord]) -> None:
        """Append scores; on return they are on the disk. Raises OSError."""
        self._append(RECORDS, records)

    def add_systems(self, systems: Sequence[SystemRecord]) -> None:
        """Append what is known of systems, each to be found by id and revision. Raises OSError."""
        if systems:
            self._append(SYSTEMS, systems)

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write run.json; seconds and workers of earlier runs stay. Raises OSError."""
        lasting = {k: v for k, v in self.facts().items() if k in ("wall_sec", "workers")}
        self._write_facts({"wall_sec": 0.0, **facts, **lasting})

    def add_seconds(self, seconds: float, n_workers: int) -> None:
        """Count the time of a run. Raises OSError."""
        facts = self.facts()
        spent = facts.get("wall_sec", 0.0)
        spent = float(spent) if isinstance(spent, int | float) else 0.0
        self._write_facts({**facts, "wall_sec": round(spent + seconds, 1), "workers": n_workers})

    def publish(
        self,
        records: Iterable[StemRecord],
        systems: Iterable[SystemRecord],
        facts: Mapping[str, Any],
    ) -> None:
        """Replace all that the folder holds by these; the same input gives the same bytes.

        Scores are compressed, systems stay readable. Raises OSError.
        """
        ordered = sorted(records, key=lambda r: (r.board, r.track, r.kit, r.stem, r.system))
        text = "".join(map(to_line, ordered))
        write_whole(self.root / f"{RECORDS}.gz", gzip.compress(text.encode(), 9, mtime=0))
        write_whole(
            self.root / SYSTEMS, "".join(map(to_line, sorted(systems, key=lambda s: s.system)))
        )
        for name in (RECORDS, f"{SYSTEMS}.gz"):
            (self.root / name).unlink(missing_ok=True)
        self._write_facts(facts)

    def _write_facts(self, facts: Mapping[str, Any]) -> None:
        write_whole(self.root / RUN, json.dumps(facts, indent=2, sort_keys=True) + "\n")

    def _append(self, name: str, lines: Sequence[StemRecord] | Sequence[SystemRecord]) -> None:
        with (self.root / name).open("a", encoding="utf-8") as file:
            # A line before, so that one torn by a crash does not swallow the first.
            file.write("\n" + "".join(map(to_line, lines)))
            file.flush()
            os.fsync(file.fileno())

    def _lines(self, name: str, kind: type[Record]) -> list[Record]:
        return _read(self.root / f"{name}.gz", kind) + _read(self.root / name, kind)


def _read(path: Path, kind: type[Record]) -> list[Record]:
    """Every whole line of a file, in order; none where there is no file."""
    if not path.exists():
        return []
    found = []
    try:
        for number, line in enumerate(_bounded_lines(path), 1):
            try:
                record = from_line(line, kind)
            except ValueError as error:
                raise UserError(
                    f"{path}, line {number}: {str(error)[:200]}; remove the line, and "
                    "`stemgmd bench run` makes up for it"
                ) from error
            if record is not None:
                found.append(record)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read ({error}): restore the file, or remove it to score anew"
        ) from error
    return found


def _bounded_lines(path: Path) -> Iterator[bytes]:
    n_bytes = 0
    with _open(path) as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            n_bytes += len(line)
            if len(line) > MAX_LINE_BYTES or n_bytes > MAX_BYTES:
                what = "a line" if len(line) > MAX_LINE_BYTES else "more"
                limit = MAX_LINE_BYTES if len(line) > MAX_LINE_BYTES else MAX_BYTES
                raise UserError(f"{path} holds {what} of over {limit >> 20} MiB: no results do")
            yield line


def _open(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise UserError(f"{path} is no file")
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


@contextlib.contextmanager
def faults_told(root: Path) -> Iterator[None]:
    """What keeps the folder from being written, as one line."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of what is printed has gone
    except OSError as error:
        if error.errno in DISK_FULL:
            raise UserError(
                f"{root} is full; what is scored is kept: free some space and run again"
            ) from error
        raise UserError(f"{root} cannot be written: {error.strerror or error}") from error
