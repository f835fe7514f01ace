"""Datasets to read: from disk (`StemGMD`), or rendered when asked for (`RenderedStemGMD`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stemgmd_build.dataset.read import StemGMD as StemGMD
    from stemgmd_build.dataset.rendered import RenderedStemGMD as RenderedStemGMD
    from stemgmd_build.dataset.segments import SEGMENT_SEC as SEGMENT_SEC
    from stemgmd_build.dataset.segments import Segment as Segment

_HOME: Final = {
    "StemGMD": "read",
    "RenderedStemGMD": "rendered",
    "Segment": "segments",
    "SEGMENT_SEC": "segments",
}
__all__ = ["SEGMENT_SEC", "RenderedStemGMD", "Segment", "StemGMD"]


def __getattr__(name: str) -> Any:
    # Imported when first used: `stemgmd_build.dataset.select` alone needs no audio library.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
