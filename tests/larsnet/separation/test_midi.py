"""Stems as MIDI: hits where they are, as loud as they are, on General MIDI's notes."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from small_larsnets import BANDED, wild_model

from larsnet.network.checkpoint import save_checkpoint
from larsnet.separation import midi
from larsnet.separation.midi import write_midi
from stemgmd_build import cli


def hits(onsets: dict[float, float], seconds: float, rate: int) -> NDArray[np.float32]:
    """(samples, 2) of decaying noise, each with its peak."""
    random = np.random.default_rng(0)
    sound = random.uniform(-1, 1, rate // 10) * np.exp(-np.arange(rate // 10) / (0.02 * rate))
    sound /= np.abs(sound).max()
    signal = np.zeros(int(seconds * rate))
    for onset_sec, peak in onsets.items():
        start = round(onset_sec * rate)
        signal[start : start + len(sound)] += peak * sound
    return np.stack((signal, signal), axis=1).astype(np.float32)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_hits_are_found_in_parts_as_in_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    monkeypatch.setattr(midi, "_PART_SEC", 1)
    true = {
        "kick": {0.5: 0.8, 1.0: 0.2, 2.001: 0.8, 4.5: 0.4},
        "snare": {0.75: 0.5, 2.99: 0.5},
        "no_kick": {0.1: 0.5},
    }
    stems = {name: tmp_path / f"{name}.wav" for name in (*true, "toms")}
    sounds = {name: hits(true.get(name, {}), 5, rate) for name in stems}
    for name, path in stems.items():
        soundfile.write(path, sounds[name], rate)
    mixture = tmp_path / "mixture.wav"
    soundfile.write(mixture, sum(sounds.values()), rate)
    assert write_midi(tmp_path / "onsets.mid", mixture, stems) == 6
    now, found = 0.0, []
    for message in mido.MidiFile(tmp_path / "onsets.mid"):
        now += message.time
        if message.type == "note_on":
            assert message.channel == 9
            found.append((now, message.note, message.velocity))
    expected = sorted(
        (onset, note, round(127 * (peak / max(true[name].values())) ** 0.5))
        for name, note in (("kick", 36), ("snare", 38))
        for onset, peak in true[name].items()
    )
    assert [note for _, note, _ in found] == [note for _, note, _ in expected]
    for (onset, _, velocity), (true_onset, _, true_velocity) in zip(found, expected, strict=True):
        assert abs(onset - true_onset) < 0.02
        assert abs(velocity - true_velocity) <= 3


def test_the_command_puts_the_file_beside_the_stems(tmp_path: Path) -> None:
    save_checkpoint(wild_model(BANDED), tmp_path / "w.safetensors")
    for name, sounds in (("drums", {0.5: 0.5}), ("silence", {})):
        soundfile.write(tmp_path / f"{name}.wav", hits(sounds, 1, 44_100), 44_100)
    out = tmp_path / "out"
    paths = [str(tmp_path / "drums.wav"), str(tmp_path / "silence.wav"), "-o", str(out)]
    assert (
        cli.main(["separate", *paths, "--weights", str(tmp_path / "w.safetensors"), "--midi"]) == 0
    )
    assert mido.MidiFile(out / "drums" / "onsets.mid").length > 0.4
    assert mido.MidiFile(out / "silence" / "onsets.mid").length == 0
