"""One-shot banks: layers by measurement, gains, tails, the cache and what can go wrong with it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_fonts import write_font
from small_kits import HERE, WHEEL_KIT, Layered, drum_sounds, noise, ping, write_kit

from stemgmd_build.errors import UserError
from stemgmd_build.kits import catalogue
from stemgmd_build.kits.catalogue import find_kit
from stemgmd_build.kits.kit import GENERAL_MIDI, Kit, Sound, source_hash
from stemgmd_build.kits.own import own_kit
from stemgmd_build.rendering import bank as bank_module
from stemgmd_build.rendering import sampling
from stemgmd_build.rendering.bank import (
    Bank,
    _digest,
    is_sampled,
    load_bank,
    require_at_hand,
)
from stemgmd_build.rendering.sampling import FLOOR_DB, find_layers, make_bank, ring
from stemgmd_build.samplers import soundfont
from stemgmd_build.taxonomy import ARTICULATIONS, PIECE_OF_ARTICULATION, PIECES

SNARE = ARTICULATIONS.index("snare")
KICK = ARTICULATIONS.index("kick")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Banks of the tests' own kits stay out of the user's cache."""
    monkeypatch.setenv("STEMGMD_CACHE", str(cache))
    return cache


@pytest.fixture(scope="module")
def layered_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit whose snare has three layers, up to 0.33, 0.66 and 1 of the velocity."""
    sounds = drum_sounds()
    borders = [0.0, 0.33, 0.66, 1.0]
    sounds["snare"] = [Layered(noise(50 + i), borders[i], borders[i + 1]) for i in range(3)]
    return write_kit(tmp_path_factory.mktemp("kits") / "layered", sounds)


@pytest.fixture
def layered(layered_folder: Path, own_cache: Path) -> Bank:
    assert own_cache
    return load_bank(own_kit(layered_folder))


def test_the_layers_of_a_kit_are_found_where_it_has_them(layered: Bank) -> None:
    """Velocities 1..41 of 127 are within 0.33, 42..83 within 0.66."""
    shots = layered.shot_of[SNARE]
    assert [len(set(part.tolist())) for part in (shots[1:42], shots[42:84], shots[84:])] == [1] * 3
    assert len(set(shots.tolist())) == 3
    assert len(set(layered.shot_of[KICK].tolist())) == 1


def test_a_shot_is_its_layers_recording_at_its_loudest_velocity(layered: Bank) -> None:
    for i, loudest in enumerate((41, 83, 127)):
        shot = layered.shot(int(layered.shot_of[SNARE, loudest]))
        expected = noise(50 + i).astype(np.float32)[: shot.shape[1], 0] * (loudest / 127)
        assert np.allclose(shot, expected, atol=1e-6)
        assert layered.gain_of[SNARE, loudest] == pytest.approx(1)


def test_gains_follow_the_velocity_within_a_layer(layered: Bank) -> None:
    """Hydrogen's amplitude is linear in velocity."""
    expected = np.concatenate(
        [np.arange(42) / 41, np.arange(42, 84) / 83, np.arange(84, 128) / 127]
    )
    assert np.allclose(layered.gain_of[SNARE], expected, atol=1e-6)


def test_an_articulation_that_the_kit_lacks_is_its_piece(layered: Bank) -> None:
    rim = ARTICULATIONS.index("snare_rim")
    assert np.array_equal(layered.shot_of[rim], layered.shot_of[SNARE])
    assert np.array_equal(layered.gain_of[rim], layered.gain_of[SNARE])


@settings(max_examples=20, deadline=None)
@given(borders=st.sets(st.integers(2, 127), max_size=9), curve=st.floats(0.3, 3))
def test_layers_are_found_at_any_border_under_any_velocity_curve(
    borders: set[int], curve: float
) -> None:
    """A sampler that changes its recording at these velocities."""
    recordings = [noise(i, 500).T.astype(np.float32) for i in range(len(borders) + 1)]

    def strike(sound: Sound, velocity: int, max_samples: int) -> NDArray[np.float32]:
        assert sound.key == 7
        layer = sum(velocity >= border for border in borders)
        gain = np.float32((velocity / 127) ** curve)
        return recordings[layer][:, :max_samples] * gain

    layers, gains = find_layers(strike, Sound(7))
    assert layers.loudest == (*(border - 1 for border in sorted(borders)), 127)
    expected = [sum(v >= border for border in borders) for v in range(128)]
    assert layers.of_velocity == tuple(expected)
    loudest = np.array([layers.loudest[layer] for layer in expected])
    assert np.allclose(gains, (np.arange(128) / loudest) ** curve, rtol=1e-4)


@pytest.mark.parametrize("kit", HERE, ids=lambda kit: kit.id)
def test_every_kit_at_hand_gives_a_whole_bank(kit: Kit) -> None:
    """Louder velocities are never turned down within a layer, and shots end at -90 dB."""
    bank = load_bank(kit, gain=1.0)
    assert bank.shot_of.shape == bank.gain_of.shape == (len(ARTICULATIONS), 128)
    assert not bank.gain_of[:, 0].any()
    assert (bank.gain_of[:, 1:] > 0).all()
    same_layer = np.diff(bank.shot_of[:, 1:], axis=1) == 0
    ratio = bank.gain_of[:, 2:] / bank.gain_of[:, 1:-1]
    assert (ratio[same_layer] >= 1 - 1e-5).all()
    for index, shot in enumerate(bank.shots):
        level = np.abs(bank.shot(index)).max(axis=0)
        assert level.max() == pytest.approx(shot.peak)
        assert level[-1] >= shot.peak * 10 ** (FLOOR_DB / 20) * 0.999
        assert (level[shot.n_tail60 :] < shot.peak * 1e-3).all()
        assert level[shot.n_tail60 - 1] >= shot.peak * 0.999e-3


def test_nothing_above_the_floor_is_cut_from_a_ring() -> None:
    sound = np.zeros((2, 1000), np.float32)
    sound[0, 3], sound[1, 700], sound[0, 900] = 0.5, 0.5 * 10 ** (-89 / 20), 0.5 * 10 ** (-91 / 20)
    kit = find_kit(WHEEL_KIT)
    assert ring(sound, kit, kit.sound("kick")).shape == (2, 701)


@pytest.mark.parametrize(
    ("value", "n_samples", "problem"),
    [
        (0.0, 1000, "silent"),
        (1e-7, 1000, "silent"),
        (np.nan, 1000, "finite"),
        (np.inf, 1000, "finite"),
        (0.1, 30 * 44100, "still rings"),
        (0.0, 0, "silent"),
    ],
)
def test_silence_endless_sounds_and_wild_numbers_are_no_shot(
    value: float, n_samples: int, problem: str
) -> None:
    kit = find_kit(WHEEL_KIT)
    with pytest.raises(UserError, match=f"key 36 of {WHEEL_KIT}.*{problem}"):
        ring(np.full((2, n_samples), value, np.float32), kit, kit.sound("kick"))


def test_a_bank_is_kept_so_that_its_source_is_not_read_again(
    own_cache: Path, tmp_path: Path
) -> None:
    assert own_cache
    kit = own_kit(write_kit(tmp_path / "kept", drum_sounds(1)))
    first = load_bank(kit)
    shutil.rmtree(tmp_path / "kept")
    again = load_bank(kit)
    assert np.array_equal(first.samples, again.samples)
    assert first.digest == again.digest


def test_a_bank_of_another_machine_serves_where_there_is_no_synthesizer(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = find_kit(WHEEL_KIT)
    made = load_bank(kit)

    def missing() -> None:
        raise UserError("FluidSynth's library is not installed")

    monkeypatch.setattr(soundfont, "_library", missing)
    monkeypatch.setattr(catalogue, "locate", lambda kit: None)
    assert is_sampled(kit)
    require_at_hand([kit])
    with pytest.raises(UserError, match=r"^not on this machine: gone; `stemgmd kits fetch gone`"):
        require_at_hand([kit, replace(kit, id="gone", preset=1)])
    carried = load_bank(kit)
    assert (carried.digest, carried.source) == (made.digest, made.source)
    assert np.array_equal(carried.samples, made.samples)
    (own_cache / "banks" / "damaged.json").write_text("{")
    for other in (replace(kit, sha256="another"), replace(kit, preset=1)):
        with pytest.raises(UserError, match="FluidSynth's library is not installed"):
            load_bank(other)
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="FluidSynth's library is not installed"):
        load_bank(kit)


def test_samples_are_mapped_from_the_file_not_copied(layered: Bank, own_cache: Path) -> None:
    assert isinstance(layered.samples.base, np.memmap)
    assert str(layered.samples.base.filename) == str(own_cache / "banks" / f"{layered.digest}.npy")
    assert not layered.samples.flags.writeable


def test_the_digest_names_what_was_sampled_not_how_loud_it_is(layered: Bank) -> None:
    kit = layered.kit
    louder = {n: replace(s, gain_db=6.0) for n, s in kit.sounds.items()}
    swapped = {**kit.sounds, "hi_tom": kit.sounds["mid_tom"]}
    bent = {**kit.sounds, "hi_tom": replace(kit.sounds["hi_tom"], semitones=1.0)}
    assert load_bank(replace(kit, sounds=louder, gain=0.5)).digest == layered.digest
    changed = [
        replace(kit, sounds=swapped),
        replace(kit, sounds=bent),
        replace(kit, sha256="0" * 64),
        replace(kit, preset=1),
    ]
    assert len({layered.digest, *(_digest(other)[0] for other in changed)}) == 5


def test_gains_of_piece_and_kit_are_in_the_table(layered: Bank) -> None:
    kit = layered.kit
    sounds = {**kit.sounds, "kick": replace(kit.sounds["kick"], gain_db=-6.0)}
    bank = load_bank(replace(kit, sounds=sounds, gain=0.5))
    assert np.allclose(bank.gain_of[SNARE], 0.5 * layered.gain_of[SNARE])
    assert np.allclose(bank.gain_of[KICK], 0.5 * 10 ** (-6 / 20) * layered.gain_of[KICK])
    raw = load_bank(replace(kit, sounds=sounds, gain=0.5), gain=1.0)
    assert np.array_equal(raw.gain_of[SNARE], layered.gain_of[SNARE])


def _zeroed(data: bytes) -> bytes:
    """As a power loss leaves a file that was not flushed."""
    return data[: len(data) * 3 // 10] + bytes(len(data) - len(data) * 3 // 10)


_DAMAGE = {
    "zeros": _zeroed,
    "empty": lambda data: b"",
    "cut short": lambda data: data[:-8],
    "a bit": lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
    "junk in its head": lambda data: data[:20] + b"\0([" + data[23:],
    "not of this kit": lambda data: b'{"sounds": {}}',
}


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", _DAMAGE)
def test_a_bank_that_is_not_what_was_written_is_made_anew(
    layered: Bank, own_cache: Path, suffix: str, damage: str
) -> None:
    path = own_cache / "banks" / (layered.digest + suffix)
    # A new file: the old one is mapped, and cutting a mapped file ends the process.
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(_DAMAGE[damage](whole))
    again = load_bank(layered.kit)
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(again.samples, layered.samples)
    np.testing.assert_array_equal(again.gain_of, layered.gain_of)


def test_a_damaged_bank_whose_kit_is_gone_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    kit = own_kit(write_kit(tmp_path / "kit", drum_sounds()))
    path = tmp_path / "cache" / "banks" / f"{load_bank(kit).digest}.npy"
    path.unlink()
    path.write_bytes(b"")
    shutil.rmtree(tmp_path / "kit")
    with pytest.raises(UserError, match="bank of kit kit is damaged and was not made anew: "):
        load_bank(kit)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOMEM, errno.EMFILE, errno.EIO])
def test_what_cannot_be_read_is_not_called_damaged(
    layered: Bank, own_cache: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(UserError, match=f"cannot be read: {os.strerror(number)}") as caught:
        load_bank(layered.kit)
    assert "damaged" not in str(caught.value)
    assert (own_cache / "banks" / f"{layered.digest}.npy").exists()


def test_what_was_checked_since_the_start_is_not_read_again(
    layered: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by other processes, which know it from the cache; a touched file is."""
    load_bank(layered.kit)
    monkeypatch.setattr(bank_module, "_CHECKED", set())
    monkeypatch.setattr(bank_module, "_boot", lambda: "this time")
    load_bank(layered.kit)
    monkeypatch.setattr(bank_module, "_CHECKED", set())
    monkeypatch.delattr(hashlib, "file_digest")
    load_bank(layered.kit)
    monkeypatch.setattr(bank_module, "_boot", lambda: "the next")
    with pytest.raises(UserError):
        load_bank(layered.kit)


# --- what a source lacks ------------------------------------------------------------------------


def _font_sounds(keys: Iterable[int]) -> dict[int, NDArray[np.floating]]:
    return {key: noise(key)[:, 0] for key in keys}


def test_a_soundfont_of_nine_keys_is_a_kit(own_cache: Path, tmp_path: Path) -> None:
    """Its finer articulations sound like their pieces, unless a map names them."""
    nine = [GENERAL_MIDI[piece] for piece in PIECES]
    path = write_font(
        tmp_path / "nine.sf2", _font_sounds(nine), softest={GENERAL_MIDI["snare"]: 41}
    )
    bank = load_bank(own_kit(path))
    for name, piece in PIECE_OF_ARTICULATION.items():
        rows = ARTICULATIONS.index(name), ARTICULATIONS.index(piece)
        np.testing.assert_array_equal(*bank.shot_of[rows, :])
        np.testing.assert_array_equal(*bank.gain_of[rows, :])
    gains = bank.gain_of[SNARE]
    assert (np.diff(gains) > 0).all()  # soft strokes that the font leaves out are softer ones
    assert gains[20] == pytest.approx(gains[41] * (20 / 41) ** 2, rel=1e-3)
    lines = "\n".join(f"{piece} = {GENERAL_MIDI[piece]}" for piece in PIECES)
    (tmp_path / "mine.toml").write_text(f"path = 'nine.sf2'\n[sounds]\n{lines}\nsnare_rim = 40")
    with pytest.raises(UserError, match="has no sound on note 40"):
        load_bank(own_kit(tmp_path / "mine.toml"))
    del nine[3]
    with pytest.raises(UserError, match=f"has no sound on note {GENERAL_MIDI[PIECES[3]]}"):
        load_bank(own_kit(write_font(tmp_path / "eight.sf2", _font_sounds(nine))))


def test_a_kit_of_endless_layers_is_refused_before_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MAX_BANK_BYTES", 300_000)
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    kit = own_kit(write_kit(tmp_path / "kit", drum_sounds()))
    with pytest.raises(UserError, match=r"take more than 0\.0 GB .* use fewer layers"):
        make_bank(kit, "digest")


def test_a_cache_that_cannot_be_written_is_an_error(
    tmp_path: Path, layered_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written"):
        load_bank(own_kit(layered_folder))


def test_a_crash_of_the_sampler_is_an_error_not_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that samples is killed at its start, as a fault in C code would."""
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    kit = own_kit(write_kit(tmp_path / "killed", drum_sounds(2)))
    problems: list[str] = []

    def load() -> None:
        try:
            load_bank(kit)
        except UserError as error:
            problems.append(str(error))

    loader = threading.Thread(target=load)
    loader.start()
    samplers: list[psutil.Process] = []
    while loader.is_alive() and not samplers:
        samplers = _samplers()
    for sampler in samplers:
        sampler.kill()
    loader.join(120)
    assert len(problems) == 1
    assert "crashed" in problems[0]
    assert "killed" in problems[0]
    assert not list((tmp_path / "cache").rglob("*.json"))


def _samplers() -> list[psutil.Process]:
    """This process's children that sample a kit; others, such as multiprocessing's, live on."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "stemgmd_build.rendering.sampling" in child.cmdline():
                found.append(child)
    return found


def test_a_bank_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kit that fails at its last sound leaves nothing."""
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    kit = own_kit(write_kit(tmp_path / "kit", drum_sounds(3)))
    (tmp_path / "kit" / "ride-0.wav").unlink()
    with pytest.raises(UserError, match="ride-0"):
        make_bank(kit, "digest")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


_LOAD: str = (
    "import sys; from pathlib import Path; from stemgmd_build.rendering.bank import load_bank; "
    # Without a guard of its main part, as a user's script may be.
    "from stemgmd_build.kits.catalogue import own_kit; "
    "print(load_bank(own_kit(Path(sys.argv[1]))).samples.sum())"
)


def test_two_processes_may_want_the_same_bank_at_once(tmp_path: Path) -> None:
    folder = write_kit(tmp_path / "kit", drum_sounds(4))
    environment = {**os.environ, "STEMGMD_CACHE": str(tmp_path / "cache")}
    (tmp_path / "load.py").write_text(_LOAD)
    both = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "load.py"), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] != ""
    files = (tmp_path / "cache" / "banks").iterdir()
    assert sorted(file.suffix for file in files) == [".checked", ".json", ".npy"]


def test_a_kit_that_changed_on_disk_gets_a_bank_of_its_own(layered: Bank, tmp_path: Path) -> None:
    sounds = {piece: [Layered(ping(200 + 10 * i))] for i, piece in enumerate(PIECES)}
    folder = write_kit(tmp_path / "kit", sounds)
    first = load_bank(own_kit(folder))
    (folder / "kick-0.wav").write_bytes((folder / "ride-0.wav").read_bytes())
    assert source_hash(folder, {}) != first.kit.sha256
    second = load_bank(own_kit(folder))
    assert len({layered.digest, first.digest, second.digest}) == 3
    kick, ride = (second.shot_of[ARTICULATIONS.index(name), 127] for name in ("kick", "ride"))
    assert np.array_equal(second.shot(int(kick)), second.shot(int(ride)))
