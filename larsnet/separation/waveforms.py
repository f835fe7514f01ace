"""From a recording of any rate and any number of channels to its stems.

Rules: the nets hear 44.1 kHz stereo. Other rates are resampled there and back (soxr), and
stems are as long as the recording. Channels are taken in pairs, 1 with 2, 3 with 4; a channel
without a partner, so a mono recording too, is heard on both sides and is the mean of both
in the stems. Samples are float32 (channels, samples) with full scale 1.0.

``sum_to_mixture``: in the spectrum, the masks of each cell are scaled to sum to one, so stems
share what they leave over, or claim twice, in proportion to their masks. What no mask reaches
(above 22.05 kHz, what resampling changes, rounding) goes to the last stem, the cymbals: it is the
mixture minus the others, which are rounded to steps of 2**-23. The stems of a recording
of up to 24 bits then add up to it exactly, those of a float recording to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.blocks import BlockConfig, cut_blocks, faded
from baselines.checks import LOUDEST
from baselines.system import Inputs, System
from larsnet.network.protocol import MaskNetwork
from larsnet.separation.inference import Separator
from larsnet.separation.refinement import RefinedSeparator
from larsnet.separation.streaming import RUN_SAMPLES
from stemgmd_build.errors import UserError
from stemgmd_build.recordings import Block
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

_GRID: Final = 2.0**23


class Engine(Protocol):
    """What separates a stream; the rest of this package reads and writes around it."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Their names, in order."""
        ...

    @property
    def sum_to_mixture(self) -> bool:
        """Whether stems add up to the mixture."""
        ...

    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Separate float32 (batch, 2, samples) at 44.1 kHz, one after the other the file.

        Yields:
            (batch, stems, 2, samples), one after the other as long as the file.
        """
        ...


@dataclass(frozen=True)
class SystemEngine:
    """A system of the leaderboard that needs the mixture alone, in blocks of 48 s."""

    system: System
    sum_to_mixture: bool = False
    stems: tuple[str, ...] = STEMS

    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """See :class:`Engine`."""

        def estimates() -> Iterator[tuple[Tensor, bool]]:
            for block, is_last in cut_blocks(chunks, BlockConfig()):
                rows = [self.system.separate(Inputs(row.numpy())) for row in block]
                yield torch.from_numpy(np.stack(rows)), is_last

        for run in faded(estimates(), BlockConfig()):
            yield from (part.clone() for part in torch.split(run, RUN_SAMPLES, dim=-1))


@dataclass(frozen=True)
class TwoStems:
    """One stem of an engine, and the sum of its others."""

    engine: Engine
    stem: str

    def __post_init__(self) -> None:
        if self.stem not in self.engine.stems:
            raise UserError(
                f"no stem {self.stem!r}; this model gives {', '.join(self.engine.stems)}"
            )

    @property
    def stems(self) -> tuple[str, ...]:
        """The stem, and the rest by Demucs' name for it."""
        return self.stem, f"no_{self.stem}"

    @property
    def sum_to_mixture(self) -> bool:
        """See :class:`Engine`."""
        return self.engine.sum_to_mixture

    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """See :class:`Engine`."""
        row = self.engine.stems.index(self.stem)
        for stems in self.engine.stream(chunks):
            one = stems[:, row]
            others = torch.cat((stems[:, :row], stems[:, row + 1 :]), dim=1)
            yield torch.stack((one, others.sum(dim=1)), dim=1)


@dataclass(frozen=True)
class SeparationOptions:
    """How to separate.

    ``wiener`` is the exponent alpha, None for the network's own masks. With ``refine`` the stems
    are refined by NMFD (:mod:`larsnet.separation.refinement`). ``stems``: "five", "six" or "nine"
    (:func:`larsnet.separation.inference.stem_groups`).
    """

    wiener: float | None = None
    sum_to_mixture: bool = False
    device: str = "cpu"
    n_threads: int | None = None
    refine: bool = False
    stems: str | None = None


def make_separator(model: MaskNetwork, options: SeparationOptions) -> Separator:
    """A separator with these options. Raises UserError for a bad device or exponent."""
    kind = RefinedSeparator if options.refine else Separator
    return kind(
        model,
        wiener=options.wiener,
        sum_to_mixture=options.sum_to_mixture,
        device=options.device,
        n_threads=options.n_threads,
        stems=options.stems,
    )


def separate_blocks(
    separator: Engine, blocks: Iterable[Block], sample_rate: int
) -> Iterator[NDArray[np.float32]]:
    """Stems of a stream.

    Args:
        separator: where it was made with ``sum_to_mixture``, the last stem becomes what the others
            leave of the mixture.
        blocks: (channels, samples), one after the other the recording.
        sample_rate: of the recording, in Hz.

    Yields:
        (stems, channels, samples), one after the other as long as the recording.

    Raises:
        UserError: samples that are not finite (with the time), memory that does not suffice.
    """
    exact = separator.sum_to_mixture
    heard = _Heard(_short(blocks), sample_rate, keep=exact)
    n_channels = 0

    def flat(batches: Iterable[Tensor]) -> Iterator[Block]:
        for batch in batches:
            yield batch.flatten(0, -2).numpy()

    at_44100 = resampled(map(_even, heard), sample_rate, SAMPLE_RATE)
    # torch warns of arrays that cannot be written to, though nobody writes to them
    chunks = (
        torch.from_numpy(np.require(_split_rows(block, 2), requirements=("C", "W")))
        for block in at_44100
    )
    stems_flat = resampled(flat(separator.stream(chunks)), SAMPLE_RATE, sample_rate)
    n_stems, n_sent = len(separator.stems), 0
    for block in stems_flat:
        n_channels = heard.n_channels
        room = heard.n_samples - n_sent  # resampling twice may give a sample more, or one less
        stems = _from_pairs(_split_rows(block, n_stems, 2), n_channels)[..., :room]
        n_sent += stems.shape[-1]
        yield _exact(stems, heard.take(stems.shape[-1])) if exact else stems
    missing = heard.n_samples - n_sent
    if missing:
        stems = np.zeros((n_stems, heard.n_channels, missing), np.float32)
        yield _exact(stems, heard.take(missing)) if exact else stems


def _short(blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks of at most `RUN_SAMPLES`: what is asked of them copies each several times."""
    for block in blocks:
        for first in range(0, max(1, block.shape[-1]), RUN_SAMPLES):
            yield block[:, first : first + RUN_SAMPLES]


class _Heard:
    """Blocks as they pass: checked, counted and, where asked, kept until they are taken."""

    def __init__(self, blocks: Iterable[Block], sample_rate: int, *, keep: bool) -> None:
        self._blocks, self._sample_rate, self._keep = blocks, sample_rate, keep
        self._kept: list[Block] = []
        self.n_samples = self.n_channels = 0

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            sane = (np.abs(block) <= LOUDEST).all(axis=0)  # NaN is not
            if not sane.all():
                at_sec = (self.n_samples + int(np.argmin(sane))) / self._sample_rate
                raise UserError(
                    f"a sample at {at_sec:.3f} s is no finite number, or above {LOUDEST:g} times "
                    "full scale"
                )
            self.n_samples += block.shape[-1]
            self.n_channels = len(block)
            if self._keep:
                self._kept.append(block)
            yield block

    def take(self, n_samples: int) -> Block:
        """The next samples of the recording, (channels, n_samples)."""
        kept = np.concatenate(self._kept, axis=-1)
        self._kept = [kept[:, n_samples:]]
        return kept[:, :n_samples]


def resampled(blocks: Iterable[Block], from_rate: int, to_rate: int) -> Iterator[Block]:
    """A stream of (channels, samples) at another rate; as it is where the rates agree."""
    if from_rate == to_rate:
        yield from blocks
        return
    stream: soxr.ResampleStream | None = None
    n_channels = 0
    for block in blocks:
        if stream is None:
            n_channels = len(block)
            stream = soxr.ResampleStream(from_rate, to_rate, n_channels, dtype="float32")
        yield _frames_first(stream.resample_chunk(np.ascontiguousarray(block.T)), n_channels)
    if stream is not None:
        rest = stream.resample_chunk(np.zeros((0, n_channels), np.float32), last=True)
        yield _frames_first(rest, n_channels)


def _frames_first(frames: NDArray[np.float32], n_channels: int) -> Block:
    return np.ascontiguousarray(frames.reshape(-1, n_channels).T)


def _even(block: Block) -> Block:
    """(channels, samples) with an even number of channels; an odd last one is its own partner."""
    return np.concatenate((block, block[-1:])) if len(block) % 2 else block


def _split_rows(block: Block, *sizes: int) -> NDArray[np.float32]:
    """(rows, samples) as (rest, *sizes, samples), also where there are no samples."""
    rows, n_samples = block.shape
    return block.reshape(rows // math.prod(sizes), *sizes, n_samples)


def _from_pairs(stems: NDArray[np.float32], n_channels: int) -> NDArray[np.float32]:
    """(pairs, stems, 2, samples) as (stems, n_channels, samples)."""
    n_pairs, n_stems, _, n_samples = stems.shape
    by_stem = stems.swapaxes(0, 1).reshape(n_stems, 2 * n_pairs, n_samples).copy()
    if n_channels % 2:
        by_stem[:, -2] = (by_stem[:, -2] + by_stem[:, -1]) / 2
    return by_stem[:, :n_channels]


def _exact(stems: NDArray[np.float32], mixture: Block) -> NDArray[np.float32]:
    """The last stem is what the others, rounded to the grid, leave of the mixture."""
    others = np.rint(stems[:-1].astype(np.float64) * _GRID) / _GRID
    last = mixture.astype(np.float64) - others.sum(axis=0)
    return np.concatenate((others, last[None])).astype(np.float32)
