"""Non-negative matrix factor deconvolution (NMFD) under the generalized Kullback-Leibler cost.

Sources: [1] Smaragdis, "Non-negative matrix factor deconvolution", ICA 2004; [2] Dittmar and
Mueller, "Reverse engineering the Amen break", IEEE/ACM TASLP 24(9), 2016; [3] Dittmar and
Gaertner, "Real-time transcription and separation of drum recordings based on NMF
decomposition", DAFx 2014; [4] Marmin, Goulart and Fevotte, "Joint majorization-minimization
for nonnegative matrix factorization with the beta-divergence", Signal Processing 210, 2023; [5]
Ang and Gillis, "Accelerating nonnegative matrix factorization algorithms using extrapolation",
Neural Computation 31(2), 2019.

Symbols: ``spectrogram`` (batch, bins, frames) is denoted V in [2]; ``templates`` (components,
bins, template frames), with or without a batch axis before, is W, its last axis the T template
frames; ``activations`` (components, frames) is H; their convolution, the model, is Lambda.

Deviations: the cost that is lowered is exactly D(V | Lambda + floor), the floor acting as one
more, constant component, so the cost never rises and silence needs no special case. Both
denominators count only what the end of the clip does not cut off. Nothing of the caller's is
written to. All is float32, on the device of the spectrogram.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from baselines.factorization import (
    Factorization,
    FactorizationConfig,
    check_factors,
    kl_divergence,
)

_VALUES_PER_CHUNK = {"cpu": 1 << 20}  # a few megabytes: the model stays in the cache
_LARGEST_MOMENTUM = 0.8
_SMALLEST = 1e-30  # below lie subnormal numbers, on which processors are slow


def factorize(
    spectrogram: Tensor,
    templates: Tensor,
    config: FactorizationConfig,
    *,
    activations: Tensor | None = None,
) -> Factorization:
    """Explain each clip of a batch by templates and activations ([2], eqs. 4 to 6).

    Args:
        spectrogram: (batch, bins, frames), magnitudes. Clips do not influence each other.
        templates: (components, bins, template_frames) for all, or with a batch axis before.
            Template frame 0 sounds at the frame of the activation.
        config: iterations, adaptation, extrapolation, floor.
        activations: (components, frames) or (batch, components, frames) to start from. What
            is zero stays zero, which is how a score informs. Without, a constant at the
            level of the clip: a start without chance.

    Returns:
        The factors. Under ``semi`` each component's templates sum to one.

    Raises:
        ValueError: shapes that do not match, or values that are negative or not finite.
    """
    given = _with_batch(templates, 4, spectrogram.shape[0])
    start = _start(spectrogram, given, activations)
    check_factors(spectrogram, given, start)
    state = _State.of(spectrogram, given, start, config.floor)
    anchor = _normalize(state) if config.adaptation == "semi" else None
    costs = [state.cost()] if config.track_cost else []
    for iteration in range(1, config.n_iterations + 1):
        # the last step is plain: nothing follows that would take it back
        state.extrapolates = config.extrapolate and iteration < config.n_iterations
        if config.adaptation in ("semi", "free"):
            state.update(templates=True)
        if anchor is not None:
            weight = (iteration / config.n_iterations) ** config.adaptation_power
            state.blend(anchor, 1 - weight)
        state.update(templates=config.adaptation == "joint", activations=True)
        if config.track_cost:
            state.settle()
            costs.append(state.cost())
    return state.result(torch.stack(costs) if costs else None)


def reconstruct(templates: Tensor, activations: Tensor) -> Tensor:
    """The model: the sum over components of their templates convolved with their activations.

    Args:
        templates: (batch, components, bins, template_frames).
        activations: (batch, components, frames).

    Returns:
        (batch, bins, frames).
    """
    n_taps = templates.shape[-1]
    padded = functional.pad(activations, (n_taps - 1, 0)).transpose(1, 2).contiguous()
    return torch.bmm(_windows(padded, n_taps), _stack(templates)).transpose(1, 2)


def stem_magnitudes(
    factorization: Factorization, stem_of_component: Sequence[int], n_stems: int
) -> Tensor:
    """The model's part of each stem, the sum of the stem's components.

    Args:
        factorization: of a batch of clips.
        stem_of_component: index of the stem of each component.
        n_stems: how many stems there are; a stem without component is silent.

    Returns:
        (batch, stems, bins, frames).
    """
    templates, activations = factorization.templates, factorization.activations
    if len(stem_of_component) != templates.shape[1]:
        raise ValueError("stem_of_component must name a stem for each component")
    n_batch, _, n_bins, _ = templates.shape
    # frames before bins in memory, the layout of torch's own spectra
    parts = templates.new_zeros(n_batch, n_stems, activations.shape[2], n_bins).transpose(2, 3)
    for stem in sorted(set(stem_of_component)):
        members = [r for r, owner in enumerate(stem_of_component) if owner == stem]
        parts[:, stem] = reconstruct(templates[:, members], activations[:, members])
    return parts


@dataclass(frozen=True)
class _Step:
    """The plain step that was gone beyond, and the cost before it."""

    stacked: Tensor
    padded: Tensor
    cost_before: Tensor


@dataclass
class _State:
    """The factors in the layout that makes every update a matrix product.

    Frames come before bins. ``padded`` (batch, template_frames - 1 + frames, components) holds
    the activations after as many zeros as a template reaches back, so the row of ``windows``
    (batch, frames, template_frames * components) of a frame is a run of it in memory, oldest
    activation first; ``stacked`` (batch, template_frames * components, bins) matches it.
    Bins are padded to whole vectors.

    ``reached`` is where the last plain updates of templates and activations led; with
    ``extrapolates`` the next ones start beyond. ``n_runs``: how many of a clip's steps since one
    was taken back; ``pending``: what is needed to take the last one back.
    """

    target: Tensor
    stacked: Tensor
    padded: Tensor
    windows: Tensor
    buffer: Tensor
    n_bins: int
    n_taps: int
    floor: Tensor
    n_runs: Tensor
    reached: tuple[Tensor | None, Tensor | None] = (None, None)
    extrapolates: bool = False
    pending: _Step | None = None

    @classmethod
    def of(cls, spectrogram: Tensor, templates: Tensor, start: Tensor, floor: float) -> _State:
        n_batch, n_bins, n_frames = spectrogram.shape
        n_taps = templates.shape[-1]
        spare_bins = -n_bins % 16
        target = functional.pad(spectrogram.transpose(1, 2), (0, spare_bins))
        padded = functional.pad(start, (n_taps - 1, 0)).transpose(1, 2).contiguous()
        n_values = _VALUES_PER_CHUNK.get(spectrogram.device.type, 1 << 24)
        n_chunk = max(1, min(n_frames, n_values // (n_batch * target.shape[2])))
        return cls(
            target=target.contiguous(),
            stacked=functional.pad(_stack(templates), (0, spare_bins)).contiguous(),
            padded=padded,
            windows=_windows(padded, n_taps),
            buffer=target.new_empty(n_batch * n_chunk * target.shape[2]),
            n_bins=n_bins,
            n_taps=n_taps,
            floor=target.new_full((1, 1, 1), floor),
            n_runs=target.new_zeros(n_batch, 1, 1),
        )

    def update(self, *, templates: bool = False, activations: bool = False) -> None:
        """[2], eqs. 5 and 6, from one model, with the denominators that the end leaves.

        When both are updated, the activations' denominator holds the new templates: that is
        what lowers the joint bound of [4]. Template frames are updated all at once.
        """
        n_batch, n_stacked, n_bins = self.stacked.shape
        tall = self.stacked.new_zeros(n_batch, n_bins if templates else 0, n_stacked)
        products = torch.empty_like(self.windows) if activations else self.windows
        transposed = self.stacked.transpose(1, 2)
        costs = []
        for frames, model in self._models():
            if self.extrapolates or self.pending:
                costs.append(_cost_but_constant(self.target[:, frames], model))
            ratio = torch.div(self.target[:, frames], model, out=model)
            if templates:
                tall.baddbmm_(ratio.transpose(1, 2), self.windows[:, frames])
            if activations:
                torch.bmm(ratio, transposed, out=products[:, frames])
        cost = torch.stack(costs).sum(dim=0) if costs else None
        if cost is not None and self._take_back(cost):
            self.update(templates=templates, activations=activations)
            return
        if templates:
            denominator = self.windows.sum(dim=1).unsqueeze(-1)
            self.stacked = _multiplied(self.stacked, tall.transpose(1, 2), denominator)
        if activations:
            played = _multiplied(
                self.padded[:, self.n_taps - 1 :],
                self._overlap_add(products),
                self._activation_weights(),
            )
            self.padded = functional.pad(played, (0, 0, self.n_taps - 1, 0))
        if self.extrapolates and cost is not None:
            self._extrapolate(templates, activations, cost)
        if activations:
            self.windows = _windows(self.padded, self.n_taps)

    def settle(self) -> None:
        """Take the last step back to the plain one if it raised the cost."""
        if self.pending:
            parts = [_cost_but_constant(self.target[:, at], model) for at, model in self._models()]
            self._take_back(torch.stack(parts).sum(dim=0))

    def blend(self, anchor: Tensor, share: float) -> None:
        """Bring the templates back towards the given ones; each component's sum to one again.

        Neither where they were nor what they cost says anything any more.
        """
        self.stacked = torch.lerp(self.stacked, anchor, share)
        self.reached, self.pending = (None, self.reached[1]), None
        _normalize(self)

    def _extrapolate(self, templates: bool, activations: bool, cost: Tensor) -> None:
        """Go on the way from where the update before led to where this one does ([5], alg. 3).

        By its logarithm, so that what is positive stays so; by (n - 1) / (n + 2) of it, Nesterov's
        rule, at most `_LARGEST_MOMENTUM`.
        """
        plain = (self.stacked, self.padded)
        self.n_runs = self.n_runs + 1
        power = 1 + ((self.n_runs - 1) / (self.n_runs + 2)).clamp_max(_LARGEST_MOMENTUM)
        further = [
            new if old is None or not moved else _further(old, new, power)
            for old, new, moved in zip(self.reached, plain, (templates, activations), strict=True)
        ]
        self.reached = (
            plain[0] if templates else self.reached[0],
            plain[1] if activations else self.reached[1],
        )
        self.stacked, self.padded = further
        self.pending = _Step(*plain, cost)

    def _take_back(self, cost: Tensor) -> bool:
        """Whether the pending step raised the cost of any clip, which then has the plain one."""
        step, self.pending = self.pending, None
        if step is None:
            return False
        risen = (cost > step.cost_before).view(-1, 1, 1)
        if not bool(risen.any()):
            return False
        self.stacked = torch.where(risen, step.stacked, self.stacked)
        self.padded = torch.where(risen, step.padded, self.padded)
        self.n_runs = torch.where(risen, 0.0, self.n_runs)
        self.windows = _windows(self.padded, self.n_taps)
        return True

    def cost(self) -> Tensor:
        """D(V | Lambda + floor) of each clip."""
        target = self.target[:, :, : self.n_bins]
        parts = [
            kl_divergence(target[:, frames], model[:, :, : self.n_bins])
            for frames, model in self._models()
        ]
        return torch.stack(parts).sum(dim=0)

    def result(self, costs: Tensor | None) -> Factorization:
        templates = self.by_tap()[:, :, :, : self.n_bins]
        return Factorization(
            templates=templates.permute(0, 2, 3, 1).flip(3).contiguous(),
            activations=self.padded[:, self.n_taps - 1 :].transpose(1, 2).contiguous(),
            costs=costs,
        )

    def by_tap(self) -> Tensor:
        """The templates as (batch, template_frames, components, bins), last frame first."""
        n_batch, _, n_bins = self.stacked.shape
        return self.stacked.view(n_batch, self.n_taps, -1, n_bins)

    def _models(self) -> Iterator[tuple[slice, Tensor]]:
        """The model, a chunk of frames at a time, in one buffer that the next chunk reuses."""
        n_batch, n_frames, n_bins = self.target.shape
        n_chunk = self.buffer.numel() // (n_batch * n_bins)
        for first in range(0, n_frames, n_chunk):
            frames = slice(first, min(first + n_chunk, n_frames))
            n_values = n_batch * (frames.stop - first) * n_bins
            model = self.buffer[:n_values].view(n_batch, -1, n_bins)
            # the product is added to the floor: cheaper than the floor to the product
            torch.baddbmm(self.floor, self.windows[:, frames], self.stacked, out=model)
            yield frames, model

    def _overlap_add(self, products: Tensor) -> Tensor:
        """Bring each window's share back to the frame whose activation it belongs to."""
        n_frames, n_components = products.shape[1], self.padded.shape[2]
        total = torch.zeros_like(self.padded)
        for tap in range(self.n_taps):
            share = products[:, :, tap * n_components : (tap + 1) * n_components]
            total[:, tap : tap + n_frames] += share
        return total[:, self.n_taps - 1 :]

    def _activation_weights(self) -> Tensor:
        """Sum of what is left of each template before the end: (batch, frames, components)."""
        n_frames = self.target.shape[1]
        sums = self.by_tap().sum(dim=3).flip(1).cumsum(dim=1)
        weights = sums[:, -1:].repeat(1, n_frames, 1)
        n_cut = min(self.n_taps, n_frames)
        weights[:, n_frames - n_cut :] = sums[:, :n_cut].flip(1)
        return weights


def _multiplied(factor: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    """factor * numerator / denominator; a factor without influence stays."""
    ratio = torch.where(denominator > 0, numerator / denominator.clamp_min(_SMALLEST), 1.0)
    return torch.threshold_(ratio.mul_(factor), _SMALLEST, 0.0)


def _further(old: Tensor, new: Tensor, exponent: Tensor) -> Tensor:
    """old * (new / old) ** exponent; what is zero stays zero."""
    ratio = new / old.clamp_min(_SMALLEST)
    return torch.threshold_(ratio.pow_(exponent).mul_(old), _SMALLEST, 0.0)


def _cost_but_constant(target: Tensor, model: Tensor) -> Tensor:
    """D(target | model) of each clip but for what the target alone decides."""
    cells = torch.log(model).mul_(target).neg_().add_(model)
    return cells.sum(dim=2).sum(dim=1, dtype=torch.float64)


def _normalize(state: _State) -> Tensor:
    """Let each component's templates sum to one, the activations taking up the scale."""
    sums = state.by_tap().sum(dim=(1, 3))
    sums = torch.where(sums > 0, sums, 1.0)
    state.by_tap().div_(sums[:, None, :, None])
    state.padded = state.padded * sums[:, None, :]
    if state.reached[1] is not None:  # on the same scale
        state.reached = (state.reached[0], state.reached[1] * sums[:, None, :])
    state.windows = _windows(state.padded, state.n_taps)
    return state.stacked.clone()


def _windows(padded: Tensor, n_taps: int) -> Tensor:
    n_components = padded.shape[2]
    overlapping: Tensor = padded.flatten(1).unfold(1, n_taps * n_components, n_components)
    return overlapping.contiguous()


def _stack(templates: Tensor) -> Tensor:
    return templates.flip(3).permute(0, 3, 1, 2).flatten(1, 2)


def _with_batch(array: Tensor, n_dims: int, n_batch: int) -> Tensor:
    return array.expand(n_batch, *array.shape) if array.dim() == n_dims - 1 else array


def _start(spectrogram: Tensor, templates: Tensor, activations: Tensor | None) -> Tensor:
    if activations is not None:
        return _with_batch(activations, 3, spectrogram.shape[0])
    n_frames = spectrogram.shape[2]
    weight = templates.sum(dim=(1, 2, 3)).clamp_min(_SMALLEST) * n_frames
    level = spectrogram.sum(dim=(1, 2)) / weight
    return level[:, None, None].expand(-1, templates.shape[1], n_frames)
