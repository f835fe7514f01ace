"""A network in one file: safetensors, with its configuration, notes and a hash in the header.

Format "larsnet-1": tensors are a network's state dict, convolutions in single or half precision.
The header holds ``format``, ``config`` (JSON), ``notes`` (JSON: whatever the writer has
to say, such as steps or data) and ``sha256``, over the configuration and all tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from larsnet.network.protocol import (
    MaskNetwork,
    NetworkConfig,
    config_from_values,
    config_to_values,
    create,
    n_parameters,
)
from larsnet.network.tensors import load_exactly, read_header, read_tensors, write_tensors
from stemgmd_build.errors import UserError

FORMAT: Final = "larsnet-1"
_MAX_PARAMETERS: Final = 500_000_000


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself."""

    config: NetworkConfig
    sha256: str
    notes: Mapping[str, Any]


def save_checkpoint(
    model: MaskNetwork,
    path: Path,
    *,
    notes: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write the network to ``path``, all of it or nothing; return its hash.

    ``dtype`` is what the learnt matrices and kernels are stored as (float32, float16 or bfloat16).
    All else is small and stays: variances of magnitudes do not fit half precision, nor does a
    template. Raises UserError where the file cannot be written.
    """
    large = {name for name, weight in model.named_parameters() if weight.dim() > 1}
    tensors = {
        name: tensor.detach().to("cpu", dtype if name in large else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    header = {
        "format": FORMAT,
        "config": json.dumps(config_to_values(model.config), sort_keys=True),
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
    }
    return write_tensors(path, tensors, header, hashed="config")


def read_info(path: Path) -> CheckpointInfo:
    """Configuration and notes, without the tensors. Raises UserError as `load_checkpoint`."""
    return _parse(read_header(path), path)


def load_checkpoint(path: Path) -> MaskNetwork:
    """The network of a checkpoint, on the processor, in evaluation, in single precision.

    Raises:
        UserError: no such file, cut short, damaged, of another format or another shape.
    """
    info = read_info(path)
    _, tensors = read_tensors(path, hashed="config")
    model = create(info.config)
    load_exactly(model, tensors, str(path))
    return model.eval()


def _parse(header: Mapping[str, str], path: Path) -> CheckpointInfo:
    if header.get("format") != FORMAT:
        found = header.get("format", "none")
        raise UserError(f"{path} is of format {found[:40]!r}, not {FORMAT!r}: no network of ours")
    try:
        config = config_from_values(json.loads(header["config"]))
        notes = json.loads(header["notes"])
        info = CheckpointInfo(config, header["sha256"], dict(notes))
        with torch.device("meta"):  # sizes without memory: a header may claim anything
            size = n_parameters(create(config))
    except (
        LookupError,
        ArithmeticError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise UserError(f"{path} has a header that cannot be understood: {_line(error)}") from error
    if size > _MAX_PARAMETERS:
        raise UserError(f"{path} claims {size:,} parameters: no network of ours")
    return info


def _line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__
