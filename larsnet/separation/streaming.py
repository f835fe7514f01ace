"""Masks applied to a stream: samples in, stems out, a block of frames at a time.

The result is that of the whole file at once, but for rounding: a block's spectrum is taken
with ``reach`` hops of context on either side, so its frames are the file's, and the inverse
transform begins with the last ``reach`` frames of the block before, so every sample that is
handed on has all the frames that it lies in. Axes are (batch, stems, channels, samples).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import torch
from torch import Tensor

from baselines.spectral import StftConfig, istft, stft

RUN_SAMPLES: Final = 1 << 18
"""At most as many are taken in and handed on at once, by those that need not have a whole block:
resampling, transforming and writing copy each run several times."""

FindMasks = Callable[[Tensor, bool], Tensor]
"""A spectrum (batch, channels, bins, frames), and whether it is the last, to masks (batch, stems,
channels, bins, frames). Unless it is the last, the frames ahead get no masks yet."""


def apply_to_stream(
    chunks: Iterable[Tensor],
    config: StftConfig,
    block_frames: int,
    ahead_frames: int,
    find_masks: FindMasks,
    device: torch.device,
) -> Iterator[Tensor]:
    """Mask a stream with what ``find_masks`` says of each block of its spectrum.

    Args:
        chunks: float32 (batch, channels, samples) of any lengths, one after the other the file.
        config: the analysis, without margin.
        block_frames: frames a block; the last one may have other lengths.
        ahead_frames: of the next block, that ``find_masks`` is shown too.
        find_masks: called with the blocks in order, on ``device``.
        device: where blocks are worked on.

    Yields:
        (batch, stems, channels, samples) runs that, one after the other, are as long as the
        file, on the device of its samples.
    """
    hop, reach = config.hop_samples, config.n_fft // config.hop_samples
    source = _Lookahead(iter(chunks))
    first_frame, n_sent, ended = 0, 0, False
    carried: list[Tensor] = []
    while not ended:
        origin = max(0, first_frame - reach)
        stop_frame = first_frame + block_frames
        shown_frame = stop_frame + ahead_frames
        samples = source.window(origin * hop, (shown_frame + reach) * hop)
        if samples is None:
            return
        if source.n_samples is not None:
            n_frames = config.n_frames(source.n_samples)
            if n_frames <= shown_frame:
                stop_frame, shown_frame, ended = n_frames, n_frames, True
        spectrum = stft(samples.to(device), config)
        spectrum = spectrum[..., first_frame - origin : shown_frame - origin]
        masks = find_masks(spectrum, ended)
        spectrum = spectrum[..., : stop_frame - first_frame]
        stop = (source.n_samples or 0) if ended else (stop_frame - reach // 2) * hop
        rows, tails = [], []
        for frames in _masked_rows(spectrum, masks, carried):
            start = (stop_frame - frames.shape[-1]) * hop
            rows.append(istft(frames, config, stop - start)[n_sent - start :])
            tails.append(frames[:, -reach:].clone())
        carried = tails
        run = torch.stack(rows).view(*masks.shape[:3], -1).to(samples.device)
        del spectrum, masks, rows, frames  # whoever asks may work long before asking again
        yield run
        del run
        first_frame, n_sent = stop_frame, stop


def _masked_rows(spectrum: Tensor, masks: Tensor, carried: list[Tensor]) -> Iterator[Tensor]:
    """(bins, frames) of each batch, stem and channel in turn, behind what is carried of it.

    One at a time, as real and imaginary parts: several times as fast as the plain product.
    """
    parts = [[(row.real.contiguous(), row.imag.contiguous()) for row in x] for x in spectrum]
    before = iter(carried)
    for channels, stems in zip(parts, masks, strict=True):
        for stem in stems:
            for (real, imaginary), mask in zip(channels, stem, strict=True):
                tail = next(before, spectrum[0, 0, :, :0])
                n_tail, n_frames = tail.shape[-1], mask.shape[-1]
                frames = spectrum.new_empty(len(mask), n_tail + n_frames)
                frames[:, :n_tail] = tail
                torch.complex(real * mask, imaginary * mask, out=frames[:, n_tail:])
                yield frames


class _Lookahead:
    """A window that moves over chunks; it knows the file's length once it has seen the end."""

    def __init__(self, chunks: Iterator[Tensor]) -> None:
        self._chunks = chunks
        self._held: Tensor | None = None
        self._held_start = 0
        self.n_samples: int | None = None

    def window(self, start: int, stop: int) -> Tensor | None:
        """Samples from ``start`` on, up to ``stop`` or the end; what is before is forgotten."""
        fresh = [] if self._held is None else [self._held[..., start - self._held_start :]]
        n_held = sum(part.shape[-1] for part in fresh)
        while start + n_held <= stop and self.n_samples is None:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.n_samples = start + n_held
            elif chunk.shape[-1]:
                fresh.append(chunk)
                n_held += chunk.shape[-1]
        if not fresh:
            return None
        self._held, self._held_start = torch.cat(fresh, dim=-1), start
        return self._held[..., : stop - start]
