"""Short-time Fourier transforms: every spectrogram of the baselines is made and unmade here.

Conventions: waveforms are (..., samples) floats with full scale 1.0, spectra (..., bins,
frames) complex with torch's unnormalized transform and a periodic Hann window. Frames are
centred: frame ``m`` of a configuration without margin is centred on sample ``m *
hop_samples``. The signal is first zero-padded to a whole number of hops, so signals of any
length work, the empty one included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class StftConfig:
    """How a waveform becomes a spectrogram.

    ``margin_frames`` hops of silence are put before and after the signal, so that a template
    that begins before its onset can be placed at the very first sample. ``pad_mode`` is what
    the half windows over the ends see. Without ``keep_nyquist`` the highest bin is dropped
    and comes back as zero.
    """

    n_fft: int = 2048
    hop_samples: int = 512
    pad_mode: Literal["constant", "reflect"] = "constant"
    margin_frames: int = 0
    keep_nyquist: bool = True

    def __post_init__(self) -> None:
        if self.n_fft % 2 or self.hop_samples < 1 or self.n_fft % self.hop_samples:
            raise ValueError("n_fft must be even and a multiple of hop_samples")
        if self.hop_samples * 2 > self.n_fft or self.margin_frames < 0:
            raise ValueError("hop_samples must be at most n_fft / 2, margin_frames at least 0")

    @property
    def n_bins(self) -> int:
        """Number of frequency bins of a spectrum."""
        return self.n_fft // 2 + int(self.keep_nyquist)

    def n_frames(self, n_samples: int) -> int:
        """Number of frames that a signal of ``n_samples`` has."""
        return self._n_padded(n_samples) // self.hop_samples + 1

    def frame_of_sample(self, sample: float) -> int:
        """Index of the frame whose centre is nearest to ``sample``."""
        return int(sample / self.hop_samples + 0.5) + self.margin_frames

    def _n_padded(self, n_samples: int) -> int:
        n_hops = max(1, -(-n_samples // self.hop_samples)) + 2 * self.margin_frames
        if self.pad_mode == "reflect":  # there must be something to reflect
            n_hops = max(n_hops, self.n_fft // self.hop_samples)
        return n_hops * self.hop_samples


LARSNET_STFT = StftConfig(n_fft=4096, hop_samples=1024, pad_mode="reflect", keep_nyquist=False)
"""LarsNet's analysis (arXiv 2312.09663, section 4): bins 0..2047, the Nyquist bin's mask is 0."""

FACTORIZATION_STFT = StftConfig(n_fft=2048, hop_samples=512, margin_frames=2)
"""The usual analysis of the factorization baselines, 11.6 ms a hop at 44.1 kHz."""


def stft(waveform: Tensor, config: StftConfig) -> Tensor:
    """Spectrum of ``waveform``.

    Args:
        waveform: (..., samples) float.
        config: the analysis.

    Returns:
        (..., bins, frames) complex, ``config.n_bins`` by ``config.n_frames(n_samples)``.
    """
    n_samples = waveform.shape[-1]
    before = config.margin_frames * config.hop_samples
    after = config._n_padded(n_samples) - n_samples - before
    flat = waveform.reshape(math.prod(waveform.shape[:-1]), n_samples)
    flat = functional.pad(flat, (before, after))
    spectrum = torch.stft(
        flat,
        config.n_fft,
        config.hop_samples,
        window=_window(config, flat),
        center=True,
        pad_mode=config.pad_mode,
        return_complex=True,
    )
    kept = spectrum[:, : config.n_bins]
    return kept.reshape(*waveform.shape[:-1], *kept.shape[1:])


def istft(spectrum: Tensor, config: StftConfig, n_samples: int) -> Tensor:
    """The waveform whose spectrum is nearest to ``spectrum``; inverts :func:`stft`.

    Args:
        spectrum: (..., bins, frames) complex.
        config: the analysis that ``spectrum`` has.
        n_samples: length of the waveform.

    Returns:
        (..., n_samples) float.
    """
    flat = spectrum.reshape(-1, *spectrum.shape[-2:])
    if not config.keep_nyquist:
        # bins stay neighbours in memory, as :func:`stft` leaves them: torch.istft wants them so
        flat = functional.pad(flat.mT, (0, 1)).mT
    waveform = torch.istft(
        flat,
        config.n_fft,
        config.hop_samples,
        window=_window(config, flat.real),
        center=True,
        length=config._n_padded(n_samples),
    )
    before = config.margin_frames * config.hop_samples
    return waveform[:, before : before + n_samples].reshape(*spectrum.shape[:-2], n_samples)


def mono_magnitude(spectrum: Tensor) -> Tensor:
    """What the factorizations see of a stereo spectrum.

    The mean of the channels' magnitudes, not the magnitude of their mean: parts in opposite
    phase do not cancel.

    Args:
        spectrum: (..., channels, bins, frames) complex.

    Returns:
        (..., bins, frames) float.
    """
    return spectrum.abs().mean(dim=-3)


def _window(config: StftConfig, like: Tensor) -> Tensor:
    return torch.hann_window(config.n_fft, periodic=True, dtype=like.dtype, device=like.device)
