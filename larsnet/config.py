"""What a LarsNet looks like: sizes of a U-Net, and of the bank of them.

``LARSNET`` is the paper's (arXiv 2312.09663, section 4), ``LARSNET_SMALL`` one that two cores
can train. Configurations are plain frozen records: they travel as JSON inside a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final

from baselines.spectral import StftConfig
from larsnet.records import check_types, known
from stemgmd_build.taxonomy import STEMS

AUDIO_CHANNELS: Final = 2
"""Every net sees both channels of a stereo mixture."""

_LARGEST: Final = 2**16


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
        if not self.widths or not all(isinstance(n, int) and 1 <= n <= _LARGEST for n in sizes):
            raise ValueError(f"sizes must be whole numbers from 1 to {_LARGEST}")
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


@dataclass(frozen=True)
class LarsnetConfig:
    """The bank: one analysis, one net a stem.

    With ``n_bands`` the nets see that many bands instead of the analysis's bins, and their
    masks are interpolated back to bins (:mod:`larsnet.bands`): the top levels, where the
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
        if not 2 <= self.n_fft <= _LARGEST:
            raise ValueError(f"n_fft must be from 2 to {_LARGEST}")
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

LARSNET_SMALL: Final = LarsnetConfig(
    unet=UnetConfig(n_bins=256, widths=(12, 24, 32, 48, 64), dropouts=(0.1, 0.1)),
    n_bands=256,
    input_exponent=0.5,
)
"""Five nets of 351,272 parameters on 256 bands."""


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
