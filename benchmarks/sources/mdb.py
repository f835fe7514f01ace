"""MDB Drums: 23 recordings of MedleyDB with drums alone, annotated, in its own layout::

    MDB Drums/audio/drum_only/NAME_Drum.wav              the drums, which are the mixture here
              annotations/subclass/NAME_subclass.txt     a time and one of 21 labels in each line
              annotations/class/NAME_class.txt           a time and KD, SD, HH, TT, CY or OT

There are no stems. The subclass file is read where it is there: the class file puts side sticks
under OT, while here they belong to the snare, as in General MIDI and GMD.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from benchmarks.sources import LoadedTrack, Onsets, Selection, SourceInfo, Track
from benchmarks.sources.reading import by_stem, labelled_times
from benchmarks.sources.recording import (
    Recording,
    find_root,
    left_out,
    load_recording,
    track_of,
)
from stemgmd_build.errors import UserError

INFO: Final = SourceInfo(
    board="mdb",
    name="MDB Drums",
    licence="CC BY-NC-SA 4.0: not commercial",
    citation="Southall, Wu, Lerch and Hockman 2017, MDB Drums: an annotated subset of MedleyDB for "
    "automatic drum transcription (ISMIR, late-breaking)",
    get="`git clone https://github.com/CarlSouthall/MDBDrums`, then `--data MDBDrums`",
)
_DRUM: Final = "_Drum.wav"
_KINDS: Final = ("subclass", "class")


def tracks(selection: Selection) -> list[Track]:
    """As :class:`benchmarks.sources.Source`: every recording that is annotated."""
    folders = ("MDB Drums", "MDBDrums/MDB Drums", "MDBDrums-master/MDB Drums")
    root = find_root(selection, "mdb", folders, f"audio/drum_only/*{_DRUM}")
    found = {
        path.name.removesuffix(_DRUM): path
        for path in sorted(root.glob(f"audio/drum_only/*{_DRUM}"))
    }
    annotations = {name: _annotation(root, name) for name in found}
    left_out("mdb", [name for name in found if not annotations[name]], "without annotation")
    annotated = [(name, path) for name, path in found.items() if annotations[name]]
    if not annotated:
        raise UserError(f"{root} holds no annotation: annotations/subclass/NAME_subclass.txt")
    return [
        _track(name, Recording(path, annotation=annotations[name]))
        for name, path in annotated[: selection.limit]
    ]


def onsets(track: Track) -> Onsets:
    """As :class:`benchmarks.sources.Source`."""
    return _onsets(cast(Recording, track.place))


def load(track: Track) -> LoadedTrack:
    """As :class:`benchmarks.sources.Source`."""
    place = cast(Recording, track.place)
    return load_recording(place, _onsets(place))


def _track(name: str, place: Recording) -> Track:
    return track_of("mdb", INFO.board, name, place, _onsets(place), material=("mdb", "medleydb"))


def _annotation(root: Path, name: str) -> tuple[Path, ...]:
    files = (root / "annotations" / kind / f"{name}_{kind}.txt" for kind in _KINDS)
    return tuple(path for path in files if path.is_file())[:1]


def _onsets(place: Recording) -> Onsets:
    (path,) = place.annotation
    return by_stem(labelled_times(path), path)
