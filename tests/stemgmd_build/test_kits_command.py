"""`stemgmd kits list, fetch, audit, preview` as a user runs them."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from small_builds import error_line, stemgmd
from small_kits import HERE, WHEEL_KIT, Layered, drum_sounds, ping, write_kit

from stemgmd_build.cli import main
from stemgmd_build.commands.kits import _audit, _fetch, _preview
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import catalogue, find_kit, select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.taxonomy import PIECES

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))


def test_list_names_every_kit_and_which_are_here(capsys: Captured) -> None:
    assert main(["kits", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [kit.id for kit in catalogue()]
    assert lines[-1].startswith(f"{len(catalogue())} kits of ")
    assert lines[-1].endswith(f"{len(HERE)} on this machine")


def test_list_prints_json_for_programs(capsys: Captured) -> None:
    assert main(["kits", "list", "--json", "default"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 10
    by_id = {row["id"]: row for row in rows}
    row = by_id[WHEEL_KIT]
    kit = find_kit(WHEEL_KIT)
    assert (row["sha256"], row["family"], row["split"]) == (kit.sha256, kit.family, kit.split)
    assert Path(row["path"]).is_file()
    assert row["sounds"]["kick"]["key"] == kit.sounds["kick"].key


def test_help_shows_examples(capsys: Captured) -> None:
    assert main(["kits"]) == 2
    assert "stemgmd kits preview default --out preview" in capsys.readouterr().out


def test_an_unknown_kit_is_one_line_with_status_2(capsys: Captured) -> None:
    for command in ("list", "fetch", "audit", "preview"):
        assert main(["kits", command, "nonsense"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("stemgmd kits: error: no kit 'nonsense'")
        assert error.count("\n") == 1


def test_audit_of_a_good_kit_prints_its_balance_with_status_0(capsys: Captured) -> None:
    assert main(["kits", "audit", WHEEL_KIT]) == 0
    text = capsys.readouterr().out
    assert "balance: loudness against the snare" in text
    assert "1 kits audited" in text
    assert "0 faults" in text


@pytest.mark.usefixtures("own_cache")
def test_audit_of_kits_that_share_across_the_split_fails_and_names_both(tmp_path: Path) -> None:
    for name, split in (("here", "train"), ("there", "test")):
        write_kit(tmp_path / name, drum_sounds(6))
        (tmp_path / f"{name}.toml").write_text(
            f"path = '{name}'\nsplit = '{split}'\nfamily = '{name}'"
        )
    result = stemgmd("kits", "audit", "--json", "here.toml", "there.toml", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    report = json.loads(result.stdout)
    assert report["shared"][0]["kits"] == ["here", "there"]
    assert report["shared"][0]["pieces"] == list(PIECES)
    assert len(report["faults"]) == 1
    assert "here and there share" in report["faults"][0]


@pytest.mark.usefixtures("own_cache")
def test_audit_of_toms_out_of_order_fails_in_words(tmp_path: Path, capsys: Captured) -> None:
    sounds = drum_sounds(7)
    sounds["low_tom"] = [Layered(ping(300))]
    folder = write_kit(tmp_path / "wrong", sounds)
    assert main(["kits", "audit", str(folder)]) == 1
    text = capsys.readouterr().out
    assert "FAULT    wrong: the toms' pitch does not fall from high to low" in text
    assert "1 faults" in text


@pytest.mark.usefixtures("own_cache")
def test_audit_names_every_silent_piece_and_prints_the_rest(
    tmp_path: Path, capsys: Captured
) -> None:
    sounds = drum_sounds(8)
    sounds["kick"] = sounds["ride"] = [Layered(np.zeros((2000, 1)))]
    hushed = write_kit(tmp_path / "hushed", sounds)
    assert main(["kits", "audit", str(hushed), WHEEL_KIT]) == 1
    text = capsys.readouterr().out
    assert "FAULT    hushed: kick: " in text
    assert "FAULT    hushed: ride: " in text
    assert "2 kits audited" in text
    balance = next(line.split() for line in text.splitlines() if line.startswith("hushed"))
    assert (balance[1], balance[2], balance[9]) == ("-", "+0.0", "-")
    assert main(["kits", "preview", str(hushed), "--out", str(tmp_path)]) == 2


def _missing_kit() -> Kit:
    """A kit of a package that no machine has."""
    package = next(kit.package for kit in catalogue() if kit.package)
    return replace(
        find_kit(WHEEL_KIT), id="missing", wheel="", package=package, path="usr/share/missing.sf2"
    )


def test_kits_that_are_not_here_are_said_to_be_missing(capsys: Captured) -> None:
    options = Namespace(json=False, out=Path("never-made"))
    for run in (_audit, _preview):
        with pytest.raises(UserError, match="none of these kits is on this machine; `stemgmd kits"):
            run([_missing_kit()], options)
    assert not options.out.exists()
    assert _audit([_missing_kit(), find_kit(WHEEL_KIT)], options) == 0
    assert "not on this machine, so not audited: missing" in capsys.readouterr().out


def test_preview_writes_a_picture_and_audio(tmp_path: Path, capsys: Captured) -> None:
    assert main(["kits", "preview", WHEEL_KIT, "--out", str(tmp_path / "new" / "preview")]) == 0
    sheet = tmp_path / "new" / "preview" / "contact_sheet.png"
    audio = tmp_path / "new" / "preview" / f"{WHEEL_KIT}.flac"
    assert capsys.readouterr().out.split() == [str(sheet), str(audio)]
    picture = imread(sheet)
    assert picture.shape[1] > 800
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50
    samples, rate = soundfile.read(audio)
    assert rate == 44100
    kick = [np.abs(samples[round(i * 0.6 * rate) :][:1000]).max() for i in range(3)]
    assert 0 < kick[0] < kick[1] < kick[2] <= 1
    assert sorted(path.name for path in sheet.parent.iterdir()) == sorted([sheet.name, audio.name])


def test_preview_says_which_kits_it_leaves_out(tmp_path: Path, capsys: Captured) -> None:
    assert _preview([_missing_kit(), find_kit(WHEEL_KIT)], Namespace(out=tmp_path)) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].endswith("not on this machine, so left out: missing")
    assert len(said.out.splitlines()) == 2


def test_preview_into_a_place_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = stemgmd("kits", "preview", WHEEL_KIT, "--out", tmp_path / "file")
    assert "file" in error_line(result)


@pytest.mark.usefixtures("own_cache")
def test_a_hostile_soundfont_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.sf2").write_bytes(b"RIFF\xff\xff\xff\xffsfbk" + bytes(100))
    result = stemgmd("kits", "audit", tmp_path / "bad.sf2")
    assert "bad.sf2" in error_line(result)


def test_fetching_what_is_here_downloads_nothing_and_says_so(
    tmp_path: Path, capsys: Captured
) -> None:
    """A kit of the wheel, or an own one, has no package to fetch."""
    own = write_kit(tmp_path / "mine", drum_sounds())
    assert main(["kits", "fetch", WHEEL_KIT, str(own)]) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{WHEEL_KIT}: already here, ")
    assert second == f"mine: already here, {own}"


def test_a_kit_whose_python_package_is_not_installed_cannot_be_fetched(capsys: Captured) -> None:
    kit = replace(find_kit(WHEEL_KIT), wheel="no_such_package")
    assert _fetch([kit], Namespace()) == 1
    assert "the Python package no_such_package, which is not installed" in capsys.readouterr().err


def test_empty_names_of_kits_are_ignored_unless_there_are_no_others(capsys: Captured) -> None:
    assert select_kits(["default", "", " "]) == select_kits(["default"])
    assert main(["kits", "list", ""]) == 2
    assert capsys.readouterr().err.startswith("stemgmd kits: error: no kit is named; ")


def test_audit_with_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    folder = write_kit(tmp_path / "mine", drum_sounds())
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "file"))
    assert main(["kits", "audit", str(folder)]) == 2
    said = capsys.readouterr()
    assert "FAULT" not in said.out
    assert "set STEMGMD_CACHE to a folder with room" in said.err
