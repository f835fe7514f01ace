"""Training examples: segments of performances on kits, placed and augmented on any device.

An example is planned on the CPU (`Segments.plan`): which hits, on which kits, with which
augmentations; a plan is a few hundred numbers. `Player.play` then places the one-shots of a batch
of plans on its device, where the kits' samples lie, augments the stems and gives them as one
tensor (batch, stems, channels, samples), full scale 1.0. The mixture is their sum.

Example ``index`` of a seed is the same in any process and in any order, so that a run can be
resumed, or spread over devices, without a state to keep. Unlike a track of the dataset a segment
has no end of its own: all hits ring out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from larsnet.training.augment import (
    AugmentConfig,
    Draw,
    damping_envelope,
    draw,
    equalize,
    remix,
    resample,
    reverberate,
    saturate,
    stretched_length,
    swap_channels,
)
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import Bank
from stemgmd_build.rendering.render import CHOKE_DECAY, Strikes, schedule, strikes_of
from stemgmd_build.taxonomy import PIECES, STEM_OF_PIECE, STEMS

CHANNELS: Final = 2
GUARD_SAMPLES: Final = 2048  # resampling is periodic: what wraps around is cut off


class Hit(NamedTuple):
    """One one-shot, or a part of it: ``n_samples`` of bank ``bank`` from ``start`` on.

    Added to a stem at sample ``at`` with factor ``gain``; ``choke`` is how many of its samples
    come before the choke's decay begins (it may be negative), ``since`` how many came before
    ``start``.
    """

    bank: int
    start: int
    at: int
    n_samples: int
    gain: float
    choke: int
    since: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One example: its augmentations, and the hits of each stem on its own time axis.

    ``lengths``: samples of each stem's axis, guards included where it is stretched.
    """

    performance: int
    start: int
    draw: Draw
    lengths: tuple[int, ...]
    hits: tuple[tuple[Hit, ...], ...]


class Segments:
    """Examples of ``n_samples`` from performances, drawn in proportion to their length.

    Args:
        strikes: the performances.
        banks: the kits, each as likely as the others.
        n_samples: length of an example.
        augment: None for plain renderings of one kit at a time.
        seed: together with an index it decides what an example is.
        stems: what is told apart: stems, or pieces, or some of both. What strikes a stem in an
            augmentation strikes all of its pieces.

    Raises:
        UserError: a piece that belongs to none of ``stems``, or to two.
    """

    def __init__(
        self,
        strikes: Sequence[Strikes],
        banks: Sequence[Bank],
        n_samples: int,
        *,
        augment: AugmentConfig | None,
        seed: int,
        stems: Sequence[str] = STEMS,
    ) -> None:
        self._row_of_piece = _rows_of_pieces(stems)
        self._owners = [STEMS.index(STEM_OF_PIECE.get(name, name)) for name in stems]
        self._strikes = [one for one in strikes if len(one.onset)]
        self._banks, self.n_samples, self._seed = list(banks), n_samples, seed
        self._augment = augment or AugmentConfig(example=0.0)
        self._last = np.array([int(one.onset[-1]) for one in self._strikes])
        self._shares = np.cumsum(self._last + n_samples // 4)

    def plan(self, index: int) -> Plan:
        """Example ``index``, 0 or above."""
        rng = np.random.default_rng([self._seed, index])
        performance = int(
            np.searchsorted(self._shares, rng.integers(self._shares[-1]), side="right")
        )
        kit = int(rng.integers(len(self._banks)))
        # The first hit may come up to a quarter into the example, the last one may be its first.
        start = int(rng.integers(self._last[performance] + 1)) - self.n_samples // 4
        by_stem = draw(
            self._augment, kit=kit, n_kits=len(self._banks), seed=self._seed, index=index
        )
        drawn = Draw(
            *(tuple(getattr(by_stem, f.name)[i] for i in self._owners) for f in fields(Draw))
        )
        lengths, hits = [], []
        for stem in range(len(self._owners)):
            guard = GUARD_SAMPLES if drawn.semitones[stem] else 0
            n_plain = guarded_length(self.n_samples) if guard else self.n_samples
            n_stretched = stretched_length(n_plain, drawn.semitones[stem])
            voices = [k for k in (drawn.kits[stem], drawn.doubles[stem]) if k >= 0]
            lengths.append(n_stretched)
            hits.append(
                tuple(
                    hit
                    for voice in voices
                    for hit in self._hits(
                        performance,
                        stem,
                        voice,
                        start - guard,
                        n_stretched,
                        n_stretched / n_plain,
                        1 / len(voices),
                    )
                )
            )
        return Plan(performance, start, drawn, tuple(lengths), tuple(hits))

    def _hits(
        self,
        performance: int,
        stem: int,
        kit: int,
        start: int,
        n_samples: int,
        ratio: float,
        gain: float,
    ) -> list[Hit]:
        """What of a stem sounds on a kit, on a time axis stretched by ``ratio`` from ``start``."""
        bank = self._banks[kit]
        plan = schedule(self._strikes[performance], bank)
        onset = np.rint((plan.onset - start) * ratio).astype(np.int64)
        choke = np.minimum(np.rint(np.minimum(plan.choke, 1 << 40) * ratio), 1 << 41)
        first = np.maximum(-onset, 0)
        last = np.minimum(plan.length, n_samples - onset)
        chosen = (self._row_of_piece[plan.piece] == stem) & (first < last)
        found = []
        for i in np.flatnonzero(chosen).tolist():
            begin, end = int(first[i]), int(last[i])
            found.append(
                Hit(
                    kit,
                    bank.shots[plan.shot[i]].start + begin,
                    int(onset[i]) + begin,
                    end - begin,
                    float(plan.gain[i]) * gain,
                    int(choke[i]) - begin,
                    begin,
                )
            )
        return found


def _rows_of_pieces(stems: Sequence[str]) -> NDArray[np.int64]:
    rows = []
    strange = [name for name in stems if name not in {*PIECES, *STEMS}]
    if strange:
        raise UserError(f"nothing is rendered for a stem {strange[0]!r}")
    for piece in PIECES:
        found = [i for i, name in enumerate(stems) if name in (piece, STEM_OF_PIECE[piece])]
        if len(found) != 1:
            raise UserError(f"a network to train must have one stem for {piece}, not {len(found)}")
        rows += found
    return np.array(rows)


def guarded_length(n_samples: int) -> int:
    """Of a stem before it is cut, with guards on both sides: quick to FFT."""
    return int(next_fast_len(n_samples + 2 * GUARD_SAMPLES))


def read_segments(
    collection: Collection,
    split: str,
    banks: Sequence[Bank],
    n_samples: int,
    augment: AugmentConfig | None,
    seed: int,
    limit: int | None = None,
    stems: Sequence[str] = STEMS,
) -> Segments:
    """Segments of a split of a collection. Raises UserError where it has no performance."""
    performances = collection.select(split, limit)
    strikes = [strikes_of(collection.read_score(one)) for one in performances]
    if not any(len(one.onset) for one in strikes):
        raise UserError(f"{collection.root} has no performance with hits in its split {split!r}")
    return Segments(strikes, banks, n_samples, augment=augment, seed=seed, stems=stems)


class Player:
    """The kits' samples on a device, ready to play plans."""

    def __init__(self, banks: Sequence[Bank], device: torch.device) -> None:
        self._device = device
        # On a CPU the samples stay where the banks are mapped; nothing writes to them.
        once = {id(bank): bank_tensor(bank.samples).to(device) for bank in banks}
        self._samples = [once[id(bank)] for bank in banks]
        self._decay = torch.from_numpy(CHOKE_DECAY).to(device)

    def play(self, plans: Sequence[Plan], n_samples: int) -> Tensor:
        """Stems (batch, stems, 2, n_samples) of some plans."""
        shape = (len(plans), len(plans[0].hits), CHANNELS, n_samples)
        stems = torch.zeros(shape, device=self._device)
        for plan, example in zip(plans, stems, strict=True):
            for i, stem in enumerate(example):
                if plan.hits[i]:
                    self._play_stem(plan, i, stem)
        return stems

    def _play_stem(self, plan: Plan, i: int, stem: Tensor) -> None:
        n_samples, drawn = stem.shape[-1], plan.draw
        if drawn.semitones[i]:
            stretched = stem.new_zeros(CHANNELS, plan.lengths[i])
            self._place(plan.hits[i], stretched, drawn.dampings_sec[i])
            whole = resample(stretched, guarded_length(n_samples))
            stem.copy_(whole[:, GUARD_SAMPLES : GUARD_SAMPLES + n_samples])
        else:
            self._place(plan.hits[i], stem, drawn.dampings_sec[i])
        if drawn.equalizers_db[i]:
            stem.copy_(equalize(stem, torch.tensor(drawn.equalizers_db[i])))
        reverb = drawn.reverbs[i]
        if reverb:
            stem.copy_(reverberate(stem[None], [reverb])[0])
        if drawn.drives[i]:
            stem.copy_(saturate(stem, drawn.drives[i]))
        if drawn.swapped[i]:
            stem.copy_(swap_channels(stem))
        if drawn.gains_db[i]:
            stem.copy_(remix(stem, drawn.gains_db[i]))

    def _place(self, hits: Sequence[Hit], stem: Tensor, damping_sec: float) -> None:
        envelope = stem.new_zeros(0)
        if damping_sec:
            longest = max(hit.since + hit.n_samples for hit in hits)
            envelope = damping_envelope(damping_sec, longest, stem)
        for hit in hits:
            shot = self._samples[hit.bank][:, hit.start : hit.start + hit.n_samples]
            if damping_sec:
                shot = shot * envelope[hit.since : hit.since + hit.n_samples]
            plain = min(max(hit.choke, 0), hit.n_samples)
            stem[:, hit.at : hit.at + plain].add_(shot[:, :plain], alpha=hit.gain)
            if plain < hit.n_samples:
                decay = self._decay[plain - hit.choke :][: hit.n_samples - plain]
                end = hit.at + plain + len(decay)
                damped = shot[:, plain : plain + len(decay)] * decay
                stem[:, hit.at + plain : end].add_(damped, alpha=hit.gain)


def bank_tensor(samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
    """A bank's samples as they are mapped, without a copy; nobody may write to them."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # read-only pages, and only read
        return torch.from_numpy(samples)
