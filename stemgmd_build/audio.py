"""Samples to files and back: 44.1 kHz, stereo, 16 bit, FLAC or WAV.

In memory audio is float32 (channels, samples) with full scale 1.0, or int16 (samples, channels)
as files hold it. One integer step is 1/32768 of full scale.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import struct
from pathlib import Path
from typing import Final, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.files import open_file
from stemgmd_build.taxonomy import SAMPLE_RATE

FileFormat = Literal["flac", "wav"]

FULL_SCALE: Final = 32768.0
_WAV_HEADER_BYTES: Final = 44
_LONGEST_WAV_SAMPLES: Final = (2**32 - 1 - 36) // 4  # 6.8 hours: sizes have 32 bits in its header
_MOST_SAMPLES: Final = 1 << 40
_ROUND: Final = np.float32(1.5 * 2**23)
"""Added to a float32 below 2**22, it leaves no bit for fractions, so that the sum is rounded to an
integer, half to even, and the lowest bits of its 32 are that integer in two's complement."""
_FLAC_LEVEL: Final = 4 / 8
"""libFLAC's level 4 of 0..8 (soundfile counts 0 to 1): 8 % smaller than 3, which codes the channels
apart, for 9 % more time; 5, its default, takes another 16 % for the next 1 %."""


def encoder_name(file_format: FileFormat) -> str:
    """What writes the files, with its version: other versions may give other bytes."""
    if file_format == "wav":
        return "WAV PCM_16"
    return f"FLAC PCM_16 level {_FLAC_LEVEL * 8:.0f}, {soundfile.__libsndfile_version__}"


class ClippingError(ValueError):
    """A sample beyond 16 bits."""


def quantize(samples: NDArray[np.float32], scratch: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round float32 (2, n) to int16 (n, 2), half to even, without dither.

    ``scratch`` is float32 (2, >= n). Raises ClippingError where a sample does not fit.
    """
    steps = scratch[:, : samples.shape[1]]
    np.multiply(samples, np.float32(FULL_SCALE), out=steps)
    np.add(steps, _ROUND, out=steps)
    if steps.size and not (
        steps.min() >= _ROUND - FULL_SCALE and steps.max() < _ROUND + FULL_SCALE
    ):
        raise ClippingError
    # Two samples of 16 bits are one integer of 32: half the time of copies channel by channel.
    left, right = steps.view(np.int32)
    np.bitwise_and(left, 0xFFFF, out=left)
    np.left_shift(right, 16, out=right)
    pcm: NDArray[np.int16] = np.bitwise_or(left, right).view(np.int16).reshape(-1, 2)
    return pcm


class AudioFile:
    """A file of n_samples in the making: blocks in, at the end its size and SHA-256.

    Written through Python, not by libsndfile, so that a full disk is an OSError and the bytes
    are hashed without reading them again. ``with_md5``: also its MD5, which only mirdata asks for
    and which takes longer than all the rest of a WAV file. Raises UserError, before anything is
    written, where WAV cannot hold that many samples.
    """

    def __init__(
        self, path: Path, file_format: FileFormat, n_samples: int, *, with_md5: bool = False
    ) -> None:
        wav_header = _wav_header(n_samples) if file_format == "wav" else b""
        self._file = path.open("wb")
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        self._n_bytes = 0
        self._flac: soundfile.SoundFile | None = None
        if file_format == "flac":
            self._encoded = io.BytesIO()
            self._flac = soundfile.SoundFile(
                self._encoded,
                "w",
                SAMPLE_RATE,
                2,
                subtype="PCM_16",
                format="FLAC",
                compression_level=_FLAC_LEVEL,
            )
        else:
            self._put(wav_header)

    def write(self, pcm: NDArray[np.int16]) -> None:
        """Append int16 (n, 2)."""
        if self._flac is None:
            self._put(np.ascontiguousarray(pcm, "<i2").data)
        else:
            self._flac.write(pcm)

    def write_silence(self, n_samples: int) -> None:
        """Append zeros: in a WAV file a hole, which takes neither time nor disk."""
        if self._flac is not None:
            self._flac.write(np.zeros((n_samples, 2), np.int16))
            return
        zeros = memoryview(bytes(4 * n_samples))
        self._hash(zeros)
        self._file.seek(max(0, zeros.nbytes - 1), io.SEEK_CUR)
        self._file.write(zeros[-1:])  # else a hole at the end would be none

    def _put(self, data: bytes | memoryview) -> None:
        self._hash(data)
        self._file.write(data)

    def _hash(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        if self._md5 is not None:
            self._md5.update(data)
        self._n_bytes += len(data) if isinstance(data, bytes) else data.nbytes

    def finish(self) -> tuple[int, str, str]:
        """Close the file; return (bytes, SHA-256 in hex, MD5 in hex or "" without)."""
        if self._flac is not None:
            self._flac.close()
            self._put(self._encoded.getbuffer())
        self._file.close()
        md5 = self._md5.hexdigest() if self._md5 is not None else ""
        return self._n_bytes, self._sha256.hexdigest(), md5

    def abandon(self) -> None:
        """Close a file that will not be finished."""
        if self._flac is not None:
            self._flac.close()
        self._file.close()


def copy_silent(source: Path, target: Path, file_format: FileFormat) -> None:
    """Copy a file that holds nothing but silence: a WAV file's samples stay a hole."""
    if file_format == "flac":
        shutil.copyfile(source, target)
        return
    with source.open("rb") as file, target.open("wb") as copy:
        copy.write(file.read(_WAV_HEADER_BYTES))
        copy.truncate(source.stat().st_size)


def _wav_header(n_samples: int) -> bytes:
    """The `_WAV_HEADER_BYTES` before n_samples of 16-bit stereo PCM (canonical RIFF WAVE)."""
    if n_samples > _LONGEST_WAV_SAMPLES:
        hours = n_samples / SAMPLE_RATE / 3600
        raise UserError(f"{hours:.1f} hours are too long for WAV; use --format flac")
    n_bytes = 4 * n_samples
    layout = struct.pack("<IHHIIHH", 16, 1, 2, SAMPLE_RATE, 4 * SAMPLE_RATE, 4, 16)
    return (
        struct.pack("<4sI4s4s", b"RIFF", 36 + n_bytes, b"WAVE", b"fmt ")
        + layout
        + struct.pack("<4sI", b"data", n_bytes)
    )


def open_audio(path: Path) -> soundfile.SoundFile:
    """Open a file of a dataset. Raises UserError where it is no audio file, or states no length."""
    with open_file(path, "audio") as stream:
        try:
            # By its descriptor: libsndfile's Python takes no name that is not UTF-8.
            file = soundfile.SoundFile(os.dup(stream.fileno()), closefd=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
    if file.frames > _MOST_SAMPLES:
        file.close()
        raise UserError(f"{path} cannot be read: its header states no length")
    return file


def read_pcm(path: Path, start: int = 0, n_samples: int = -1) -> NDArray[np.int16]:
    """Samples of a 44.1 kHz stereo 16-bit file as int16 (n_samples, 2).

    Raises UserError where the file is missing, unreadable, cut short or of another kind.
    """
    try:
        with open_audio(path) as file:
            kind = (file.samplerate, file.channels, file.subtype)
            if kind != (SAMPLE_RATE, 2, "PCM_16"):
                raise UserError(f"{path} is {kind}, not ({SAMPLE_RATE} Hz, 2 channels, 16 bit)")
            file.seek(start)
            wanted = file.frames - start if n_samples < 0 else min(n_samples, file.frames - start)
            pcm: NDArray[np.int16] = file.read(n_samples, "int16", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if len(pcm) < wanted:
        raise UserError(f"{path} is cut short")
    return pcm
