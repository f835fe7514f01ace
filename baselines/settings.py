"""The hyperparameters of the factorization systems, frozen.

They were chosen by ``stemgmd study sweep`` on GMD's validation split, with training
kits only; every setting that was tried, and its score, stands in ``benchmarks/studies/sweep.csv``.
Change them there first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from baselines.factorization import Adaptation, FactorizationConfig
from baselines.spectral import StftConfig
from baselines.templates import TemplateConfig
from stemgmd_build.taxonomy import SAMPLE_RATE


@dataclass(frozen=True)
class Recipe:
    """Which templates a system wants.

    Each piece has up to ``n_variants`` templates of ``template_sec`` seconds. Without
    ``attack_frames`` they stay as long as they are, for NMFD; with it they are summed to
    spectra, for NMF: one of the first so many frames and one of the rest, or with 0 a single one.
    """

    n_fft: int = 2048
    template_sec: float = 0.46
    n_variants: int = 1
    attack_frames: int | None = None

    @property
    def config(self) -> TemplateConfig:
        """Analysis with hops of a quarter window, length in frames."""
        hop = self.n_fft // 4
        return TemplateConfig(
            stft=StftConfig(n_fft=self.n_fft, hop_samples=hop, margin_frames=2),
            n_frames=max(1, round(self.template_sec * SAMPLE_RATE / hop)),
            n_variants=self.n_variants,
        )

    @property
    def name(self) -> str:
        """A name for the templates, from which they can be told apart."""
        kind = "long" if self.attack_frames is None else f"attack{self.attack_frames}"
        return f"{kind}-{self.n_fft}-{self.template_sec:g}s-{self.n_variants}"


@dataclass(frozen=True)
class Settings:
    """All that decides what a factorization system makes of a mixture.

    With a score (``uses_score``), activations may sound from a frame before to a frame after
    each onset and, for pieces that ring, fall off from there with the time constant
    ``decay_sec``; anywhere else they start at ``elsewhere`` times that.
    """

    recipe: Recipe
    n_iterations: int
    adaptation: Adaptation
    adaptation_power: float = 4.0
    mask_exponent: float = 2.0
    uses_score: bool = False
    decay_sec: float = 0.0
    elsewhere: float = 0.0
    extrapolate: bool = False

    @property
    def factorization(self) -> FactorizationConfig:
        """Iterations and adaptation."""
        return FactorizationConfig(
            n_iterations=self.n_iterations,
            adaptation=self.adaptation,
            adaptation_power=self.adaptation_power,
            extrapolate=self.extrapolate,
        )


_SPECTRA: Final = Recipe(n_fft=4096, template_sec=0.93, attack_frames=0)

SETTINGS: Final = {
    "nmf-fixed": Settings(_SPECTRA, n_iterations=50, adaptation="fixed"),
    "nmf-sab": Settings(
        _SPECTRA, n_iterations=50, adaptation="semi", adaptation_power=16.0, mask_exponent=1.5
    ),
    "nmfd": Settings(
        Recipe(n_fft=2048, template_sec=0.93), n_iterations=15, adaptation="semi", extrapolate=True
    ),
    "nmfd-score-informed": Settings(
        Recipe(n_fft=2048, template_sec=0.46),
        n_iterations=15,
        adaptation="free",
        uses_score=True,
        decay_sec=0.3,
    ),
}
"""System -> its settings. In the sweep they reach 5.63, 5.87, 10.20 and 13.16 dB (pooled nSDR).

NMFD's 15 extrapolated iterations do what took 30 to 60 plain ones: those reach 9.79 dB at 4.3 and
10.39 dB at 2.3 x real time on one core, these run at 6.7.
"""
