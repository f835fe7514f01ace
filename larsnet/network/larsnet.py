"""LarsNet: the bank of five U-Nets as one module.

Axes are (batch, stems, channels, bins, frames); stems in the order of the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.spectral import StftConfig
from larsnet.network.bands import Bands
from larsnet.network.unet import AUDIO_CHANNELS, LARGEST, UNet, UnetConfig
from larsnet.records import check_types, known
from stemgmd_build.taxonomy import STEMS


@dataclass(frozen=True)
class LarsnetConfig:
    """The bank: one analysis, one net a stem.

    With ``n_bands`` the nets see that many bands instead of the analysis's bins, and their
    masks are interpolated back to bins (:mod:`larsnet.network.bands`): the top levels, where the
    time goes, shrink by as much. ``input_exponent`` is the power that the magnitudes are
    raised to before the nets see them; masks always act on the plain magnitudes. With
    ``shared`` one net gives all the masks.
    """

    unet: UnetConfig = field(default_factory=UnetConfig)
    n_fft: int = 4096
    hop_samples: int = 1024
    n_bands: int | None = None
    input_exponent: float = 1.0
    shared: bool = False
    stems: tuple[str, ...] = STEMS

    def __post_init__(self) -> None:
        check_types(self)
        if not 2 <= self.n_fft <= LARGEST:
            raise ValueError(f"n_fft must be from 2 to {LARGEST}")
        if self.unet.n_bins != (self.n_bands or self.n_bins):
            raise ValueError("unet.n_bins must be n_bands, without bands n_fft / 2")
        if self.n_bands is not None and not 1 < self.n_bands <= self.n_bins:
            raise ValueError("n_bands must be between 2 and n_fft / 2")
        if self.unet.n_masks != (len(self.stems) if self.shared else 1):
            raise ValueError("unet.n_masks must be 1, in a shared net one a stem")
        if not 0 < self.input_exponent <= 1:
            raise ValueError("input_exponent must be in (0, 1]")
        # stems become names of files, and a configuration may come with a stranger's checkpoint
        if not self.stems or not all(stem.isidentifier() for stem in self.stems):
            raise ValueError("stems must be plain names")
        _ = self.stft  # its own rules

    @property
    def n_bins(self) -> int:
        """Bins that masks act on: all but the Nyquist bin, whose mask is 0."""
        return self.n_fft // 2

    @property
    def stft(self) -> StftConfig:
        """The analysis that all nets share."""
        return StftConfig(self.n_fft, self.hop_samples, pad_mode="reflect", keep_nyquist=False)


LARSNET: Final = LarsnetConfig()
"""The paper's: five nets of 9,828,680 parameters."""


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


def config_to_dict(config: LarsnetConfig | UnetConfig) -> dict[str, Any]:
    """``config`` as plain values that JSON can hold."""
    values: dict[str, Any] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            assert isinstance(value, UnetConfig)
            value = config_to_dict(value)
        values[entry.name] = list(value) if isinstance(value, tuple) else value
    return values


def config_from_dict(values: dict[str, Any]) -> LarsnetConfig:
    """The inverse of :func:`config_to_dict`. Raises ValueError or TypeError for other input."""
    given = known(values, LarsnetConfig, "model")
    unet = UnetConfig(**known(given.pop("unet"), UnetConfig, "model.unet"))
    return LarsnetConfig(unet=unet, **given)
