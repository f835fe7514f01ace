"""The models of `stemgmd separate`: systems of the leaderboard that need the mixture alone.

Nothing heavy is imported here: a listing must answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stemgmd_build.errors import UserError


@dataclass(frozen=True)
class Model:
    """A model as listings tell it.

    Attributes:
        name: as tables show it.
        summary: in a few words.
        factory: "module:function" of the leaderboard's system, called with the torch device.
        weights: packaged file of a network; empty for a factorization.
        wiener: exponent of the Wiener filter after the network; None for none.
        refine: whether NMFD is fitted on top (:mod:`larsnet.separation.refinement`).
    """

    name: str
    summary: str
    factory: str
    weights: str = ""
    wiener: float | None = None
    refine: bool = False


_SMALL: Final = "larsnet-small.safetensors"

MODELS: Final[dict[str, Model]] = {
    "nmf-fixed": Model("NMF", "NMF with fixed spectra", "baselines.systems:make_nmf_fixed"),
    "nmf-sab": Model(
        "SAB-NMF", "NMF with spectra that adapt late", "baselines.systems:make_nmf_sab"
    ),
    "nmfd": Model("NMFD", "NMFD, templates in time and frequency", "baselines.systems:make_nmfd"),
    "larsnet-small": Model(
        "LarsNet-small",
        "the packaged weights, masks as they are",
        "larsnet.separation.system:make_larsnet_small",
        weights=_SMALL,
    ),
    "larsnet-small-wiener": Model(
        "LarsNet-small, Wiener",
        "the packaged weights with the alpha-Wiener filter",
        "larsnet.separation.system:make_larsnet_small_wiener",
        weights=_SMALL,
        wiener=1.0,  # of the paper's own comparison (arXiv 2312.09663, section 5)
    ),
    "larsnet-small-nmfd": Model(
        "LarsNet-small + NMFD",
        "the packaged weights, refined by NMFD",
        "larsnet.separation.system:make_larsnet_small_nmfd",
        weights=_SMALL,
        wiener=1.0,
        refine=True,
    ),
}
"""Id on the leaderboard -> model."""

NMFD_NET: Final[dict[str, Model]] = {
    "nmfd-net": Model(
        "NMFD-net",
        "a network that is led by NMFD",
        "larsnet.separation.system:make_nmfd_net",
        weights="nmfd-net.safetensors",
    ),
    "nmfd-net-fitted": Model(
        "NMFD-net, fitted",
        "NMFD-net, with NMFD fitted to its stems",
        "larsnet.separation.system:make_nmfd_net_fitted",
        weights="nmfd-net.safetensors",
        refine=True,
    ),
}
"""They join :data:`MODELS` when their weights are packaged."""

DEFAULT_MODEL: Final = "larsnet-small-nmfd"
"""What separates where no model is named: the best of :data:`MODELS` on unseen kits."""


def find_model(model_id: str) -> Model:
    """The model of an id. Raises UserError where there is none."""
    if model_id not in MODELS:
        raise UserError(f"no model {model_id!r}; there are {', '.join(MODELS)}")
    return MODELS[model_id]
