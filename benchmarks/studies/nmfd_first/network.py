"""A network that corrects the masks of blind NMFD.

It sees a window of the mixture on cells (bands, frames), every second frame of the analysis: its level, its width, and the masks that
NMFD found. What it says is added to the logarithm of NMFD's masks before a softmax over the nine
pieces, and begins at zero: it is NMFD until it has learnt better. Convolutions look at a
neighbourhood, recurrent layers at the order of events, attention at the same sounds elsewhere in
the window.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stemgmd_build.taxonomy import PIECES

N_PIECES = len(PIECES)
SMALLEST_LOG_MASK = -7.0
"""Natural logarithm of the smallest mask that the correction starts from: -60 dB."""


@dataclass(frozen=True)
class Settings:
    """Sizes. ``widths``: channels of the four levels, each of half the bands of the one above."""

    n_bands: int = 128
    widths: tuple[int, ...] = (24, 32, 56, 96)
    core: int = 224
    heads: int = 4
    blocks: int = 2
    dropout: float = 0.1
    sees_blind: bool = True

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class Corrector(nn.Module):
    """Masks of nine pieces from the mixture and blind NMFD's masks."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        n_in = 4 + N_PIECES + 1
        strides = [(2, 1), (2, 2), (2, 1), (2, 1)]
        widths = settings.widths
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        last = n_in
        for i, (width, stride) in enumerate(zip(widths, strides, strict=True)):
            kernel = (5, 3) if i == 0 else (3, 3)
            self.encoder.append(_Down(last, width, kernel, stride))
            last = width
        for i in reversed(range(len(widths))):
            below = widths[i - 1] if i else 12
            self.decoder.append(_Up(widths[i], below, strides[i]))
        n_rows = settings.n_bands // 16
        self.into = nn.Linear(widths[-1] * n_rows, settings.core)
        self.blocks = nn.ModuleList(
            _Block(settings.core, settings.heads, settings.dropout) for _ in range(settings.blocks)
        )
        self.out_of = nn.Linear(settings.core, widths[-1] * n_rows)
        self.mix = nn.Conv2d(
            12 + n_in, 20, 1
        )  # at full size: anything wider costs most of the time
        self.last = nn.Conv2d(20, N_PIECES, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.onsets = nn.Linear(settings.core, 2 * N_PIECES)
        self.band_bias = nn.Parameter(torch.zeros(N_PIECES, settings.n_bands, 1))

    def forward(self, level_db: Tensor, side: Tensor, log_masks: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and onset logits, (batch, 9, bands, frames) and (batch, 9, frames).

        Args:
            level_db: (batch, bands, frames), of the cells' power, against its mean.
            side: (batch, bands, frames), share of the side channel.
            log_masks: (batch, 9, bands, frames), natural logarithms of NMFD's masks; all equal
                where there are none.
        """
        n_frames = level_db.shape[-1]
        spare = n_frames % 2
        features = self._features(level_db, side, log_masks)
        features = functional.pad(features, (0, spare, 0, 0), mode="replicate")
        x, skips = features, []
        for down in self.encoder:
            x = down(x)
            skips.append(x)
        n_batch, n_width, n_rows, n_steps = x.shape
        core = self.into(x.flatten(1, 2).transpose(1, 2))
        for block in self.blocks:
            core = block(core)
        # a core step is two frames
        onsets = self.onsets(core).view(n_batch, n_steps * 2, N_PIECES).transpose(1, 2)
        x = x + self.out_of(core).transpose(1, 2).reshape(n_batch, n_width, n_rows, n_steps)
        for i, up in enumerate(self.decoder):
            skip = skips[-2 - i] if i + 1 < len(skips) else None
            x = up(x, skip)
        correction = self.last(functional.gelu(self.mix(torch.cat((x, features), dim=1))))
        correction = correction[..., :n_frames] + self.band_bias
        return log_masks + correction, onsets[..., :n_frames]

    def _features(self, level_db: Tensor, side: Tensor, log_masks: Tensor) -> Tensor:
        level = level_db.clamp_min(-60) / 20
        band = level - level.mean(dim=2, keepdim=True)
        rise = functional.pad(level[..., 2:] - level[..., :-2], (1, 1))
        blind = log_masks.amax(dim=1, keepdim=True) - log_masks.amin(dim=1, keepdim=True) > 0
        there = blind.flatten(1).any(dim=1).to(level.dtype)[:, None, None, None]
        shape = (-1, 1, *level.shape[-2:])
        return torch.cat(
            (
                level[:, None],
                band[:, None],
                rise[:, None],
                side[:, None],
                log_masks.exp().sqrt() * there,
                there.expand(*shape) * torch.ones_like(level[:, None]),
            ),
            dim=1,
        )


class _Down(nn.Module):
    def __init__(
        self, n_in: int, n_out: int, kernel: tuple[int, int], stride: tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, (kernel[0] // 2, kernel[1] // 2))
        self.norm = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.norm(self.conv(x)))


class _Up(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        kernel = tuple(2 * s if s > 1 else 3 for s in stride)
        padding = tuple(s // 2 if s > 1 else 1 for s in stride)
        self.conv = nn.ConvTranspose2d(n_in, n_out, kernel, stride, padding)
        self.norm = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = functional.gelu(self.norm(self.conv(x)))
        return x if skip is None else x + skip


class _Block(nn.Module):
    """Recurrence, attention and feed-forward, each beside what it is given."""

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
        return x + self.dropout(self.forward_out(inner))
