"""A net for other runtimes, as `stemgmd export` writes it.

What is exported is the mask of one stem: magnitudes (batch, 2, bins, frames) of the
configuration's STFT in, masks of the same shape out, bands and compression included. The batch may
be of any size, frames are one patch. A path that ends in .onnx gets ONNX (it needs the extra
``onnx``), one in .pt2 torch.export's own format. The file is then run beside torch on
random magnitudes, and refused where they differ.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor, nn

from larsnet.network.larsnet import LarsNet
from larsnet.network.unet import AUDIO_CHANNELS
from stemgmd_build.errors import UserError

TOLERANCE: Final = 1e-4
"""Of a mask, which is in [0, 1]."""


class StemMask(nn.Module):
    """One stem of a bank as a module of one input and one output."""

    def __init__(self, model: LarsNet, stem: str) -> None:
        super().__init__()
        self.model, self.stem = deepcopy(model), stem
        for name in set(self.model.nets) - {stem, "shared"}:
            del self.model.nets[name]

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Masks (batch, 2, bins, frames) of magnitudes of that shape."""
        masks: Tensor = self.model(magnitudes, (self.stem,))
        return masks.flatten(1, 2)


def export_stem(model: LarsNet, stem: str, path: Path) -> float:
    """Write the net of a stem to ``path`` and compare it with torch.

    Returns:
        The largest difference of a mask; the file is there only if it is within ``TOLERANCE``.

    Raises:
        UserError: an unknown stem or suffix, a missing extra, a file that cannot be written or
            that computes something else.
    """
    if stem not in model.config.stems:
        raise UserError(f"no stem {stem!r}: there are {', '.join(model.config.stems)}")
    if path.suffix not in (".onnx", ".pt2"):
        raise UserError(f"{path} must end in .onnx or .pt2")
    net = StemMask(model, stem).eval()
    rng = torch.Generator().manual_seed(0)
    shape = (2, AUDIO_CHANNELS, model.config.n_bins, model.config.unet.n_frames)
    magnitudes = 10 * torch.rand(shape, generator=rng)
    partial = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write = _write_onnx if path.suffix == ".onnx" else _write_pt2
        run = _run_onnx if path.suffix == ".onnx" else _run_pt2
        write(net, magnitudes, partial)
        with torch.inference_mode():
            difference = max(
                float((run(partial, given) - net(given)).abs().max())
                for given in (magnitudes, magnitudes[:1])
            )
        if not difference <= TOLERANCE:
            raise UserError(f"{path}: the exported net differs from torch by {difference:.1e}")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return difference


def _export_program(net: StemMask, magnitudes: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=1024)
    return torch.export.export(net, (magnitudes,), dynamic_shapes=({0: batch},))


def _write_pt2(net: StemMask, magnitudes: Tensor, path: Path) -> None:
    torch.export.save(_export_program(net, magnitudes), path)


def _run_pt2(path: Path, magnitudes: Tensor) -> Tensor:
    masks: Tensor = torch.export.load(path).module()(magnitudes)
    return masks


def _write_onnx(net: StemMask, magnitudes: Tensor, path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"ONNX needs {package}: pip install 'stemgmd-bench[onnx]'")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision is not there: so be it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        torch.onnx.export(
            _export_program(net, magnitudes),
            f=path,
            input_names=["magnitudes"],
            output_names=["masks"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _run_onnx(path: Path, magnitudes: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: magnitudes.numpy()})[0]
    return torch.from_numpy(np.asarray(found))
