"""The names that data sets and separators give to drums, and which stem each belongs to.

The abbreviations are those of IDMT-SMT-Drums (KD, SD, HH), MDB Drums (TT, CY, CHH, RDC ...) and
ENST-Drums (bd, chh, rc2 ...); names are compared without case, spaces, hyphens and underscores.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from stemgmd_build.taxonomy import PIECES, STEM_OF_PIECE, STEMS

_NAMES: Final = {
    "kick": "kick kicks kd bd bassdrum kickdrum",
    "snare": "snare snares sd snaredrum sdb sdd sdf sdg sdns sst cs rs sidestick crossstick "
    "rimshot",
    "toms": "toms tom tt hit mit mht lft lt ht mt hft lmt ft ltr mtr floortom hightom midtom "
    "lowtom",
    "hihat": "hihat hihats hh chh ohh phh closedhihat openhihat pedalhihat",
    "cymbals": "cymbals cymbal cy crash crashes cr ride rides rd rdc rdb crc chc spc splash china "
    "ridebell bell rc1 rc2 rc3 rc4 c1 c2 c3 c4 ch1 ch5 spl1 spl2 cr1 cr2 cr5",
}
_OTHERS: Final = "ot other others misc tmb tambourine shaker cb cowbell sticks sweep clap claps"
OTHER: Final = frozenset(_OTHERS.split())
"""What drummers play that is no drum of the five stems; annotations may hold it. Sticks are struck
together to count in, a sweep is a brush on the snare, which has no onset."""


def plain(label: str) -> str:
    """A label without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_\-.]+", "", label.casefold())


STEM_OF_LABEL: Final = MappingProxyType(
    {name: stem for stem, names in _NAMES.items() for name in names.split()}
    | {plain(piece): STEM_OF_PIECE[piece] for piece in PIECES}
    | {stem: stem for stem in STEMS}
)
"""Label, as :func:`plain` gives it -> stem."""
