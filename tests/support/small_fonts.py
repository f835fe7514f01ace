"""SoundFonts written from scratch: a sound for each key, in a range of velocities."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_KEY_RANGE, _VELOCITY_RANGE, _SAMPLE, _ROOT = 43, 44, 53, 58


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(kind: bytes, *chunks: bytes) -> bytes:
    return _chunk(b"LIST", kind + b"".join(chunks))


def write_font(
    path: Path, sounds: Mapping[int, NDArray[np.floating]], softest: Mapping[int, int] | None = None
) -> Path:
    """A font whose drum kit (bank 128, preset 0) answers to these keys alone.

    ``sounds``: key -> mono samples (n,) of full scale 1.0; ``softest``: key -> the least velocity
    that it answers to (else 1).
    """
    softest = softest or {}
    zones, generators, headers, samples = [], [], [], []
    at = 0
    for number, (key, sound) in enumerate(sounds.items()):
        zones.append(struct.pack("<HH", 4 * number, 0))
        for operator, amount in (
            (_KEY_RANGE, key | key << 8),
            (_VELOCITY_RANGE, softest.get(key, 1) | 127 << 8),
            (_ROOT, key),
            (_SAMPLE, number),
        ):
            generators.append(struct.pack("<HH", operator, amount))
        pcm = np.round(np.asarray(sound) * 32767).astype("<i2")
        name = f"key {key}".encode().ljust(20, b"\0")
        limits = (at, at + len(pcm), at, at + len(pcm), 44100)
        headers.append(name + struct.pack("<5IBbHH", *limits, key, 0, 0, 1))
        samples.append(pcm.tobytes() + bytes(92))
        at += len(pcm) + 46
    zones.append(struct.pack("<HH", len(generators), 0))
    preset = b"kit".ljust(20, b"\0") + struct.pack("<HHHIII", 0, 128, 0, 0, 0, 0)
    end = b"EOP".ljust(20, b"\0") + struct.pack("<HHHIII", 0, 0, 1, 0, 0, 0)
    nothing = bytes(4)
    pdta = _list(
        b"pdta",
        _chunk(b"phdr", preset + end),
        _chunk(b"pbag", struct.pack("<HHHH", 0, 0, 1, 0)),
        _chunk(b"pmod", bytes(10)),
        _chunk(b"pgen", struct.pack("<HH", 41, 0) + nothing),
        _chunk(
            b"inst",
            b"kit".ljust(20, b"\0")
            + struct.pack("<H", 0)
            + b"EOI".ljust(20, b"\0")
            + struct.pack("<H", len(sounds)),
        ),
        _chunk(b"ibag", b"".join(zones)),
        _chunk(b"imod", bytes(10)),
        _chunk(b"igen", b"".join(generators) + nothing),
        _chunk(b"shdr", b"".join(headers) + b"EOS".ljust(46, b"\0")),
    )
    info = _list(b"INFO", _chunk(b"ifil", struct.pack("<HH", 2, 1)), _chunk(b"INAM", b"small\0"))
    sdta = _list(b"sdta", _chunk(b"smpl", b"".join(samples)))
    path.write_bytes(_chunk(b"RIFF", b"sfbk" + info + sdta + pdta))
    return path
