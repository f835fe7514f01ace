"""The systems of the comparison that this package makes: bounds, NMF and NMFD.

Conventions are those of :mod:`baselines.system`. Files longer than a block are separated in
blocks (:mod:`baselines.blocks`), so that memory beyond the stems themselves is bounded; blocks
are faded into each other, and a factorization adapts to each block anew. A factorization sees
the mean of the channels' magnitudes and masks every channel alike; what is silent stays so.

The hyperparameters are frozen in :mod:`baselines.settings`; ``benchmarks/studies/sweep.csv`` is the
table from which they were chosen. The factories at the end are what the registry names.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from baselines import learn, nmfd, oracle
from baselines.blocks import BlockConfig, Span, iterate_blocks
from baselines.checks import (
    Score,
    checked_device,
    checked_mixture,
    checked_references,
    checked_score,
)
from baselines.masks import apply_masks, soft_masks
from baselines.oracle import Oracle
from baselines.settings import SETTINGS, Settings
from baselines.spectral import mono_magnitude, stft
from baselines.system import Audio, Input, Inputs, System, SystemInfo
from baselines.templates import Templates, activations_from_onsets
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

VERSION: Final = "1"
"""Goes up whenever the code, not its settings, may give other stems."""

RINGING: Final = ("hi_tom", "mid_tom", "low_tom", "hihat_open", "crash_left", "ride")
"""Pieces that sound for longer than a template."""

BLOCKS: Final = BlockConfig()
"""Of a factorization: long, since it adapts to each block anew."""

MASK_BLOCKS: Final = BlockConfig(1024 * 256, 1024 * 32)
"""Of a bound, whose masks look no farther than a window: short, since memory goes with them."""


@dataclass(frozen=True)
class OracleSystem:
    """A bound: the mixture or zero, which need no more than the mixture, or an ideal mask."""

    info: SystemInfo
    oracle: Oracle
    device: torch.device
    blocks: BlockConfig = MASK_BLOCKS

    def separate(self, inputs: Inputs) -> Audio:
        """See :class:`baselines.system.System`. Raises UserError for inputs that do not fit."""
        mixture = checked_mixture(inputs)
        if "references" in self.info.inputs:
            reference = checked_references(inputs, mixture)
        else:  # both bounds depend on the shape alone
            reference = np.broadcast_to(mixture, (len(STEMS), *mixture.shape))

        def separate(span: Span) -> Tensor:
            part = slice(span.start, span.stop)
            return oracle.separate(
                self.oracle,
                mixture=torch.from_numpy(mixture[:, part].copy()).to(self.device),
                reference=torch.from_numpy(reference[..., part].copy()).to(self.device),
            )

        return in_blocks(separate, mixture, self.blocks)


@dataclass(frozen=True)
class FactorizationSystem:
    """NMF or NMFD with learnt templates, blind or informed by the score."""

    info: SystemInfo
    templates: Templates
    settings: Settings
    device: torch.device
    blocks: BlockConfig = BLOCKS

    def separate(self, inputs: Inputs) -> Audio:
        """See :class:`baselines.system.System`. Raises UserError for inputs that do not fit."""
        mixture = checked_mixture(inputs)
        score = checked_score(inputs) if self.settings.uses_score else None

        def separate(span: Span) -> Tensor:
            part = torch.from_numpy(mixture[:, span.start : span.stop].copy()).to(self.device)
            shifted = score and shift_score(score, -span.start / SAMPLE_RATE)
            return factorize_block(part, self.templates, self.settings, shifted)

        return in_blocks(separate, mixture, self.blocks)


def factorize_block(
    mixture: Tensor, templates: Templates, settings: Settings, score: Score | None = None
) -> Tensor:
    """The stems of one block.

    Args:
        mixture: (channels, samples).
        templates: on the same device.
        settings: how.
        score: piece -> onsets in seconds from the block's start; they may lie before it.

    Returns:
        (stems, channels, samples).
    """
    analysis = templates.config.stft
    spectrum = stft(mixture, analysis)
    spectrogram = mono_magnitude(spectrum)[None]
    start = None
    if score is not None:
        start = start_from_score(score, templates, settings, spectrogram.shape[-1])
        start = start.to(spectrogram) * (spectrogram.sum() / start.sum().clamp_min(1.0))
    found = nmfd.factorize(spectrogram, templates.values, settings.factorization, activations=start)
    parts = nmfd.stem_magnitudes(found, templates.stem_of_component, len(STEMS))[0]
    masks = soft_masks(parts, settings.mask_exponent)
    return apply_masks(spectrum, masks.unsqueeze(1), analysis, mixture.shape[-1])


def start_from_score(
    score: Score, templates: Templates, settings: Settings, n_frames: int
) -> Tensor:
    """Where each component may sound, (components, n_frames); pieces that ring, for longer.

    What was struck before the first frame and rings on may sound from there.
    """
    ringing = {piece: onsets for piece, onsets in score.items() if piece in RINGING}
    size = {"n_frames": n_frames, "sample_rate": SAMPLE_RATE}
    struck = activations_from_onsets(score, templates, **size)
    rung = activations_from_onsets(ringing, templates, decay_sec=settings.decay_sec, **size)
    return torch.maximum(struck, rung).clamp_min(settings.elsewhere)


def shift_score(score: Score, by_sec: float) -> Score:
    """The same score with every onset moved."""
    return {piece: [onset + by_sec for onset in onsets] for piece, onsets in score.items()}


def in_blocks(separate: Callable[[Span], Tensor], mixture: Audio, config: BlockConfig) -> Audio:
    """Stems (5, channels, samples) of a file, written block by block into one array."""
    n_samples = mixture.shape[1]
    stems = np.zeros((len(STEMS), *mixture.shape), np.float32)
    if not mixture.any():  # nothing to share out, of whatever length
        return stems
    done = 0
    with torch.inference_mode():
        for run in iterate_blocks(separate, n_samples, config):
            stop = done + run.shape[-1]
            stems[..., done:stop] = run.cpu().numpy()
            done = stop
    return stems


_BOUNDS: Final[Mapping[str, tuple[str, tuple[Input, ...], str]]] = {
    "mixture": ("Mixture", ("mixture",), "the mixture itself as every stem"),
    "zero": ("Zero", ("mixture",), "silence as every stem"),
    "ideal-binary": (
        "Ideal binary mask",
        ("mixture", "references"),
        "each cell of the true stem that is louder than the rest",
    ),
    "ideal-ratio": (
        "Ideal ratio mask",
        ("mixture", "references"),
        "masks in proportion to the magnitudes of the true stems",
    ),
    "magnitude": (
        "Oracle magnitude mask",
        ("mixture", "references"),
        "true magnitudes, at most the mixture's, with its phase, under LarsNet's STFT: the "
        "ceiling of masks trained as LarsNet's are",
    ),
    "phase-sensitive": (
        "Oracle phase-sensitive mask",
        ("mixture", "references"),
        "of all masks in [0, 1] under LarsNet's STFT the one nearest to the true spectrum",
    ),
}

_FACTORIZATIONS: Final[Mapping[str, tuple[str, str]]] = {
    "nmf-fixed": ("NMF", "fixed spectra; the ablation of SAB-NMF"),
    "nmf-sab": ("SAB-NMF", "spectra that adapt late (Dittmar and Gaertner 2014)"),
    "nmfd": ("NMFD", "templates of time and frequency (Smaragdis 2004)"),
    "nmfd-score-informed": (
        "NMFD, score-informed",
        "NMFD that is told every onset (Dittmar and Mueller 2016)",
    ),
}


def describe(
    system: str, settings: Settings, templates: Templates, kits: tuple[str, ...], digest: str = ""
) -> SystemInfo:
    """What a table says of a factorization; the revision is a hash of all that decides."""
    name, summary = _FACTORIZATIONS[system]
    # what is not extrapolated keeps the revision that it had before that could be chosen
    facts = f"{settings}|{digest}|{BLOCKS}".replace(", extrapolate=False", "")
    return SystemInfo(
        id=system,
        name=name,
        inputs=("mixture", "score") if settings.uses_score else ("mixture",),
        revision=f"{VERSION}-{hashlib.sha256(facts.encode()).hexdigest()[:10]}",
        trained_on="one-shots of the training kits",
        n_parameters=templates.values.numel(),
        licence="MIT",
        summary=summary,
        kits_seen=kits,
    )


def make_factorization(system: str, device: str = "cpu") -> System:
    """NMF or NMFD with its frozen settings and the packaged templates.

    Raises UserError for a device that is not there or templates that cannot be read.
    """
    settings = SETTINGS[system]
    learnt = learn.load(settings.recipe)
    info = describe(system, settings, learnt.templates, learnt.kits, learnt.digest)
    place = checked_device(device)
    templates = replace(learnt.templates, values=learnt.templates.values.to(place))
    return FactorizationSystem(info, templates, settings, place)


def make_bound(system: str, device: str = "cpu") -> System:
    """A bound. Raises UserError for a device that is not there."""
    name, inputs, summary = _BOUNDS[system]
    info = SystemInfo(
        id=system,
        name=name,
        inputs=inputs,
        revision=VERSION,
        trained_on="nothing",
        n_parameters=0,
        licence="MIT",
        summary=summary,
    )
    (known,) = (one for one in oracle.ORACLES if one == system)
    return OracleSystem(info, known, checked_device(device))


make_mixture = functools.partial(make_bound, "mixture")
make_zero = functools.partial(make_bound, "zero")
make_ideal_binary = functools.partial(make_bound, "ideal-binary")
make_ideal_ratio = functools.partial(make_bound, "ideal-ratio")
make_magnitude = functools.partial(make_bound, "magnitude")
make_phase_sensitive = functools.partial(make_bound, "phase-sensitive")
make_nmf_fixed = functools.partial(make_factorization, "nmf-fixed")
make_nmf_sab = functools.partial(make_factorization, "nmf-sab")
make_nmfd = functools.partial(make_factorization, "nmfd")
make_nmfd_score_informed = functools.partial(make_factorization, "nmfd-score-informed")
