"""Networks that separate drum recordings: the nets, their training and their use.

``larsnet.separate(waveform, sample_rate)`` gives the stems of a drum recording, and
``larsnet.Separator(model)`` keeps a model for many of them. The other names
are imported when they are first used, so that ``import larsnet`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

    from larsnet.network.checkpoint import load_checkpoint, save_checkpoint
    from larsnet.network.protocol import MaskNetwork, create, register
    from larsnet.network.weights import load_weights
    from larsnet.separation.front import Separator
    from larsnet.training.config import load_config

__all__ = [
    "MaskNetwork",
    "Separator",
    "create",
    "load_checkpoint",
    "load_config",
    "load_weights",
    "register",
    "save_checkpoint",
    "separate",
]

_HOMES: Final = {
    "MaskNetwork": "larsnet.network.protocol",
    "Separator": "larsnet.separation.front",
    "create": "larsnet.network.protocol",
    "load_checkpoint": "larsnet.network.checkpoint",
    "load_config": "larsnet.training.config",
    "load_weights": "larsnet.network.weights",
    "register": "larsnet.network.protocol",
    "save_checkpoint": "larsnet.network.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'larsnet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def separate(
    waveform: ArrayLike | Tensor,
    sample_rate: int,
    *,
    model: str | None = None,
    stems: str | None = None,
    sum_to_mixture: bool = False,
    device: str = "cpu",
    weights: str | PathLike[str] | None = None,
    wiener: float | None = None,
    refine: bool = False,
) -> dict[str, Any]:
    """The stems of a drum recording, by name.

    Args:
        waveform: ([[batch,] channels,] samples), full scale 1.0; an array or a tensor.
        sample_rate: in Hz, 1 to 768 kHz.
        model, stems, sum_to_mixture, device, weights, wiener, refine: of a :class:`Separator`.

    Returns:
        float32 ([batch,] channels, samples) for each of kick, snare, toms, hihat, cymbals (or the
        ``stems`` asked for); tensors where ``waveform`` is one.

    Raises:
        stemgmd_build.errors.UserError: one line on what is wrong with the arguments.
    """
    from larsnet.separation import front

    return front.separate(
        waveform,
        sample_rate,
        model=model,
        stems=stems,
        sum_to_mixture=sum_to_mixture,
        device=device,
        weights=weights,
        wiener=wiener,
        refine=refine,
    )
