"""`stemgmd build`: layout, sums, settings, extension, resumption, refusals."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_builds import (
    KIT,
    error_line,
    hashes,
    shortest,
    stemgmd,
    write_collection,
    write_noise_kit,
)

from stemgmd_build.audio import read_pcm
from stemgmd_build.building import build, manifest
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.errors import UserError
from stemgmd_build.files import locked
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import (
    Collection,
    official_checksums,
    read_collection,
)
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, SAMPLE_RATE, STEMS
from stemgmd_build.verify import verify

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Three short performances of all splits but one."""
    folder = tmp_path_factory.mktemp("few") / "groove"
    chosen = shortest(builtin_collection, 3)
    return write_collection(folder, builtin_collection, chosen)


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kit, ...]:
    """A kit of the catalogue and one of our own."""
    own = write_noise_kit(tmp_path_factory.mktemp("kits") / "noise-kit")
    return select_kits([KIT, str(own)])


def build_into(
    root: Path,
    few: Collection,
    kits: tuple[Kit, ...],
    settings: RenderSettings | None = None,
    *,
    split: str = "all",
    limit: int | None = None,
    gain_db: float = 0.0,
) -> list[str]:
    chosen = few.select(split, limit)
    with locked(root, "build"):
        plan = build.make_plan(
            root, few, chosen, kits, settings or RenderSettings(), gain_db=gain_db
        )
        return build.run(plan, few, n_workers=1, show_progress=False)


@pytest.fixture(scope="module")
def built(few: Collection, kits: tuple[Kit, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All performances on both kits. Tests that write copy it."""
    root = tmp_path_factory.mktemp("built") / "dataset"
    assert build_into(root, few, kits) == []
    return root


def tracks(root: Path) -> list[tuple[dict[str, str], Path]]:
    return [(row, root / manifest.track_folder(row)) for row in manifest.read_metadata(root)]


def pcm_of(folder: Path, row: dict[str, str], file_format: str) -> dict[str, NDArray[np.int16]]:
    """Folder name -> int16 (n_samples, 2) of every file of a track."""
    name = f"{row['name']}.{file_format}"
    return {path.name: read_pcm(path / name) for path in folder.iterdir()}


def check_sums(pcm: dict[str, NDArray[np.int16]]) -> None:
    parts = PIECES if set(PIECES) <= set(pcm) else STEMS
    np.testing.assert_array_equal(pcm["mixture"], sum(pcm[p].astype(int) for p in parts))
    if set(PIECES) | set(STEMS) <= set(pcm):
        for stem, pieces in PIECES_OF_STEM.items():
            np.testing.assert_array_equal(pcm[stem], sum(pcm[p].astype(int) for p in pieces))


# --- layout -------------------------------------------------------------------------------------


def test_layout_is_stemgmds(built: Path, few: Collection, kits: tuple[Kit, ...]) -> None:
    expected = {
        f"audio/{p.drummer}/{p.session}/{kit.id}/{folder}/{p.name}.flac"
        for p in few.performances
        for kit in kits
        for folder in (*PIECES, "mixture")
    }
    found = {name for name in hashes(built) if name.startswith("audio/")}
    assert found == expected


@pytest.mark.parametrize("stems", ["nine", "five", "both"])
@pytest.mark.parametrize("file_format", ["flac", "wav"])
def test_sums_are_exact_and_lengths_equal(
    few: Collection, kits: tuple[Kit, ...], tmp_path: Path, stems: str, file_format: str
) -> None:
    settings = RenderSettings(file_format=file_format, stems=stems)  # type: ignore[arg-type]
    assert build_into(tmp_path / "d", few, kits[:1], settings, limit=1) == []
    folders = {"nine": {*PIECES}, "five": {*STEMS}, "both": {*PIECES, *STEMS}}[stems]
    ((row, folder),) = tracks(tmp_path / "d")
    pcm = pcm_of(folder, row, file_format)
    assert set(pcm) == folders | {"mixture"}
    assert {len(samples) for samples in pcm.values()} == {int(row["n_samples"])}
    assert pcm["mixture"].any()
    check_sums(pcm)


@pytest.mark.parametrize("stems", ["nine", "five"])
def test_without_mixture_the_stems_are_the_same_files(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path, stems: str
) -> None:
    settings = RenderSettings(stems=stems, mixture=False)  # type: ignore[arg-type]
    assert build_into(tmp_path / "d", few, kits[:1], settings, limit=1) == []
    ((row, folder),) = tracks(tmp_path / "d")
    assert {path.name for path in folder.iterdir()} == {*(PIECES if stems == "nine" else STEMS)}
    assert verify(tmp_path / "d", show_progress=False) == []
    whole = pcm_of(built / manifest.track_folder(row), row, "flac")
    for name, samples in pcm_of(folder, row, "flac").items():
        if name in whole:
            np.testing.assert_array_equal(samples, whole[name])


def test_stems_sum_to_mixture_exactly_on_every_track(built: Path) -> None:
    for row, folder in tracks(built):
        pcm = pcm_of(folder, row, "flac")
        check_sums(pcm)
        assert int(row["peak"]) == np.abs(pcm["mixture"].astype(int)).max() < 32768


def test_five_stems_are_those_of_nine_pieces(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    build_into(tmp_path / "five", few, kits[:1], RenderSettings(stems="five"), limit=1)
    ((row, folder),) = tracks(tmp_path / "five")
    nine = pcm_of(built / manifest.track_folder(row), row, "flac")
    five = pcm_of(folder, row, "flac")
    for stem, pieces in PIECES_OF_STEM.items():
        np.testing.assert_array_equal(five[stem], sum(nine[p].astype(int) for p in pieces))
    np.testing.assert_array_equal(five["mixture"], nine["mixture"])


def test_tracks_last_until_the_sound_has_died_but_at_most_five_seconds(
    built: Path, few: Collection
) -> None:
    scores = {p.id: few.read_score(p) for p in few.performances}
    for row, _ in tracks(built):
        tail = int(row["n_samples"]) / SAMPLE_RATE - scores[row["id"]].hits[-1].onset_sec
        assert 0 < tail <= 5 + 1 / SAMPLE_RATE


def test_kits_do_not_sound_alike(built: Path) -> None:
    assert len({hashes(folder)[f"kick/{row['name']}.flac"] for row, folder in tracks(built)}) == 6


# --- what describes the whole -------------------------------------------------------------------


def test_manifest_lists_every_file_and_only_those(built: Path) -> None:
    lines = [json.loads(x) for x in (built / "manifest.jsonl").read_text().splitlines()]
    found = hashes(built)
    del found["manifest.jsonl"]
    assert {line["path"]: line["sha256"] for line in lines} == found
    assert all(line["bytes"] == (built / line["path"]).stat().st_size for line in lines)


def test_midi_is_copied_and_onsets_are_listed(built: Path, few: Collection) -> None:
    for p in few.performances:
        assert (built / "midi" / p.midi_filename).read_bytes() == few.midi_path(p).read_bytes()
        text = (built / "onsets" / p.midi_filename).with_suffix(".tsv").read_text()
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
        hits = few.read_score(p).hits
        assert [(int(r["note"]), int(r["velocity"])) for r in rows] == [
            (hit.note, hit.velocity) for hit in hits
        ]
        samples = [round(hit.onset_sec * SAMPLE_RATE) for hit in hits]
        assert [int(r["onset_sample"]) for r in rows] == samples
        assert {r["piece"] for r in rows} <= set(PIECES)
        assert all(r["piece"] in PIECES_OF_STEM[r["stem"]] for r in rows)


def test_metadata_has_a_row_per_track_with_gmds_columns_and_presence(
    built: Path, few: Collection, kits: tuple[Kit, ...]
) -> None:
    with (built / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_id = {p.id: p for p in few.performances}
    assert {(r["kit"], r["id"]) for r in rows} == {(k.id, i) for k in kits for i in by_id}
    for row in rows:
        p = by_id[row["id"]]
        assert (row["split"], row["style"], row["bpm"]) == (p.split, p.style, str(p.bpm))
        assert row["midi_filename"] == p.midi_filename
        assert int(row["n_hits"]) == len(few.read_score(p).hits)
        assert int(row["n_hits"]) == sum(int(row[f"hits_{piece}"]) for piece in PIECES)
        pcm = pcm_of(built / manifest.track_folder(row), row, "flac")
        for piece in PIECES:
            assert (int(row[f"hits_{piece}"]) > 0) == bool(pcm[piece].any())
            assert row[f"has_{piece}"] == str(int(pcm[piece].any()))
        for stem, pieces in PIECES_OF_STEM.items():
            assert row[f"has_{stem}"] == str(int(any(pcm[piece].any() for piece in pieces)))


def test_licences_and_settings_name_just_the_kits_used(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    def named(root: Path) -> set[str]:
        rows = re.findall(r"^\| ([a-z0-9.-]+) \|", (root / "LICENSES.md").read_text(), re.M)
        kits_of_settings = set(manifest.read_settings(root)["kits"])
        assert set(rows) - {"kit", "---"} == kits_of_settings
        return kits_of_settings

    assert named(built) == {kit.id for kit in kits}
    # A build of both kits that was stopped at once, and went on with the second alone.
    chosen = few.select("all", 1)
    root = tmp_path / "one"
    plan = build.make_plan(root, few, chosen, kits, RenderSettings())
    root.mkdir()
    manifest.write_recorded(root / "dataset.json", json.dumps(plan.settings))
    build_into(root, few, kits[1:], limit=1)
    assert named(root) == {kits[1].id}
    assert few.licence in (root / "LICENSES.md").read_text()
    bib = (root / "CITATIONS.bib").read_text()
    assert "@article{stemgmd2024" in bib
    assert few.citation in bib


def test_gmds_citation_is_an_entry_of_its_own(
    few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    own = write_collection(tmp_path / "groove", few, few.performances[:1])
    name, gmds_name = own.performances[0].midi_filename, min(official_checksums())
    (own.root / gmds_name).parent.mkdir(parents=True)
    (own.root / name).rename(own.root / gmds_name)
    index = own.root / "info.csv"
    index.write_text(index.read_text().replace(name, gmds_name))
    gmd = read_collection(own.root)
    assert gmd.source == "gmd"
    assert build_into(tmp_path / "d", gmd, kits[:1], limit=1) == []
    bib = (tmp_path / "d" / "CITATIONS.bib").read_text()
    entries = re.findall(r"^@(\w+)\{(\w+),$", bib, re.M)
    assert entries == [("inproceedings", "gillick2019"), ("article", "stemgmd2024")]
    assert bib.count("{") == bib.count("}")
    outside = re.sub(r"^@.*?^\}$", "", bib, flags=re.M | re.S)
    assert outside.strip() == ""


# --- the same bytes, however it came about ------------------------------------------------------


def test_more_kits_and_performances_extend_a_folder_to_the_bytes_of_their_union(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    root = tmp_path / "d"
    build_into(root, few, kits[1:], limit=1)
    build_into(root, few, kits[1:])
    build_into(root, few, kits[:1], limit=2)
    assert hashes(root) != hashes(built)
    build_into(root, few, kits)
    assert hashes(root) == hashes(built)


def test_splits_extend_a_folder(few: Collection, kits: tuple[Kit, ...], tmp_path: Path) -> None:
    splits = sorted({p.split for p in few.performances})
    assert len(splits) > 1
    for split in splits:
        build_into(tmp_path / "d", few, kits[1:], split=split)
    build_into(tmp_path / "whole", few, kits[1:])
    assert hashes(tmp_path / "d") == hashes(tmp_path / "whole")


def test_rerun_of_a_finished_build_renders_nothing_and_changes_no_byte(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    root = shutil.copytree(built, tmp_path / "d")
    before = hashes(root)
    times = {p: p.stat().st_mtime_ns for p in root.glob("audio/**/*.flac")}
    plan = build.make_plan(root, few, few.performances, kits, RenderSettings())
    assert len(times) == 60
    assert plan.todo == ()
    assert plan.todo_bytes() == 0
    build_into(root, few, kits)
    assert hashes(root) == before
    assert {p: p.stat().st_mtime_ns for p in root.glob("audio/**/*.flac")} == times


def test_a_lost_or_shortened_file_is_rendered_again(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    root = shutil.copytree(built, tmp_path / "d")
    files = sorted(root.glob("audio/**/*.flac"))
    files[0].unlink()
    files[-1].write_bytes(files[-1].read_bytes()[:-1])
    build_into(root, few, kits)
    assert hashes(root) == hashes(built)


def interrupted(built: Path, root: Path, n_tracks: int) -> Path:
    """A copy as a build leaves it that died after so many tracks."""
    shutil.copytree(built, root)
    records = list(manifest.finished_tracks(root).values())
    for name in ("manifest.jsonl", "metadata.csv", "LICENSES.md", "CITATIONS.bib"):
        (root / name).unlink()
    for record in records[n_tracks:]:
        for file in record.files:
            (root / file.path).unlink()
    with (root / manifest.JOURNAL).open("w") as journal:
        for record in records[:n_tracks]:
            manifest.append_to_journal(journal, record)
    return root


@pytest.mark.parametrize(
    "torn",
    [b"", b'{"row": {"drummer": "bui', b'{"row": {}, "files": []}\n', b"\xff\x00\n[[[[", b"[1]\n"],
)
def test_a_torn_journal_line_loses_one_track_and_no_more(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path, torn: bytes
) -> None:
    root = interrupted(built, tmp_path / "d", 5)
    with (root / manifest.JOURNAL).open("ab") as journal:
        journal.write(torn)
    plan = build.make_plan(root, few, few.performances, kits, RenderSettings())
    assert len(plan.todo) == 1
    build_into(root, few, kits)
    assert hashes(root) == hashes(built)


def test_leftovers_of_a_build_killed_in_its_first_moment_are_no_obstacle(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    root = tmp_path / "d"
    root.mkdir()
    (root / ".lock").touch()
    (root / ".dataset.json.partial").write_text('{"rend')
    build_into(root, few, kits)
    assert hashes(root) == hashes(built)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "gain_db", "named"),
    [
        (RenderSettings(file_format="wav"), 0.0, "file_format"),
        (RenderSettings(stems="five"), 0.0, "five"),
        (RenderSettings(choke=False), 0.0, "choke"),
        (RenderSettings(articulations="full"), 0.0, "articulations"),
        (RenderSettings(), -3.0, "gain_db"),
    ],
)
def test_other_settings_on_the_same_folder_are_refused(
    built: Path,
    few: Collection,
    kits: tuple[Kit, ...],
    settings: RenderSettings,
    gain_db: float,
    named: str,
) -> None:
    before = hashes(built)
    with pytest.raises(UserError, match=named) as caught:
        build_into(built, few, kits, settings, gain_db=gain_db)
    assert "\n" not in str(caught.value)
    assert hashes(built) == before


def test_another_kit_of_the_same_name_is_refused(
    built: Path, few: Collection, tmp_path: Path
) -> None:
    other = select_kits([str(write_noise_kit(tmp_path / "noise-kit", seed=1))])
    with pytest.raises(UserError, match="noise-kit as sampled otherwise"):
        build_into(built, few, other)


def test_a_kit_whose_pieces_were_turned_up_since_is_refused(
    few: Collection, tmp_path: Path
) -> None:
    write_noise_kit(tmp_path / "noise-kit")
    own = tmp_path / "own.toml"
    own.write_text('path = "noise-kit"\n')
    build_into(tmp_path / "d", few, select_kits([str(own)]), limit=1)
    own.write_text('path = "noise-kit"\n[gain_db]\nhi_tom = -0.5\n')
    with pytest.raises(UserError, match="holds kit noise-kit as sampled otherwise"):
        build_into(tmp_path / "d", few, select_kits([str(own)]), limit=1)


def test_a_folder_that_is_not_a_dataset_is_refused_and_left_alone(
    few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no dataset"):
        build_into(tmp_path, few, kits)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.txt"]


def test_performances_that_the_collection_lacks_are_refused_before_anything_is_rendered(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    before = hashes(built)
    less = write_collection(tmp_path / "less", few, few.performances[1:])
    with pytest.raises(UserError, match=f"holds {few.performances[0].id}, which is not among"):
        build.make_plan(built, less, less.performances, kits, RenderSettings())
    assert hashes(built) == before


def test_a_second_build_of_the_same_folder_is_refused(
    few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    with locked(tmp_path / "d", "build"):
        line = error_line(
            stemgmd("build", "--gmd", few.root, "--kits", KIT, "--out", tmp_path / "d")
        )
    assert "another build is writing" in line
    assert build_into(tmp_path / "d", few, kits[1:], limit=1) == []


def test_an_out_that_cannot_be_a_folder_is_refused(few: Collection, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc")):
        line = error_line(stemgmd("build", "--gmd", few.root, "--kits", KIT, "--out", out))
        assert f"{out} cannot be written" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_a_build_that_the_disk_cannot_hold_is_refused_up_front(
    few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    chosen = few.performances
    settings = RenderSettings(file_format="wav")
    plan = build.make_plan(tmp_path / "d", few, chosen, kits, settings)
    build.check_disk(plan)
    free = shutil.disk_usage(tmp_path).free
    n_jobs = int(free / (plan.todo_bytes() / len(plan.jobs))) * 2 + 1
    huge = build.Plan(plan.root, plan.jobs, plan.jobs[:1] * n_jobs, {}, plan.settings)
    with pytest.raises(UserError, match="GB free, and the build needs about"):
        build.check_disk(huge)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--kits", "no-such-kit"], "no-such-kit"),
        (["--kits", ""], "no kit is named"),
        (["--kits", KIT, "--split", "tset"], "tset"),
        (["--kits", KIT, "--limit", "0"], "--limit"),
        (["--kits", KIT, "--gain-db", "nan"], "--gain-db"),
        (["--kits", KIT, "--gmd", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(
    few: Collection, tmp_path: Path, arguments: list[str], named: str
) -> None:
    arguments = ["--gmd", str(few.root), *arguments]
    line = error_line(stemgmd("build", "--out", tmp_path / "d", *arguments))
    assert named in line
    assert not (tmp_path / "d").exists()


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(
    few: Collection, tmp_path: Path
) -> None:
    arguments = ["--gmd", few.root, "--kits", KIT, "--out", tmp_path / "d", "--dry-run"]
    result = stemgmd("build", *arguments)
    assert result.returncode == 0
    assert re.search(
        r"to do: 3 of 3 tracks, [\d.]+ hours in 30 files, about [\d.]+ GB and [\d.]+ minutes",
        result.stderr,
    )
    assert not (tmp_path / "d").exists()


def test_a_dry_run_prints_its_plan_as_json(few: Collection, tmp_path: Path) -> None:
    arguments = ["--gmd", few.root, "--kits", KIT, "--out", tmp_path / "d", "--dry-run", "--json"]
    result = stemgmd("build", *arguments, "--shards")
    assert (result.returncode, result.stderr) == (0, "")
    plan = json.loads(result.stdout)
    assert (plan["out"], plan["tracks"], plan["to_do"]) == (str(tmp_path / "d"), 3, 3)
    assert (plan["performances"], plan["performances_root"]) == ("builtin", str(few.root))
    assert plan["kits_to_sample"] == []
    assert plan["files"] == 30
    assert 0 < plan["hours"] < 1
    assert 0 < plan["bytes"] <= plan["shard_bytes"]
    assert plan["minutes"] >= 0
    assert not (tmp_path / "d").exists()


def test_a_limit_counts_all_that_is_chosen_together_as_the_help_says(
    few: Collection, tmp_path: Path
) -> None:
    arguments = ["--gmd", few.root, "--kits", KIT, "--out", tmp_path / "d", "--dry-run", "--json"]
    result = stemgmd("build", *arguments, "--split", "train,validation,test", "--limit", 2)
    assert json.loads(result.stdout)["tracks"] == 2
    said = " ".join(stemgmd("build", "--help").stdout.split())
    assert "only the first N of all performances chosen" in said


def test_the_result_as_json_says_which_performances_were_used(
    few: Collection, tmp_path: Path
) -> None:
    arguments = ["--gmd", few.root, "--kits", KIT, "--limit", 1, "--out", tmp_path / "d"]
    result = stemgmd("build", *arguments, "--json")
    assert json.loads(result.stdout) == {
        "performances": "builtin",
        "performances_root": str(few.root),
        "out": str(tmp_path / "d"),
        "tracks": 1,
        "failed": [],
        "notes": [],
    }


def test_a_dry_run_samples_no_kit_and_names_those_that_are_not_yet(
    few: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    write_noise_kit(tmp_path / "noise-kit")
    arguments = ["--gmd", few.root, "--kits", f"{KIT},{tmp_path / 'noise-kit'}"]
    arguments += ["--out", tmp_path / "d", "--dry-run"]
    result = stemgmd("build", *arguments)
    assert result.returncode == 0, result.stderr
    assert "to do: 6 of 6 tracks" in result.stderr
    assert f"before that, once: 2 kits ({KIT}, noise-kit) to be sampled" in result.stderr
    plan = json.loads(stemgmd("build", *arguments, "--json").stdout)
    assert plan["kits_to_sample"] == [KIT, "noise-kit"]
    assert not (tmp_path / "cache" / "banks").exists()
    kits = select_kits([KIT])
    read = build.make_plan(
        tmp_path / "d", few, few.performances, kits, RenderSettings(), sample=False
    )
    with pytest.raises(ValueError, match="without sampling"):
        build.run(read, few)


@pytest.mark.parametrize("n_kits", [1, 2])
def test_kits_that_were_never_sampled_are_announced(
    few: Collection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    n_kits: int,
) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    paths = [str(write_noise_kit(tmp_path / f"noise-{i}", seed=i)) for i in range(n_kits)]
    kits, chosen = select_kits(paths), few.select("all", 1)
    arguments = (tmp_path / "d", few, chosen, kits, RenderSettings())
    build.make_plan(*arguments, show_progress=False)
    assert "sampling" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "cache")
    build.make_plan(*arguments)
    said = capsys.readouterr().err
    names = ", ".join(kit.id for kit in kits)
    first = f"sampling first, once: {n_kits} kit{'s' * (n_kits > 1)} ({names})"
    assert said.splitlines()[0] == first
    build.make_plan(*arguments)
    assert "sampling" not in capsys.readouterr().err


def test_the_forecast_of_bytes_is_of_the_right_size(built: Path, few: Collection) -> None:
    kits = select_kits([KIT])
    plan = build.make_plan(built / "x", few, few.performances, kits, RenderSettings())
    real = sum(p.stat().st_size for p in built.glob(f"audio/*/*/{KIT}/**/*.flac"))
    assert 0.4 < plan.todo_bytes() / real < 2.5


def test_a_track_whose_midi_has_changed_is_rendered_again(
    tmp_path: Path, builtin_collection: Collection
) -> None:
    two = shortest(builtin_collection, 2)
    few = write_collection(tmp_path / "few", builtin_collection, two)
    arguments = ("build", "--gmd", str(few.root), "--out", str(tmp_path / "out"), "--kits", KIT)
    assert stemgmd(*arguments, "--workers", "1").returncode == 0
    first, second = (few.midi_path(performance) for performance in few.performances)
    before = hashes(tmp_path / "out")
    first.write_bytes(second.read_bytes())
    assert stemgmd(*arguments, "--workers", "1").returncode == 0
    after = hashes(tmp_path / "out")
    changed = {path for path, digest in before.items() if after[path] != digest}
    name = few.performances[0].name
    assert any(f"/mixture/{name}.flac" in path for path in changed)
    assert not any(f"/{few.performances[1].name}.flac" in path for path in changed)
