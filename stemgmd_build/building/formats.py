"""What lets others host a dataset's folder and load it with the libraries that they have.

`README.md` is a dataset card whose head tells Hugging Face `datasets` what to load: a table for
each split, ``tracks-<split>.jsonl``, in the form of `audiofolder` (a column ``<stem>_file_name``
becomes the audio column ``<stem>``; paths are relative to the table). ``mirdata_index.json``, where
it is asked for, is an index by mirdata's conventions: track -> kind of file -> [path, MD5];
`mirdata_loader` reads it.

The tables cannot be metadata.csv itself: `audiofolder` takes a table for each split as a whole,
and left alone it takes folders called ``eval_session`` for the test split and the rest for none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from stemgmd_build.building import manifest
from stemgmd_build.building.manifest import FileRecord, TrackRecord, write_recorded
from stemgmd_build.performances.collection import BUILTIN_DRUMMER, SPLITS, official_checksums
from stemgmd_build.taxonomy import PIECES, STEMS

CARD: Final = "README.md"
MIRDATA_INDEX: Final = "mirdata_index.json"
MIRDATA_VERSION: Final = "1.0"
"""Of the index's form; which dataset it lists is said by its checksums."""


_ORDER: Final = ("mixture", *PIECES, *STEMS)


def table_name(split: str) -> str:
    """File name of a split's table for Hugging Face `datasets`."""
    return f"tracks-{split}.jsonl"


def track_id(row: dict[str, str]) -> str:
    """Name of a track, unique in a dataset: ``<kit>/<performance id>``."""
    return f"{row['kit']}/{row['id']}"


def onsets_path(row: dict[str, str]) -> str:
    """Where the track's onsets are, relative to the root."""
    return f"onsets/{row['midi_filename'].rpartition('.')[0]}.tsv"


def with_md5(root: Path, record: TrackRecord) -> TrackRecord:
    """The record with the MD5 of every file; those that an older version left out are read."""

    def complete(file: FileRecord) -> FileRecord:
        if file.md5:
            return file
        with (root / file.path).open("rb") as stream:
            return replace(file, md5=hashlib.file_digest(stream, "md5").hexdigest())

    return replace(record, files=tuple(map(complete, record.files)))


def write_hosting(root: Path, records: Sequence[TrackRecord]) -> list[FileRecord]:
    """Write the card and the tables of all tracks; return their records."""
    by_split = {s: [r for r in records if r.row["split"] == s] for s in SPLITS}
    written = []
    for split, tracks in by_split.items():
        if tracks:
            text = "".join(json.dumps(_table_row(record)) + "\n" for record in tracks)
            written.append(write_recorded(root / table_name(split), text))
        else:
            (root / table_name(split)).unlink(missing_ok=True)
    splits = {split: len(tracks) for split, tracks in by_split.items() if tracks}
    written.append(write_recorded(root / CARD, _card(splits, records)))
    return written


def write_mirdata_index(
    root: Path, records: Sequence[TrackRecord], others: Sequence[FileRecord]
) -> FileRecord:
    """Write the index; return its record.

    ``records`` are all tracks, each file with its MD5; ``others`` the files that belong to
    performances and to the whole (MIDI, onsets, metadata.csv).
    """
    index = json.dumps(mirdata_index(records, others), indent=1) + "\n"
    return write_recorded(root / MIRDATA_INDEX, index)


def audio_of(record: TrackRecord) -> dict[str, FileRecord]:
    """What a file holds ("mixture", a piece or a stem, in this order) -> the track's file."""
    files = {file.path.rsplit("/", 2)[1]: file for file in record.files}
    return {kind: files[kind] for kind in dict.fromkeys(_ORDER) if kind in files}


def _table_row(record: TrackRecord) -> dict[str, Any]:
    audio = {f"{kind}_file_name": file.path for kind, file in audio_of(record).items()}
    facts = manifest.typed_row(record.row)
    onsets, midi = onsets_path(record.row), f"midi/{record.row['midi_filename']}"
    return {"track": track_id(record.row), **audio, **facts, "onsets": onsets, "midi": midi}


def mirdata_index(records: Sequence[TrackRecord], others: Sequence[FileRecord]) -> dict[str, Any]:
    """The index: version, metadata, and for every track [path, MD5] of each of its files."""
    md5 = {file.path: file.md5 for file in others}

    def entry(path: str) -> list[str]:
        return [path, md5[path]]

    tracks = {
        track_id(record.row): {
            **{kind: [file.path, file.md5] for kind, file in audio_of(record).items()},
            "midi": entry(f"midi/{record.row['midi_filename']}"),
            "onsets": entry(onsets_path(record.row)),
        }
        for record in records
    }
    metadata = {"metadata": entry(manifest.METADATA)}
    return {"version": MIRDATA_VERSION, "metadata": metadata, "tracks": tracks}


_CARD: Final = """\
---
pretty_name: StemGMD, regenerated
license: other
license_name: by-kit-and-performance
license_link: LICENSES.md
task_categories:
- audio-to-audio
tags:
- audio
- drums
- music-source-separation
configs:
- config_name: default
{config}---
# StemGMD, regenerated

{performances} rendered on public drum kits into isolated stems: {hours:.1f} hours,
{n_tracks} tracks ({splits}), made with
`stemgmd build`. Every piece of the kit has a file of its own; their sum is the mixture, to the
sample.

The terms are those of the performances and of each kit: see `LICENSES.md`; whom to cite:
`CITATIONS.bib`. `dataset.json` holds the settings and versions, `metadata.csv` a row per track.

{loading}
"""

_LOADING: Final = """\
```python
from datasets import load_dataset

data = load_dataset("PATH OR NAME OF THIS FOLDER")
```

mirdata's conventions (`stemgmd build --mirdata` adds the index):
`stemgmd_build.hosting.mirdata_loader.Dataset("PATH")`. Without either:
`stemgmd_build.dataset.StemGMD("PATH")`."""


def _card(splits: dict[str, int], records: Sequence[TrackRecord]) -> str:
    tables = "".join(f"  - {table_name(split)}\n" for split in splits)
    files = "".join(
        f"  - split: {split}\n    path:\n    - {table_name(split)}\n    - audio/**\n"
        for split in splits
    )
    config = f"  metadata_filenames:\n{tables}  data_files:\n{files}"
    return card_text(config, splits, records, _LOADING)


def _who_played(rows: Sequence[dict[str, str]]) -> str:
    if all(row["drummer"].startswith(BUILTIN_DRUMMER) for row in rows):
        return "Built-in grooves, generated by code and played by nobody,"
    is_gmd = all(row["midi_filename"] in official_checksums() for row in rows)
    return "Human drum performances" if is_gmd else "Drum performances"


def card_text(
    config: str, splits: dict[str, int], records: Sequence[TrackRecord], loading: str
) -> str:
    """A dataset card: ``config`` is the YAML that says what `datasets` is to load."""
    hours = sum(float(record.row["duration_sec"]) for record in records) / 3600
    return _CARD.format(
        config=config,
        performances=_who_played([record.row for record in records]),
        hours=hours,
        n_tracks=len(records),
        splits=", ".join(f"{split} {n}" for split, n in splits.items()),
        loading=loading,
    )
