"""LarsNet's stems refined by NMFD that is fitted to the recording at hand.

The nets know drums in general and look at a patch of seconds; a recording repeats the same few
sounds. So what the nets found tells NMFD where to begin, and NMFD learns how this very kit sounds:

1. Each stem of the nets is factorized by itself: the pieces' templates, at first those of the
   training kits (:mod:`baselines.learn`), and their activations become what is in that stem.
2. From there all pieces together are factorized to explain the mixture, the templates less and
   less tied to those of step 1; what the nets gave to a wrong stem finds a better explanation.

The stems are the mixture under Wiener masks from the models of step 2. Both steps are eqs. 5 and 6
of Dittmar and Mueller, "Reverse engineering the Amen break", IEEE/ACM TASLP 24(9), 2016
(:mod:`baselines.nmfd`), who begin with a score where this begins with the nets.

The number of iterations was chosen on GMD's validation split and on kits that are in no split;
docs/results.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from baselines import learn, nmfd
from baselines.blocks import BlockConfig, cut_blocks, faded
from baselines.factorization import FactorizationConfig
from baselines.masks import apply_masks, soft_masks
from baselines.settings import SETTINGS
from baselines.spectral import mono_magnitude, stft
from baselines.templates import Templates
from larsnet.network.bands import whole_bin_edges
from larsnet.network.devices import raise_if_out_of_memory, usable_threads
from larsnet.network.protocol import MaskNetwork
from larsnet.separation.inference import Separator
from larsnet.separation.streaming import RUN_SAMPLES
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import PIECES, STEM_OF_PIECE, STEMS

RECIPE: Final = SETTINGS["nmfd"].recipe
"""Of the templates to begin with: those of the blind NMFD on the leaderboard."""

STEM_STEPS: Final = FactorizationConfig(n_iterations=5, adaptation="free", extrapolate=True)
MIXTURE_STEPS: Final = FactorizationConfig(
    n_iterations=15, adaptation="semi", adaptation_power=1.0, extrapolate=True
)

SILENCE: Final = 0.02
"""Share of the mixture's mean level, over all pieces, that an activation has in step 2 where step 1
found none: zero would stay zero, so that a hit that the nets missed could not come back."""

MASK_EXPONENT: Final = 2.0

BLOCKS: Final = BlockConfig()
"""Long, since a kit is learnt anew in each block."""


class RefinedSeparator(Separator):
    """A :class:`Separator` whose stems are refined, block by block.

    Args:
        model, options: as a separator's; ``sum_to_mixture`` says nothing here, since the masks of
            :func:`refine` sum to one wherever there is anything.

    Raises:
        UserError: as a separator, or a model of other stems than the templates'.
    """

    def __init__(self, model: MaskNetwork, **options: Any) -> None:
        names = tuple(model.config.stems)
        if names not in (STEMS, PIECES):
            raise UserError(f"only {', '.join(STEMS)} or the nine pieces can be refined")
        super().__init__(model, **options)
        self._templates, self._bands = _starting_templates(model, self.device)

    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """As :meth:`Separator.stream`, with a block of 48 s in memory."""
        if self._runner.model.block is not None:  # masks of whole blocks come by: see `_finished`
            yield from super().stream(chunks)
            return
        passed: list[Tensor] = []

        def both() -> Iterator[Tensor]:
            """Mixture and stems of the network, (batch, 1 + stems, 2, samples)."""

            def remembered() -> Iterator[Tensor]:
                for chunk in chunks:
                    passed.append(chunk)
                    yield chunk

            for stems in super(RefinedSeparator, self).stream(remembered()):
                mixture = passed[0] if len(passed) == 1 else torch.cat(passed, dim=-1)
                n_samples = stems.shape[-1]
                passed[:] = [mixture[..., n_samples:]]
                signals = torch.cat((mixture[:, None, :, :n_samples], stems), dim=1)
                del mixture, stems  # a block is long in coming: what is not needed goes before
                yield signals
                del signals

        def refined() -> Iterator[tuple[Tensor, bool]]:
            for block, is_last in cut_blocks(both(), BLOCKS):
                yield self._refine(block), is_last

        for run in faded(refined(), BLOCKS):
            for part in torch.split(run, RUN_SAMPLES, dim=-1):
                yield part.clone()  # of its own, so that the run is not held while the next is made
            del run, part

    def _finished(self, masks: Tensor, spectrum: Tensor) -> Tensor:
        """Of a network that works by blocks: the fit of a block begins with its masks."""
        if self._runner.model.block is None:
            return super()._finished(masks, spectrum)
        rows = []
        with self._on_own_threads():
            for one, cells in zip(masks, spectrum, strict=True):
                magnitude = mono_magnitude(cells)
                parts = (_pooled(mask[0] * magnitude, self._bands) for mask in one)
                fitted = fit(_pooled(magnitude, self._bands), parts, self._templates)
                rows.append(self._merged(fitted[None, :, None])[0])
        found = torch.stack(rows)
        return found if self._bands is None else found[..., self._bands, :]

    @contextmanager
    def _on_own_threads(self) -> Iterator[None]:
        n_before = torch.get_num_threads()
        torch.set_num_threads(usable_threads(self._n_threads))
        try:
            yield
        finally:
            torch.set_num_threads(n_before)

    def _refine(self, signals: Tensor) -> Tensor:
        """(batch, 1 + stems, 2, samples) to (batch, stems, 2, samples)."""
        rows = []
        try:
            with torch.inference_mode(), self._on_own_threads():
                for row in signals.to(self.device):
                    stems = refine(row[0], row[1:], self._templates, self._bands)
                    rows.append(stems.to(signals.device))
        except (RuntimeError, MemoryError) as error:
            raise_if_out_of_memory(error, self.device, "48 s of audio")
            raise
        return rows[0][None] if len(rows) == 1 else torch.stack(rows)


def refine(
    mixture: Tensor, estimate: Tensor, templates: Templates, band_of_bin: Tensor | None = None
) -> Tensor:
    """Stems that NMFD makes of a mixture from an estimate of them.

    Args:
        mixture: (channels, samples) at 44.1 kHz, full scale 1.0.
        estimate: (stems, channels, samples).
        templates: to begin with, on the same device; in bands where ``band_of_bin`` is given.
        band_of_bin: (bins,) where the fitting is done in bands, which takes a tenth of the time.

    Returns:
        (stems, channels, samples) that add up to the mixture wherever any stem has energy.
    """
    if not bool(mixture.any()):
        return torch.zeros_like(estimate)
    analysis = templates.config.stft
    target = _pooled(mono_magnitude(stft(mixture, analysis)), band_of_bin)
    # one at a time: spectra are large
    parts = (_pooled(mono_magnitude(stft(stem, analysis)), band_of_bin) for stem in estimate)
    masks = fit(target, parts, templates)
    if band_of_bin is not None:
        masks = masks[:, band_of_bin]
    channels = [  # one at a time, from a spectrum of its own: kept or whole, it takes memory
        apply_masks(stft(channel, analysis), masks.unsqueeze(1), analysis, channel.shape[-1])
        for channel in mixture.unsqueeze(1)
    ]
    return torch.cat(channels, dim=1)


def fit(target: Tensor, parts: Iterable[Tensor], templates: Templates) -> Tensor:
    """Masks from NMFD that is fitted to a mixture, beginning with an estimate of its stems.

    Args:
        target: magnitudes of the mixture, (bins or bands, frames).
        parts: of each stem in turn, as the estimate has it, (bins or bands, frames).
        templates: to begin with.

    Returns:
        (stems, bins or bands, frames) that sum to one wherever any stem has energy.
    """
    fitted, activations, n_stems = _fit_stems(parts, templates, target.shape[-1])
    sums = fitted.sum(dim=(1, 2))
    level = target.sum() / math.prod(activations.shape)
    found = nmfd.factorize(
        target[None],
        fitted / torch.where(sums > 0, sums, 1.0)[:, None, None],
        MIXTURE_STEPS,
        activations=(activations * sums[:, None]).clamp_min(SILENCE * level),
    )
    magnitudes = nmfd.stem_magnitudes(found, templates.stem_of_component, n_stems)
    return soft_masks(magnitudes[0], MASK_EXPONENT)


def _starting_templates(
    model: MaskNetwork, device: torch.device
) -> tuple[Templates, Tensor | None]:
    """Templates for the network's stems, in the bands that it is fitted in, and those bands."""
    names = tuple(model.config.stems)
    learnt = learn.load(RECIPE).templates
    rows = tuple(
        names.index(piece if names == PIECES else STEM_OF_PIECE[piece])
        for piece in learnt.piece_of_component
    )
    bands = None
    if model.fit_bands is not None:
        edges = whole_bin_edges(model.fit_bands, learnt.config.stft.n_bins)
        of_bin = np.repeat(np.arange(model.fit_bands), np.diff(edges))
        bands = torch.from_numpy(of_bin).to(device)
    values = _pooled(learnt.values.to(device), bands)
    return replace(learnt, values=values, stem_of_component=rows), bands


def _pooled(values: Tensor, band_of_bin: Tensor | None) -> Tensor:
    """Values (components or none, bins, frames) summed over the bins of each band."""
    if band_of_bin is None:
        return values
    shape = (*values.shape[:-2], int(band_of_bin[-1]) + 1, values.shape[-1])
    return values.new_zeros(shape).index_add_(-2, band_of_bin, values)


def _fit_stems(
    parts: Iterable[Tensor], templates: Templates, n_frames: int
) -> tuple[Tensor, Tensor, int]:
    """Step 1: templates like the given ones, their activations (components, n_frames), and how
    many stems there are."""
    owners = torch.tensor(templates.stem_of_component, device=templates.values.device)
    fitted = templates.values.clone()
    activations = fitted.new_zeros(len(owners), n_frames)
    n_stems = 0
    for stem, part in enumerate(parts):
        own = (owners == stem).nonzero()[:, 0]
        if len(own) and bool(part.any()):
            found = nmfd.factorize(part[None], templates.values[own], STEM_STEPS)
            fitted[own], activations[own] = found.templates[0], found.activations[0]
        n_stems += 1
    return fitted, activations, n_stems
