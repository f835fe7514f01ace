"""A kit's one-shots by measurement: a program that `stemgmd_build.rendering.bank` runs.

Within one velocity layer a sampler only turns the same recording up or down, so a layer is one
*shot* and a gain for each velocity. Layers are not read from the source but found by measurement:
all 127 velocities are struck, and neighbours whose difference is a gain alone (residual below
-90 dB) are one layer. A shot is kept until it has died away by 90 dB from its peak.
"""

from __future__ import annotations

import itertools
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stemgmd_build.errors import NoSoundError, UserError
from stemgmd_build.kits import catalogue as kits
from stemgmd_build.kits.kit import Kit, Sound
from stemgmd_build.paths import CacheError
from stemgmd_build.rendering.bank import CACHE_STATUS, Shot, sound_name, write_bank
from stemgmd_build.taxonomy import (
    ARTICULATION_OF_NOTE,
    PIECE_OF_ARTICULATION,
    PIECES,
    SAMPLE_RATE,
)

FLOOR_DB: Final = -90.0  # a full-scale peak is under one 16-bit step by then
TAIL_DB: Final = -60.0
_SAME_LAYER_DB: Final = -90.0
_PROBE_SAMPLES: Final = 8192
_LONGEST_SAMPLES: Final = 30 * SAMPLE_RATE
MAX_BANK_BYTES: Final = 3 << 29  # the largest of the catalogue has 1.3 GB
_POWER_OF_KIND: Final = {"soundfont": 2.0}  # SoundFont 2.04, 8.4.1: 40 dB per decade of velocity

Strike = Callable[[Sound, int, int], NDArray[np.float32]]
"""(sound, velocity, max_samples) -> float32 (2, n_samples)."""


def make_bank(kit: Kit, digest: str) -> None:
    """Sample the kit and write its bank to the cache, whole or not at all.

    Raises UserError as ``load_bank`` does.
    """
    path = kits.require(kit)
    chunks: list[NDArray[np.float32]] = []
    shots: list[Shot] = []
    sounds: dict[str, dict[str, list[float]]] = {}
    # Every sound a kit can be asked for, once: articulations may share one.
    wanted = {sound_name(s): s for s in map(kit.sound, ARTICULATION_OF_NOTE.values())}
    needed = {sound_name(kit.sound(piece)) for piece in PIECES}
    lacking: list[str] = []
    with _striker(kit, path) as strike:
        for name, sound in wanted.items():
            try:
                layers, gains = find_layers(strike, sound, _POWER_OF_KIND.get(kit.kind, 1.0))
                mine: list[NDArray[np.float32]] = []
                for velocity in layers.loudest:
                    shot = ring(strike(sound, velocity, _LONGEST_SAMPLES), kit, sound)
                    mine.append(shot.copy())  # without the rest of the recording
                    _check_size(kit, [*chunks, *mine])
            except NoSoundError:
                if name in needed or not kit.by_general_midi:
                    raise
                lacking.append(name)
                continue
            first = len(shots)
            for shot in mine:
                start = shots[-1].start + shots[-1].n_samples if shots else 0
                shots.append(Shot(start, shot.shape[1], *tail_of(shot)))
                chunks.append(shot)
            sounds[name] = {"shot_of": [first + i for i in layers.of_velocity], "gain_of": gains}
    for name in lacking:
        sounds[name] = sounds[_name_of_piece(kit, name)]
    write_bank(kit, digest, chunks, shots, sounds)


def _name_of_piece(kit: Kit, name: str) -> str:
    """The sound of the piece whose finer articulation has the sound of this name."""
    piece = next(p for a, p in PIECE_OF_ARTICULATION.items() if sound_name(kit.sound(a)) == name)
    return sound_name(kit.sound(piece))


def _check_size(kit: Kit, chunks: Sequence[NDArray[np.float32]]) -> None:
    n_bytes = sum(chunk.nbytes for chunk in chunks)
    if n_bytes > MAX_BANK_BYTES:
        raise UserError(
            f"its sounds take more than {MAX_BANK_BYTES / 1e9:.1f} GB ({len(chunks)} layers so "
            "far); use fewer layers or shorter files"
        )


@contextmanager
def _striker(kit: Kit, path: Path) -> Iterator[Strike]:
    """How this kit's source is struck."""
    if kit.kind == "soundfont":
        from stemgmd_build.samplers.soundfont import SoundFont

        with closing(SoundFont(path, bank=kit.bank, preset=kit.preset)) as font:
            yield lambda sound, velocity, limit: font.strike(
                sound.key, velocity, semitones=sound.semitones, max_samples=limit
            )
        return
    if kit.kind == "sfz":
        from stemgmd_build.samplers.sfz import SfzKit

        instrument = SfzKit(path)
        yield lambda sound, velocity, limit: instrument.strike(
            sound.key, velocity, semitones=sound.semitones, max_samples=limit
        )
        return
    from stemgmd_build.samplers.drumgizmo import DrumGizmoKit, Microphone
    from stemgmd_build.samplers.hydrogen import HydrogenKit
    from stemgmd_build.samplers.samples import SampleFolder

    if kit.kind == "hydrogen":
        hydrogen = HydrogenKit(path)
        yield lambda sound, velocity, limit: hydrogen.strike(
            sound.key, velocity, semitones=sound.semitones, max_samples=limit
        )
    elif kit.kind == "drumgizmo":
        gizmo = DrumGizmoKit(path, {name: Microphone(*place) for name, *place in kit.microphones})
        yield lambda sound, velocity, limit: gizmo.strike(
            sound.key, velocity, semitones=sound.semitones
        )[:, :limit]
    else:
        folder = SampleFolder(path)
        yield lambda sound, velocity, limit: folder.strike(
            sound.takes or sound.files, velocity, semitones=sound.semitones, max_samples=limit
        )


@dataclass(frozen=True, slots=True)
class Layers:
    """``loudest``: a layer's loudest velocity, layer by layer; ``of_velocity``: 0..127 -> layer."""

    loudest: tuple[int, ...]
    of_velocity: tuple[int, ...]


def find_layers(strike: Strike, sound: Sound, power: float = 1.0) -> tuple[Layers, list[float]]:
    """The velocity layers of a sound by measurement, and each velocity's gain (0 at velocity 0).

    Neighbouring velocities are one layer while a gain alone turns one into the other: the
    residual of the least-squares gain is below -90 dB. A velocity without a sound of its own, as
    fonts leave out the soft ones, sounds like the next louder one that has one, turned down by
    the ``power`` of their velocities' ratio; like the next softer one where none is louder.

    Raises NoSoundError where no velocity gives a sound.
    """
    found: list[NDArray[np.float32] | None] = []
    silence = NoSoundError("no velocity gives a sound")
    for velocity in range(1, 128):
        try:
            found.append(strike(sound, velocity, _PROBE_SAMPLES))
        except NoSoundError as error:
            found.append(None)
            silence = error
    own = [v for v in range(127) if found[v] is not None]
    if not own:
        raise silence
    probes = [_probe(found, own, v, power) for v in range(127)]
    layer_of = [0]
    for quieter, louder in itertools.pairwise(probes):
        layer_of.append(layer_of[-1] + (not _is_gain_alone(louder, quieter)))
    loudest = [max(v for v in own if layer_of[v] == i) for i in range(layer_of[-1] + 1)]
    gains = [
        0.0,
        *(_gain(probes[loudest[i]], probe) for i, probe in zip(layer_of, probes, strict=True)),
    ]
    return Layers(tuple(v + 1 for v in loudest), (0, *layer_of)), gains


def _probe(
    found: Sequence[NDArray[np.float32] | None], own: Sequence[int], v: int, power: float
) -> NDArray[np.float32]:
    """The probe at index ``v`` (velocity v + 1), or what stands in for it."""
    nearest = next((i for i in own if i >= v), own[-1])
    probe = found[nearest]
    assert probe is not None
    ratio = min(1.0, (v + 1) / (nearest + 1))
    return probe if ratio == 1.0 else probe * np.float32(ratio**power)


def _gain(reference: NDArray[np.float32], probe: NDArray[np.float32]) -> float:
    """Least-squares gain that turns the reference into the probe."""
    n_samples = min(reference.shape[1], probe.shape[1])
    loud = reference[:, :n_samples].astype(np.float64)
    energy = float(np.vdot(loud, loud))
    return float(np.vdot(loud, probe[:, :n_samples])) / energy if energy else 0.0


def _is_gain_alone(reference: NDArray[np.float32], probe: NDArray[np.float32]) -> bool:
    if reference.shape != probe.shape:
        return False
    residual = probe - _gain(reference, probe) * reference.astype(np.float64)
    energy = float(np.vdot(probe, probe.astype(np.float64)))
    return float(np.vdot(residual, residual)) <= energy * 10 ** (_SAME_LAYER_DB / 10)


def ring(shot: NDArray[np.float32], kit: Kit, sound: Sound) -> NDArray[np.float32]:
    """The shot until it stays below -90 dB of its peak: float32 (2, n_samples).

    Raises UserError for silence, for what never dies away, and for what is not a finite number.
    """
    level = np.abs(shot).max(axis=0, initial=0.0)
    peak = float(level.max(initial=0.0))
    where = f"{' and '.join(sound.files) or f'key {sound.key}'} of {kit.id}"
    if not np.isfinite(peak):
        raise UserError(f"{where} gives samples that are not finite numbers")
    if peak < 1e-6:
        raise NoSoundError(f"{where} is silent; correct the kit's map")
    n_samples = last_above(level, peak * 10 ** (FLOOR_DB / 20))
    if n_samples >= _LONGEST_SAMPLES:
        raise UserError(f"{where} still rings after {_LONGEST_SAMPLES // SAMPLE_RATE} s: no drum")
    return shot[:, :n_samples]


def tail_of(shot: NDArray[np.float32]) -> tuple[int, float]:
    """(samples until the shot (2, n_samples) stays below -60 dB of its peak, peak)."""
    level = np.abs(shot).max(axis=0)
    peak = float(level.max())
    return last_above(level, peak * 10 ** (TAIL_DB / 20)), peak


def last_above(level: NDArray[np.floating], threshold: float) -> int:
    """Samples until a level (n_samples,) stays below a threshold that it reaches."""
    return int(np.flatnonzero(level >= threshold)[-1]) + 1


def _make_and_report(digest: str) -> int:
    """The child's main: a kit on stdin, a line on stdout if it cannot be sampled.

    C libraries complain on stderr by themselves; nobody reads that.
    """
    kit: Kit = pickle.load(sys.stdin.buffer)  # noqa: S301  from our own parent
    try:
        # Two threads of linear algebra that wait for each other on a busy machine take many times
        # as long as one.
        with threadpool_limits(1):
            make_bank(kit, digest)
        return 0
    except CacheError as error:
        print(error)
        return CACHE_STATUS
    except UserError as error:
        print(error)
    except Exception as error:
        print(f"it cannot be sampled: {type(error).__name__}: {' '.join(str(error).split())}")
    return 1


if __name__ == "__main__":
    sys.exit(_make_and_report(sys.argv[1]))
