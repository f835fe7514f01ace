"""Audio files of many kinds, made by PyAV: also as a program writes them into a pipe."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 44_100


class _Pipe(io.RawIOBase):
    """Takes bytes and cannot be gone back in, so that no length can be put into a header."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)


class _WriteOnly:
    def __init__(self, pipe: _Pipe) -> None:
        self.write = pipe.write


def encode(
    samples: NDArray[np.float32], container: str, codec: str, *, into_pipe: bool = False
) -> bytes:
    """(2, n) samples at 44.1 kHz as the bytes of a file.

    Args:
        samples: full scale 1.0.
        container, codec: as FFmpeg names them.
        into_pipe: what states a length in its header cannot state it.
    """
    pipe = _Pipe()
    target = io.BytesIO()
    options = {"movflags": "+faststart"} if container == "mp4" else {}
    with av.open(
        _WriteOnly(pipe) if into_pipe else target, "w", format=container, options=options
    ) as out:
        stream = out.add_stream(codec, rate=RATE_HZ, layout="stereo")
        known = [known.name for known in stream.codec_context.codec.audio_formats]
        format_name = next(name for name in ("s16", "s16p", "fltp") if name in known)
        stream.codec_context.format = format_name
        resampler = av.AudioResampler(format_name, "stereo", RATE_HZ)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", "stereo")
        frame.sample_rate = RATE_HZ
        fifo = av.AudioFifo()
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            part.pts = None
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while part := fifo.read(size, partial=True):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return bytes(pipe.data) if into_pipe else target.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
