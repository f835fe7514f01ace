"""Long files in bounded memory: overlapping blocks, faded into each other.

A separator is called with a :class:`Span` of the file at a time and slices from it whatever it
needs (mixture, references, score). Neighbouring blocks overlap; of each overlap the outer
quarters are context alone, so no block counts near its own edge, and in the middle half one
block fades out as the next fades in. The two weights sum to one, so stems that add up to the
mixture in each block do so in the whole; and a separator that looks no farther than a quarter
of the overlap gives, but for rounding, what it would give on the file as one. For a
factorization that quarter should be longer than a template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Samples ``start`` up to, but not with, ``stop``."""

    start: int
    stop: int

    def of(self, waveform: Tensor) -> Tensor:
        """This part of a (..., samples) waveform."""
        return waveform[..., self.start : self.stop]


@dataclass(frozen=True)
class BlockConfig:
    """Lengths in samples; multiples of the analysis hop keep its frames where they were."""

    block_samples: int = 1024 * 2048  # 47.6 s at 44.1 kHz
    overlap_samples: int = 1024 * 192  # 4.5 s

    def __post_init__(self) -> None:
        if self.overlap_samples < 4 or self.overlap_samples % 4:
            raise ValueError("overlap_samples must be a positive multiple of 4")
        if self.block_samples < 2 * self.overlap_samples:
            raise ValueError("block_samples must be at least twice overlap_samples")


def block_spans(n_samples: int, config: BlockConfig) -> list[Span]:
    """The blocks of a file, in order; the last ends with the file.

    A file that fits into one block, or is at most an overlap longer, stays whole.
    """
    step = config.block_samples - config.overlap_samples
    starts = range(0, max(1, n_samples - 2 * config.overlap_samples), step)
    ends = [start + config.block_samples for start in starts[:-1]] + [n_samples]
    return [Span(start, stop) for start, stop in zip(starts, ends, strict=True)]


def iterate_blocks(
    separate: Callable[[Span], Tensor], n_samples: int, config: BlockConfig
) -> Iterator[Tensor]:
    """Separate a file block by block.

    Args:
        separate: gives the (..., span) estimate for a span of the file.
        n_samples: length of the file.
        config: lengths.

    Yields:
        (..., samples) runs that, one after the other, are the file. Only one block and one
        overlap are held at a time.

    Raises:
        ValueError: ``separate`` gave another length than it was asked for.
    """
    spans = block_spans(n_samples, config)

    def estimates() -> Iterator[tuple[Tensor, bool]]:
        for index, span in enumerate(spans):
            estimate = separate(span)
            if estimate.shape[-1] != span.stop - span.start:
                raise ValueError(f"{estimate.shape[-1]} samples for {span}")
            yield estimate, index + 1 == len(spans)

    return faded(estimates(), config)


def cut_blocks(chunks: Iterable[Tensor], config: BlockConfig) -> Iterator[tuple[Tensor, bool]]:
    """The blocks of :func:`block_spans` from a stream whose length nobody knows.

    Args:
        chunks: (..., samples) of any lengths, one after the other the file.
        config: lengths.

    Yields:
        (..., samples) blocks that overlap, and whether it is the last; at most a block, an overlap
        and a chunk are held. Nothing where there is no chunk.
    """
    held: list[Tensor] = []
    n_held = 0
    for chunk in chunks:
        held.append(chunk)
        n_held += chunk.shape[-1]
        del chunk  # held once, not twice, while a block is worked on
        while n_held > config.block_samples + config.overlap_samples:
            joined = torch.cat(held, dim=-1)
            held = [joined[..., config.block_samples - config.overlap_samples :].clone()]
            n_held = held[0].shape[-1]
            yield joined[..., : config.block_samples], False
            del joined
    if held:
        last = torch.cat(held, dim=-1)
        held.clear()
        yield last, True


def faded(estimates: Iterable[tuple[Tensor, bool]], config: BlockConfig) -> Iterator[Tensor]:
    """Fade the estimates of blocks, each with whether it is the last, into each other.

    Yields:
        (..., samples) runs that, one after the other, are the file.
    """
    tail: Tensor | None = None
    for estimate, is_last in estimates:
        if tail is not None:
            n_overlap = tail.shape[-1]
            fade = _fade_in(n_overlap).to(estimate)
            yield torch.lerp(tail, estimate[..., :n_overlap], fade)
            estimate = estimate[..., n_overlap:]
        if not is_last:
            n_done = estimate.shape[-1] - config.overlap_samples
            tail = estimate[..., n_done:].clone()
            estimate = estimate[..., :n_done]
        yield estimate
        del estimate  # before the next is made


def _fade_in(n_overlap: int) -> Tensor:
    """0 for a quarter, half a raised cosine, 1 for a quarter."""
    ramp = torch.linspace(-0.5, 1.5, n_overlap, dtype=torch.float64).clamp(0, 1)
    return 0.5 - 0.5 * torch.cos(torch.pi * ramp)
