"""Kits of sample files: one file a velocity layer, and nothing from outside of their folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_kits import drum_sounds, noise, wheel_font, write_kit

from stemgmd_build.auditing.audit import audit
from stemgmd_build.errors import UserError
from stemgmd_build.kits.kit import Kit, source_hash
from stemgmd_build.kits.own import own_kit
from stemgmd_build.rendering.bank import load_bank
from stemgmd_build.samplers.samples import SampleFolder
from stemgmd_build.taxonomy import ARTICULATIONS, PIECES

SOFT, HARD = noise(1), noise(2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file for every piece, and two for the snare; a file outside, and a link to it."""
    folder = tmp_path / "kit"
    folder.mkdir()
    for piece, layers in drum_sounds().items():
        soundfile.write(folder / f"{piece}.wav", layers[0].samples, 44100, subtype="FLOAT")
    soundfile.write(folder / "soft.wav", SOFT, 44100, subtype="FLOAT")
    soundfile.write(folder / "hard.flac", HARD, 44100, subtype="PCM_24")
    soundfile.write(tmp_path / "outside.wav", HARD, 44100)
    (folder / "link.wav").symlink_to(tmp_path / "outside.wav")
    return folder


def kit_of(folder: Path, **sounds: str) -> Kit:
    values = {piece: f"'{piece}.wav'" for piece in PIECES}
    values["snare"] = "['soft.wav', 'hard.flac']"
    lines = [f"{name} = {value}" for name, value in (values | sounds).items()]
    path = folder.parent / "mine.toml"
    path.write_text(f"path = '{folder.name}'\n[sounds]\n" + "\n".join(lines))
    return own_kit(path)


@pytest.mark.parametrize(("velocity", "expected"), [(1, SOFT), (64, SOFT), (65, HARD), (127, HARD)])
def test_velocities_are_shared_out_among_the_files(
    folder: Path, velocity: int, expected: np.ndarray
) -> None:
    struck = SampleFolder(folder).strike(("soft.wav", "hard.flac"), velocity)
    np.testing.assert_allclose(struck[0], expected[:, 0] * velocity / 127, atol=1e-6)
    assert np.array_equal(struck[0], struck[1]), "a mono file sounds in the middle"


def test_a_stereo_file_of_another_rate_keeps_its_channels_and_its_length(folder: Path) -> None:
    stereo = noise(3, 6000, n_channels=2)
    soundfile.write(folder / "stereo.wav", stereo, 22050, subtype="FLOAT")
    struck = SampleFolder(folder).strike(("stereo.wav",), 127)
    assert struck.shape == (2, 12000)
    assert not np.array_equal(struck[0], struck[1])
    higher = SampleFolder(folder).strike(("stereo.wav",), 127, semitones=12)
    assert higher.shape == (2, 6000)


def test_a_bank_of_sample_files_has_their_layers_and_their_samples(folder: Path) -> None:
    bank = load_bank(kit_of(folder, ride="{ files = 'ride.wav', semitones = -2 }"), gain=1.0)
    snare = ARTICULATIONS.index("snare")
    assert len(set(bank.shot_of[snare, 1:])) == 2
    shot = bank.shot(int(bank.shot_of[snare, 127]))
    np.testing.assert_allclose(shot[0], HARD[: shot.shape[1], 0], atol=1e-6)
    assert bank.gain_of[snare, 65] == pytest.approx(65 / 127, rel=1e-4)
    assert bank.source.startswith("sample files")


def test_another_choice_of_files_is_another_kit_and_bank(folder: Path) -> None:
    """Also where the files are the same, in another order."""
    kit, turned = kit_of(folder), kit_of(folder, snare="['hard.flac', 'soft.wav']")
    assert kit.sha256 == turned.sha256
    assert load_bank(kit, gain=1.0).digest != load_bank(turned, gain=1.0).digest
    (folder / "unused.wav").write_bytes(b"not of the kit")
    assert source_hash(folder, kit.sounds) == kit.sha256
    soundfile.write(folder / "soft.wav", SOFT / 2, 44100, subtype="FLOAT")
    assert source_hash(folder, kit.sounds) != kit.sha256


@pytest.mark.parametrize("file", ["../outside.wav", "link.wav"])
def test_nothing_from_outside_of_the_folder_is_played(folder: Path, file: str) -> None:
    with pytest.raises(UserError, match=r"mine\.toml: kick: ") as caught:
        kit_of(folder, kick=f'["{file}"]')
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["../missing.wav", "missing.wav", ".", "a\\u0000.wav"])
def test_a_missing_file_is_an_error_when_the_kit_is_sampled(folder: Path, file: str) -> None:
    kit = kit_of(folder, kick=f'["{file}"]')
    with pytest.raises(UserError, match=r"^kit kit \(.*no file ") as caught:
        load_bank(kit)
    assert "\n" not in str(caught.value)


def test_missing_and_silent_files_are_faults_of_their_pieces(folder: Path) -> None:
    """Also where two pieces have one silent file."""
    soundfile.write(folder / "silent.wav", np.zeros(2000), 44100)
    kit = kit_of(folder, kick="'gone.wav'", ride="'silent.wav'", hi_tom="'silent.wav'")
    (found,), _, faults = audit([kit], show_progress=False)
    assert faults == [
        f"kit: kick: {folder} has no file 'gone.wav'",
        "kit: hi_tom: silent.wav is silent; correct the kit's map",
        "kit: ride: silent.wav is silent; correct the kit's map",
    ]
    assert len(found.n_layers) == 6


def test_a_file_that_comes_later_makes_another_kit(folder: Path) -> None:
    before = kit_of(folder, kick="'later.wav'")
    soundfile.write(folder / "later.wav", HARD, 44100)
    after = kit_of(folder, kick="'later.wav'")
    assert before.sha256 != after.sha256
    assert load_bank(after).shots


def test_an_absolute_path_outside_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="is no file in"):
        kit_of(folder, kick=f"'{folder.parent / 'outside.wav'}'")


@pytest.mark.parametrize(
    ("sound", "problem"),
    [
        ("36", "kick has a key where other sounds have files"),
        ("[]", "kick: Expected array of length >= 1"),
        ("['']", "kick.*: Expected str of length >= 1"),
        ("['kick.wav', 3]", "kick.*: Expected str, got int"),
        ("{ files = 'kick.wav', key = 3 }", "a sound has key or files"),
        ("{ files = 'kick.wav', semitones = 99 }", "semitones: Expected float <= 24"),
    ],
)
def test_a_faulty_map_of_files_is_one_line(folder: Path, sound: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        kit_of(folder, kick=sound)
    assert "\n" not in str(caught.value)


def test_files_belong_to_a_folder(tmp_path: Path) -> None:
    """A font has keys; a folder with neither map nor drumkit.xml is told what it could have."""
    (tmp_path / "my.sf2").write_bytes(wheel_font().read_bytes())
    lines = "\n".join(f"{piece} = '{piece}.wav'" for piece in PIECES)
    (tmp_path / "mine.toml").write_text(f"path = 'my.sf2'\n[sounds]\n{lines}")
    with pytest.raises(UserError, match=r"my\.sf2 is no folder"):
        own_kit(tmp_path / "mine.toml")
    (tmp_path / "samples").mkdir()
    with pytest.raises(UserError, match=r"sample files need a map: a TOML file"):
        own_kit(tmp_path / "samples")


def test_a_hydrogen_kits_samples_can_be_mapped_by_hand(tmp_path: Path) -> None:
    write_kit(tmp_path / "kit", drum_sounds())
    lines = "\n".join(f"{piece} = '{piece}-0.wav'" for piece in PIECES)
    (tmp_path / "mine.toml").write_text(f"path = 'kit'\n[sounds]\n{lines}")
    assert own_kit(tmp_path / "mine.toml").kind == "samples"


def test_a_broken_file_is_one_line_that_names_it(folder: Path) -> None:
    kit = kit_of(folder)
    (folder / "ride.wav").write_text("no sound")
    with pytest.raises(UserError, match=r"ride\.wav: is not a readable sound file"):
        load_bank(kit, gain=1.0)
