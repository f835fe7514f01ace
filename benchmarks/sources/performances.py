"""What rendered and built tracks share: both are performances on kits, sample for sample.

``identity`` is a hash of all that the samples follow from (renderer, bank, gain, MIDI, choke,
articulations), by one formula for both. So records made either way belong together, and a track
that sounds otherwise is another track.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from benchmarks.sources import KITS, Audio, LoadedTrack, Onsets, SourceInfo
from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Score
from stemgmd_build.rendering.render import RENDERER_VERSION
from stemgmd_build.taxonomy import PIECE_OF_NOTE, PIECES, PIECES_OF_STEM, STEMS

INFO: Final = SourceInfo(
    board=KITS,
    name="GMD on drum kits",
    licence="CC BY 4.0 (performances), each kit's own (sounds)",
    citation="Gillick et al. 2019, Learning to Groove with Inverse Sequence Transformations",
    get="`stemgmd gmd fetch` downloads the performances, `stemgmd kits fetch` the kits",
)

LONGEST_NAME_BYTES: Final = 200  # a part's name and an ending must fit as well


def clip_name(kit: str, performance: str) -> str:
    """A name for files: kit and performance, unique in a run.

    File systems take names of 255 bytes, so a longer one ends in a hash of the whole.
    """
    name = f"{kit}--{performance.replace('/', '_')}"
    if len(name.encode()) <= LONGEST_NAME_BYTES:
        return name
    start = name.encode()[: LONGEST_NAME_BYTES - 17].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def identity(
    articulations: object, choke: object, bank: object, gain: float | None, midi_sha256: str
) -> str:
    """The hash of what the samples of a track follow from."""
    facts = {
        "renderer": RENDERER_VERSION,
        "articulations": articulations,
        "choke": choke,
        "bank": bank,
        "gain": f"{gain:.6f}",
        "midi_sha256": midi_sha256,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def hash_midi(path: Path) -> str:
    """SHA-256 of a MIDI file. Raises UserError where it cannot be read."""
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def onsets_by_piece(score: Score) -> Onsets:
    """Piece -> onsets, of those that are struck."""
    found: dict[str, list[float]] = {piece: [] for piece in PIECES}
    for hit in score.hits:
        found[PIECE_OF_NOTE[hit.note]].append(hit.onset_sec)
    return {piece: tuple(sorted(times)) for piece, times in found.items() if times}


def onsets_by_stem(by_piece: Onsets) -> Onsets:
    """Stem -> onsets, of all five."""
    return {
        stem: tuple(sorted(t for piece in PIECES_OF_STEM[stem] for t in by_piece.get(piece, ())))
        for stem in STEMS
    }


def loaded(references: Audio, score: Score) -> LoadedTrack:
    """A track whose mixture is the sum of its stems."""
    by_piece = onsets_by_piece(score)
    # Sums of integer steps: exact in float32, in any order.
    return LoadedTrack(
        mixture=references.sum(axis=0),
        references=references,
        onsets=onsets_by_stem(by_piece),
        score=by_piece,
    )
