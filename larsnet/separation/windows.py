"""Masks of a spectrum of any length from a network that sees a window of it at a time.

Neighbouring windows overlap, and in the overlap the masks of one fade out linearly while those of
the next fade in. A network is at its worst at the border of what it sees; without the fade, stems
jump where two windows meet. What reaches over the end of a block of frames is kept for the next.
"""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from larsnet.network.protocol import MaskNetwork
from stemgmd_build.errors import UserError

_MAX_WINDOWS: Final = 8
"""Windows in a block at most: the masks of LarsNet's, five stereo stems, are 335 MB."""

_Place = tuple[int, int]
"""Row of the batch, and number of the window."""


class WindowRunner:
    """A network that is ready to run on some windows at a time.

    On a CPU each window and each of the network's parts is a work item, done by one thread. On an
    accelerator some windows are one batch. LarsNet's nets take turns there: as one batch over the
    nets too, convolutions become grouped ones, which take up to three times as long
    (docs/how-to/gpu.md). Silent windows are not worked on at all.
    """

    def __init__(
        self, model: MaskNetwork, device: torch.device, n_threads: int, overlap: int | None
    ) -> None:
        self.model = deepcopy(model).to(device).eval()
        self.window = model.config.window_frames
        self.overlap = model.overlap_frames if overlap is None else overlap
        if not 0 <= 2 * self.overlap <= self.window:
            raise UserError(f"windows of {self.window} frames cannot share {self.overlap}")
        self._n_threads, self._local = n_threads, threading.local()
        self._pool, self._process = ThreadPoolExecutor(n_threads), os.getpid()
        self._n_batch = self.n_windows = _MAX_WINDOWS
        self._threaded = None
        if device.type == "cpu":
            self._threaded = self.model.on_threads()
            self.n_windows = min(_MAX_WINDOWS, max(2, n_threads))

    @property
    def step(self) -> int:
        """Frames from the start of a window to that of the next."""
        return self.window - self.overlap

    def run(self, seen: dict[_Place, Tensor], masks: _Masks) -> None:
        """Put the masks of windows where they belong."""
        if self._threaded is not None:
            self._run_on_threads(seen, masks)
            return
        places = list(seen)
        while places:
            part = places[: self._n_batch]
            try:
                found = self.model(torch.cat([seen[place] for place in part]))
            except torch.OutOfMemoryError:
                if self._n_batch == 1:
                    raise
                self._n_batch //= 2
                continue
            for place, one in zip(part, found, strict=True):
                masks.put(place, slice(None), one)
            places = places[len(part) :]

    def _run_on_threads(self, seen: dict[_Place, Tensor], masks: _Masks) -> None:
        assert self._threaded is not None
        if self._process != os.getpid():  # forked: the pool's threads stayed behind
            self._pool, self._process = ThreadPoolExecutor(self._n_threads), os.getpid()
        cells = {place: self._threaded.begin(one) for place, one in seen.items()}
        parts = self._threaded.parts

        def run(item: tuple[_Place, int]) -> None:
            place, index = item
            torch.set_num_threads(1)  # of this thread's own operations
            with torch.no_grad():
                rooms = self._local.__dict__.setdefault("rooms", {})
                rows, part = parts[index]
                masks.put(place, rows, part(cells[place], rooms)[0])

        n_before = torch.get_num_threads()
        items = [(place, index) for place in cells for index in range(len(parts))]
        try:
            list(self._pool.map(run, items))
        finally:
            torch.set_num_threads(n_before)


class Windows:
    """The windows of one recording, or of one block of it that was prepared as a whole.

    ``guide``: what the network's `prepare` gave, (batch, ..., frames of all of it).
    """

    def __init__(self, runner: WindowRunner, guide: Tensor | None = None) -> None:
        self._runner, self._guide = runner, guide
        self._tail: Tensor | None = None
        self._first_frame = 0

    @torch.no_grad()
    def masks(self, spectrum: Tensor, is_last: bool) -> Tensor:
        """Masks of the next frames.

        Args:
            spectrum: complex (batch, channels, bins, frames). But for the last call, ``n_windows``
                steps of the windows and an overlap, which the next call begins with.
            is_last: whether the recording ends with these frames.

        Returns:
            (batch, stems, channels, bins, frames), without the overlap unless ``is_last``.
        """
        runner, n_frames = self._runner, spectrum.shape[-1]
        n_step, n_overlap = runner.step, runner.overlap
        n_windows = max(1, math.ceil((n_frames - n_overlap) / n_step))
        n_padded = n_windows * n_step + n_overlap
        padded = functional.pad(spectrum, (0, n_padded - n_frames)).contiguous()
        guide = self._guide_of(n_padded)
        masks = _Masks(padded, len(runner.model.config.stems), runner, self._tail, is_last)
        seen: dict[_Place, Tensor] = {}
        for place in masks.places():
            batch, window = place
            part = slice(window * n_step, window * n_step + runner.window)
            cells = padded[batch : batch + 1, ..., part]
            if not bool(torch.view_as_real(cells).any()):
                masks.put(place, slice(None), cells.real.new_zeros(1, 1, 1, runner.window))
                continue
            own = None if guide is None else guide[batch : batch + 1, ..., part]
            seen[place] = runner.model.see(cells, own)
        runner.run(seen, masks)
        joined = masks.joined()
        self._first_frame += n_windows * n_step
        if is_last:
            return joined[..., :n_frames]
        self._tail = joined[..., n_windows * n_step :].clone()
        return joined[..., : n_windows * n_step]

    def _guide_of(self, n_frames: int) -> Tensor | None:
        if self._guide is None:
            return None
        part = self._guide[..., self._first_frame : self._first_frame + n_frames]
        return functional.pad(part, (0, n_frames - part.shape[-1]))


class _Masks:
    """Masks as they come in from the windows, and the fades between them.

    What fades in is kept apart until all are there: two threads never write to the same place.
    """

    def __init__(
        self,
        spectrum: Tensor,
        n_stems: int,
        runner: WindowRunner,
        tail: Tensor | None,
        is_last: bool,
    ) -> None:
        n_batch, _, n_bins, n_frames = spectrum.shape
        n_channels = runner.model.mask_channels
        self._step, self._overlap = runner.step, runner.overlap
        self._tail, self._is_last = tail, is_last
        self._n_windows = (n_frames - self._overlap) // self._step
        real = spectrum.real
        self._cells = real.new_empty(n_batch, n_stems, n_channels, n_bins, n_frames)
        shape = (n_batch, self._n_windows, n_stems, n_channels, n_bins, self._overlap)
        self._heads = real.new_empty(shape)
        ramp = torch.arange(1, self._overlap + 1, device=real.device) / (self._overlap + 1)
        self._fade_in = ramp.to(real.dtype)

    def places(self) -> list[_Place]:
        """Every window of every row of the batch."""
        return [(b, w) for b in range(len(self._cells)) for w in range(self._n_windows)]

    def put(self, place: _Place, rows: slice, found: Tensor) -> None:
        """Masks (rows, channels, bins, frames) of a window."""
        batch, window = place
        start, overlap = window * self._step, self._overlap
        own = self._cells[batch, rows, ..., start : start + self._step + overlap]
        if window or self._tail is not None:
            head = self._heads[batch, window, rows]
            head.copy_(found[..., :overlap]).mul_(self._fade_in)
        else:
            own[..., :overlap].copy_(found[..., :overlap])
        own[..., overlap:].copy_(found[..., overlap:])
        if window + 1 < self._n_windows or not self._is_last:
            own[..., self._step :].mul_(1 - self._fade_in)

    def joined(self) -> Tensor:
        """All of them, when all are there."""
        if self._tail is not None:
            self._cells[..., : self._overlap] = self._tail
        for window in range(0 if self._tail is not None else 1, self._n_windows):
            start = window * self._step
            head = self._heads[:, window]
            self._cells[..., start : start + self._overlap].add_(head)
        return self._cells
