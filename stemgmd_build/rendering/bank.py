"""The one-shot bank of a kit: every articulation and velocity layer, taken from its source once.

A bank is *shots*, one a velocity layer, and for each articulation and velocity which of them
sounds and how loud (:mod:`stemgmd_build.rendering.sampling`). Banks lie in the cache as one
memory-mapped file each, named by the hash of all that they depend on, so that any number of
workers share one copy, and a machine without the synthesizer can be given another's. They are made
in a process of their own: a hostile SoundFont that brings the synthesizer down takes no build
with it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import pickle
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.files import publish, scratch_folder, write_whole
from stemgmd_build.kits import catalogue as kits
from stemgmd_build.kits.kit import Kit, Sound
from stemgmd_build.paths import CacheError, cache_folder, unwritable
from stemgmd_build.processes import python_module
from stemgmd_build.taxonomy import ARTICULATIONS

BANK_VERSION: Final = 1
"""Goes up whenever the same kit would give other samples."""

CACHE_STATUS: Final = 3
"""How the program that samples ends where the fault is the cache's and not the kit's."""

_BUILD_TIMEOUT_SEC: Final = 1800


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

    With its bank in the cache neither the source nor FluidSynth need be on this machine. A bank
    whose content is not what was written (a power loss leaves zeros) is made anew.

    ``gain`` overrides the kit's own; a kit with neither is loaded at gain 1.
    Raises UserError where the kit is missing, broken, or lacks a sound that its map names;
    CacheError where the bank cannot be kept.
    """
    digest, source = _digest(kit)
    factor = kit.gain or 1.0 if gain is None else gain
    is_damaged = False
    if _is_kept(_folder() / digest):
        try:
            return _open(kit, digest, source, factor)
        except _DamagedBankError:
            is_damaged = True
    try:
        _make_in_own_process(kit, digest)
        return _open(kit, digest, source, factor)
    except CacheError:
        raise
    except UserError as error:
        if not is_damaged:
            raise
        raise UserError(
            f"the bank of kit {kit.id} is damaged and was not made anew: {error}"
        ) from (error)


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


class _DamagedBankError(UserError):
    """What lies in the cache is not what was written there."""


def _is_kept(path: Path) -> bool:
    # os.path, not pathlib: a folder that may not be read holds no bank, and is no traceback
    return all(os.path.exists(path.with_suffix(end)) for end in (".json", ".npy"))


def _folder() -> Path:
    return cache_folder() / "banks"


def _digest(kit: Kit) -> tuple[str, str]:
    """Hash of all that the samples depend on, and the sampler's name and version."""
    try:
        source = sampler_of(kit)
    except UserError:  # no synthesizer here, but perhaps what one made elsewhere
        for source in sorted(_samplers_of_cache()):
            digest = _hash(kit, source)
            if _is_kept(_folder() / digest):
                return digest, source
        raise
    return _hash(kit, source), source


def _hash(kit: Kit, source: str) -> str:
    # Gains are left out: they are applied to the table, not to the samples.
    keys = {
        name: (repr(s.takes) if s.takes else s.files or s.key, s.semitones)
        for name, s in sorted(kit.sounds.items())
    }
    facts: list[object] = [BANK_VERSION, kit.kind, kit.sha256, kit.bank, kit.preset, keys, source]
    if kit.microphones:
        facts.append(kit.microphones)
    if kit.by_general_midi:  # what it lacks is filled in
        facts.append("by General MIDI")
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def sampler_of(kit: Kit) -> str:
    """What samples such a kit, with its version. Raises UserError where it is not installed."""
    if kit.kind == "soundfont":
        from stemgmd_build.samplers.soundfont import library_version

        return f"FluidSynth {library_version()}"
    if kit.kind == "sfz":
        from stemgmd_build.samplers import sfz

        return f"pysfizz {sfz.library_version()}"
    import soxr

    readers = {"hydrogen": "Hydrogen kit reader", "drumgizmo": "DrumGizmo kit reader"}
    reader = readers.get(kit.kind, "sample files")
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
        if index["sha256"] != _index_hash(index):
            raise ValueError("the index's hash")
        _check_samples(path.with_suffix(".npy"), index["samples_sha256"])
        # A plain array over the mapped pages: slicing np.memmap itself costs microseconds a hit.
        samples = np.asarray(np.load(path.with_suffix(".npy"), mmap_mode="r"))
        shots = tuple(Shot(**shot) for shot in index["shots"])
        tables = [index["sounds"][sound_name(sound)] for sound in sounds]
        shot_of = np.array([table["shot_of"] for table in tables], np.int32)
        gain_of = np.array([table["gain_of"] for table in tables], np.float64)
        ends = list(itertools.accumulate((shot.n_samples for shot in shots), initial=0))
        if samples.shape != (2, ends[-1]):
            raise ValueError("sizes")
    except (OSError, MemoryError) as error:  # no permission, no memory, too many open files
        reason = getattr(error, "strerror", None) or "not enough memory"
        raise UserError(
            f"the bank of kit {kit.id} ({path}.npy) cannot be read: {reason}"
        ) from error
    except Exception as error:  # numpy's, json's, tokenize's, ...: damage has a dozen kinds
        raise _DamagedBankError(
            f"the bank of kit {kit.id} is damaged; delete {path}.json and {path}.npy and try again"
        ) from error
    gains = (gain_of * factors[:, None]).astype(np.float32)
    return Bank(kit, samples, shots, shot_of, gains, digest, source)


def _index_hash(index: Mapping[str, Any]) -> str:
    """Hash of all that an index says, its own hash left out."""
    content = {name: value for name, value in index.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_samples(path: Path, sha256: str) -> None:
    """Raise ValueError unless the file has this hash, which takes half a second per GB.

    What was checked since the machine was started is not read again while its inode is untouched:
    what a power loss leaves behind is found, and the workers of a build need not look.
    """
    about = path.stat()
    state = [_boot(), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns]
    seen = f"{path.name} {sha256} {[*state, about.st_ctime_ns]}"
    mark = path.with_suffix(".checked")
    if seen in _CHECKED or (_boot() and _text(mark) == seen):
        return
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError("the samples' hash")
    _CHECKED.add(seen)
    with suppress(OSError):  # a cache that cannot be written is checked by every process
        write_whole(mark, seen, shared=True)


_CHECKED: Final[set[str]] = set()


@functools.cache
def _boot() -> str:
    """What names the time since the machine was started; "" where the system does not say."""
    return _text(Path("/proc/sys/kernel/random/boot_id"))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""


def sound_name(sound: Sound) -> str:
    """What a sound is called in a bank's index."""
    source = "|".join(sound.files) or sound.key
    if sound.takes:  # other mixes or cuts of the same files are other sounds
        source = hashlib.sha256(repr(sound.takes).encode()).hexdigest()[:16]
    return f"{source}{sound.semitones:+g}"


def _make_in_own_process(kit: Kit, digest: str) -> None:
    """Make the bank in a child, so that a crash of the C synthesizer is an error, not an end.

    A program of its own rather than a multiprocessing child: that one would run the caller's
    script again, which works only where the script guards its main part.
    """
    command = python_module("stemgmd_build.rendering.sampling", digest)
    is_cache = False
    try:
        child = subprocess.run(
            command, input=pickle.dumps(kit), capture_output=True, timeout=_BUILD_TIMEOUT_SEC
        )
        problem = child.stdout.decode(errors="replace").strip()
        is_cache = child.returncode == CACHE_STATUS
        if child.returncode and not problem:
            problem = "its sampler crashed: the file is corrupt or hostile"
    except subprocess.TimeoutExpired:
        problem = f"it could not be sampled within {_BUILD_TIMEOUT_SEC} s"
    if is_cache:
        raise CacheError(problem)
    if problem:
        raise UserError(f"kit {kit.id} ({kit.path}): {problem}")


def write_bank(
    kit: Kit,
    digest: str,
    chunks: Sequence[NDArray[np.float32]],
    shots: Sequence[Shot],
    sounds: Mapping[str, Mapping[str, Sequence[float]]],
) -> None:
    """Both files of a bank, the index last: it says that the bank is whole, by its hash.

    ``chunks``: the samples of each shot, (2, n_samples). ``sounds``: :func:`sound_name` ->
    ``shot_of`` and ``gain_of`` by velocity, 0 to 127. Raises CacheError where they cannot be
    written.
    """
    folder = _folder()
    try:
        with scratch_folder(folder) as scratch:
            n_samples = sum(chunk.shape[1] for chunk in chunks)
            file = scratch / "samples.npy"
            # Not concatenated: a bank may be of a GB, and would be held twice.
            whole = np.lib.format.open_memmap(file, "w+", np.float32, (2, n_samples))
            for shot, chunk in zip(shots, chunks, strict=True):
                whole[:, shot.start : shot.start + shot.n_samples] = chunk
            whole.flush()
            del whole
            index = {
                "source": sampler_of(kit),
                "shots": [*map(asdict, shots)],
                "sounds": sounds,
                "samples_sha256": sha256_of_file(file),
            }
            index["sha256"] = _index_hash(index)
            (scratch / "index.json").write_text(json.dumps(index), "utf-8")
            for name in ("samples.npy", "index.json"):
                publish(scratch / name, (folder / digest).with_suffix(Path(name).suffix))
    except OSError as error:
        raise unwritable(folder, f"the bank of kit {kit.id}", error) from error
