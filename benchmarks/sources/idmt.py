"""IDMT-SMT-Drums V2: mono drum loops of kick, snare and hi-hat, 44.1 kHz, in its own layout::

    IDMT-SMT-DRUMS-V2/audio/NAME#MIX.wav          the loop
                            NAME#KD.wav #SD.wav #HH.wav    its stems, for some loops
                            NAME#KD#train.wav ...          single hits, not read
                      annotation_xml/NAME#MIX.xml          onsets of all three
                      annotation_svl/NAME#KD.svl ...       the same, a file per drum

NAME begins with RealDrum, WaveDrum or TechnoDrum, which is what ``--split`` chooses. The 64 loops
of WaveDrum02 and TechnoDrum02, made from samples, have stems. The recordings, RealDrum, have none.
No loop has toms or cymbals, so those two stems count as never played. Some annotations of hits at
the very beginning are negative: those are at 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast
from xml.etree.ElementTree import Element

import defusedxml.ElementTree

from benchmarks.sources import Archive, LoadedTrack, Onsets, Selection, SourceInfo, Track
from benchmarks.sources.reading import LONGEST_SEC
from benchmarks.sources.recording import (
    SLACK_SEC,
    Recording,
    find_root,
    left_out,
    load_recording,
    track_of,
)
from stemgmd_build.errors import UserError
from stemgmd_build.files import read_bytes

FOLDER: Final = "IDMT-SMT-DRUMS-V2"
INFO: Final = SourceInfo(
    board="idmt",
    name="IDMT-SMT-Drums V2",
    licence="CC BY-NC-ND 4.0: not commercial, and nothing derived may be passed on",
    citation="Dittmar and Gärtner 2014, Real-time transcription and separation of drum recordings "
    "based on NMF decomposition (DAFx); doi 10.5281/zenodo.7544164",
    get="`stemgmd bench fetch idmt --data DIR`, or unpack the zip file of Zenodo record 7544164",
    archive=Archive(
        url=f"https://zenodo.org/records/7544164/files/{FOLDER}.zip",
        md5="d2664b4c2aaa34b90ba2f57b389c5663",
        megabytes=287,
        max_members=5_000,
        max_unpacked_megabytes=2_000,
    ),
    may_share=False,
)
STEM_OF_DRUM: Final = {"KD": "kick", "SD": "snare", "HH": "hihat"}
SERIES: Final = ("RealDrum", "WaveDrum", "TechnoDrum")
_MIX: Final = "#MIX.wav"
_NEVER: Final = ("toms", "cymbals")
_EARLY_SEC: Final = 1.0
"""How far before the beginning an annotation may lie."""


def tracks(selection: Selection) -> list[Track]:
    """As :class:`benchmarks.sources.Source`; ``split`` chooses among :data:`SERIES`."""
    root = find_root(selection, "idmt", (FOLDER,), f"audio/*{_MIX}")
    wanted = selection.split or ("all",)
    unknown = [name for name in wanted if name not in (*SERIES, "all")]
    if unknown:
        raise UserError(f"--split {unknown[0]}: IDMT-SMT-Drums has {', '.join(SERIES)} and all")
    mixtures = sorted(root.glob(f"audio/*{_MIX}"))
    chosen = [p for p in mixtures if "all" in wanted or p.name.startswith(tuple(wanted))]
    if not chosen:
        raise UserError(f"{root} holds no loop of {', '.join(wanted)}")
    found = {p.name.removesuffix(_MIX): _recording(root, p) for p in chosen}
    left_out("idmt", [n for n, r in found.items() if not (r.stems or r.annotation)],
             "with neither stems nor annotation")  # fmt: skip
    scored = [(n, r) for n, r in found.items() if r.stems or r.annotation]
    if not scored:
        raise UserError(f"{root} holds neither stems nor annotations of its loops")
    return [_track(name, place) for name, place in scored[: selection.limit]]


def onsets(track: Track) -> Onsets:
    """As :class:`benchmarks.sources.Source`."""
    return _onsets(cast(Recording, track.place))


def load(track: Track) -> LoadedTrack:
    """As :class:`benchmarks.sources.Source`."""
    place = cast(Recording, track.place)
    return load_recording(place, _onsets(place), slack_sec=SLACK_SEC)


def _track(name: str, place: Recording) -> Track:
    return track_of("idmt", INFO.board, name, place, _onsets(place), material=("idmt",))


def _recording(root: Path, mixture: Path) -> Recording:
    name = mixture.name.removesuffix(_MIX)
    files = ((stem, mixture.with_name(f"{name}#{d}.wav")) for d, stem in STEM_OF_DRUM.items())
    whole = root / "annotation_xml" / f"{name}#MIX.xml"
    single = (root / "annotation_svl" / f"{name}#{drum}.svl" for drum in STEM_OF_DRUM)
    annotation = (whole,) if whole.is_file() else tuple(p for p in single if p.is_file())
    return Recording(mixture, tuple((s, p) for s, p in files if p.is_file()), annotation)


def _onsets(place: Recording) -> Onsets:
    found: dict[str, list[float]] = {stem: [] for stem in _NEVER}
    for path in place.annotation:
        if path.suffix == ".xml":
            found |= {stem: [] for stem in STEM_OF_DRUM.values()}
            for seconds, drum in _events(path):
                found[STEM_OF_DRUM[drum]].append(seconds)
        else:
            drum = path.stem.rpartition("#")[2]
            found[STEM_OF_DRUM[drum]] = list(_points(path))
    return {stem: tuple(sorted(times)) for stem, times in found.items()}


def _events(path: Path) -> Iterator[tuple[float, str]]:
    for number, event in enumerate(_tree(path).iter("event"), 1):
        drum = (event.findtext("instrument") or "").strip()
        if drum not in STEM_OF_DRUM:
            raise UserError(f"{path}, event {number}: {drum[:40]!r} is none of KD, SD, HH")
        seconds = _number(event.findtext("onsetSec"))
        yield _seconds(seconds, f"{path}, event {number}"), drum


def _points(path: Path) -> Iterator[float]:
    """Of a layer of Sonic Visualiser: frames at the model's sample rate."""
    tree = _tree(path)
    model = tree.find(".//model")
    rate = _number(None if model is None else model.get("sampleRate"))
    if not rate >= 1:
        raise UserError(f"{path} states no sample rate")
    for number, point in enumerate(tree.iter("point"), 1):
        yield _seconds(_number(point.get("frame")) / rate, f"{path}, point {number}")


def _tree(path: Path) -> Element:
    try:
        # Sonic Visualiser's files name a document type; entities stay forbidden.
        root: Element = defusedxml.ElementTree.fromstring(read_bytes(path, "settings"))
    except (defusedxml.ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise UserError(f"{path} is no XML that can be read: {str(error)[:200]}") from error
    return root


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _seconds(value: float, where: str) -> float:
    if not -_EARLY_SEC <= value <= LONGEST_SEC:
        raise UserError(f"{where} has no time in seconds")
    return max(0.0, value)
