"""SoundFonts: our rendering against the synthesizer itself, and fonts that are damaged."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_kits import HERE, chunk_of, score, wheel_font, without_gains

from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import find_kit, require
from stemgmd_build.kits.kit import Kit
from stemgmd_build.kits.own import own_kit
from stemgmd_build.rendering.bank import load_bank
from stemgmd_build.rendering.render import FADE_SAMPLES, render, schedule, strikes_of
from stemgmd_build.samplers import soundfont
from stemgmd_build.samplers.soundfont import (
    BLOCK,
    N_CHANNELS,
    SoundFont,
    check_riff,
    library_version,
)
from stemgmd_build.taxonomy import PIECE_OF_ARTICULATION

FONTS = [kit for kit in HERE if kit.kind == "soundfont"]
N_BURSTS = 8

Burst = list[tuple[float, str, int]]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Banks of a test's own kits stay out of the user's cache."""
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _bursts(seed: int) -> list[Burst]:
    """16 hits each, four in a block of 64 samples, with random articulations and velocities."""
    rng = np.random.default_rng(seed)
    names = list(PIECE_OF_ARTICULATION)
    return [
        [
            (i // 4 * BLOCK, names[int(rng.integers(len(names)))], int(rng.integers(1, 128)))
            for i in range(N_CHANNELS)
        ]
        for _ in range(N_BURSTS)
    ]


def _synthesized(font: SoundFont, kit: Kit, burst: Burst, n_samples: int) -> NDArray[np.float32]:
    """What FluidSynth plays: every hit on a channel, and hence on voices, of its own.

    All are begun before any has ended: it starts a voice that it reuses otherwise than a new one,
    and some hits have voices that end within 500 samples.
    """
    font.renew()
    parts = []
    n_voices = 0
    for channel, (_, name, velocity) in enumerate(burst):
        assert _n_voices(font) == n_voices, "a voice has ended: put the hits closer together"
        sound = kit.sound(name)
        font.start(sound.key, velocity, channel=channel, semitones=sound.semitones)
        n_voices = _n_voices(font)
        if channel % 4 == 3:
            parts.append(font.write(BLOCK))
    rest = n_samples - BLOCK * len(parts)
    parts.append(font.write(-(-rest // BLOCK) * BLOCK))
    return np.concatenate(parts, axis=1)[:, :n_samples]


def _n_voices(font: SoundFont) -> int:
    return int(font._fs.fluid_synth_get_active_voice_count(font._player))


@pytest.mark.parametrize("kit", FONTS, ids=lambda kit: kit.id)
def test_rendering_equals_the_synthesizer_to_80_db(kit: Kit) -> None:
    """RMS over 8 bursts of 16 overlapping hits, to full scale and to the passage itself."""
    raw = without_gains(kit)
    bank = load_bank(raw, gain=1.0)
    error = energy = 0.0
    n_values = 0
    with SoundFont(require(kit), bank=kit.bank, preset=kit.preset) as font:
        for burst in _bursts(seed=2):
            strikes = strikes_of(score(*burst))
            plan = schedule(strikes, bank, articulations="full", choke=False)
            n_samples = plan.n_samples - FADE_SAMPLES * plan.fades
            ours = render(plan, stop=n_samples).sum(axis=0)
            theirs = _synthesized(font, raw, burst, n_samples).astype(np.float64)
            error += float(np.sum(np.square(ours - theirs)))
            energy += float(np.sum(np.square(theirs)))
            n_values += theirs.size
    assert energy / n_values > 1e-8  # the passage is heard
    assert 10 * np.log10(error / n_values) <= -80
    assert 10 * np.log10(error / energy) <= -80


def test_a_strike_begins_with_the_file_and_is_the_same_every_time() -> None:
    with SoundFont(wheel_font(), bank=128, preset=0) as font:
        first = font.strike(38, 100, max_samples=1 << 16)
        again = font.strike(38, 100, max_samples=1 << 16)
        short = font.strike(38, 100, max_samples=1000)
    assert np.array_equal(first, again)
    assert np.array_equal(short, first[:, :1000])
    assert 0.01 < np.abs(first).max() < 4


def test_pitch_bends_by_semitones() -> None:
    """An octave down is the same wave at half the speed: half the zero crossings a second."""
    with SoundFont(wheel_font(), bank=128, preset=0) as font:
        plain = font.strike(43, 100, max_samples=8192)[0]
        lower = font.strike(43, 100, semitones=-12, max_samples=16384)[0]
    crossings = [np.count_nonzero(np.diff(np.signbit(sound))) for sound in (plain, lower)]
    assert crossings[0] == pytest.approx(crossings[1], rel=0.1)


def test_another_package_of_that_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPI has a package fluidsynth, which imports and holds nothing of pyfluidsynth's."""
    stranger = ModuleType("fluidsynth")
    stranger.__file__ = "somewhere/fluidsynth/__init__.py"
    monkeypatch.setitem(sys.modules, "fluidsynth", stranger)
    soundfont._library.cache_clear()
    with pytest.raises(UserError, match="pyfluidsynth"):
        soundfont.library_version()


def test_the_librarys_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", library_version())


def test_presets_are_listed_percussion_first() -> None:
    with SoundFont(wheel_font(), bank=128, preset=0) as font:
        presets = font.presets()
    assert presets[0] == (128, 0)
    assert (0, 0) in presets


def _refusal(path: Path) -> str:
    """The one line with which a kit is refused."""
    with pytest.raises(UserError) as caught:
        load_bank(own_kit(path))
    line = str(caught.value)
    assert "\n" not in line
    return line


def _toml(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(f"path = '{wheel_font()}'\n{text}")
    return path


@pytest.mark.usefixtures("own_cache")
def test_a_preset_that_does_not_exist_is_an_error_that_names_those_that_do(tmp_path: Path) -> None:
    line = _refusal(_toml(tmp_path, "preset = 77"))
    assert "128:77" in line
    assert "128:0" in line


@pytest.mark.parametrize(("bank", "preset"), [(-1, 0), (128, -1), (999999, 0), (128, 128)])
def test_numbers_that_no_preset_has_are_an_error(bank: int, preset: int) -> None:
    with pytest.raises(UserError, match=f"no preset {bank}:{preset}"):
        SoundFont(wheel_font(), bank=bank, preset=preset)


@pytest.mark.parametrize("note", [5, -1, 128, 300])
def test_a_note_without_a_sample_is_an_error(note: int) -> None:
    with (
        SoundFont(wheel_font(), bank=128, preset=0) as font,
        pytest.raises(UserError, match=f"note {note} at velocity 100"),
    ):
        font.strike(note, 100, max_samples=BLOCK)


@pytest.mark.usefixtures("own_cache")
def test_a_map_to_a_note_without_a_sample_is_an_error(tmp_path: Path) -> None:
    text = "\n".join(f"{name} = {key}" for name, key in _map_with(5).items())
    assert "note 5" in _refusal(_toml(tmp_path, f"[sounds]\n{text}"))


def _map_with(kick: int) -> dict[str, int]:
    return {name: s.key for name, s in find_kit("timgm6mb-pretty-midi").sounds.items()} | {
        "kick": kick
    }


@pytest.mark.usefixtures("own_cache")
def test_a_looped_sound_that_never_ends_is_an_error(tmp_path: Path) -> None:
    """Preset 0:16 is an organ."""
    assert "still rings" in _refusal(_toml(tmp_path, "bank = 0\npreset = 16"))


@pytest.mark.usefixtures("own_cache")
def test_a_font_whose_samples_are_silent_is_an_error(tmp_path: Path) -> None:
    font = bytearray(wheel_font().read_bytes())
    samples = chunk_of(bytes(font), b"smpl")
    font[samples] = bytes(samples.stop - samples.start)
    path = tmp_path / "silent.sf2"
    path.write_bytes(font)
    assert "silent" in _refusal(path)


@pytest.mark.parametrize("n_bytes", [0, 11, 12, 40, 1000, 5_000_000])
def test_a_font_that_is_cut_short_is_an_error(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "short.sf2"
    path.write_bytes(wheel_font().read_bytes()[:n_bytes])
    assert str(path) in _refusal(path)


@pytest.mark.parametrize("content", [b"RIFF\4\0\0\0WAVE", b"RIFF\4\0\0\0sfbk", b"\0" * 4096])
def test_other_files_are_no_soundfont(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.sf2"
    path.write_bytes(content)
    assert str(path) in _refusal(path)


@pytest.fixture(scope="module")
def font_bytes() -> bytes:
    return wheel_font().read_bytes()


def _mutated(font: bytes, edits: list[tuple[float, int]], where: list[slice]) -> bytes:
    """The font with bytes replaced at these fractions of the places that may change."""
    mutated = bytearray(font)
    n_places = sum(part.stop - part.start for part in where)
    for fraction, value in edits:
        offset = int(fraction * (n_places - 1))
        for part in where:
            if offset < part.stop - part.start:
                mutated[part.start + offset] = value
                break
            offset -= part.stop - part.start
    return bytes(mutated)


EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=40)


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=EDITS)
def test_a_mutated_font_gives_a_bank_or_a_user_error(
    edits: list[tuple[float, int]],
    font_bytes: bytes,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its header and its tables are mutated, from phdr to shdr; FluidSynth reads them all."""
    folder = tmp_path_factory.mktemp("mutated")
    monkeypatch.setenv("STEMGMD_CACHE", str(folder / "cache"))
    tables = slice(chunk_of(font_bytes, b"phdr").start - 8, len(font_bytes))
    (folder / "mutated.sf2").write_bytes(_mutated(font_bytes, edits, [slice(0, 200), tables]))
    problem = ""
    try:
        bank = load_bank(own_kit(folder / "mutated.sf2"))
    except UserError as error:
        problem = str(error)
    if problem:
        assert "mutated.sf2" in problem
        assert "\n" not in problem
    else:
        assert np.isfinite(bank.samples).all()
        assert all(shot.peak > 0 for shot in bank.shots)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=EDITS, n_bytes=st.integers(0, 4000))
def test_the_chunk_check_ends_in_a_verdict(
    edits: list[tuple[float, int]], n_bytes: int, font_bytes: bytes, tmp_path: Path
) -> None:
    """On the real font's header, mutated and cut; it passes nothing whose chunks overrun it."""
    path = tmp_path / "mutated.sf2"
    head = _mutated(font_bytes[:4000], edits, [slice(0, 300)])
    path.write_bytes(head[:n_bytes])
    with pytest.raises(UserError, match=re.escape(str(path))):
        check_riff(path)


def test_a_fonts_path_that_is_missing_or_a_folder_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.sf2", tmp_path):
        with pytest.raises(UserError, match=re.escape(str(path))):
            check_riff(path)


@pytest.mark.usefixtures("own_cache")
def test_what_the_library_says_of_a_broken_font_does_not_reach_the_terminal(
    tmp_path: Path, font_bytes: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its fallback to DLS complains on stderr by itself, past the log that we switch off."""
    start = chunk_of(font_bytes, b"phdr").start
    path = tmp_path / "broken.sf2"
    path.write_bytes(font_bytes[: start - 8] + b"xxxx" + font_bytes[start - 4 :])
    assert "cannot be loaded" in _refusal(path)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
