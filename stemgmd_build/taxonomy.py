"""note -> articulation -> piece -> stem: the only spelling of these names in the project.

The mapping of Groove MIDI's Roland TD-11 notes follows Gillick et al. 2019
("Learning to Groove with Inverse Sequence Transformations", appendix B); the nine pieces
and five stems are StemGMD's (Mezza et al. 2024, arXiv 2312.09663). Unlike StemGMD's
single hits, our toms are never swapped: pitch falls from hi_tom to mid_tom to low_tom.

An *articulation* is one way of striking a piece. The articulation that carries the name
of its piece is the piece's default sound, the one that ``articulations="nine"`` uses for
every strike. This module imports nothing of the project.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

SAMPLE_RATE: Final = 44100
"""Hz. All audio of the project is stereo at this rate."""

PIECES: Final = (
    "kick",
    "snare",
    "hi_tom",
    "mid_tom",
    "low_tom",
    "hihat_closed",
    "hihat_open",
    "crash_left",
    "ride",
)
"""The nine pieces, in StemGMD's spelling and in the order of every (piece, ...) axis."""

STEMS: Final = ("kick", "snare", "toms", "hihat", "cymbals")
"""The five stems, in the order of every (stem, ...) axis."""

STEM_ABBREVIATIONS: Final = MappingProxyType(
    {"kick": "KD", "snare": "SD", "toms": "TT", "hihat": "HH", "cymbals": "CY"}
)

STEM_OF_PIECE: Final = MappingProxyType(
    {
        "kick": "kick",
        "snare": "snare",
        "hi_tom": "toms",
        "mid_tom": "toms",
        "low_tom": "toms",
        "hihat_closed": "hihat",
        "hihat_open": "hihat",
        "crash_left": "cymbals",
        "ride": "cymbals",
    }
)

PIECES_OF_STEM: Final = MappingProxyType(
    {stem: tuple(p for p in PIECES if STEM_OF_PIECE[p] == stem) for stem in STEMS}
)

ARTICULATION_OF_NOTE: Final = MappingProxyType(
    {
        36: "kick",
        38: "snare",
        40: "snare_rim",
        37: "snare_cross_stick",
        48: "hi_tom",
        50: "hi_tom_rim",
        45: "mid_tom",
        47: "mid_tom_rim",
        43: "low_tom",
        58: "low_tom_rim",
        42: "hihat_closed",
        22: "hihat_closed_edge",
        44: "hihat_pedal",
        46: "hihat_open",
        26: "hihat_open_edge",
        49: "crash_left",
        55: "crash_left_edge",
        57: "crash_right",
        52: "crash_right_edge",
        51: "ride",
        59: "ride_edge",
        53: "ride_bell",
    }
)
"""GMD (Roland TD-11) note number -> articulation. Notes that are not here are not drums."""

PIECE_OF_ARTICULATION: Final = MappingProxyType(
    {
        "kick": "kick",
        "snare": "snare",
        "snare_rim": "snare",
        "snare_cross_stick": "snare",
        "hi_tom": "hi_tom",
        "hi_tom_rim": "hi_tom",
        "mid_tom": "mid_tom",
        "mid_tom_rim": "mid_tom",
        "low_tom": "low_tom",
        "low_tom_rim": "low_tom",
        "hihat_closed": "hihat_closed",
        "hihat_closed_edge": "hihat_closed",
        "hihat_pedal": "hihat_closed",
        "hihat_open": "hihat_open",
        "hihat_open_edge": "hihat_open",
        "crash_left": "crash_left",
        "crash_left_edge": "crash_left",
        "crash_right": "crash_left",
        "crash_right_edge": "crash_left",
        "ride": "ride",
        "ride_edge": "ride",
        "ride_bell": "ride",
    }
)

ARTICULATIONS: Final = tuple(PIECE_OF_ARTICULATION)

PIECE_OF_NOTE: Final = MappingProxyType(
    {note: PIECE_OF_ARTICULATION[name] for note, name in ARTICULATION_OF_NOTE.items()}
)

STEM_OF_NOTE: Final = MappingProxyType(
    {note: STEM_OF_PIECE[piece] for note, piece in PIECE_OF_NOTE.items()}
)

HIHAT_PEDAL_CONTROLLER: Final = 4
"""MIDI controller that carries the hi-hat pedal's position, 0 (open) to 127 (closed)."""
