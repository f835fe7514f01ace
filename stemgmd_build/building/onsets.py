"""Onsets beside the audio: a TSV and the MIDI of every performance, the same for all kits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stemgmd_build.building.manifest import FileRecord, record_of, write_recorded
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.performances.collection import Collection, Performance, Score
from stemgmd_build.performances.notes import notes_file
from stemgmd_build.taxonomy import (
    ARTICULATION_OF_NOTE,
    PIECE_OF_NOTE,
    SAMPLE_RATE,
    STEM_OF_NOTE,
)

_COLUMNS = ["onset_sec", "onset_sample", "note", "velocity", "articulation", "piece", "stem"]


def onsets_tsv(score: Score) -> str:
    """A line per hit: onset in seconds and samples, note, velocity, articulation, piece, stem."""
    lines = ["\t".join(_COLUMNS)]
    for hit in score.hits:
        names = (ARTICULATION_OF_NOTE[hit.note], PIECE_OF_NOTE[hit.note], STEM_OF_NOTE[hit.note])
        sample = round(hit.onset_sec * SAMPLE_RATE)
        numbers = (f"{hit.onset_sec:.6f}", str(sample), str(hit.note), str(hit.velocity))
        lines.append("\t".join((*numbers, *names)))
    return "\n".join(lines) + "\n"


def check_held(root: Path, collection: Collection, ids: set[str]) -> None:
    """Raise UserError where a performance that the dataset holds is not in the collection."""
    unknown = sorted(ids - {performance.id for performance in collection.performances})
    if unknown:
        raise UserError(
            f"{root} holds {unknown[0]}, which is not among the performances given; give those "
            "that it was built from with --gmd, or another --out"
        )


def write_onsets(
    root: Path, collection: Collection, ids: set[str]
) -> tuple[list[FileRecord], dict[str, Score]]:
    """Write onsets/.../<name>.tsv and midi/.../<name>.mid for the performances of these ids.

    Returns the files' records, and what was read by id. Raises UserError as ``check_held`` does.
    """
    check_held(root, collection, ids)
    by_id = {performance.id: performance for performance in collection.performances}
    records: list[FileRecord] = []
    scores: dict[str, Score] = {}
    notes: dict[Path, FileRecord] = {}
    for performance_id in sorted(ids):
        performance = by_id[performance_id]
        score = scores[performance_id] = collection.read_score(performance)
        records += _write_performance(root, collection, performance, score)
        own = notes_file(collection.midi_path(performance))
        if own and own not in notes:  # which notes are drums, for who reads the MIDI here
            path = Path("midi") / own.relative_to(collection.root)
            data = own.read_bytes()
            write_whole(root / path, data)
            notes[own] = record_of(path.as_posix(), data)
    return records + list(notes.values()), scores


def _write_performance(
    root: Path, collection: Collection, performance: Performance, score: Score
) -> list[FileRecord]:
    midi = Path("midi") / performance.midi_filename
    tsv = (Path("onsets") / performance.midi_filename).with_suffix(".tsv")
    data = collection.midi_path(performance).read_bytes()
    write_whole(root / midi, data)
    written = write_recorded(root / tsv, onsets_tsv(score))
    return [
        record_of(midi.as_posix(), data),
        replace(written, path=tsv.as_posix()),
    ]
