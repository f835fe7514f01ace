"""Recorded kits: what the catalogue says of them, and their files fetched, resumed and verified."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_kits import noise

from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import catalogue, locate, require
from stemgmd_build.kits.kit import Kit, Sound, source_hash
from stemgmd_build.kits.recorded import recorded_kits
from stemgmd_build.kits.repositories import RepositoryFile, fetch_files, is_there
from stemgmd_build.rendering.bank import load_bank
from stemgmd_build.samplers.samples import SampleFolder
from stemgmd_build.samplers.takes import Part, Take
from stemgmd_build.taxonomy import PIECES

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of repositories as a user may have it; caches stay in the test's own folder."""
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "checkouts/some/drums"
    folder.mkdir(parents=True)
    for number, name in enumerate(("loud #1.wav", "soft.wav")):
        soundfile.write(folder / name, noise(number), 44100, subtype="FLOAT")
    (folder / "LICENSE").write_text("CC0")
    return tmp_path / "checkouts"


def files_of(checkout: Path) -> tuple[RepositoryFile, ...]:
    folder = checkout / "some/drums"
    return tuple(
        RepositoryFile(
            "some/drums",
            COMMIT,
            path.name,
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.iterdir())
    )


@pytest.mark.parametrize("is_address", [False, True])
def test_files_are_fetched_and_kept(checkout: Path, tmp_path: Path, is_address: bool) -> None:
    files, root = files_of(checkout), tmp_path / "cache/repositories"
    source = str(checkout)
    if is_address:  # an address has the commit between repository and path
        moved = tmp_path / "host/some/drums"
        moved.mkdir(parents=True)
        (checkout / "some/drums").rename(moved / COMMIT)
        source = (tmp_path / "host").as_uri()
    fetch_files(files, root, source=source, description="drums")
    assert is_there(files, root)
    assert (root / "some/drums@0123456789ab/LICENSE").read_text() == "CC0"
    fetch_files(files, root, source="/nowhere", description="drums")  # all is there


def test_a_fetch_that_broke_off_goes_on(checkout: Path, tmp_path: Path) -> None:
    files, root = files_of(checkout), tmp_path / "cache/repositories"
    begun = root / (files[-1].place + ".part")
    begun.parent.mkdir(parents=True)
    begun.write_bytes((checkout / "some/drums/soft.wav").read_bytes()[:100])
    fetch_files(files, root, source=str(checkout), description="drums")
    assert is_there(files, root)


def test_other_bytes_are_refused(checkout: Path, tmp_path: Path) -> None:
    files, root = files_of(checkout), tmp_path / "cache/repositories"
    wrong = (*files[:-1], replace(files[-1], sha256="0" * 64))
    with pytest.raises(UserError, match=r"soft\.wav: the downloaded bytes are not the expected"):
        fetch_files(wrong, root, source=str(checkout), description="drums")
    assert is_there(files[:-1], root)
    assert not (root / files[-1].place).exists()
    with pytest.raises(UserError, match=r"LICENSE is missing"):
        fetch_files(files, root / "b", source=str(tmp_path), description="drums")


def test_a_recorded_kit_is_what_its_takes_say(checkout: Path, tmp_path: Path) -> None:
    files, root = files_of(checkout), tmp_path / "cache/repositories"
    loud, soft = files[1], files[2]
    take = Take((Part(loud.place, 0.5, 0.25, 100), Part(soft.place, 0.1, 0.2)), 1500, 220)
    sounds = {piece: Sound(files=(loud.place, soft.place), takes=(take,)) for piece in PIECES}
    fetch_files(files, root, source=str(checkout), description="drums")
    digest = source_hash(root, sounds)
    kit = Kit("small", "Small", "samples", "small", digest, sounds, files=files)
    assert locate(kit) == root
    shot = load_bank(kit).shot(0)
    expected = noise(0)[100:1600, 0] * [[0.5], [0.25]] + noise(1)[:1500, 0] * [[0.1], [0.2]]
    np.testing.assert_allclose(shot[:, 30:1200], expected[:, 30:1200], atol=1e-6)
    damaged = root / soft.place
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(UserError, match="is not the small of the catalogue"):
        require(kit)
    damaged.unlink()
    assert locate(kit) is None


@pytest.mark.parametrize("kit", recorded_kits(), ids=lambda kit: kit.id)
def test_a_recorded_kit_sounds_as_it_was_prepared(kit: Kit) -> None:
    """Against the files that its takes were measured from, where they are and it is at hand."""
    prepared = Path(os.environ.get("STEMGMD_PREPARED_KITS", "/nowhere")) / kit.id
    root = locate(kit)
    if root is None or not prepared.is_dir():
        pytest.skip("needs the kit, and STEMGMD_PREPARED_KITS with its prepared files")
    named = tomllib.loads((prepared / "kit.toml").read_text())["sounds"]
    for name, sound in kit.sounds.items():
        files = named[name]["files"] if isinstance(named[name], dict) else named[name]
        files = [files] if isinstance(files, str) else files
        assert len(files) == len(sound.takes)
        for file, take in zip(files, sound.takes, strict=True):
            expected = soundfile.read(prepared / file, always_2d=True)[0].T
            made = SampleFolder(root).strike([take], 127)
            rest = np.sum((made - expected) ** 2) / np.sum(expected**2)
            assert 10 * np.log10(rest) < -30, file


def test_recorded_kits_lead_and_say_what_they_are() -> None:
    kits = recorded_kits()
    assert len(kits) >= 20
    assert catalogue()[: len(kits)] == kits
    for kit in kits:
        assert 20 < len(kit.description) < 160
        assert all((kit.licence, kit.author, kit.url.startswith("https://")))
        assert not kit.default
        used = {file for sound in kit.sounds.values() for file in sound.files}
        assert used <= {file.place for file in kit.files}
        for file in kit.files:
            assert (len(file.commit), len(file.sha256)) == (40, 64)
            assert file.n_bytes > 0
