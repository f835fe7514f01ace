"""Where weights come from: packaged ones, a checkpoint, or the original release's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from larsnet.network.checkpoint import load_checkpoint
from larsnet.network.original import load_original
from larsnet.network.protocol import MaskNetwork
from stemgmd_build.errors import UserError
from stemgmd_build.paths import path_variable

WEIGHTS: Final = Path(__file__).parent.parent / "weights"
"""The folder of the packaged weights."""

PACKAGED_WEIGHTS: Final = WEIGHTS / "larsnet-small.safetensors"
NMFD_NET_WEIGHTS: Final = WEIGHTS / "nmfd-net.safetensors"


def default_weights(packaged: str = PACKAGED_WEIGHTS.name) -> Path:
    """A packaged file; STEMGMD_WEIGHTS names another in place of LarsNet-small's.

    Raises UserError if there is none.
    """
    named = path_variable("STEMGMD_WEIGHTS") if packaged == PACKAGED_WEIGHTS.name else None
    path = named or WEIGHTS / packaged
    if not path.is_file():
        if named:
            raise UserError(f"STEMGMD_WEIGHTS names {path}, which is no file")
        raise UserError("this installation comes without weights; name some with --weights")
    return path


def load_weights(path: Path | None = None) -> MaskNetwork:
    """The weights in a file of ours, in a folder of the original's five files, or the default ones.

    Raises:
        UserError: nothing there, or nothing that is a network.
    """
    if path is None:
        path = default_weights()
    if path.is_dir():
        return load_original(path)
    if path.suffix in (".pth", ".ckpt", ".pt"):
        raise UserError(f"{path} is one net of the original's five; name the folder of all five")
    return load_checkpoint(path)
