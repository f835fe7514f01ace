"""What the factorizations of spectrograms share: how, what comes out, and at what cost.

Sources and symbols are those of :mod:`baselines.nmfd`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Adaptation = Literal["fixed", "semi", "free", "joint"]
"""What becomes of the templates; :class:`FactorizationConfig` says what each name means."""


@dataclass(frozen=True)
class FactorizationConfig:
    """How a spectrogram is factorized.

    ``adaptation`` of the templates: ``fixed`` keeps them; ``free`` updates them, then the
    activations ([2], eqs. 5 and 6); ``joint`` updates both from one model ([4]: a quarter less
    work an iteration, some more iterations); ``semi`` is ``free``, but of the templates keeps,
    at iteration k of K, (1 - a) of the given ones, a = (k / K) ** adaptation_power ([3], where
    the power is beta). With ``extrapolate`` updates start beyond where the last one led, and are
    taken back where that raises the cost: fewer iterations to the same cost ([5]). ``floor`` is
    added to the model, in units of the spectrogram.
    """

    n_iterations: int = 30
    adaptation: Adaptation = "fixed"
    adaptation_power: float = 4.0
    extrapolate: bool = False
    floor: float = 1e-8
    track_cost: bool = False

    def __post_init__(self) -> None:
        if self.n_iterations < 0 or self.floor <= 0 or self.adaptation_power <= 0:
            raise ValueError("n_iterations must be at least 0, floor and power above 0")
        if self.adaptation not in get_args(Adaptation):
            raise ValueError(f"adaptation must be one of {get_args(Adaptation)}")


@dataclass(frozen=True)
class Factorization:
    """What a factorization found.

    ``templates`` (batch, components, bins, template_frames), ``activations`` (batch,
    components, frames), ``costs`` (n_iterations + 1, batch) if they were tracked: the cost
    before the first iteration and after each.
    """

    templates: Tensor
    activations: Tensor
    costs: Tensor | None = None


def kl_divergence(spectrogram: Tensor, model: Tensor) -> Tensor:
    """Generalized Kullback-Leibler divergence D(spectrogram | model), summed over each clip.

    Args:
        spectrogram: (batch, bins, frames), not negative.
        model: (batch, bins, frames), positive.

    Returns:
        (batch,), in float64 where the device has it.
    """
    ratio = spectrogram / model
    cells: Tensor = torch.special.xlogy(spectrogram, ratio) - spectrogram + model
    precise = torch.float32 if cells.device.type == "mps" else torch.float64
    return cells.sum(dim=(1, 2), dtype=precise)


def check_factors(spectrogram: Tensor, templates: Tensor, activations: Tensor) -> None:
    """Raise ValueError unless the arrays, all with a batch axis, fit and can be factorized."""
    n_batch, n_bins, n_frames = spectrogram.shape
    n_components = templates.shape[1]
    if templates.shape[:3] != (n_batch, n_components, n_bins) or templates.dim() != 4:
        raise ValueError(f"templates {tuple(templates.shape)} do not fit the spectrogram")
    if activations.shape != (n_batch, n_components, n_frames):
        raise ValueError(f"activations {tuple(activations.shape)} do not fit the templates")
    for name, array in (
        ("spectrogram", spectrogram),
        ("templates", templates),
        ("activations", activations),
    ):
        if array.numel() == 0 or not bool(array.isfinite().all() and (array >= 0).all()):
            raise ValueError(f"{name} must hold numbers that are finite and not negative")
