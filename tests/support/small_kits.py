"""Kits and scores that the tests of banks, rendering and audit share."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemgmd_build.kits.catalogue import catalogue, find_kit, locate
from stemgmd_build.kits.kit import GENERAL_MIDI, Kit
from stemgmd_build.performances.collection import Hit, Score
from stemgmd_build.taxonomy import ARTICULATION_OF_NOTE, PIECES

WHEEL_KIT = "timgm6mb-pretty-midi"
"""A kit of the catalogue that is at hand wherever the project is installed."""

NOTE_OF_ARTICULATION = {name: note for note, name in ARTICULATION_OF_NOTE.items()}

HERE = tuple(kit for kit in catalogue() if locate(kit))
"""The kits of the catalogue that are on this machine."""


@dataclass(frozen=True)
class Layered:
    """Sample (n, channels) of a layer, and the velocities (0 to 1) that it is played for."""

    samples: NDArray[np.floating]
    low: float = 0.0
    high: float = 1.0


def noise(
    seed: int, n_samples: int = 4000, decay: float = 12.0, n_channels: int = 1
) -> NDArray[np.float64]:
    """A burst of noise, (n, channels), that falls by 8.7 dB x decay to its end."""
    rng = np.random.default_rng(seed)
    fall = np.exp(-decay * np.arange(n_samples) / n_samples)
    burst = rng.uniform(-0.2, 0.2, (n_samples, n_channels)) * fall[:, None]
    return np.asarray(burst)


def ping(frequency: float, n_samples: int = 16000) -> NDArray[np.float64]:
    """A decaying sine, (n, 1)."""
    fall = np.exp(-10 * np.arange(n_samples) / n_samples)
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(n_samples) / 44100) * fall)[:, None]


def drum_sounds(seed: int = 0) -> dict[str, Sequence[Layered]]:
    """One layer for every piece: bursts of noise, and toms whose pitch falls as it should."""
    sounds = {piece: [Layered(noise(100 * seed + i))] for i, piece in enumerate(PIECES)}
    for tom, hz in (("hi_tom", 220.0), ("mid_tom", 160.0), ("low_tom", 110.0)):
        sounds[tom] = [Layered(ping(hz) + 0.3 * noise(100 * seed + int(hz), 16000))]
    return dict(sounds)


def write_kit(folder: Path, sounds: Mapping[str, Sequence[Layered]]) -> Path:
    """A Hydrogen kit of these articulations' layers; each has its General MIDI note."""
    folder.mkdir(parents=True)
    instruments = []
    for number, (name, layers) in enumerate(sounds.items()):
        texts = []
        for i, layer in enumerate(layers):
            file = f"{name}-{i}.wav"
            soundfile.write(folder / file, layer.samples, 44100, subtype="FLOAT")
            texts.append(
                f"<layer><filename>{file}</filename><min>{layer.low}</min><max>{layer.high}</max>"
                "</layer>"
            )
        instruments.append(
            f"<instrument><id>{number}</id><name>{name}</name>"
            f"<midiOutNote>{GENERAL_MIDI[name]}</midiOutNote>{''.join(texts)}</instrument>"
        )
    (folder / "drumkit.xml").write_text(
        f"<drumkit_info><instrumentList>{''.join(instruments)}</instrumentList></drumkit_info>"
    )
    return folder


def score(*hits: tuple[float, str, int]) -> Score:
    """A score of (onset in samples, articulation, velocity), sorted."""
    played = [Hit(onset / 44100, NOTE_OF_ARTICULATION[name], v) for onset, name, v in hits]
    played.sort(key=lambda hit: (hit.onset_sec, hit.note))
    return Score(tuple(played), (), played[-1].onset_sec + 1 if played else 1.0)


def without_gains(kit: Kit) -> Kit:
    """The kit with every piece as loud as its source has it."""
    sounds = {name: replace(sound, gain_db=0.0) for name, sound in kit.sounds.items()}
    return replace(kit, sounds=sounds)


def wheel_font() -> Path:
    """The SoundFont inside the pretty_midi wheel."""
    path = locate(find_kit(WHEEL_KIT))
    assert path is not None
    return path


def chunk_of(font: bytes, name: bytes) -> slice:
    """Where the data of a chunk inside one of a SoundFont's three lists lie."""
    position = 12
    while position < len(font):
        size = struct.unpack_from("<I", font, position + 4)[0]
        inner = position + 12
        while inner < position + 8 + size:
            length = struct.unpack_from("<I", font, inner + 4)[0]
            if font[inner : inner + 4] == name:
                return slice(inner + 8, inner + 8 + length)
            inner += 8 + length + length % 2
        position += 8 + size + size % 2
    raise KeyError(name)
