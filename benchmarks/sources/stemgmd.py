"""The published StemGMD: GMD on ten kits of Logic Pro, in its own layout::

    [audio/]drummer1/eval_session/KIT/PIECE/NAME.wav

The mixture is the sum of the stems, as its authors define it. Onsets come from GMD's MIDI files,
where GMD is at hand (``--gmd``); without it the stems alone are scored. Pieces are named as
:mod:`stemgmd_build.dataset.original` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np

from benchmarks.sources import LoadedTrack, Onsets, Selection, SourceInfo, Track
from benchmarks.sources.performances import clip_name, onsets_by_piece, onsets_by_stem
from benchmarks.sources.reading import check_times, fitted, read_audio
from benchmarks.sources.recording import hash_of
from stemgmd_build.dataset.original import find_tracks, read_rows
from stemgmd_build.dataset.select import choose_rows
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import EVAL_SESSION, read_score
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.taxonomy import PIECES_OF_STEM, SAMPLE_RATE, STEMS

INFO: Final = SourceInfo(
    board="stemgmd",
    name="StemGMD as published",
    licence="CC BY 4.0",
    citation="Mezza, Giampiccolo, Bernardini and Sarti 2024, Toward deep drum source separation, "
    "Pattern Recognition Letters 183; doi 10.5281/zenodo.7860223",
    get="download the parts of Zenodo record 7860223, unpack what you want, then `--data DIR`",
)


@dataclass(frozen=True)
class Files:
    """Where a track lies: pairs of stem and file. ``midi`` is None without GMD."""

    files: tuple[tuple[str, Path], ...]
    midi: Path | None


def tracks(selection: Selection) -> list[Track]:
    """As :class:`benchmarks.sources.Source`: by default the paper's clips on all kits there are."""
    if selection.data is None:
        raise UserError("--source stemgmd needs --data, the folder where it was unpacked")
    root = find_tracks(selection.data)
    if root is None:
        raise UserError(
            f"{selection.data} holds no drummer1/session1/KIT/kick; `stemgmd bench sources` says "
            "how to get StemGMD"
        )
    split = selection.split or (EVAL_SESSION,)
    rows, kind = read_rows(root, split)
    chosen = choose_rows(root, rows, split, selection.kits, selection.limit)
    if not chosen:
        raise UserError(f"{root} holds no track of split {', '.join(split)}")
    gmd = _gmd(selection)
    return [_track(root, row, kind, gmd) for row in chosen]


def onsets(track: Track) -> Onsets:
    """As :class:`benchmarks.sources.Source`; empty without GMD."""
    return _annotated(cast(Files, track.place))[0]


def load(track: Track) -> LoadedTrack:
    """Read a track. Raises UserError where a file is missing, damaged or of another length."""
    place = cast(Files, track.place)
    references: np.ndarray | None = None
    for stem, path in place.files:
        audio = read_audio(path)
        if references is None:
            references = np.zeros((len(STEMS), 2, audio.shape[1]), np.float32)
        references[STEMS.index(stem)] += fitted(audio, references.shape[1:], path)
    assert references is not None
    by_stem, by_piece = _annotated(place)
    if place.midi:  # a hit in the last samples may be cut off
        check_times(by_stem, references.shape[-1] + SAMPLE_RATE, place.midi)
    return LoadedTrack(references.sum(axis=0), references, by_stem, score=by_piece)


def _annotated(place: Files) -> tuple[Onsets, Onsets | None]:
    if place.midi is None:
        return {}, None
    by_piece = onsets_by_piece(read_score(place.midi))
    return onsets_by_stem(by_piece), by_piece


def _gmd(selection: Selection) -> Path | None:
    """GMD's folder; None where there is none and none was named."""
    try:
        return find_collection(selection.gmd, allow_builtin=False).root
    except UserError:
        if selection.gmd is not None:
            raise
        return None


def _track(root: Path, row: dict[str, str], kind: str, gmd: Path | None) -> Track:
    folder = root / row["drummer"] / row["session"] / row["kit"]
    names = {s: PIECES_OF_STEM[s] if kind == "nine" else (s,) for s in STEMS}
    files = tuple((s, folder / n / f"{row['name']}.wav") for s in STEMS for n in names[s])
    missing = next((path for _, path in files if not path.is_file()), None)
    if missing:
        raise UserError(f"{missing} is missing; unpack StemGMD again")
    midi = gmd / row["midi_filename"] if gmd else None
    place = Files(files, midi if midi and midi.is_file() else None)
    paths = [path for _, path in files] + ([place.midi] if place.midi else [])
    return Track(
        source="stemgmd",
        board=INFO.board,
        id=row["id"],
        name=row["name"],
        clip=clip_name(row["kit"], row["id"]),
        kit=row["kit"],
        data=hash_of(paths),
        duration_sec=int(row["n_samples"]) / SAMPLE_RATE,
        place=place,
        material=("stemgmd",),
        gives=frozenset({"mixture", "references"} | ({"score"} if place.midi else set())),
    )
