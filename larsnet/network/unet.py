"""The U-Net of LarsNet: magnitudes in, a soft mask out (arXiv 2312.09663, section 4).

Axes are (batch, channels, bins, frames). Modules bear the names of the published checkpoints,
whose state dict loads as it is. What sets it apart from other U-Nets:

- the input is normalized per frequency bin ("FreqBN"), over batch, channels and frames;
- what a level hands across is its convolution's own output, before normalization and
  activation; the deepest level hands exactly that on to the decoder;
- the decoder activates first and normalizes then, and its input holds the encoder's part
  before its own.

The published code leaves the transposed convolutions at torch's default start, the paper says
Kaiming for all: so it is here, with the number of input channels as the fan.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from larsnet.records import check_types

AUDIO_CHANNELS: Final = 2
"""Every net sees both channels of a stereo mixture."""

LARGEST: Final = 2**16
"""Of any size in a configuration, which may come with a stranger's checkpoint."""

LEAKY_SLOPE: Final = 0.2


@dataclass(frozen=True)
class UnetConfig:
    """One U-Net.

    ``n_bins`` by ``n_frames`` is what it sees at a time; frames may be any multiple of
    ``2 ** depth``, ``n_frames`` is the length that separation uses. ``widths`` are the
    channels of the encoder's levels, so there are as many levels as widths. ``dropouts`` are
    those of the decoder's first levels, the rest have none. ``n_masks`` stereo masks come
    out: one in LarsNet, five where one net serves all stems.
    """

    n_bins: int = 2048
    n_frames: int = 512
    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    kernel_size: int = 5
    dropouts: tuple[float, ...] = (0.5, 0.5, 0.5)
    n_masks: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        cell = 2**self.depth
        sizes = (self.n_bins, self.n_frames, self.kernel_size, self.n_masks, *self.widths)
        if not self.widths or not all(isinstance(n, int) and 1 <= n <= LARGEST for n in sizes):
            raise ValueError(f"sizes must be whole numbers from 1 to {LARGEST}")
        if min(self.widths) < 2:  # oneDNN misplaces the output of some with one channel
            raise ValueError("widths must be at least 2")
        if min(self.n_bins, self.n_frames) < cell or self.n_bins % cell or self.n_frames % cell:
            raise ValueError(f"n_bins and n_frames must be positive multiples of {cell}")
        if self.kernel_size < 3 or self.kernel_size % 2 == 0:
            raise ValueError("kernel_size must be odd and at least 3")
        if len(self.dropouts) > self.depth or not all(0 <= p < 1 for p in self.dropouts):
            raise ValueError("dropouts are at most one a level, each in [0, 1)")

    @property
    def depth(self) -> int:
        """Number of levels; each halves bins and frames."""
        return len(self.widths)


class EncoderLevel(nn.Module):
    """Halves bins and frames."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel_size, stride=2, padding=kernel_size // 2)
        self.bn = nn.BatchNorm2d(n_out)
        nn.init.kaiming_uniform_(self.conv.weight, a=LEAKY_SLOPE)
        _zero_bias(self.conv)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the next level sees, and the raw convolution that crosses to the decoder.

        Both (batch, n_out, bins / 2, frames / 2) of (batch, n_in, bins, frames).
        """
        raw = self.conv(x)
        return functional.leaky_relu(self.bn(raw), LEAKY_SLOPE), raw


class DecoderLevel(nn.Module):
    """Doubles bins and frames."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.conv_trans = nn.ConvTranspose2d(
            n_in, n_out, kernel_size, stride=2, padding=kernel_size // 2, output_padding=1
        )
        self.bn = nn.BatchNorm2d(n_out)
        self.dropout = nn.Dropout(dropout)
        # a transposed convolution's weight is (in, out, ...): its inputs are torch's fan_out
        nn.init.kaiming_uniform_(self.conv_trans.weight, mode="fan_out", nonlinearity="relu")
        _zero_bias(self.conv_trans)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_out, 2 bins, 2 frames)."""
        normalized: Tensor = self.dropout(self.bn(functional.relu(self.conv_trans(x))))
        return normalized


class UNet(nn.Module):
    """One net of the bank.

    Levels are the attributes ``enc1``, ``dec1`` and so on, as in the published checkpoints.
    """

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        n_out = AUDIO_CHANNELS * config.n_masks
        self.input_norm = nn.BatchNorm2d(config.n_bins)
        for level, (before, after) in enumerate(pairwise((AUDIO_CHANNELS, *config.widths)), 1):
            self.add_module(f"enc{level}", EncoderLevel(before, after, config.kernel_size))
        # only there because published checkpoints have it: what the level hands on is raw
        self.encoder(config.depth).bn.requires_grad_(False)
        downwards = (*reversed(config.widths[:-1]), n_out)
        dropouts = config.dropouts + (0.0,) * (config.depth - len(config.dropouts))
        n_in = config.widths[-1]
        for level, (after, dropout) in enumerate(zip(downwards, dropouts, strict=True), 1):
            self.add_module(f"dec{level}", DecoderLevel(n_in, after, config.kernel_size, dropout))
            n_in = 2 * after
        mask_conv = nn.Conv2d(n_out, n_out, kernel_size=4, dilation=2, padding=3)
        nn.init.kaiming_uniform_(mask_conv.weight)
        _zero_bias(mask_conv)
        self.mask_layer = nn.Sequential(mask_conv, nn.Sigmoid())

    def encoder(self, level: int) -> EncoderLevel:
        """Level 1 is the one nearest to the input."""
        module = self.get_submodule(f"enc{level}")
        assert isinstance(module, EncoderLevel)
        return module

    def decoder(self, level: int) -> DecoderLevel:
        """Level 1 is the deepest one."""
        module = self.get_submodule(f"dec{level}")
        assert isinstance(module, DecoderLevel)
        return module

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Masks.

        Args:
            magnitudes: (batch, 2, ``n_bins``, frames), frames a multiple of ``2 ** depth``.

        Returns:
            (batch, 2 * n_masks, ``n_bins``, frames) in [0, 1]; channels of a mask are
            neighbours.
        """
        x = self.input_norm(magnitudes.transpose(1, 2)).transpose(1, 2)
        skips: list[Tensor] = []
        for level in range(1, self.config.depth):
            x, raw = self.encoder(level)(x)
            skips.append(raw)
        x = self.decoder(1)(self.encoder(self.config.depth).conv(x))
        for level in range(2, self.config.depth + 1):
            x = self.decoder(level)(torch.cat((skips.pop(), x), dim=1))
        masks: Tensor = self.mask_layer(x)
        return masks


def _zero_bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
