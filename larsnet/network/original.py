"""The published checkpoints: five files of torch, one a stem (arXiv 2312.09663).

Each is a dict with ``model_state_dict`` beside the optimizer's state. They are read with
``weights_only``, so that a file which holds code is refused and nothing of it runs. The release
names them ``<stem>/pretrained_<stem>_unet.pth``; the weights' licence is CC BY-NC 4.0.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from larsnet.network.larsnet import LARSNET, LarsNet
from larsnet.network.tensors import load_exactly
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import STEMS

SUFFIXES: Final = (".pth", ".ckpt", ".pt")


def load_original(paths: Mapping[str, Path] | Path) -> LarsNet:
    """The bank of the original release, on the processor, in evaluation.

    Args:
        paths: a file for each stem, or a folder that has a .pth, .ckpt or .pt file for each,
            named after the stem or in a folder that is.

    Raises:
        UserError: a stem without a file or with two, a file that is cut short, of another
            shape, or that holds anything but numbers.
    """
    files = find_files(paths) if isinstance(paths, Path) else paths
    missing = [stem for stem in STEMS if stem not in files]
    if missing:
        raise UserError(f"the original LarsNet needs a file for each stem; no {missing[0]} given")
    model = LarsNet(LARSNET)
    for stem in STEMS:
        load_exactly(model.net(stem), _state_dict(files[stem]), str(files[stem]))
    return model.eval()


def find_files(folder: Path) -> dict[str, Path]:
    """The file of each stem in a folder. Raises UserError where one is missing or not alone."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of five .pth files")
    candidates = sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    found: dict[str, Path] = {}
    for stem in STEMS:
        named = [p for p in candidates if stem in p.stem.lower()]
        named = named or [p for p in candidates if p.parent.name.lower() == stem]
        if len(named) != 1:
            what = f"{len(named)} files" if named else "no file"
            raise UserError(f"{folder} has {what} for {stem}: one <name with {stem}>.pth is needed")
        found[stem] = named[0]
    return found


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than numbers, or is damaged: refused") from error
    except Exception as error:  # a hostile file may make the reader fail in any way
        raise UserError(f"{path} is no checkpoint of torch, or is cut short") from error
    state = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} has no model_state_dict: not a checkpoint of LarsNet's release")
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path} has a model_state_dict that holds other things than tensors")
    return state
