"""The clips that hyperparameters are chosen on: short, and with every stem among them.

Rule: in turn a clip for toms, one for cymbals and one for any stem, until there are 24; each
from another performance of GMD's validation split that is long enough, and around a hit of its
stem, both drawn with a fixed seed; the training kits take turns, so that each kit meets each of
the three. A clip holds the hits that begin in it, as if the performance began there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Collection, Score
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.gain import tuned
from stemgmd_build.rendering.render import FIVE_ROWS, render, schedule, strikes_of
from stemgmd_build.taxonomy import PIECE_OF_NOTE, SAMPLE_RATE, STEM_OF_NOTE, STEMS

N_CLIPS: Final = 24
CLIP_SEC: Final = 6.0
SEED: Final = 0
_TURNS: Final = ("toms", "cymbals", "any")


@dataclass(frozen=True)
class Excerpt:
    """Hits of a part of a performance, onsets in seconds from its start."""

    performance: str
    start_sec: float
    score: Score


@dataclass(frozen=True)
class Clip:
    """An excerpt on a kit: float32 (2, n_samples) and (5, 2, n_samples).

    ``present``: indices of the stems that are hit; ``score``: piece -> onsets in seconds.
    """

    excerpt: Excerpt
    kit: str
    family: str
    mixture: NDArray[np.float32]
    references: NDArray[np.float32]
    present: tuple[int, ...]
    score: Mapping[str, Sequence[float]]


def choose_excerpts(collection: Collection, n_clips: int = N_CLIPS) -> list[Excerpt]:
    """The excerpts of the rule. Raises UserError where the split has too few performances."""
    rng = np.random.default_rng(SEED)
    pool = [p for p in collection.select("validation") if p.duration_sec >= CLIP_SEC]
    order = [pool[i] for i in rng.permutation(len(pool))]
    scores = {p.id: collection.read_score(p) for p in order}
    excerpts: list[Excerpt] = []
    for number in range(n_clips):
        wanted = _TURNS[number % len(_TURNS)]
        taken = {excerpt.performance for excerpt in excerpts}
        for performance in order:
            onsets = _onsets(scores[performance.id], wanted)
            if onsets and performance.id not in taken:
                centre = onsets[int(rng.integers(len(onsets)))]
                earliest = max(0.0, centre - float(rng.uniform(0.0, CLIP_SEC - 1.0)))
                start_sec = min(earliest, performance.duration_sec - CLIP_SEC)
                part = cut(scores[performance.id], start_sec, CLIP_SEC)
                excerpts.append(Excerpt(performance.id, start_sec, part))
                break
        else:
            raise UserError(
                f"{collection.root}: too few validation performances with {wanted}; give GMD"
            )
    return excerpts


def _onsets(score: Score, stem: str) -> list[float]:
    return [h.onset_sec for h in score.hits if stem in ("any", STEM_OF_NOTE[h.note])]


def cut(score: Score, start_sec: float, length_sec: float) -> Score:
    """The hits that begin within a part of a score, as a score of its own."""
    hits = tuple(
        replace(hit, onset_sec=hit.onset_sec - start_sec)
        for hit in score.hits
        if start_sec <= hit.onset_sec < start_sec + length_sec
    )
    return replace(score, hits=hits)


def make_clips(collection: Collection, banks: Sequence[Bank], n_clips: int = N_CLIPS) -> list[Clip]:
    """The excerpts, each on the kit whose turn it is, at the loudness that a dataset has."""
    loud = [load_bank(tuned(b.kit, collection)) for b in banks]
    excerpts = choose_excerpts(collection, n_clips)
    return [render_clip(excerpt, loud[turn(i, len(loud))]) for i, excerpt in enumerate(excerpts)]


def turn(number: int, n_kits: int) -> int:
    """Which kit plays a clip: in turn, one further after each round, to meet other stems."""
    return (number + number // n_kits) % n_kits


def render_clip(excerpt: Excerpt, bank: Bank) -> Clip:
    """An excerpt played on a kit."""
    n_samples = round(CLIP_SEC * SAMPLE_RATE)
    plan = schedule(strikes_of(excerpt.score), bank)
    sounding = render(plan, stop=min(n_samples, plan.n_samples), rows=FIVE_ROWS)
    references = np.zeros((len(STEMS), 2, n_samples), np.float32)
    references[..., : sounding.shape[-1]] = sounding
    hit_stems = {STEM_OF_NOTE[hit.note] for hit in excerpt.score.hits}
    score: dict[str, list[float]] = {}
    for hit in excerpt.score.hits:
        score.setdefault(PIECE_OF_NOTE[hit.note], []).append(hit.onset_sec)
    return Clip(
        excerpt=excerpt,
        kit=bank.kit.id,
        family=bank.kit.family,
        mixture=references.sum(axis=0),
        references=references,
        present=tuple(i for i, stem in enumerate(STEMS) if stem in hit_stems),
        score=score,
    )


def clip_hash(clips: Sequence[Clip]) -> str:
    """What the clips sound like, as a short hash."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.kit.encode())
        digest.update((clip.references * 32767).round().astype("<i2").tobytes())
    return digest.hexdigest()[:12]
