"""LarsNet: the bank of five U-Nets as one module.

Axes are (batch, stems, channels, bins, frames); stems in the order of the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from baselines.spectral import StftConfig, stft
from larsnet.network.bands import Bands
from larsnet.network.fused import FusedUNet
from larsnet.network.protocol import Batch, MaskNetwork, Threaded
from larsnet.network.unet import AUDIO_CHANNELS, LARGEST, UNet, UnetConfig
from larsnet.records import check_types
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
    def window_frames(self) -> int:
        """What separation shows the nets at a time: 11.9 s in the paper."""
        return self.unet.n_frames

    @property
    def frames_multiple(self) -> int:
        """Each level halves the frames."""
        return 1 << self.unet.depth

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


class LarsNet(MaskNetwork):
    """Magnitudes of a mixture in, a mask for every stem out.

    ``nets`` holds a :class:`UNet` for each stem under the stem's name, or one under "shared".
    """

    name = "larsnet"
    settings = LarsnetConfig
    config: LarsnetConfig

    def __init__(self, config: LarsnetConfig = LARSNET) -> None:
        super().__init__()
        self.config = config
        names = ("shared",) if config.shared else config.stems
        self.nets = nn.ModuleDict({name: UNet(config.unet) for name in names})
        self.bands = Bands(config.n_bins, config.n_bands) if config.n_bands else None

    @property
    def summary(self) -> str:
        """Whether stems share a net, and what the nets see."""
        config = self.config
        nets = "one U-Net with a mask a stem" if config.shared else "a U-Net a stem"
        cells = f"{config.n_bands} bands" if config.n_bands else f"{config.n_bins} bins"
        return f"{nets}, on {cells}"

    def net(self, name: str) -> UNet:
        """The net of a stem, or "shared"."""
        module = self.nets[name]
        assert isinstance(module, UNet)
        return module

    def net_input(self, magnitudes: Tensor) -> Tensor:
        """What every net sees of magnitudes (batch, 2, bins, frames): bands and compression."""
        return self._compressed(self._pooled(magnitudes))

    def stem_masks(self, net_output: Tensor) -> Tensor:
        """A net's output as (batch, masks, 2, bins, frames): channels apart, bands to bins."""
        masks = _by_channel(net_output)
        return masks if self.bands is None else self.bands.expand(masks)

    def forward(self, seen: Tensor, stems: Sequence[str] | None = None) -> Tensor:
        """Masks of some stems, or all of them.

        Args:
            seen: magnitudes (batch, 2, ``n_bins``, frames), of the STFT ``config.stft``; frames a
                multiple of ``2 ** depth``.
            stems: of which stems; the other nets do not run.

        Returns:
            (batch, stems, 2, ``n_bins``, frames) in [0, 1]; a stem's magnitudes are its mask
            times the mixture's.
        """
        wanted = self.config.stems if stems is None else stems
        cells = self.net_input(seen)
        if self.config.shared:
            rows = [self.config.stems.index(stem) for stem in wanted]
            return self.stem_masks(self.net("shared")(cells))[:, rows]
        return torch.cat([self.stem_masks(self.net(stem)(cells)) for stem in wanted], dim=1)

    def on_threads(self) -> Threaded:
        """Nets that are rearranged (:mod:`larsnet.network.fused`), one a thread.

        That scales better than threads inside of every convolution.
        """

        def masks(net: FusedUNet, cells: Tensor, rooms: dict[Any, Any]) -> Tensor:
            return self.stem_masks(net(cells, rooms))

        nets = [partial(masks, FusedUNet(self.net(name))) for name in self.nets]
        rows = [slice(None)] if self.config.shared else [slice(i, i + 1) for i in range(len(nets))]
        return Threaded(self.net_input, list(zip(rows, nets, strict=True)))

    def examples(self, stems: Tensor) -> Batch:
        """Magnitudes of stems (batch, stems, 2, samples) and of their sum, on the nets' cells.

        Cells are bins, or bands where the nets see bands.
        """
        if stems.device.type != "cpu":
            parts = stft(stems, self.config.stft)
            magnitudes = torch.cat((parts, parts.sum(dim=1, keepdim=True)), dim=1)
            magnitudes = self._pooled(_magnitudes(magnitudes))
            return Batch(magnitudes[:, -1], magnitudes[:, :-1])
        n_frames = stems.shape[-1] // self.config.hop_samples + 1
        targets = stems.new_zeros(*stems.shape[:-1], self.config.unet.n_bins, n_frames)
        mixtures = []
        for example, target in zip(stems, targets, strict=True):  # what one needs fits into a cache
            sounding = example.flatten(1).any(dim=1)
            sounding[0] |= ~sounding.any()  # silence is analysed too
            parts = stft(example[sounding], self.config.stft)
            magnitudes = torch.cat((parts, parts.sum(dim=0, keepdim=True)))
            magnitudes = self._pooled(_magnitudes(magnitudes))
            target[sounding] = magnitudes[:-1]
            mixtures.append(magnitudes[-1])
        return Batch(torch.stack(mixtures), targets)

    def losses(self, batch: Batch) -> Tensor:
        """L1 of each stem's magnitudes, (stems,), as a mean over the analysis's bins.

        Bands count by the bins that they stand for: what is compared are their means.
        """
        seen = self._compressed(batch.mixture).contiguous(memory_format=torch.channels_last)
        masks = torch.cat([_by_channel(self.net(name)(seen)) for name in self.nets], dim=1)
        with torch.autocast(seen.device.type, enabled=False):  # half precision is for the nets
            return self.distances(masks.float(), batch)

    def distances(self, masks: Tensor, batch: Batch) -> Tensor:
        """The loss of masks (batch, stems, 2, cells, frames), (stems,)."""
        errors = (masks * batch.mixture.unsqueeze(1) - batch.stems).abs().mean(dim=(0, 2, 4))
        if self.bands is None:
            return errors.mean(dim=-1)
        return errors @ self.bands.widths / self.config.n_bins

    def compiled(self) -> Iterable[nn.Module]:
        """The nets are alike: what is compiled for one serves all."""
        return self.nets.values()

    def only(self, stem: str) -> nn.Module:
        """One stem's net, with bands and compression."""
        return _OneNet(self, stem)

    def _pooled(self, magnitudes: Tensor) -> Tensor:
        return magnitudes if self.bands is None else self.bands.pool(magnitudes)

    def _compressed(self, magnitudes: Tensor) -> Tensor:
        exponent = self.config.input_exponent
        return magnitudes if exponent == 1 else magnitudes.pow(exponent)


class _OneNet(nn.Module):
    def __init__(self, model: LarsNet, stem: str) -> None:
        super().__init__()
        self.model, self.stem = deepcopy(model), stem
        for name in set(self.model.nets) - {stem, "shared"}:
            del self.model.nets[name]

    def forward(self, magnitudes: Tensor) -> Tensor:
        masks: Tensor = self.model(magnitudes, (self.stem,))
        return masks.flatten(1, 2)


def _by_channel(net_output: Tensor) -> Tensor:
    """(batch, masks, 2, cells, frames) of (batch, 2 masks, cells, frames)."""
    n_batch, _, *cells = net_output.shape
    return net_output.reshape(n_batch, -1, AUDIO_CHANNELS, *cells)


def _magnitudes(cells: Tensor) -> Tensor:
    # abs() guards against overflow, which takes longer than the FFT
    return torch.addcmul(cells.real.square(), cells.imag, cells.imag).sqrt_()
