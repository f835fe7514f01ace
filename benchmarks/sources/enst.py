"""ENST-Drums, public part: three drummers on kits of their own, annotated, in its own layout::

    ENST-drums-public/drummer_N/audio/wet_mix/NNN_KIND_WHAT.wav      the mixture
                                      dry_mix/, kick/, snare/, hi-hat/, tom_1/, overhead_L/ ...
                      drummer_N/annotation/NNN_KIND_WHAT.txt         a time and a label in each line

Each microphone hears the whole kit, so its file is no true stem, and none is read. Where there is
no wet mix the dry one is taken. Ghost notes are annotated, some soft strokes that keep time are
not, so precision has a ceiling below 1. KIND is hits, phrase, solo or minus-one, which is what
``--split`` chooses; by default all but hits, which are single strokes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

from benchmarks.sources import LoadedTrack, Onsets, Selection, SourceInfo, Track
from benchmarks.sources.labels import plain
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
    board="enst",
    name="ENST-Drums",
    licence="CC BY-NC-ND 4.0: not commercial, and nothing derived may be passed on",
    citation="Gillet and Richard 2006, ENST-Drums: an extensive audio-visual database for drum "
    "signals processing (ISMIR); doi 10.5281/zenodo.7432188",
    get="download ENST-drums-audio.tar.bz2 (4.2 GB) of Zenodo record 7432188 and unpack it, then "
    "`--data` its folder",
    may_share=False,
)
KINDS: Final = ("hits", "phrase", "solo", "minus-one")
_DEFAULT: Final = ("phrase", "solo", "minus-one")
_MIXES: Final = ("wet_mix", "dry_mix")
_SHORT: Final = {"c": "crash", "ch": "china", "rc": "ride", "spl": "splash"}
"""Labels that mean this here alone."""


def tracks(selection: Selection) -> list[Track]:
    """As :class:`benchmarks.sources.Source`: every annotated recording of some :data:`KINDS`."""
    sign = "drummer_*/audio/*_mix/*.wav"
    root = find_root(selection, "enst", ("ENST-drums-public", "enst_drums_public"), sign)
    wanted = selection.split or _DEFAULT
    unknown = [name for name in wanted if name not in (*KINDS, "all")]
    if unknown:
        raise UserError(f"--split {unknown[0]}: ENST-Drums has {', '.join(KINDS)} and all")
    found: dict[str, Path] = {}
    for mix in _MIXES:
        for path in sorted(root.glob(f"drummer_*/audio/{mix}/*.wav")):
            if "all" in wanted or any(kind in path.stem for kind in wanted):
                found.setdefault(f"{path.parts[-4]}/{path.stem}", path)
    if not found:
        raise UserError(f"{root} holds no recording of {', '.join(wanted)}")
    places = {name: _recording(path) for name, path in sorted(found.items())}
    left_out("enst", [n for n, r in places.items() if not r.annotation], "without annotation")
    annotated = [(name, place) for name, place in places.items() if place.annotation]
    if not annotated:
        raise UserError(f"{root} holds no annotation: drummer_1/annotation/NAME.txt")
    return [
        track_of("enst", INFO.board, name, place, _onsets(place), material=("enst",))
        for name, place in annotated[: selection.limit]
    ]


def onsets(track: Track) -> Onsets:
    """As :class:`benchmarks.sources.Source`."""
    return _onsets(cast(Recording, track.place))


def load(track: Track) -> LoadedTrack:
    """As :class:`benchmarks.sources.Source`."""
    place = cast(Recording, track.place)
    return load_recording(place, _onsets(place))


def _recording(mixture: Path) -> Recording:
    path = mixture.parents[2] / "annotation" / f"{mixture.stem}.txt"
    return Recording(mixture, annotation=(path,) if path.is_file() else ())


def _onsets(place: Recording) -> Onsets:
    (path,) = place.annotation
    hits = ((t, _SHORT.get(plain(label), label), line) for t, label, line in labelled_times(path))
    return by_stem(hits, path)
