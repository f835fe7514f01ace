"""Non-negative matrix factorization: NMFD whose templates are one frame long.

Sources: [1] Lee and Seung, "Algorithms for non-negative matrix factorization", NIPS 2000;
[3] Dittmar and Gaertner, "Real-time transcription and separation of drum recordings based on
NMF decomposition", DAFx 2014, for the semi-adaptive bases (SAB-NMF).

Symbols: ``spectrogram`` is denoted X in [3], ``templates`` (components, bins) is B, its given
value B_P, ``activations`` is G, ``adaptation_power`` is beta. Deviation from [3]: when the
templates are brought back to sum one, the activations take up the scale, so that the model
stays what it was.
"""

from __future__ import annotations

from torch import Tensor

from baselines import nmfd
from baselines.factorization import Factorization, FactorizationConfig


def factorize(
    spectrogram: Tensor,
    templates: Tensor,
    config: FactorizationConfig,
    *,
    activations: Tensor | None = None,
) -> Factorization:
    """Explain each frame of each clip as a weighted sum of spectra.

    Args:
        spectrogram: (batch, bins, frames), magnitudes.
        templates: (components, bins) or (batch, components, bins).
        config: ``fixed`` for the activations alone: convex, so the start does not matter;
            ``semi`` for SAB-NMF, in [3] with 25 iterations and a power of 4. Those of the systems
            are in :mod:`baselines.settings`.
        activations: as in :func:`baselines.nmfd.factorize`.

    Returns:
        The factors, with templates (batch, components, bins, 1), so that
        :func:`baselines.nmfd.stem_magnitudes` serves both.

    Raises:
        ValueError: shapes that do not match, or values that are negative or not finite.
    """
    return nmfd.factorize(spectrogram, templates.unsqueeze(-1), config, activations=activations)
