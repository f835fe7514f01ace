"""Drum sounds from sample files: one file a velocity layer, softest first.

Velocities 1 to 127 are shared out evenly among a sound's files, and within a layer the gain is
velocity / 127, as Hydrogen has it. Files are of any rate and format that libsndfile reads.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from stemgmd_build.config import one_line
from stemgmd_build.errors import UserError
from stemgmd_build.samplers.drumkit_xml import MAX_SEMITONES
from stemgmd_build.taxonomy import SAMPLE_RATE

MAX_SAMPLE_SEC: Final = 60.0
MAX_CHANNELS: Final = 8
SAMPLE_RATES: Final = (4000, 384000)


class SampleFolder:
    """A folder of sample files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def strike(
        self, files: Sequence[str], velocity: int, *, semitones: float = 0.0
    ) -> NDArray[np.float32]:
        """The whole sound of one strike: float32 (2, n_samples) at 44,100 Hz, full scale 1.0.

        Args:
            files: of the sound's velocity layers, softest first, relative to the folder.
            velocity: MIDI's, 1 to 127.
            semitones: repitches, and so shortens or lengthens.

        Raises:
            UserError: a file is missing, broken, or outside of the folder.
        """
        layer = (velocity - 1) * len(files) // 127
        sound, _ = read_sample(self.path_of(files[layer]), semitones)
        return sound[[0, -1]] * np.float32(velocity / 127)

    def path_of(self, file: str) -> Path:
        """Where a file of the kit is. Raises UserError where it is missing or outside."""
        try:
            path = (self.folder / file).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
            raise UserError(f"{self.folder} has no file {one_line(file)!r}") from error
        if not path.is_relative_to(self.folder) or not path.is_file():
            raise UserError(f"{one_line(file)!r} is no file in {self.folder}")
        return path


def read_sample(path: Path, semitones: float = 0.0) -> tuple[NDArray[np.float32], float]:
    """A sample file at 44,100 Hz, float32 (1 or 2, n), and file samples per output sample.

    Raises UserError for a file that is no sound, or no drum's, and for an impossible pitch.
    """
    if not abs(semitones) <= MAX_SEMITONES:
        raise UserError(f"{path}: cannot be repitched by {semitones:g} semitones")
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return _resampled(path, stat.st_mtime_ns, stat.st_size, semitones)


@functools.lru_cache(maxsize=8)
def _resampled(
    path: Path, mtime_ns: int, n_bytes: int, semitones: float
) -> tuple[NDArray[np.float32], float]:
    samples, rate = _decoded(path)
    step = rate / SAMPLE_RATE * 2.0 ** (semitones / 12.0)
    if step != 1.0:
        samples = soxr.resample(samples, step * SAMPLE_RATE, SAMPLE_RATE, quality="VHQ")
    sound = np.ascontiguousarray(samples.T)
    sound.flags.writeable = False
    return sound, step


def _decoded(path: Path) -> tuple[NDArray[np.float32], int]:
    """A sample file as float32 (n_samples, 1 or 2), and its rate in Hz."""
    try:
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
                raise UserError(f"{path}: has a sample rate of {rate:,} Hz, which is no sound's")
            if file.frames > MAX_SAMPLE_SEC * rate or file.channels > MAX_CHANNELS:
                raise UserError(
                    f"{path}: has more than {MAX_SAMPLE_SEC:g} s or {MAX_CHANNELS} channels, "
                    "which is no drum hit"
                )
            # Like Hydrogen, the first two channels of files that have more.
            samples: NDArray[np.float32] = file.read(dtype="float32", always_2d=True)[:, :2]
    except (OSError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise UserError(f"{path}: is not a readable sound file ({one_line(str(error))})") from error
    if not len(samples) or not np.isfinite(samples).all():
        raise UserError(f"{path}: holds no sound, or samples that are not numbers")
    return samples, rate
