"""The same clips as they may also reach a separator: softer, in one channel, coded.

A track under a condition stands on a board of its own, ``BOARD, CONDITION``, and is otherwise the
same track: its annotation and its group stay. True stems go through what is linear (level, mono).
A coder is not, so the stems stay as they were, and what it does to the mixture counts as error.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import Final

import numpy as np
import soundfile

from benchmarks.sources import CONDITIONS, Audio, LoadedTrack, Track
from stemgmd_build.taxonomy import SAMPLE_RATE

QUIET_DB: Final = -20.0
MP3_KBIT: Final = 128
_MP3_KBIT_RANGE: Final = (32, 320)


def quieter(loaded: LoadedTrack) -> LoadedTrack:
    """Mixture and stems at -20 dB."""
    gain = np.float32(10 ** (QUIET_DB / 20))
    return replace(loaded, mixture=loaded.mixture * gain, references=loaded.references * gain)


def mono(loaded: LoadedTrack) -> LoadedTrack:
    """Mixture and stems with the mean of their channels, in one channel."""
    return replace(
        loaded,
        mixture=loaded.mixture.mean(axis=0, keepdims=True),
        references=loaded.references.mean(axis=1, keepdims=True),
    )


def mp3(loaded: LoadedTrack) -> LoadedTrack:
    """The mixture as MP3 of 128 kbit/s, at constant bit rate."""
    return replace(loaded, mixture=coded(loaded.mixture))


def coded(audio: Audio) -> Audio:
    """(channels, n_samples) through LAME and back, in memory, of the same length.

    The file states the coder's delay, so the decoder gives each sample at its own time.
    """
    lowest, highest = _MP3_KBIT_RANGE
    file = io.BytesIO()
    soundfile.write(
        file,
        audio.T,
        SAMPLE_RATE,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        # libsndfile has no bit rate: 0 means the highest of the format, 1 the lowest.
        compression_level=(highest - MP3_KBIT) / (highest - lowest),
    )
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32", always_2d=True)
    out = np.zeros_like(audio)
    n_samples = min(audio.shape[1], len(decoded))
    out[:, :n_samples] = decoded[:n_samples].T
    return out


_CHANGES: Final = {"quiet": quieter, "mono": mono, "mp3": mp3}


def apply(name: str, loaded: LoadedTrack) -> LoadedTrack:
    """A loaded track under a condition of :data:`benchmarks.sources.CONDITIONS`."""
    return _CHANGES[name](loaded)


def under(track: Track, name: str) -> Track:
    """The track under a condition of :data:`benchmarks.sources.CONDITIONS`."""
    return replace(
        track,
        board=f"{track.board}, {name}",
        clip=f"{track.clip}--{name}",
        data=hashlib.sha256(f"{track.data} {name}".encode()).hexdigest()[:32],
        condition=name,
    )


def split_board(board: str) -> tuple[str, str]:
    """A record's board -> the source's board and the condition, "" for the clips as they are."""
    base, _, name = board.rpartition(", ")
    return (base, name) if name in CONDITIONS else (board, "")
