"""Drum sounds from sample files: per velocity layer one file, or a take of several, softest first.

Velocities 1 to 127 are shared out evenly among a sound's files, and within a layer the gain is
velocity / 127, as Hydrogen has it. Files are of any rate and format that libsndfile reads.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from stemgmd_build.config import one_line
from stemgmd_build.errors import NoSoundError, UserError
from stemgmd_build.recordings import read_whole
from stemgmd_build.samplers.drumkit_xml import MAX_SEMITONES
from stemgmd_build.samplers.takes import Take, mixed
from stemgmd_build.taxonomy import SAMPLE_RATE

MAX_SAMPLE_SEC: Final = 60.0
MAX_CHANNELS: Final = 8
MAX_MICROPHONES: Final = 64
MAX_SAMPLE_BYTES: Final = 256 << 20  # decoded: 60 s of stereo at 384 kHz
SAMPLE_RATES: Final = (4000, 384000)


class SampleFolder:
    """A folder of sample files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        # A layer is asked for by many velocities in a row; a mix of microphones takes long.
        self._mixed = functools.lru_cache(maxsize=2)(self._mix)

    def strike(
        self,
        layers: Sequence[str | Take],
        velocity: int,
        *,
        semitones: float = 0.0,
        max_samples: int | None = None,
    ) -> NDArray[np.float32]:
        """The sound of one strike: float32 (2, n_samples) at 44,100 Hz, full scale 1.0.

        Args:
            layers: the velocity layers, softest first. Their files are relative to the folder.
            velocity: MIDI's, 1 to 127.
            semitones: repitches, and so shortens or lengthens.
            max_samples: cuts what is longer.

        Raises:
            NoSoundError: a file is silent.
            UserError: a file is missing, broken, or outside of the folder.
        """
        layer = layers[(velocity - 1) * len(layers) // 127]
        if isinstance(layer, Take):
            sound = self._mixed(layer, semitones)
        else:
            sound = read_sample(self.path_of(layer), semitones)[0]
        part: NDArray[np.float32] = sound[[0, -1], :max_samples] * np.float32(velocity / 127)
        if not part.any() and not sound.any():
            name = layer if isinstance(layer, str) else "a mix of microphones"
            raise NoSoundError(f"{one_line(name)} is silent; correct the kit's map")
        return part

    def _mix(self, take: Take, semitones: float) -> NDArray[np.float32]:
        sound = mixed(take, self._read_part)
        if semitones:  # after the cut: where a strike begins is told for the file's own pitch
            step = 2.0 ** (semitones / 12.0)
            sound = soxr.resample(sound.T, step * SAMPLE_RATE, SAMPLE_RATE, quality="VHQ").T
        return sound

    def _read_part(self, file: str, channel: int | None) -> NDArray[np.float32]:
        path = self.path_of(file)
        if channel is None:
            return read_sample(path)[0]
        return read_channel(path, channel)

    def path_of(self, file: str) -> Path:
        """Where a file of the kit is. Raises UserError where it is missing or outside."""
        try:
            path = (self.folder / file).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
            raise UserError(f"{self.folder} has no file {one_line(file)!r}") from error
        if not path.is_relative_to(self.folder) or not path.is_file():
            raise UserError(f"{one_line(file)!r} is no file in {self.folder}")
        return path


def read_channel(path: Path, channel: int) -> NDArray[np.float32]:
    """One channel of a file of any number of them, at 44,100 Hz: float32 (1, n).

    Raises UserError for a file that is no sound, or no drum's, or lacks the channel.
    """
    samples, rate = _decoded(path, channel)
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="VHQ")
    return np.ascontiguousarray(samples.T)


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


def _decoded(path: Path, channel: int | None = None) -> tuple[NDArray[np.float32], int]:
    """A sample file as float32 (n_samples, 1 or 2), or one channel of it, and its rate in Hz."""
    # One channel is asked for of a kit's recordings by all of its microphones.
    most = MAX_CHANNELS if channel is None else MAX_MICROPHONES
    try:
        sound, rate = read_whole(
            path,
            max_sec=MAX_SAMPLE_SEC,
            what="a drum hit",
            max_channels=most,
            max_bytes=MAX_SAMPLE_BYTES,
        )
    except (UserError, MemoryError) as error:
        why = one_line(str(error).removeprefix(str(path))).strip()
        raise UserError(f"{path}: is not a readable sound file ({why})") from error
    if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
        raise UserError(f"{path}: has a sample rate of {rate:,} Hz, which is no sound's")
    if channel is not None and not 0 <= channel < len(sound):
        raise UserError(f"{path}: has {len(sound)} channels, and none of number {channel + 1}")
    # Like Hydrogen, the first two channels of files that have more.
    samples = (sound[:2] if channel is None else sound[channel : channel + 1]).T
    if not np.isfinite(samples).all():
        raise UserError(f"{path}: holds samples that are not numbers")
    return samples, rate
