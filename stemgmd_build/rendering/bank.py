"""The one-shot bank of a kit: every articulation and velocity layer, taken from its source once.

Within one velocity layer a sampler only turns the same recording up or down, so a layer is one
*shot* and a gain for each velocity. Layers are not read from the source but found by measurement:
all 127 velocities are struck, and neighbours whose difference is a gain alone (residual below
-90 dB) are one layer. A shot is kept until it has died away by 90 dB from its peak.

Banks lie in the cache as one memory-mapped file each, named by the hash of all that they depend
on, so that any number of workers share one copy, and a machine without the synthesizer can be given
another's. They are made in a process of their own: a
hostile SoundFont that brings the synthesizer down takes no build with it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stemgmd_build.errors import UserError
from stemgmd_build.kits import catalogue as kits
from stemgmd_build.kits.kit import Kit, Sound
from stemgmd_build.paths import CacheError, cache_folder, unwritable
from stemgmd_build.taxonomy import ARTICULATION_OF_NOTE, ARTICULATIONS, SAMPLE_RATE

BANK_VERSION: Final = 1
"""Goes up whenever the same kit would give other samples."""

FLOOR_DB: Final = -90.0  # a full-scale peak is under one 16-bit step by then
TAIL_DB: Final = -60.0
_SAME_LAYER_DB: Final = -90.0
_PROBE_SAMPLES: Final = 8192
_LONGEST_SAMPLES: Final = 30 * SAMPLE_RATE
_BUILD_TIMEOUT_SEC: Final = 600

_CACHE_STATUS: Final = 3  # of the child, where the fault is the cache's and not the kit's

Strike = Callable[[Sound, int, int], NDArray[np.float32]]
"""(sound, velocity, max_samples) -> float32 (2, n_samples)."""


@dataclass(frozen=True, slots=True)
class Shot:
    """Where a shot lies in the bank's samples, and until when it is above -60 dB of its peak."""

    start: int
    n_samples: int
    n_tail60: int
    peak: float


@dataclass(frozen=True, slots=True)
class Bank:
    """A kit's one-shots, ready to be placed.

    ``samples``: float32 (2, n), full scale 1.0, all shots one after another, memory-mapped.
    ``shot_of``, ``gain_of``: (articulation, velocity 0..127) -> index into ``shots``, factor;
    articulations in the taxonomy's order, with the kit's piece gains and its one gain folded in.
    ``digest`` names what was sampled, ``source`` what sampled it.
    """

    kit: Kit
    samples: NDArray[np.float32]
    shots: tuple[Shot, ...]
    shot_of: NDArray[np.int32]
    gain_of: NDArray[np.float32]
    digest: str
    source: str

    def shot(self, index: int) -> NDArray[np.float32]:
        """The samples of one shot: float32 (2, n_samples), a view."""
        shot = self.shots[index]
        return self.samples[:, shot.start : shot.start + shot.n_samples]


def load_bank(kit: Kit, *, gain: float | None = None) -> Bank:
    """The kit's bank, taken from its source the first time and from the cache ever after.

    With its bank in the cache neither the source nor FluidSynth need be on this machine.

    ``gain`` overrides the kit's own; a kit with neither is loaded at gain 1.
    Raises UserError where the kit is missing, broken, or lacks a sound that its map names;
    CacheError where the bank cannot be kept.
    """
    digest, source = _digest(kit)
    if not _is_kept(_folder() / digest):
        _make_in_own_process(kit, digest)
    return _open(kit, digest, source, kit.gain or 1.0 if gain is None else gain)


def is_sampled(kit: Kit) -> bool:
    """Whether the kit's bank lies in the cache, so that loading it takes no time."""
    return _is_kept(_folder() / _digest(kit)[0])


def require_at_hand(chosen: Sequence[Kit]) -> None:
    """Raise UserError, with the way out, for kits neither on this machine nor sampled already."""

    def is_at_hand(kit: Kit) -> bool:
        with suppress(UserError):  # no synthesizer, and no bank either
            return kits.locate(kit) is not None or is_sampled(kit)
        return False

    missing = [kit.id for kit in chosen if not is_at_hand(kit)]
    if missing:
        raise UserError(
            f"not on this machine: {', '.join(missing)}; `stemgmd kits fetch {' '.join(missing)}` "
            "downloads them, or choose other kits"
        )


def _is_kept(path: Path) -> bool:
    return path.with_suffix(".json").exists() and path.with_suffix(".npy").exists()


def _folder() -> Path:
    return cache_folder() / "banks"


def _digest(kit: Kit) -> tuple[str, str]:
    """Hash of all that the samples depend on, and the sampler's name and version."""
    try:
        source = _sampler(kit)
    except UserError:  # no synthesizer here, but perhaps what one made elsewhere
        for source in sorted(_samplers_of_cache()):
            digest = _hash(kit, source)
            if _is_kept(_folder() / digest):
                return digest, source
        raise
    return _hash(kit, source), source


def _hash(kit: Kit, source: str) -> str:
    # Gains are left out: they are applied to the table, not to the samples.
    keys = {name: (s.files or s.key, s.semitones) for name, s in sorted(kit.sounds.items())}
    facts = [BANK_VERSION, kit.kind, kit.sha256, kit.bank, kit.preset, keys, source]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _sampler(kit: Kit) -> str:
    """What samples such a kit, with its version. Raises UserError where it is not installed."""
    if kit.kind == "soundfont":
        from stemgmd_build.samplers.soundfont import library_version

        return f"FluidSynth {library_version()}"
    import soxr

    reader = "Hydrogen kit reader" if kit.kind == "hydrogen" else "sample files"
    return f"{reader}, soxr {soxr.__version__}"


def _samplers_of_cache() -> set[str]:
    """What made the banks that lie in the cache."""
    found = set()
    for path in _folder().glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.add(str(json.loads(path.read_text("utf-8"))["source"]))
    return found


def _open(kit: Kit, digest: str, source: str, gain: float) -> Bank:
    path = _folder() / digest
    sounds = [kit.sound(articulation) for articulation in ARTICULATIONS]
    factors = np.array([gain * 10 ** (sound.gain_db / 20) for sound in sounds])
    try:
        index = json.loads(path.with_suffix(".json").read_text("utf-8"))
        # A plain array over the mapped pages: slicing np.memmap itself costs microseconds a hit.
        samples = np.asarray(np.load(path.with_suffix(".npy"), mmap_mode="r"))
        shots = tuple(Shot(**shot) for shot in index["shots"])
        tables = [index["sounds"][_sound_name(sound)] for sound in sounds]
        shot_of = np.array([table["shot_of"] for table in tables], np.int32)
        gain_of = np.array([table["gain_of"] for table in tables], np.float64)
        ends = list(itertools.accumulate((shot.n_samples for shot in shots), initial=0))
        if (
            samples.shape != (2, ends[-1])
            or [shot.start for shot in shots] != ends[:-1]
            or not shot_of.shape == gain_of.shape == (len(ARTICULATIONS), 128)
            or not 0 <= shot_of.min() <= shot_of.max() < len(shots)
        ):
            raise ValueError("sizes")
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the bank of kit {kit.id} is damaged; delete {path}.json and {path}.npy and try again"
        ) from error
    gains = (gain_of * factors[:, None]).astype(np.float32)
    return Bank(kit, samples, shots, shot_of, gains, digest, source)


def _sound_name(sound: Sound) -> str:
    return f"{'|'.join(sound.files) or sound.key}{sound.semitones:+g}"


def _make_in_own_process(kit: Kit, digest: str) -> None:
    """Make the bank in a child, so that a crash of the C synthesizer is an error, not an end.

    A program of its own rather than a multiprocessing child: that one would run the caller's
    script again, which works only where the script guards its main part.
    """
    command = [sys.executable, "-m", "stemgmd_build.rendering.bank", digest]
    is_cache = False
    try:
        child = subprocess.run(
            command, input=pickle.dumps(kit), capture_output=True, timeout=_BUILD_TIMEOUT_SEC
        )
        problem = child.stdout.decode(errors="replace").strip()
        is_cache = child.returncode == _CACHE_STATUS
        if child.returncode and not problem:
            problem = "its sampler crashed: the file is corrupt or hostile"
    except subprocess.TimeoutExpired:
        problem = f"it could not be sampled within {_BUILD_TIMEOUT_SEC} s"
    if is_cache:
        raise CacheError(problem)
    if problem:
        raise UserError(f"kit {kit.id} ({kit.path}): {problem}")


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
        return _CACHE_STATUS
    except UserError as error:
        print(error)
    except Exception as error:
        print(f"it cannot be sampled: {type(error).__name__}: {' '.join(str(error).split())}")
    return 1


def make_bank(kit: Kit, digest: str) -> None:
    """Sample the kit and write its bank to the cache, whole or not at all.

    Raises UserError as ``load_bank`` does.
    """
    path = kits.require(kit)
    chunks: list[NDArray[np.float32]] = []
    shots: list[Shot] = []
    sounds: dict[str, dict[str, list[float]]] = {}
    # Every sound a kit can be asked for, once: articulations may share one.
    wanted = {_sound_name(s): s for s in map(kit.sound, ARTICULATION_OF_NOTE.values())}
    with _striker(kit, path) as strike:
        for name, sound in wanted.items():
            layers, gains = find_layers(strike, sound)
            first = len(shots)
            for velocity in layers.loudest:
                shot = ring(strike(sound, velocity, _LONGEST_SAMPLES), kit, sound)
                start = shots[-1].start + shots[-1].n_samples if shots else 0
                shots.append(Shot(start, shot.shape[1], *tail_of(shot)))
                chunks.append(shot)
            sounds[name] = {"shot_of": [first + i for i in layers.of_velocity], "gain_of": gains}
    index = {"source": _sampler(kit), "shots": [*map(asdict, shots)], "sounds": sounds}
    try:
        _write(digest, np.concatenate(chunks, axis=1), index)
    except OSError as error:
        raise unwritable(_folder(), f"the bank of kit {kit.id}", error) from error


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
    from stemgmd_build.samplers.hydrogen import HydrogenKit
    from stemgmd_build.samplers.samples import SampleFolder

    kept = functools.lru_cache(maxsize=256)  # probes ask for the same few layers 127 times over
    if kit.kind == "hydrogen":
        strike = kept(HydrogenKit(path).strike)
        yield lambda s, velocity, limit: strike(s.key, velocity, semitones=s.semitones)[:, :limit]
    else:
        play = kept(SampleFolder(path).strike)
        yield lambda s, velocity, limit: play(s.files, velocity, semitones=s.semitones)[:, :limit]


@dataclass(frozen=True, slots=True)
class Layers:
    """``loudest``: a layer's loudest velocity, layer by layer; ``of_velocity``: 0..127 -> layer."""

    loudest: tuple[int, ...]
    of_velocity: tuple[int, ...]


def find_layers(strike: Strike, sound: Sound) -> tuple[Layers, list[float]]:
    """The velocity layers of a sound by measurement, and each velocity's gain (0 at velocity 0).

    Neighbouring velocities are one layer while a gain alone turns one into the other: the
    residual of the least-squares gain is below -90 dB.
    """
    probes = [strike(sound, velocity, _PROBE_SAMPLES) for velocity in range(1, 128)]
    layer_of = [0]
    for quieter, louder in itertools.pairwise(probes):
        layer_of.append(layer_of[-1] + (not _is_gain_alone(louder, quieter)))
    loudest = [max(v for v in range(127) if layer_of[v] == i) for i in range(layer_of[-1] + 1)]
    gains = [
        0.0,
        *(_gain(probes[loudest[i]], probe) for i, probe in zip(layer_of, probes, strict=True)),
    ]
    return Layers(tuple(v + 1 for v in loudest), (0, *layer_of)), gains


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
        raise UserError(f"{where} is silent; correct the kit's map")
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


def _write(digest: str, samples: NDArray[np.float32], index: dict[str, Any]) -> None:
    """Both files of a bank, the index last: it is what says that the bank is whole."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as scratch:
        np.save(Path(scratch) / "samples.npy", samples)
        (Path(scratch) / "index.json").write_text(json.dumps(index), "utf-8")
        os.replace(Path(scratch) / "samples.npy", (folder / digest).with_suffix(".npy"))
        os.replace(Path(scratch) / "index.json", (folder / digest).with_suffix(".json"))


if __name__ == "__main__":
    sys.exit(_make_and_report(sys.argv[1]))
