"""Performances rendered on kits on the fly: nothing but MIDI and kits on disk.

The samples are those that `stemgmd build` writes: what is rendered here is quantized likewise.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np

from benchmarks.sources import KITS, LoadedTrack, Onsets, Selection, Track
from benchmarks.sources.performances import (
    INFO,
    clip_name,
    hash_midi,
    identity,
    loaded,
    onsets_by_piece,
    onsets_by_stem,
)
from stemgmd_build.audio import FULL_SCALE, ClippingError
from stemgmd_build.building.tracks import RenderSettings, exact_sum, pcm_blocks
from stemgmd_build.dataset.select import choose_kits, choose_performances
from stemgmd_build.errors import UserError
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import EVAL_SESSION, Collection, read_score
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.performances.notes import with_notes
from stemgmd_build.rendering.bank import Bank, load_bank, require_at_hand
from stemgmd_build.rendering.gain import tuned
from stemgmd_build.rendering.render import schedule, strikes_of
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, STEMS

__all__ = ["INFO", "load", "onsets", "rendered_tracks", "tracks"]

DEFAULT_SPLIT: Final = (EVAL_SESSION,)
DEFAULT_KITS: Final = ("test",)


@dataclass(frozen=True)
class Rendering:
    """What a track is rendered from; ``kit`` carries its gain."""

    midi: Path
    kit: Kit
    settings: RenderSettings


def tracks(selection: Selection) -> list[Track]:
    """As :class:`benchmarks.sources.Source`: by default the paper's clips on the held-out kits."""
    return rendered_tracks(
        find_collection(selection.gmd),
        split=selection.split or DEFAULT_SPLIT,
        kits=selection.kits or DEFAULT_KITS,
        limit=selection.limit,
    )


def rendered_tracks(
    collection: Collection,
    *,
    split: Sequence[str],
    kits: Sequence[str],
    limit: int | None = None,
) -> list[Track]:
    """Tracks straight from performances and kits, kit by kit.

    Raises UserError where a kit is missing or nothing is chosen.
    """
    chosen = choose_kits(kits)
    require_at_hand(chosen)
    performances = choose_performances(collection, split, limit)
    if not performances or not chosen:
        raise UserError(f"{collection.root} holds no performance of split {', '.join(split)}")
    paths = {p.id: collection.midi_path(p) for p in performances}
    midi_sha256 = {name: with_notes(path, hash_midi(path)) for name, path in paths.items()}
    settings = RenderSettings()
    found = []
    for kit in (tuned(kit, collection) for kit in chosen):
        digest = load_bank(kit).digest
        found += [
            Track(
                source="rendered",
                board=KITS,
                id=p.id,
                name=p.name,
                clip=clip_name(kit.id, p.id),
                kit=kit.id,
                kit_split=kit.split or "",
                duration_sec=p.duration_sec,
                data=identity(
                    settings.articulations, settings.choke, digest, kit.gain, midi_sha256[p.id]
                ),
                place=Rendering(collection.midi_path(p), kit, settings),
            )
            for p in performances
        ]
    return found


def onsets(track: Track) -> Onsets:
    """As :class:`benchmarks.sources.Source`."""
    place = cast(Rendering, track.place)
    return onsets_by_stem(onsets_by_piece(read_score(place.midi)))


def load(track: Track) -> LoadedTrack:
    """Render a track. Raises UserError where the performance is broken or clips."""
    place = cast(Rendering, track.place)
    score = read_score(place.midi)
    strikes = strikes_of(score)
    if not len(strikes.onset):
        raise UserError(f"{place.midi} has no drum hit: no stem is present, nothing to score")
    plan = schedule(
        strikes,
        _bank(place.kit),
        articulations=place.settings.articulations,
        choke=place.settings.choke,
    )
    references = np.zeros((len(STEMS), 2, plan.n_samples), np.float32)
    start = 0
    try:
        for n_samples, pcm in pcm_blocks(plan):
            for row, stem in zip(references, STEMS, strict=True):
                total = exact_sum(pcm, PIECES_OF_STEM[stem], n_samples)
                row[:, start : start + n_samples] = total.T / np.float32(FULL_SCALE)
            exact_sum(pcm, PIECES, n_samples)  # the mixture must fit as well
            start += n_samples
    except ClippingError:
        raise UserError(
            f"{place.midi} clips on kit {place.kit.id}: it plays harder than all of GMD, for "
            "which the kit's gain is made"
        ) from None
    return loaded(references, score)


@functools.lru_cache(maxsize=2)
def _bank(kit: Kit) -> Bank:
    return load_bank(kit)
