"""Networks that separate drum recordings: the nets, their training and their use.

``larsnet.separate(waveform, sample_rate)`` gives the stems of a drum recording. The other names
are imported when they are first used, so that ``import larsnet`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from larsnet.network.checkpoint import load_checkpoint, save_checkpoint
    from larsnet.network.protocol import MaskNetwork, create, register
    from larsnet.network.weights import load_weights
    from larsnet.separation.inference import Separator
    from larsnet.separation.waveforms import SeparationOptions
    from larsnet.training.config import load_config

__all__ = [
    "MaskNetwork",
    "SeparationOptions",
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
    "SeparationOptions": "larsnet.separation.waveforms",
    "Separator": "larsnet.separation.inference",
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
    waveform: ArrayLike,
    sample_rate: int,
    *,
    wiener: float | None = None,
    sum_to_mixture: bool = False,
    refine: bool = False,
    device: str = "cpu",
    weights: str | PathLike[str] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The five stems of a drum recording, by name.

    Args:
        waveform: ([channels,] samples), full scale 1.0; an array or a tensor.
        sample_rate: in Hz, 1 to 768 kHz.
        wiener: exponent alpha of the Wiener filter: less crosstalk, more pumping. None: off.
        sum_to_mixture: the stems add up to ``waveform``.
        refine: NMFD learns from the nets' stems how this very kit sounds, and separates anew:
            better on drums that the nets were not trained on, slower.
        device: where the nets run, such as "cpu" or "cuda".
        weights: a checkpoint, or a folder of the original's five files; default: the packaged.

    Returns:
        float32 (channels, samples) for each of kick, snare, toms, hihat, cymbals.

    Raises:
        stemgmd_build.errors.UserError: one line on what is wrong with the arguments.
    """
    from larsnet.separation.waveforms import SeparationOptions
    from larsnet.separation.waveforms import separate as separate_waveform

    options = SeparationOptions(wiener, sum_to_mixture, device, refine=refine)
    path = None if weights is None else Path(weights)
    return separate_waveform(waveform, sample_rate, options=options, weights=path)
