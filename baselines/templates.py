"""Templates: what single hits sound like, as the factorizations want to know it.

Conventions: a one-shot is (channels, samples), its onset at sample 0. Its template is the mean
of the channels' magnitudes, frame by frame, scaled to sum one, so that every one-shot weighs
the same however loud it is. Template frame ``lead_frames`` is centred on the onset; the frames
before it are those whose windows already touch the hit.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from baselines.spectral import FACTORIZATION_STFT, StftConfig, mono_magnitude, stft
from stemgmd_build.taxonomy import STEM_OF_PIECE, STEMS

_SMALLEST = 1e-30
_CLUSTER_ROUNDS = 20


@dataclass(frozen=True)
class TemplateConfig:
    """How templates are learnt.

    ``n_frames`` is T, the length of a template. Each piece gets up to ``n_variants`` of them,
    means over one-shots that sound alike.
    """

    stft: StftConfig = FACTORIZATION_STFT
    n_frames: int = 40
    n_variants: int = 1

    def __post_init__(self) -> None:
        if self.n_frames < 1 or self.n_variants < 1:
            raise ValueError("n_frames and n_variants must be at least 1")

    @property
    def lead_frames(self) -> int:
        """Frames before the one on the onset whose windows reach into the hit."""
        return self.stft.n_fft // (2 * self.stft.hop_samples) - 1


@dataclass(frozen=True)
class Templates:
    """Templates (components, bins, template_frames) and the stem of each component."""

    values: Tensor
    stem_of_component: tuple[int, ...]
    piece_of_component: tuple[str, ...]
    config: TemplateConfig

    def segments(self, boundaries: Sequence[int] = ()) -> Templates:
        """Templates of one frame for NMF: the sums over runs of frames, scaled to sum one.

        Args:
            boundaries: frames at which a new run begins. Without any, each template becomes
                one mean spectrum; ``(4,)`` gives one for the attack and one for what follows.

        Returns:
            (components * runs, bins, 1), the runs of a component side by side; runs without
            energy are left out.
        """
        edges = [0, *sorted(boundaries), self.values.shape[2]]
        runs = [self.values[:, :, a:b].sum(dim=2) for a, b in itertools.pairwise(edges)]
        spectra = torch.stack(runs, dim=1)
        kept = [tuple(i) for i in (spectra.sum(dim=2) > _SMALLEST).nonzero().tolist()]
        owners = [component for component, _ in kept]
        values = torch.stack([spectra[c, r] for c, r in kept]).unsqueeze(-1)
        return Templates(
            values=_sum_to_one(values),
            stem_of_component=tuple(self.stem_of_component[c] for c in owners),
            piece_of_component=tuple(self.piece_of_component[c] for c in owners),
            config=self.config,
        )


def learn_templates(one_shots: Mapping[str, Sequence[Tensor]], config: TemplateConfig) -> Templates:
    """Templates of each piece from its one-shots.

    Args:
        one_shots: piece -> its one-shots, each (channels, samples), of any kits, velocities
            and articulations.
        config: analysis, length, number of variants.

    Returns:
        Up to ``n_variants`` components a piece, in the order of ``one_shots``.

    Raises:
        ValueError: no one-shot makes a sound.
    """
    values: list[Tensor] = []
    pieces: list[str] = []
    for piece, shots in one_shots.items():
        learnt = [template_of(shot, config) for shot in shots]
        audible = [template for template in learnt if template.sum() > 0]
        if audible:
            variants = cluster(torch.stack(audible), config.n_variants)
            values.append(variants)
            pieces += [piece] * len(variants)
    if not values:
        raise ValueError("no one-shot makes a sound")
    return Templates(
        values=torch.cat(values),
        stem_of_component=tuple(STEMS.index(STEM_OF_PIECE[piece]) for piece in pieces),
        piece_of_component=tuple(pieces),
        config=config,
    )


def template_of(one_shot: Tensor, config: TemplateConfig) -> Tensor:
    """The template of one hit.

    Args:
        one_shot: (channels, samples), onset at sample 0.
        config: analysis and length.

    Returns:
        (bins, n_frames), sum one; all zero for a silent one-shot.
    """
    analysis = replace(config.stft, pad_mode="constant", margin_frames=0)
    hop = analysis.hop_samples
    n_samples = config.n_frames * hop
    lead = config.lead_frames * hop
    # what lies beyond the last frame's window is cut, what is missing is silence
    placed = functional.pad(one_shot, (lead, 0))[..., : n_samples + analysis.n_fft]
    placed = functional.pad(placed, (0, max(0, n_samples - placed.shape[-1])))
    magnitude = mono_magnitude(stft(placed, analysis))
    return _sum_to_one(magnitude[:, : config.n_frames].unsqueeze(0))[0]


def cluster(templates: Tensor, n_clusters: int) -> Tensor:
    """Means of templates that are alike: k-means under the Kullback-Leibler divergence.

    The arithmetic mean is the centre that makes the divergence of its members smallest
    (Banerjee et al., "Clustering with Bregman divergences", JMLR 2005). The first centre is
    the mean of all, the others start from the template farthest from the centres so far: no
    chance in it.

    Args:
        templates: (n, bins, template_frames), each of sum one.
        n_clusters: how many are wanted.

    Returns:
        (at most n_clusters, bins, template_frames), each of sum one.
    """
    items = templates.flatten(1)
    centres = items.mean(dim=0, keepdim=True)
    while len(centres) < min(n_clusters, len(items)):
        distance = _divergences(items, centres).amin(dim=1)
        if distance.max() <= 1e-6:  # nothing new left
            break
        centres = _settle(items, torch.cat([centres, items[distance.argmax()][None]]))
    return centres.view(-1, *templates.shape[1:])


def activations_from_onsets(
    onsets_sec: Mapping[str, Sequence[float]],
    templates: Templates,
    *,
    n_frames: int,
    sample_rate: int,
    tolerance_frames: int = 1,
    decay_sec: float = 0.0,
) -> Tensor:
    """Where a score lets each component sound (Dittmar and Mueller 2016, section III).

    Args:
        onsets_sec: piece -> onsets of its hits in the clip, seconds.
        templates: whose components are to be placed; all variants of a piece get its onsets.
        n_frames: frames of the clip's spectrogram.
        sample_rate: Hz.
        tolerance_frames: how many frames to either side of the onset may sound too.
        decay_sec: from the onset on, ones fall off exponentially with this time constant
            (cut at -60 dB), for hits that ring longer than a template; 0 for none.

    Returns:
        (components, n_frames): one at the onsets, zero wherever nothing may sound.
    """
    config = templates.config
    frame_rate = sample_rate / config.stft.hop_samples
    n_after = max(tolerance_frames, int(decay_sec * frame_rate * 6.9))
    shape = torch.arange(-tolerance_frames, n_after + 1, dtype=torch.float32)
    gains = torch.exp(-shape.clamp_min(0) / max(decay_sec * frame_rate, 1e-6))
    gains[: 2 * tolerance_frames + 1] = 1.0
    activations = torch.zeros(len(templates.piece_of_component), n_frames)
    for component, piece in enumerate(templates.piece_of_component):
        for onset in onsets_sec.get(piece, ()):
            centre = config.stft.frame_of_sample(onset * sample_rate) - config.lead_frames
            frames = centre + shape.long()
            inside = (frames >= 0) & (frames < n_frames)
            row = activations[component]
            row[frames[inside]] = torch.maximum(row[frames[inside]], gains[inside])
    return activations


def _settle(items: Tensor, centres: Tensor) -> Tensor:
    for _ in range(_CLUSTER_ROUNDS):
        nearest = _divergences(items, centres).argmin(dim=1)
        moved = centres.clone()
        for index in set(nearest.tolist()):
            moved[index] = items[nearest == index].mean(dim=0)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def _divergences(items: Tensor, centres: Tensor) -> Tensor:
    """(n, centres): D(item | centre) of distributions, the centres a little flattened."""
    floored = centres + 1e-4 / centres.shape[1]
    entropy: Tensor = torch.special.xlogy(items, items).sum(dim=1, keepdim=True)
    return entropy - torch.mm(items, floored.log().T)


def _sum_to_one(values: Tensor) -> Tensor:
    return values / values.sum(dim=(1, 2), keepdim=True).clamp_min(_SMALLEST)
