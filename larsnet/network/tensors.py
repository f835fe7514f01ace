"""Named tensors in a file that is believed only as far as its hash agrees: safetensors.

The header holds texts beside the tensors, and ``sha256``, over one of the texts and all tensors.
Reading runs no code. Power loss may leave a file of the right size that is full of zeros, which
only the hash shows. The same content has the same bytes: keys of the header are sorted, which
safetensors leaves to chance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stemgmd_build.errors import UserError
from stemgmd_build.files import open_file, write_whole


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], hashed: str
) -> str:
    """Write tensors and texts, all or nothing; return their hash.

    ``hashed`` is the key of the text that the hash is taken over. Raises UserError where the file
    cannot be written.
    """
    digest = _digest(header[hashed], tensors)
    data = _in_order(save(dict(tensors), metadata={**header, "sha256": digest}))
    try:
        write_whole(path, data)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    return digest


def read_header(path: Path) -> dict[str, str]:
    """The texts of a file. Raises UserError where it is no safetensors file or cannot be read."""
    return _read(path, with_tensors=False)[0]


def read_tensors(path: Path, hashed: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts and tensors of a file. Raises UserError also where the hash does not match."""
    header, tensors = _read(path, with_tensors=True)
    if _digest(header.get(hashed, ""), tensors) != header.get("sha256"):
        raise UserError(f"{path} is damaged: its hash does not match")
    return header, tensors


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
        given, wanted = tensors[name], own[name]
        # Quantized, sparse or complex numbers have no place in a network of ours.
        if given.is_quantized or given.layout != torch.strided or given.is_complex():
            raise UserError(f"{where} has {name} in a form that is not plain numbers")
        if given.shape != wanted.shape:
            raise UserError(
                f"{where} has {name} of shape {tuple(given.shape)} where {tuple(wanted.shape)} "
                "is needed"
            )
        if not bool(given.isfinite().all()):
            raise UserError(f"{where} has numbers in {name} that are not finite")
    module.load_state_dict(dict(tensors))


def _read(path: Path, *, with_tensors: bool) -> tuple[dict[str, str], dict[str, Tensor]]:
    open_file(path, "weights").close()  # what it is, before a library opens it
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            names = file.keys() if with_tensors else ()
            return header, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{path} is no safetensors file, or cut short ({reason})") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def _in_order(data: bytes) -> bytes:
    """The same file with its header's keys sorted: 8 bytes of length, JSON, then the tensors."""
    n = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + n]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors stay aligned
    return len(header).to_bytes(8, "little") + header + data[8 + n :]
