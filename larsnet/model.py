"""LarsNet: the bank of five U-Nets as one module.

Axes are (batch, stems, channels, bins, frames); stems in the order of the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from larsnet.bands import Bands
from larsnet.config import AUDIO_CHANNELS, LARSNET, LarsnetConfig
from larsnet.unet import UNet

_WIENER_FLOOR = 1e-7


class LarsNet(nn.Module):
    """Magnitudes of a mixture in, a mask for every stem out.

    ``nets`` holds a :class:`UNet` for each stem under the stem's name, or one under "shared".
    """

    def __init__(self, config: LarsnetConfig = LARSNET) -> None:
        super().__init__()
        self.config = config
        names = ("shared",) if config.shared else config.stems
        self.nets = nn.ModuleDict({name: UNet(config.unet) for name in names})
        self.bands = Bands(config.n_bins, config.n_bands) if config.n_bands else None

    def net(self, name: str) -> UNet:
        """The net of a stem, or "shared"."""
        module = self.nets[name]
        assert isinstance(module, UNet)
        return module

    def net_input(self, magnitudes: Tensor) -> Tensor:
        """What every net sees of magnitudes (batch, 2, bins, frames): bands and compression."""
        if self.bands is not None:
            magnitudes = self.bands.pool(magnitudes)
        if self.config.input_exponent != 1:
            magnitudes = magnitudes.pow(self.config.input_exponent)
        return magnitudes

    def stem_masks(self, net_output: Tensor) -> Tensor:
        """A net's output as (batch, masks, 2, bins, frames): channels apart, bands to bins."""
        n_batch, _, *cells = net_output.shape
        masks = net_output.reshape(n_batch, -1, AUDIO_CHANNELS, *cells)
        return masks if self.bands is None else self.bands.expand(masks)

    def forward(self, magnitudes: Tensor, stems: Sequence[str] | None = None) -> Tensor:
        """Masks of some stems, or all of them.

        Args:
            magnitudes: (batch, 2, ``n_bins``, frames), of the STFT ``config.stft``; frames a
                multiple of ``2 ** depth``.
            stems: of which stems; the other nets do not run.

        Returns:
            (batch, stems, 2, ``n_bins``, frames) in [0, 1]; a stem's magnitudes are its mask
            times ``magnitudes``.
        """
        wanted = self.config.stems if stems is None else stems
        seen = self.net_input(magnitudes)
        if self.config.shared:
            rows = [self.config.stems.index(stem) for stem in wanted]
            return self.stem_masks(self.net("shared")(seen))[:, rows]
        return torch.cat([self.stem_masks(self.net(stem)(seen)) for stem in wanted], dim=1)


def flops_of_nets(config: LarsnetConfig, n_frames: int) -> int:
    """Floating-point operations of all nets on one example of ``n_frames`` frames.

    Additions and multiplications of convolutions, as torch counts them; nothing is computed.
    """
    with torch.device("meta"):
        nets = LarsNet(config).nets
        magnitudes = torch.zeros(1, AUDIO_CHANNELS, config.unet.n_bins, n_frames)
    with FlopCounterMode(display=False) as counter:
        for net in nets.values():
            net(magnitudes)
    return int(counter.get_total_flops())


def wiener_masks(masks: Tensor, magnitudes: Tensor, alpha: float) -> Tensor:
    """The alpha-Wiener filter: stems share the mixture (arXiv 2312.09663, section 4).

    Args:
        masks: (..., stems, channels, bins, frames).
        magnitudes: (..., channels, bins, frames) of the mixture.
        alpha: exponent, above 0.

    Returns:
        Masks of the same shape that sum to at most one over the stems.
    """
    # Divided by the mixture's power throughout: masks are at most one, so no exponent overflows.
    powers = masks.pow(alpha)
    floor = _WIENER_FLOOR / magnitudes.unsqueeze(-4).pow(alpha)
    total = powers.sum(dim=-4, keepdim=True).add_(floor)
    return powers.div_(total.clamp_min_(torch.finfo(masks.dtype).tiny))


def sharing_masks(masks: Tensor) -> Tensor:
    """Masks scaled to sum to one over the stems; equal where none claims anything.

    Args:
        masks: (..., stems, channels, bins, frames), not negative.
    """
    smallest = torch.finfo(masks.dtype).tiny
    total = masks.sum(dim=-4, keepdim=True)
    return torch.where(total > smallest, masks / total.clamp_min(smallest), 1 / masks.shape[-4])
