"""SFZ kits: sfizz plays what the file says, every strike the same, nothing from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from small_kits import drum_sounds, noise

from stemgmd_build.errors import UserError
from stemgmd_build.kits.kit import GENERAL_MIDI
from stemgmd_build.kits.own import own_kit
from stemgmd_build.rendering.bank import load_bank
from stemgmd_build.samplers.sfz import SfzKit
from stemgmd_build.taxonomy import ARTICULATIONS

pytest.importorskip("pysfizz")

LONGEST = 44100


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))


def instrument(folder: Path, text: str, **files: str) -> SfzKit:
    """An instrument of this text, beside four recordings of noise, s0.wav to s3.wav."""
    folder.mkdir(exist_ok=True)
    for number in range(4):
        soundfile.write(folder / f"s{number}.wav", noise(number), 44100, subtype="FLOAT")
    for name, content in files.items():
        (folder / f"{name}.sfz").write_text(content)
    (folder / "kit.sfz").write_text(text)
    return SfzKit(folder / "kit.sfz")


def heard(kit: SfzKit, key: int, velocity: int) -> int:
    """Which of the four recordings a strike sounds like."""
    return loudest(kit.strike(key, velocity, max_samples=LONGEST))


def loudest(sound: NDArray[np.float32]) -> int:
    likeness = [
        abs(np.corrcoef(sound[0, :3000], noise(number)[:3000, 0])[0, 1]) for number in range(4)
    ]
    assert max(likeness) > 0.9
    return int(np.argmax(likeness))


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("<group> key=36 hivel=63 <region> sample=s1.wav\n<group> key=36 lovel=64\n"
         "<region> sample=s2.wav", {}, {30: 1, 100: 2}),
        ("<region> key=36 sample=s0.wav // <region> key=36 sample=s1.wav\n/* <region> */", {},
         {64: 0}),
        ("<global> key=36\n<master> hivel=63\n<group>\n<region> sample=s1.wav\n"
         "<master> lovel=64 <region> sample=s3.wav", {}, {30: 1, 100: 3}),
        ("#define $low 63\n<region> key=c2 hivel=$low sample=s1.wav\n#include \"sub/more.sfz\"",
         {"sub/more": "<region> key=36 lovel=64 sample=s2.wav"}, {30: 1, 100: 2}),
        ("<control> default_path=./\n<region> key=36 sample=.\\s2.wav", {}, {64: 2}),
    ],
    ids=["velocities", "comments", "inheritance", "includes and definitions", "paths"],
)  # fmt: skip
def test_what_the_file_says_is_heard(
    tmp_path: Path, text: str, files: dict[str, str], expected: dict[int, int]
) -> None:
    (tmp_path / "kit/sub").mkdir(parents=True)
    kit = instrument(tmp_path / "kit", text, **files)
    assert kit.keys() == {36}
    assert {velocity: heard(kit, 36, velocity) for velocity in expected} == expected


def test_every_strike_is_the_same_one(tmp_path: Path) -> None:
    """Round robins, random choices and random opcodes, struck in any order and loaded twice."""
    text = (
        "<global> amp_random=6 offset_random=500 pitch_random=100 pan_oncc135=50\n"
        "<group> key=36 seq_length=2\n"
        "<region> seq_position=1 sample=s0.wav\n<region> seq_position=2 sample=s1.wav\n"
        "<group> key=38\n<region> hirand=0.5 sample=s2.wav\n<region> lorand=0.5 sample=s3.wav\n"
    )
    once = instrument(tmp_path / "kit", text)
    first = once.strike(36, 100, max_samples=LONGEST)
    assert (loudest(first), heard(once, 38, 100)) == (0, 2)
    again = SfzKit(once.path)
    for kit in (once, again, once):
        np.testing.assert_array_equal(kit.strike(36, 100, max_samples=LONGEST), first)
        kit.strike(38, 20, max_samples=100)


def test_a_tuned_strike_is_another_pitch(tmp_path: Path) -> None:
    times = np.arange(44100) / 44100
    kit = instrument(tmp_path / "kit", "<region> key=36 sample=tone.wav")
    soundfile.write(tmp_path / "kit/tone.wav", 0.5 * np.sin(2 * np.pi * 400 * times), 44100)
    for semitones in (0.0, 12.0, -7.0, 24.0):
        sound = kit.strike(36, 127, semitones=semitones, max_samples=8192)
        spectrum = np.abs(np.fft.rfft(sound[0, :8192] * np.hanning(8192)))
        hz = float(np.argmax(spectrum)) * 44100 / 8192
        assert hz == pytest.approx(400 * 2 ** (semitones / 12), abs=6)


def test_a_kit_of_general_midi_keys_needs_no_map(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    folder.mkdir()
    regions = []
    for name, layers in drum_sounds().items():
        soundfile.write(folder / f"{name}.wav", layers[0].samples, 44100, subtype="FLOAT")
        key = {"kick": 35}.get(name, GENERAL_MIDI[name])  # 35 is General MIDI's other kick
        regions.append(f"<region> key={key} amp_veltrack=100 sample={name}.wav")
    regions.append("<region> key=36 hivel=0 sample=nothing")
    path = folder / "kit.sfz"
    path.write_text("\n".join(regions[:-1]))
    bank = load_bank(own_kit(path))
    kick = bank.shot_of[ARTICULATIONS.index("kick"), 127]
    expected = drum_sounds()["kick"][0].samples[:, 0]
    assert abs(np.corrcoef(bank.shot(int(kick))[0, :3000], expected[:3000])[0, 1]) > 0.99


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no instrument", "no SFZ instrument"),
        ("<region> key=36 sample=s9.wav", "s9.wav is missing"),
        ('#include "../outside.sfz"', "outside its folder"),
        ('#include "kit.sfz"', "includes too many files"),
        ('#include "absent.sfz"', "absent.sfz cannot be read"),
        ("<region> key=40 sample=s0.wav", "plays nothing on key 36"),
    ],
)
def test_what_cannot_be_played_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        instrument(tmp_path / "kit", text).strike(36, 100, max_samples=1000)
    assert "\n" not in str(caught.value)


def test_other_recordings_are_another_kit(tmp_path: Path) -> None:
    kit = instrument(tmp_path / "kit", "<region> key=36 sample=s0.wav")
    before = kit.digest()
    assert SfzKit(kit.path).digest() == before
    soundfile.write(tmp_path / "kit/s1.wav", noise(9), 44100)
    assert SfzKit(kit.path).digest() == before  # it plays no s1.wav
    soundfile.write(tmp_path / "kit/s0.wav", noise(9), 44100)
    assert SfzKit(kit.path).digest() != before
