"""Kits of several microphones: sums of files with gains and pans, and DrumGizmo's own format."""

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
from stemgmd_build.samplers.drumgizmo import DrumGizmoKit, Microphone
from stemgmd_build.samplers.samples import SampleFolder
from stemgmd_build.samplers.takes import Part, Take, pan_factors
from stemgmd_build.taxonomy import ARTICULATIONS, PIECES

MICROPHONES = ("Close", "OverheadL", "OverheadR")
POWERS = (0.1, 0.5, 1.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))


def samples_of(folder: Path) -> None:
    """Every piece by two microphones, in a folder each."""
    for number, (piece, layers) in enumerate(drum_sounds().items()):
        for i, microphone in enumerate(("close", "room")):
            (folder / microphone).mkdir(parents=True, exist_ok=True)
            sound = layers[0].samples if i == 0 else noise(900 + number, len(layers[0].samples))
            soundfile.write(folder / microphone / f"{piece}.wav", sound, 44100, subtype="FLOAT")


def test_a_sound_is_the_weighted_sum_of_its_microphones(tmp_path: Path) -> None:
    samples_of(tmp_path / "kit")
    sounds = "\n".join(f'{piece} = "{{microphone}}/{piece}.wav"' for piece in PIECES)
    path = tmp_path / "kit.toml"
    path.write_text(
        "path = 'kit'\n[microphones]\nclose = -6\nroom = { gain_db = 2, pan = 1 }\n"
        f"[sounds]\n{sounds}\n"
    )
    kit = own_kit(path)
    bank = load_bank(kit)
    shot = bank.shot(int(bank.shot_of[ARTICULATIONS.index("snare"), 127]))
    close, room = (
        soundfile.read(tmp_path / f"kit/{microphone}/snare.wav")[0]
        for microphone in ("close", "room")
    )
    left = close * 10 ** (-6 / 20)
    expected = np.stack([left, left + room * 10 ** (2 / 20) * np.sqrt(2)])
    np.testing.assert_allclose(shot, expected[:, : shot.shape[1]], atol=1e-6)
    louder = path.read_text().replace("close = -6", "close = 0")
    path.write_text(louder)
    assert load_bank(own_kit(path)).digest != bank.digest


def test_a_take_begins_and_ends_where_it_says(tmp_path: Path) -> None:
    sound = noise(1, 4000, n_channels=2)
    soundfile.write(tmp_path / "a.wav", sound, 44100, subtype="FLOAT")
    take = Take((Part("a.wav", 0.5, 2.0, start=100),), n_samples=1000, n_fade=300)
    struck = SampleFolder(tmp_path).strike([take], 127)
    assert struck.shape == (2, 1000)
    expected = sound[100:1100].T * [[0.5], [2.0]]
    np.testing.assert_allclose(struck[:, 30:700], expected[:, 30:700], atol=1e-6)
    assert not struck[:, [0, -1]].any()
    lower = SampleFolder(tmp_path).strike([take], 127, semitones=-12.0)
    assert lower.shape[1] == pytest.approx(2000, abs=2)


def test_a_pan_keeps_the_power() -> None:
    for pan in (-1.0, -0.3, 0.8):
        left, right = pan_factors(0.0, pan)
        assert left**2 + right**2 == pytest.approx(2.0)
        assert (left > right) == (pan < 0)


def drumgizmo_kit(folder: Path, *, midi_map: bool = True) -> Path:
    """Every piece struck three times by three microphones: strike s by microphone m is
    ``recorded(piece, s, m)``."""
    folder.mkdir()
    instruments, notes = [], []
    for piece in PIECES:
        (folder / piece).mkdir()
        strikes = []
        for number, power in enumerate(POWERS):
            sound = np.stack([recorded(piece, number, m) for m in range(3)], axis=1)
            soundfile.write(folder / piece / f"{number}.wav", sound, 44100, subtype="FLOAT")
            files = "".join(
                f'<audiofile channel="{name}" file="{number}.wav" filechannel="{m + 1}"/>'
                for m, name in enumerate(MICROPHONES)
            )
            strikes.append(f'<sample name="{number}" power="{power}">{files}</sample>')
        (folder / piece / "i.xml").write_text(
            f'<instrument name="{piece}"><samples>{"".join(strikes)}</samples></instrument>'
        )
        instruments.append(f'<instrument name="{piece}" file="{piece}/i.xml"/>')
        notes.append(f'<map note="{GENERAL_MIDI[piece]}" instr="{piece}"/>')
    channels = "".join(f'<channel name="{name}"/>' for name in MICROPHONES)
    (folder / "drums.xml").write_text(
        f'<drumkit name="Small"><channels>{channels}</channels>'
        f"<instruments>{''.join(instruments)}</instruments></drumkit>"
    )
    if midi_map:
        (folder / "midimap.xml").write_text(f"<midimap>{''.join(notes)}</midimap>")
    return folder / "drums.xml"


def recorded(piece: str, strike: int, microphone: int) -> NDArray[np.float64]:
    seed = 1000 * PIECES.index(piece) + 10 * strike + microphone
    return noise(seed)[:, 0] * POWERS[strike]


def test_a_drumgizmo_kit_is_the_sum_of_its_microphones(tmp_path: Path) -> None:
    kit = DrumGizmoKit(drumgizmo_kit(tmp_path / "kit"))
    key = GENERAL_MIDI["snare"]
    for velocity, strike in ((1, 0), (30, 0), (60, 1), (100, 2), (127, 2)):
        close, left, right = (recorded("snare", strike, m) for m in range(3))
        expected = np.stack([close + left * np.sqrt(2), close + right * np.sqrt(2)])
        np.testing.assert_allclose(kit.strike(key, velocity), expected, atol=1e-6)


def test_a_drumgizmo_kit_is_mixed_as_the_toml_file_says(tmp_path: Path) -> None:
    drums = drumgizmo_kit(tmp_path / "kit")
    path = tmp_path / "kit.toml"
    path.write_text(f"path = 'kit/{drums.name}'\n[microphones]\nOverheadL = 6\n")
    bank = load_bank(own_kit(path))
    shot = bank.shot(int(bank.shot_of[ARTICULATIONS.index("ride"), 127]))
    expected = recorded("ride", 2, 1)[: shot.shape[1]] * 10 ** (6 / 20)
    np.testing.assert_allclose(shot, np.stack([expected, expected]), atol=1e-6)
    plain = load_bank(own_kit(drums))
    assert plain.digest != bank.digest
    assert {kit.name for kit in (own_kit(drums), own_kit(path))} == {"Small"}


def test_what_is_no_such_kit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no MIDI map"):
        own_kit(drumgizmo_kit(tmp_path / "a", midi_map=False))
    drums = drumgizmo_kit(tmp_path / "b")
    with pytest.raises(UserError, match="no microphone 'Side'"):
        DrumGizmoKit(drums, {"Side": Microphone()})
    instrument = drums.parent / "snare/i.xml"
    instrument.write_text(instrument.read_text().replace('power="0.5"', 'power="loud"'))
    with pytest.raises(UserError, match="'loud' is not a number"):
        own_kit(drums)
    sounds = "\n".join(f'{piece} = "{{microphone}}.wav"' for piece in PIECES)
    (tmp_path / "c.toml").write_text(f"path = 'a'\n[sounds]\n{sounds}\n")
    with pytest.raises(UserError, match=r"no \[microphones\]"):
        own_kit(tmp_path / "c.toml")
