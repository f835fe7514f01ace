"""A net for other runtimes, as `stemgmd export` writes it.

What is exported gives the masks of one stem, (batch, 2, bins, frames), from what the network sees
of a window. For LarsNet that is magnitudes; bands and compression are included. The batch may be of
any size. A path that ends in .onnx gets ONNX (it needs the extra ``onnx``), one in .pt2
torch.export's own format. The file is run beside torch on noise, and refused where they differ.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor, nn

from baselines.spectral import stft
from larsnet.network.protocol import MaskNetwork
from stemgmd_build.errors import UserError

TOLERANCE: Final = 1e-4
"""Of a mask, which is in [0, 1]."""


def export_stem(model: MaskNetwork, stem: str, path: Path) -> float:
    """Write the net of a stem to ``path`` and compare it with torch.

    Returns:
        The largest difference of a mask; the file is there only if it is within ``TOLERANCE``.

    Raises:
        UserError: an unknown stem or suffix, a missing extra, a file that cannot be written or
            that computes something else, a network that torch cannot trace.
    """
    if stem not in model.config.stems:
        raise UserError(f"no stem {stem!r}: there are {', '.join(model.config.stems)}")
    if path.suffix not in (".onnx", ".pt2"):
        raise UserError(f"{path} must end in .onnx or .pt2")
    net, seen = model.only(stem).eval(), _example(model)
    partial = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write = _write_onnx if path.suffix == ".onnx" else _write_pt2
        run = _run_onnx if path.suffix == ".onnx" else _run_pt2
        try:
            write(net, seen, partial)
        except (UserError, OSError):
            raise
        except Exception as error:  # torch has many ways to say that it cannot trace a module
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise UserError(f"{path}: torch cannot export this network: {reason}") from error
        with torch.inference_mode():
            difference = max(
                float((run(partial, given) - net(given)).abs().max()) for given in (seen, seen[:1])
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


@torch.no_grad()
def _example(model: MaskNetwork) -> Tensor:
    """What the network sees of two windows of noise."""
    config = model.config
    n_samples = (config.window_frames - 1) * config.stft.hop_samples
    noise = torch.randn(2, 2, n_samples, generator=torch.Generator().manual_seed(0))
    return model.see(stft(noise, config.stft), model.prepare(noise))


def _export_program(net: nn.Module, seen: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=1024)
    return torch.export.export(net, (seen,), dynamic_shapes=({0: batch},))


def _write_pt2(net: nn.Module, seen: Tensor, path: Path) -> None:
    torch.export.save(_export_program(net, seen), path)


def _run_pt2(path: Path, seen: Tensor) -> Tensor:
    masks: Tensor = torch.export.load(path).module()(seen)
    return masks


def _write_onnx(net: nn.Module, seen: Tensor, path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"ONNX needs {package}: pip install 'stemgmd-bench[onnx]'")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision is not there: so be it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        torch.onnx.export(
            _export_program(net, seen),
            f=path,
            input_names=["seen"],
            output_names=["masks"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _run_onnx(path: Path, seen: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: seen.numpy()})[0]
    return torch.from_numpy(np.asarray(found))
