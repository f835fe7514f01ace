"""A player for accelerators: a whole batch of plans in a few large operations.

One-shot by one-shot, as on a CPU, the launching of kernels would take longer than all of
their work. Here all hits of a batch are one gather and one scattered addition, and every
augmentation strikes all stems that drew it at once. What is heard is the same up to rounding, but
for the rooms' noise, which a device draws for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from larsnet.training.augment import (
    EQUALIZER_HZ,
    Reverb,
    equalize,
    reverberate,
    saturate,
    swap_channels,
)
from larsnet.training.segments import (
    CHANNELS,
    GUARD_SAMPLES,
    Plan,
    Player,
    bank_tensor,
    guarded_length,
)
from stemgmd_build.rendering.bank import Bank
from stemgmd_build.rendering.render import CHOKE_TIME_CONSTANT_SEC
from stemgmd_build.taxonomy import SAMPLE_RATE

_NEVER: Final = float(1 << 30)
_CHUNK_SAMPLES: Final = 1 << 26
"""Samples placed at a time: some 3 GB of indices, factors and products."""


def player_on(banks: Sequence[Bank], device: torch.device) -> Player | DevicePlayer:
    """What plays best on a device."""
    return Player(banks, device) if device.type == "cpu" else DevicePlayer(banks, device)


class PlanTable(NamedTuple):
    """Plans as arrays, so that they travel between processes and to a device at little cost.

    A slot is a stem of an example. ``hits``: int64 (5, n_hits), slot, bank, start in the bank,
    start in the slot, and length, in samples; ``factors``: float32 (4, n_hits), gain, samples
    before the choke's decay begins, samples before ``start``, and 1 / the damping's time constant
    in samples. ``lengths``: int64 (slots,), of each slot's own time axis; of the rest, (slots,
    ...), zeros are for slots that did not draw an augmentation.
    """

    hits: NDArray[np.int64]
    factors: NDArray[np.float32]
    lengths: NDArray[np.int64]
    shifted: NDArray[np.bool_]
    equalizers_db: NDArray[np.float32]
    drives: NDArray[np.float32]
    swapped: NDArray[np.bool_]
    gains: NDArray[np.float32]
    reverbs: tuple[Reverb | None, ...]
    n_stems: int


def tabulate(plans: Sequence[Plan]) -> PlanTable:
    """The plans of a batch as one table."""
    n_stems = len(plans[0].hits)
    hits: list[tuple[int, ...]] = []
    factors: list[tuple[float, ...]] = []
    for example, plan in enumerate(plans):
        for stem, found in enumerate(plan.hits):
            slot, damping_sec = example * n_stems + stem, plan.draw.dampings_sec[stem]
            pace = 1 / (damping_sec * SAMPLE_RATE) if damping_sec else 0.0
            for hit in found:
                hits.append((slot, hit.bank, hit.start, hit.at, hit.n_samples))
                factors.append((hit.gain, min(hit.choke, _NEVER), hit.since, pace))
    draws = [plan.draw for plan in plans]
    return PlanTable(
        np.array(hits, np.int64).reshape(-1, 5).T.copy(),
        np.array(factors, np.float32).reshape(-1, 4).T.copy(),
        np.array([plan.lengths for plan in plans], np.int64).reshape(-1),
        np.array([draw.semitones for draw in draws]).reshape(-1) != 0,
        np.array(
            [curve or (0.0,) * len(EQUALIZER_HZ) for d in draws for curve in d.equalizers_db],
            np.float32,
        ),
        np.array([draw.drives for draw in draws], np.float32).reshape(-1),
        np.array([draw.swapped for draw in draws]).reshape(-1),
        (10 ** (np.array([draw.gains_db for draw in draws]).reshape(-1) / 20)).astype(np.float32),
        tuple(reverb for draw in draws for reverb in draw.reverbs),
        n_stems,
    )


class DevicePlayer:
    """The kits' samples on a device, ready to play tables of plans."""

    def __init__(self, banks: Sequence[Bank], device: torch.device) -> None:
        self._device = device
        starts: dict[int, int] = {}
        parts: list[Tensor] = []
        for bank in banks:
            if id(bank) not in starts:
                starts[id(bank)] = sum(len(part) for part in parts)
                parts.append(bank_tensor(bank.samples).to(device).T.contiguous())
        self._starts = np.array([starts[id(bank)] for bank in banks], np.int64)
        self._samples = torch.cat(parts) if parts else torch.zeros(0, CHANNELS, device=device)
        self._decay_samples = CHOKE_TIME_CONSTANT_SEC * SAMPLE_RATE

    def play(self, plans: Sequence[Plan] | PlanTable, n_samples: int) -> Tensor:
        """Stems (batch, stems, 2, n_samples) of some plans."""
        table = plans if isinstance(plans, PlanTable) else tabulate(plans)
        placed = self._place(table).transpose(1, 2).contiguous()  # (slots, 2, longest)
        stems = placed[..., :n_samples].clone()
        shifted = np.flatnonzero(table.shifted)
        if len(shifted):
            stems[self._put(shifted)] = self._resampled(placed, table.lengths, shifted, n_samples)
        curved = np.flatnonzero(table.equalizers_db.any(axis=1))
        if len(curved):
            at = self._put(curved)
            stems[at] = equalize(stems[at], self._put(table.equalizers_db[curved]))
        roomy = [slot for slot, reverb in enumerate(table.reverbs) if reverb]
        if roomy:
            at = self._put(np.array(roomy))
            stems[at] = reverberate(stems[at], [r for r in table.reverbs if r])
        driven = np.flatnonzero(table.drives)
        if len(driven):
            at = self._put(driven)
            stems[at] = saturate(stems[at], self._put(table.drives[driven])[:, None, None])
        swapped = np.flatnonzero(table.swapped)
        if len(swapped):
            at = self._put(swapped)
            stems[at] = swap_channels(stems[at])
        stems *= self._put(table.gains)[:, None, None]
        return stems.reshape(-1, table.n_stems, CHANNELS, n_samples)

    def _place(self, table: PlanTable) -> Tensor:
        """All hits, added up on each slot's own time axis: (slots, longest, 2)."""
        n_slots, longest = len(table.lengths), int(table.lengths.max())
        canvas = self._samples.new_zeros(n_slots * longest, CHANNELS)
        slot, bank, start, at, length = table.hits
        sources, targets = self._starts[bank] + start, slot * longest + at
        ends = np.cumsum(length)
        first = 0
        while first < len(length):
            before = ends[first] - length[first]
            last = max(int(np.searchsorted(ends, before + _CHUNK_SAMPLES)), first + 1)
            part = slice(first, last)
            self._add(canvas, sources[part], targets[part], length[part], table.factors[:, part])
            first = last
        return canvas.reshape(n_slots, longest, CHANNELS)

    def _add(
        self,
        canvas: Tensor,
        sources: NDArray[np.int64],
        targets: NDArray[np.int64],
        lengths: NDArray[np.int64],
        factors: NDArray[np.float32],
    ) -> None:
        total = int(lengths.sum())
        starts = self._put(np.cumsum(lengths) - lengths)
        number = torch.arange(len(lengths), device=self._device)
        hit = torch.repeat_interleave(number, self._put(lengths), output_size=total)
        offset = torch.arange(total, device=self._device) - starts[hit]
        gain, choke, since, pace = self._put(factors)[:, hit]
        # in log: the choke's decay from its moment on, the damping's from the stroke on
        exponent = (offset - choke).clamp_(min=0) / -self._decay_samples
        exponent -= (offset + since) * pace
        shots = self._samples.index_select(0, self._put(sources)[hit] + offset)
        shots *= (gain * exponent.exp_())[:, None]
        canvas.index_add_(0, self._put(targets)[hit] + offset, shots)

    def _resampled(
        self, placed: Tensor, lengths: NDArray[np.int64], slots: NDArray[np.int64], n_samples: int
    ) -> Tensor:
        """See :func:`larsnet.training.augment.resample`; each slot has a length of its own."""
        n_plain = guarded_length(n_samples)
        spectra = torch.zeros(
            len(slots), CHANNELS, n_plain // 2 + 1, dtype=torch.complex64, device=self._device
        )
        for row, slot in zip(spectra, slots.tolist(), strict=True):
            n_given = int(lengths[slot])
            found = torch.fft.rfft(placed[slot, :, :n_given])[:, : row.shape[-1]]
            row[:, : found.shape[-1]] = found * (n_plain / n_given)
        whole = torch.fft.irfft(spectra, n_plain)
        cut: Tensor = whole[..., GUARD_SAMPLES : GUARD_SAMPLES + n_samples]
        return cut

    def _put(self, values: NDArray[np.generic]) -> Tensor:
        given = torch.from_numpy(np.ascontiguousarray(values))
        if self._device.type == "cuda":  # from pinned memory the copy waits for nothing
            given = given.pin_memory()
        return given.to(self._device, non_blocking=True)
