"""NMFD-net: a network that corrects the masks of blind NMFD.

Blind NMFD learns the sounds of the recording at hand, but takes one drum for another where its
templates do not fit. A network knows drums in general, but not this kit. Here NMFD goes first: it
factorizes a whole block of the recording in bands (`NmfdNet.prepare`). The network then sees, in
windows of 12 s, the level of the mixture, its width, and NMFD's masks of the nine pieces. What it
says is added to the logarithm of NMFD's masks before a softmax over the pieces, and begins at zero:
at its random start the network is NMFD.

Convolutions look at a neighbourhood, recurrent layers at the order of events, attention at the same
sounds elsewhere in the window. Even and odd frames are two examples of a batch: neighbouring frames
of the analysis overlap by three quarters, and half the frames are half the cost in training.

The loss is nSDR in the spectrum. In a cell, a band of bins in one frame, a mask ``m`` makes the
error ``xx m^2 - 2 xs m + ss``. Here ``xx`` is the mixture's power, ``ss`` the piece's, and ``xs``
the real part of their cross spectrum, each summed over the cell's bins and both channels. So the
error is exact though no bin is kept.

Results do not depend on the level of the recording: NMFD and the network see it relative to its
mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from baselines import learn, nmfd
from baselines.blocks import BlockConfig
from baselines.factorization import FactorizationConfig
from baselines.masks import soft_masks
from baselines.settings import SETTINGS
from baselines.spectral import StftConfig, mono_magnitude, stft
from larsnet.network.bands import whole_bin_edges
from larsnet.network.protocol import MaskNetwork
from larsnet.records import check_types
from stemgmd_build.taxonomy import PIECES, STEM_OF_PIECE, STEMS

BLIND: Final = FactorizationConfig(
    n_iterations=15, adaptation="semi", adaptation_power=1.0, extrapolate=True
)
"""Chosen on validation segments among those in docs/research-log.md."""

RECIPE: Final = SETTINGS["nmfd"].recipe
"""Of NMFD's templates: those of the blind NMFD on the leaderboard, from the training kits."""

SMALLEST_MASK: Final = 1e-3
"""From which the correction starts: -60 dB. Zero would stay zero whatever the network says."""

_FLOOR_DB: Final = -60.0
_CEILING: Final = 1e-3  # relative error below which a stem is good enough: 30 dB
_SOUNDS: Final = 1e-4  # share of the mixture's power from which on a stem is said to sound
_STEM_ROWS: Final = tuple(STEMS.index(STEM_OF_PIECE[piece]) for piece in PIECES)


@dataclass(frozen=True)
class NmfdNetConfig:
    """Sizes.

    ``widths``: channels of the four levels, each with half the bands of the one above. ``core``:
    width of the recurrent layers and of attention, in ``blocks`` blocks with ``heads`` heads.
    """

    n_bands: int = 128
    widths: tuple[int, ...] = (24, 32, 56, 96)
    core: int = 224
    heads: int = 4
    blocks: int = 2
    dropout: float = 0.1
    n_frames: int = 1032

    def __post_init__(self) -> None:
        check_types(self)
        if len(self.widths) != 4 or not all(0 < width <= 1024 for width in self.widths):
            raise ValueError("widths must be four numbers of channels from 1 to 1024")
        if not 16 <= self.n_bands <= self.stft.n_bins or self.n_bands % 16:
            raise ValueError("n_bands must be a multiple of 16 and at most the number of bins")
        if not 1 <= self.blocks <= 16 or not 0 < self.core <= 2048:
            raise ValueError("blocks must be from 1 to 16, core from 1 to 2048")
        if self.core % 2 or not self.heads > 0 or self.core % self.heads:
            raise ValueError("core must be even and a multiple of heads")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be from 0 to 1")
        if self.n_frames % 4 or not 4 <= self.n_frames <= 8192:
            raise ValueError("n_frames must be a multiple of 4, at most 8192")

    @property
    def stems(self) -> tuple[str, ...]:
        """The nine pieces."""
        return PIECES

    @property
    def stft(self) -> StftConfig:
        """NMFD's analysis, without its margin."""
        return StftConfig(n_fft=2048, hop_samples=512)

    @property
    def window_frames(self) -> int:
        """12 s."""
        return self.n_frames

    @property
    def frames_multiple(self) -> int:
        """Even and odd frames, of which two are a step of the recurrent layers."""
        return 4


class CellBatch(NamedTuple):
    """What the loss compares, on cells: (batch, [pieces or stems,] bands, frames).

    ``seen`` is what the network takes; ``xx``, ``xs``, ``ss`` are the powers in the module's
    header; ``stem_ss`` is the power of each of the five stems.
    """

    seen: Tensor
    xx: Tensor
    xs: Tensor
    ss: Tensor
    stem_ss: Tensor


class NmfdNet(MaskNetwork):
    """Masks of the nine pieces from a mixture and the masks that blind NMFD gave it.

    ``templates`` (pieces, bands, template frames) are NMFD's: a part of the network, so that a
    checkpoint has all that it needs.
    """

    name = "nmfd-net"
    settings = NmfdNetConfig
    block = BlockConfig()
    mask_channels = 1
    fit_bands = 256
    config: NmfdNetConfig
    band_of_bin: Tensor
    templates: Tensor

    def __init__(self, config: NmfdNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NmfdNetConfig()
        self._edges = whole_bin_edges(config.n_bands, config.stft.n_bins)
        band_of_bin = np.repeat(np.arange(config.n_bands), np.diff(self._edges))
        self.register_buffer("band_of_bin", torch.from_numpy(band_of_bin), persistent=False)
        self.register_buffer("templates", _packaged_templates(self._edges))
        n_in = 4 + len(PIECES) + 1
        strides = ((2, 1), (2, 2), (2, 1), (2, 1))
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        above = n_in
        for level, (width, stride) in enumerate(zip(config.widths, strides, strict=True)):
            self.encoder.append(_Down(above, width, (3, 3) if level else (5, 3), stride))
            above = width
        for level in reversed(range(4)):
            below = config.widths[level - 1] if level else 12
            self.decoder.append(_Up(config.widths[level], below, strides[level]))
        n_flat = config.widths[-1] * config.n_bands // 16
        self.into = nn.Linear(n_flat, config.core)
        self.blocks = nn.ModuleList(
            _Block(config.core, config.heads, config.dropout) for _ in range(config.blocks)
        )
        self.out_of = nn.Linear(config.core, n_flat)
        # These two work on every cell: anything wider would take most of the time.
        self.mix = nn.Conv2d(12 + n_in, 20, 1)
        self.last = nn.Conv2d(20, len(PIECES), 1)
        nn.init.zeros_(self.last.weight)
        self.last.bias = nn.Parameter(torch.zeros(len(PIECES)))
        self.onsets = nn.Linear(config.core, 2 * len(PIECES))
        self.band_bias = nn.Parameter(torch.zeros(len(PIECES), config.n_bands, 1))

    @property
    def summary(self) -> str:
        """For the leaderboard."""
        return f"a network that corrects the masks of blind NMFD, on {self.config.n_bands} bands"

    @torch.no_grad()
    def prepare(self, mixture: Tensor) -> Tensor:
        """Blind NMFD of a block: logarithms of the pieces' masks (batch, 9, bands, frames)."""
        cells = self._sums(mono_magnitude(stft(mixture, self.config.stft)))
        level = cells.mean(dim=(1, 2), keepdim=True)
        # relative to its mean, so that neither the floor nor rounding knows the recording's level
        cells = cells / torch.where(level > 0, level, 1.0)
        found = nmfd.factorize(cells, self.templates, BLIND)
        parts = nmfd.stem_magnitudes(found, range(len(PIECES)), len(PIECES))
        return soft_masks(parts, exponent=2.0).clamp_min_(SMALLEST_MASK).log_()

    def see(self, spectrum: Tensor, guide: Tensor | None = None) -> Tensor:
        """Level, side share and NMFD's masks: (batch, 2 + 9, bands, frames).

        Without a guide all masks are alike, and the network works alone.
        """
        power = self._sums(_power(spectrum))
        side = self._sums(_power(spectrum[:, :1] - spectrum[:, 1:])) / 2
        share = torch.where(power > 0, side / power.clamp_min(1e-30), 0.0).clamp(0, 2)
        if guide is None:
            shape = (len(power), len(PIECES), *power.shape[1:])
            guide = power.new_full(shape, -math.log(len(PIECES)))
        return torch.cat((_level_db(power)[:, None], share[:, None], guide), dim=1)

    def forward(self, seen: Tensor) -> Tensor:
        """Masks (batch, 9, 1, bins, frames) that sum to one; frames a multiple of four."""
        n_batch = len(seen)
        halves = torch.cat((seen[..., 0::2], seen[..., 1::2]))
        logits, _ = self.logits(halves[:, 0], halves[:, 1], halves[:, 2:])
        masks = torch.stack(torch.split(logits.softmax(dim=1), n_batch), dim=-1).flatten(3)
        in_bins: Tensor = masks[:, :, self.band_of_bin].unsqueeze(2)
        return in_bins

    def logits(self, level_db: Tensor, side: Tensor, log_masks: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of masks, and of onsets.

        Args:
            level_db: (batch, bands, frames) of every second frame, relative to the window's mean.
            side: (batch, bands, frames), share of the side channel.
            log_masks: (batch, 9, bands, frames), of NMFD; all alike where there are none.

        Returns:
            (batch, 9, bands, frames), and (batch, 9, frames).
        """
        n_frames = level_db.shape[-1]
        features = self._features(level_db, side, log_masks)
        features = functional.pad(features, (0, n_frames % 2, 0, 0), mode="replicate")
        x, skips = features, []
        for down in self.encoder:
            x = down(x)
            skips.append(x)
        n_batch, n_width, n_rows, n_steps = x.shape
        core = self.into(x.flatten(1, 2).transpose(1, 2))
        for block in self.blocks:
            core = block(core)
        # a step of the core is two frames
        onsets = self.onsets(core).view(n_batch, n_steps * 2, len(PIECES)).transpose(1, 2)
        x = x + self.out_of(core).transpose(1, 2).reshape(n_batch, n_width, n_rows, n_steps)
        for level, up in enumerate(self.decoder):
            x = up(x, skips[-2 - level] if level < 3 else None)
        correction = self.last(functional.gelu(self.mix(torch.cat((x, features), dim=1))))
        logits = log_masks + correction[..., :n_frames] + self.band_bias
        return logits, onsets[..., :n_frames]

    def examples(self, stems: Tensor) -> CellBatch:  # type: ignore[override]
        """Cells of pieces (batch, 9, 2, samples), whose sum is the mixture."""
        mixture = stems.sum(dim=1)
        spectra = stft(stems, self.config.stft)
        whole = spectra.sum(dim=1)
        cross = (whole.unsqueeze(1) * spectra.conj()).real.sum(dim=2)
        rows = torch.tensor(_STEM_ROWS, device=stems.device)
        sums = spectra.new_zeros(len(stems), len(STEMS), *spectra.shape[2:])
        sums.index_add_(1, rows, spectra)
        n_frames = spectra.shape[-1] // 4 * 4
        guide = self.prepare(mixture)[..., :n_frames]
        cells = (_power(whole), cross, _power(spectra), _power(sums))
        return CellBatch(
            self.see(whole[..., :n_frames], guide),
            *(self._sums(part[..., :n_frames]) for part in cells),
        )

    def losses(self, batch: CellBatch) -> Tensor:  # type: ignore[override]
        """For each piece, the logarithm of its error, its stem's counting four times: (9,).

        Silent ones count by what is put into them, and little.
        """
        halves = [batch.seen[..., phase::2] for phase in (0, 1)]
        logits = [self.logits(half[:, 0], half[:, 1], half[:, 2:])[0] for half in halves]
        masks = torch.stack(logits, dim=-1).float().softmax(dim=1).flatten(3)
        total = batch.xx.sum(dim=(1, 2), keepdim=False).clamp_min(1e-20)[:, None]
        pieces = _errors(masks, batch.xx, batch.xs, batch.ss) / total
        rows = torch.tensor(_STEM_ROWS, device=masks.device)
        shape = (len(masks), len(STEMS), *masks.shape[2:])
        stem_masks = masks.new_zeros(shape).index_add(1, rows, masks)
        stem_xs = masks.new_zeros(shape).index_add(1, rows, batch.xs)
        stems = _errors(stem_masks, batch.xx, stem_xs, batch.stem_ss) / total
        of_pieces = _log_error(pieces, batch.ss.sum(dim=(2, 3)) / total)
        of_stems = _log_error(stems, batch.stem_ss.sum(dim=(2, 3)) / total)
        return (0.25 * of_pieces + of_stems[:, rows]).mean(dim=0)

    def _sums(self, values: Tensor) -> Tensor:
        """(..., bins, frames) summed over the bins of each band."""
        shape = (*values.shape[:-2], self.config.n_bands, values.shape[-1])
        return values.new_zeros(shape).index_add(-2, self.band_of_bin, values)

    def _features(self, level_db: Tensor, side: Tensor, log_masks: Tensor) -> Tensor:
        level = level_db.clamp_min(_FLOOR_DB) / 20
        band = level - level.mean(dim=2, keepdim=True)
        rise = functional.pad(level[..., 2:] - level[..., :-2], (1, 1))
        spread = log_masks.amax(dim=1) - log_masks.amin(dim=1)
        there = (spread.amax(dim=(1, 2)) > 0).to(level.dtype)[:, None, None, None]
        planes = torch.stack((level, band, rise, side), dim=1)
        flag = there.expand(-1, 1, *level.shape[-2:])
        return torch.cat((planes, log_masks.exp().sqrt() * there, flag), dim=1)


class _Down(nn.Module):
    def __init__(
        self, n_in: int, n_out: int, kernel: tuple[int, int], stride: tuple[int, int]
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding)
        self.norm = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.norm(self.conv(x)))


class _Up(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        kernel = (2 * stride[0], 4 if stride[1] > 1 else 3)
        self.conv = nn.ConvTranspose2d(n_in, n_out, kernel, stride, padding=1)
        self.norm = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = functional.gelu(self.norm(self.conv(x)))
        return x if skip is None else x + skip


class _Block(nn.Module):
    """Recurrence, attention and feed-forward over (batch, steps, width), each a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.recurrent = nn.GRU(width, width // 2, bidirectional=True, batch_first=True)
        self.queries = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.forward_in = nn.Linear(width, 3 * width)
        self.forward_out = nn.Linear(3 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.recurrent(self.norms[0](x))[0])
        n_batch, n_steps, width = x.shape
        split = self.queries(self.norms[1](x)).view(n_batch, n_steps, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.dropout(self.attended(found.transpose(1, 2).reshape(n_batch, n_steps, width)))
        inner = functional.gelu(self.forward_in(self.norms[2](x)))
        out: Tensor = x + self.dropout(self.forward_out(inner))
        return out


def _packaged_templates(edges: NDArray[np.int64]) -> Tensor:
    """NMFD's templates (pieces, bands, template frames), each of sum one.

    In numpy, since a network is also made where torch keeps no values, to learn its sizes.
    """
    learnt = learn.load(RECIPE).templates
    order = [learnt.piece_of_component.index(piece) for piece in PIECES]
    with torch.device("cpu"):
        values = np.add.reduceat(learnt.values.numpy(), edges[:-1], axis=1)[order]
        return torch.from_numpy(values / values.sum(axis=(1, 2), keepdims=True))


def _power(spectrum: Tensor) -> Tensor:
    """(..., channels, bins, frames) to the power of both channels, (..., bins, frames)."""
    return (spectrum.real.square() + spectrum.imag.square()).sum(dim=-3)


def _level_db(power: Tensor) -> Tensor:
    """Level of cells (batch, bands, frames) against the mean of the frames that sound, in dB."""
    sounding = (power.sum(dim=1) > 0).sum(dim=1).clamp_min(1) * power.shape[1]
    mean = power.sum(dim=(1, 2)) / sounding
    relative = power / torch.where(mean > 0, mean, 1.0)[:, None, None]
    return 10 * torch.log10(relative + 1e-9)


def _errors(masks: Tensor, xx: Tensor, xs: Tensor, ss: Tensor) -> Tensor:
    """Error of each mask over all cells: (batch, stems)."""
    cells = masks.square() * xx.unsqueeze(1) - 2 * masks * xs + ss
    return cells.sum(dim=(2, 3)).clamp_min(0)


def _log_error(error: Tensor, power: Tensor) -> Tensor:
    """Nepers of power where something sounds; elsewhere what leaks, and little of it."""
    ratio = torch.log(error / power.clamp_min(_SOUNDS) + _CEILING)
    return torch.where(power > _SOUNDS, ratio, torch.log1p(error * 1000) * 0.1)
