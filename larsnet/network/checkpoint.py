"""A network in one file: safetensors, with its configuration, notes and a hash in the header.

Format "larsnet-1": tensors are a network's state dict, convolutions'
weights in single or half precision; the header holds ``format``, ``config`` (JSON), ``notes``
(JSON: whatever the writer has to say, such as steps or data) and ``sha256``, over the
configuration and all tensors.
Reading runs no code, and a file is believed only as far as its hash and shapes agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from larsnet.network.protocol import (
    MaskNetwork,
    NetworkConfig,
    config_from_values,
    config_to_values,
    create,
    n_parameters,
)
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole

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

    ``dtype`` is what the convolutions' weights are stored as (float32, float16 or bfloat16); all
    else is small and stays: variances of magnitudes do not fit half precision. Raises UserError
    where the file cannot be written.
    """
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.dim() == 4 else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    config = json.dumps(config_to_values(model.config), sort_keys=True)
    digest = _digest(config, tensors)
    header = {
        "format": FORMAT,
        "config": config,
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
        "sha256": digest,
    }
    write_told(path, save(tensors, metadata=header))
    return digest


def write_told(path: Path, data: bytes) -> None:
    """All of the file or nothing. Raises UserError where it cannot be written."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def read_info(path: Path) -> CheckpointInfo:
    """Configuration and notes, without the tensors. Raises UserError as `load_checkpoint`."""
    return _read(path, with_tensors=False)[0]


def load_checkpoint(path: Path) -> MaskNetwork:
    """The network of a checkpoint, on the processor, in evaluation, in single precision.

    Raises:
        UserError: no such file, cut short, damaged, of another format or another shape.
    """
    info, tensors = _read(path, with_tensors=True)
    model = create(info.config)
    load_exactly(model, tensors, str(path))
    return model.eval()


def load_exactly(module: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict whose names and shapes must all match and whose numbers must be finite.

    Raises UserError that names ``where`` and the first tensor that does not fit.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            raise UserError(f"{where} does not hold this network: {name} is missing")
        if name not in own:
            raise UserError(f"{where} does not hold this network: {name} is unknown")
        given, wanted = tuple(tensors[name].shape), tuple(own[name].shape)
        if given != wanted:
            raise UserError(f"{where} has {name} of shape {given} where {wanted} is needed")
        if not bool(tensors[name].isfinite().all()):
            raise UserError(f"{where} has numbers in {name} that are not finite")
    module.load_state_dict(dict(tensors))


def _read(path: Path, *, with_tensors: bool) -> tuple[CheckpointInfo, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            info = _parse(header, path)
            names = file.keys() if with_tensors else ()
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise UserError(
            f"{path} is no safetensors file, or cut short ({_line(error)}); fetch it again"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or _line(error)}") from error
    if with_tensors and _digest(header["config"], tensors) != info.sha256:
        raise UserError(f"{path} is damaged: its hash does not match; fetch it again")
    return info, tensors


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
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path} has a header that cannot be understood: {_line(error)}") from error
    if size > _MAX_PARAMETERS:
        raise UserError(f"{path} claims {size:,} parameters: no network of ours")
    return info


def _digest(config: str, tensors: Mapping[str, Tensor]) -> str:
    sha256 = hashlib.sha256(config.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def _line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__
