"""LarsNet: the network, its training and its use.

``larsnet.separate(waveform, sample_rate)`` gives the five stems of a drum recording. Nothing
heavy is imported until it is called.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


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
        sum_to_mixture: the stems add up to ``waveform`` (:mod:`larsnet.separation` says how).
        refine: NMFD learns from the nets' stems how this very kit sounds, and separates anew
            (:mod:`larsnet.refinement`): better on drums that the nets have not heard, slower.
        device: where the nets run, such as "cpu" or "cuda".
        weights: a checkpoint, or a folder of the original's five files; default: the packaged.

    Returns:
        float32 (channels, samples) for each of kick, snare, toms, hihat, cymbals.

    Raises:
        stemgmd_build.errors.UserError: one line on what is wrong with the arguments.
    """
    from larsnet.separation import SeparationOptions
    from larsnet.separation import separate as separate_waveform

    options = SeparationOptions(wiener, sum_to_mixture, device, refine=refine)
    path = None if weights is None else Path(weights)
    return separate_waveform(waveform, sample_rate, options=options, weights=path)
