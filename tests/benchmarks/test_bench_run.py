"""`stemgmd bench`: what is scored stays, whatever befalls a run, and systems of others enter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_builds import (
    KIT,
    command,
    error_line,
    shortest,
    stemgmd,
    stemgmd_here,
    write_collection,
    write_noise_kit,
)
from small_larsnets import TINY, wild_model
from waiting import wait_until

from benchmarks import realtime, timing
from benchmarks.records import METRIC_VERSIONS, StemRecord, to_line
from benchmarks.results_folder import ResultsFolder
from larsnet.network.checkpoint import save_checkpoint
from stemgmd_build.performances.collection import Collection
from stemgmd_build.taxonomy import STEMS

SYSTEMS = ("mixture", "ideal-ratio", "nmf-fixed")


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("few") / "groove"
    return write_collection(folder, builtin_collection, shortest(builtin_collection, 3))


@pytest.fixture(scope="module")
def run_few(few: Collection, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Arguments of a run over three performances on two kits, but for --out and --workers."""
    kit = write_noise_kit(tmp_path_factory.mktemp("kits") / "noise-kit")
    kits = f"{KIT},{kit}"
    return [
        *("bench", "run", "--gmd", few.root, "--kits", kits, "--split", "all", "--no-speed"),
        *("--audio", 1, "--systems", ",".join(SYSTEMS)),
    ]


@pytest.fixture(scope="module")
def undisturbed(run_few: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "results"
    result = stemgmd(*run_few, "--workers", 1, "--out", out)
    assert result.returncode == 0, result.stderr
    return out


def scores(out: Path) -> list[StemRecord]:
    return ResultsFolder(out).records()


def lines(out: Path) -> set[str]:
    return set(map(to_line, scores(out)))


def test_every_system_is_scored_on_every_track_and_described(undisturbed: Path) -> None:
    records = ResultsFolder(undisturbed).records()
    assert len(records) == len(lines(undisturbed)) == 3 * 2 * len(SYSTEMS) * len(STEMS)
    assert {r.system for r in records} == set(SYSTEMS)
    assert {s.system for s in ResultsFolder(undisturbed).systems()} == set(SYSTEMS)
    facts = json.loads((undisturbed / "run.json").read_text())
    assert facts["wall_sec"] > 0
    assert all(len(record.commit) >= 12 for record in records), "of this checkout"
    assert facts["performances"] == 3
    assert "machine" in facts


def test_an_excerpt_of_a_clip_is_kept_to_listen_to(undisturbed: Path) -> None:
    (clip,) = json.loads((undisturbed / "audio" / "clips.json").read_text())["clips"]
    folder = undisturbed / "audio" / clip["clip"]
    mixture, rate = soundfile.read(folder / "mixture.flac")
    assert rate == 44100
    assert 0 < len(mixture) <= 8 * 44100
    present = {path.stem for path in (folder / "reference").iterdir()}
    total = sum(soundfile.read(folder / "reference" / f"{s}.flac")[0] for s in present)
    np.testing.assert_allclose(mixture, total, atol=1e-9)
    for system in SYSTEMS:
        for stem in STEMS:
            assert soundfile.read(folder / system / f"{stem}.flac")[0].shape == mixture.shape


def test_two_workers_give_the_records_of_one(
    run_few: list[object], undisturbed: Path, tmp_path: Path
) -> None:
    result = stemgmd_here(*run_few, "--workers", 2, "--out", tmp_path / "r", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["failed"] == []
    assert lines(tmp_path / "r") == lines(undisturbed)


def test_a_run_killed_again_and_again_ends_with_the_same_records(
    run_few: list[object], undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r"
    records = out / "records.jsonl"
    for n_clips in (1, 4):
        process = subprocess.Popen(
            command(*run_few, "--workers", 1, "--out", out),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        n_scores = n_clips * len(SYSTEMS) * len(STEMS)
        wait_until(lambda n=n_scores: records.exists() and len(scores(out)) >= n, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        torn = records.read_bytes()
        records.write_bytes(torn + b'{"system": "mixt')  # as a full buffer would leave it
    result = stemgmd(*run_few, "--workers", 1, "--out", out)
    assert result.returncode == 0, result.stderr
    assert lines(out) == lines(undisturbed)


def test_what_is_scored_is_not_scored_again(run_few: list[object], undisturbed: Path) -> None:
    before = (undisturbed / "records.jsonl").read_bytes()
    result = stemgmd_here(*run_few, "--out", undisturbed)
    assert result.returncode == 0, result.stderr
    facts = json.loads((undisturbed / "run.json").read_text())
    assert facts["workers"] >= 1, "of when something was to do"
    assert "18 estimates are scored already, 0 to do" in result.stderr
    assert (undisturbed / "records.jsonl").read_bytes() == before


def test_ctrl_c_is_one_line_and_nothing_scored_is_lost(
    run_few: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "r"
    process = subprocess.Popen(
        command(*run_few, "--workers", 2, "--out", out),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: (out / "records.jsonl").exists() and scores(out), process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "interrupted; the same command goes on from here" in stderr
    assert len(scores(out)) % (len(SYSTEMS) * len(STEMS)) == 0


def test_tracks_that_sound_otherwise_now_are_scored_anew_and_the_old_records_stay(
    few: Collection, run_few: list[object], undisturbed: Path, tmp_path: Path
) -> None:
    dataset, out = tmp_path / "d", tmp_path / "r"
    built = stemgmd_here(
        *("build", "--gmd", few.root, "--kits", KIT, "--limit", 1, "--gain-db", -3, "--out"),
        dataset,
    )
    assert built.returncode == 0, built.stderr
    arguments = ["bench", "run", "--no-speed", "--systems", "mixture", "--audio", 0, "--kits", KIT]
    first = stemgmd_here(
        *arguments, "--gmd", few.root, "--split", "all", "--limit", 1, "--out", out
    )
    second = stemgmd_here(*arguments, "--data", dataset, "--split", "all", "--out", out)
    assert first.returncode == second.returncode == 0, second.stderr
    assert "1 tracks were scored while they sounded otherwise" in second.stderr
    assert len({r.data for r in scores(out)}) == 2
    report = error_line(stemgmd_here("bench", "report", out))
    assert "several renderings" in report


BROKEN_SYSTEM = """
import numpy as np
from baselines.system import SystemInfo

class Broken:
    info = SystemInfo("{name}", "x", ("mixture",), "1", "nothing", 0, "MIT", "breaks")
    def separate(self, inputs):
        assert inputs.score is None and inputs.references is None
        {body}

def make(device):
    return Broken()
"""


def install(folder: Path, name: str, body: str) -> None:
    """A package of a third party with a system in its entry points."""
    module = name.replace("-", "_")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stemgmd.systems]\n{name} = {module}:make\n")
    (folder / f"{module}.py").write_text(BROKEN_SYSTEM.format(name=name, body=body))


def test_a_system_that_fails_is_reported_and_the_others_are_scored(
    few: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "p", "raises", "raise RuntimeError('two\\nlines')")
    install(tmp_path / "p", "nan-maker", "return np.full((5, *inputs.mixture.shape), np.nan)")
    install(tmp_path / "p", "halves", "return np.stack([inputs.mixture / 2] * 5)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "p"))
    result = stemgmd(
        *("bench", "run", "--gmd", few.root, "--kits", KIT, "--split", "all", "--limit", 2),
        *("--systems", "raises,mixture,nan-maker,halves", "--no-speed", "--out", tmp_path / "r"),
        *("--audio", 0),
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    failed = [x for x in result.stderr.splitlines() if "failed:" in x]
    assert len(failed) == 4
    assert sum("RuntimeError: two lines" in line for line in failed) == 2
    assert sum("holds NaN or infinity" in line for line in failed) == 2
    assert {r.system for r in scores(tmp_path / "r")} == {"mixture", "halves"}
    listed = stemgmd("bench", "systems", "--json")
    assert {"halves", "nmfd"} <= {info["id"] for info in json.loads(listed.stdout)}


def test_stems_that_were_made_elsewhere_score_as_the_system_that_made_them(
    few: Collection, undisturbed: Path, tmp_path: Path
) -> None:
    """Mixtures are exported, halved by another program, and its stems enter the table."""
    where = ["--gmd", few.root, "--kits", KIT, "--split", "all", "--limit", 2]
    assert stemgmd_here("bench", "export", *where, "--out", tmp_path / "m").returncode == 0
    for path in (tmp_path / "m").glob("*.wav"):
        audio, rate = soundfile.read(path)
        (tmp_path / "e" / path.stem).mkdir(parents=True)
        for name in ("bd", "snare", "toms", "hihat", "cymbals"):
            soundfile.write(tmp_path / "e" / path.stem / f"{name}.wav", audio, rate, "PCM_16")
    arguments = ["bench", "score", *where, "--estimates", tmp_path / "e", "--map", "kick=bd"]
    result = stemgmd_here(*arguments, "--name", "copier", "--out", tmp_path / "r")
    assert result.returncode == 0, result.stderr
    ours = [r for r in scores(undisturbed) if r.system == "mixture"]
    by_place = {(r.track, r.kit, r.stem): (r.nsdr_db, r.sdr_db, r.onset_f) for r in ours}
    found = scores(tmp_path / "r")
    assert len(found) == 2 * len(STEMS)
    for record in found:
        place = (record.track, record.kit, record.stem)
        assert (record.nsdr_db, record.sdr_db, record.onset_f) == by_place[place]
        assert record.metrics.items() <= METRIC_VERSIONS.items()
    again = stemgmd_here(*arguments, "--name", "copier", "--out", tmp_path / "r")
    assert "2 estimates are scored already, 0 to do" in again.stderr
    described = ResultsFolder(tmp_path / "r").systems()
    assert [system.licence for system in described] == ["not stated"], "told once"
    known = ("--licence", "MIT", "--seen", "stemgmd,idmt")
    told = stemgmd_here(*arguments, "--name", "copier", *known, "--out", tmp_path / "r")
    assert told.returncode == 0, told.stderr
    described = ResultsFolder(tmp_path / "r").systems()
    assert [system.licence for system in described] == ["not stated", "MIT"], "what is new is kept"
    assert described[-1].kits_seen == ("stemgmd", "idmt")
    (next((tmp_path / "e").rglob("toms.wav"))).unlink()
    missing = stemgmd_here(
        *arguments, "--name", "copier", "--revision", "2", "--out", tmp_path / "r"
    )
    assert missing.returncode == 1
    assert "no file of toms" in missing.stderr
    assert len(scores(tmp_path / "r")) == 3 * len(STEMS)


@pytest.fixture
def timed_on_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a minute: what is timed is another test's matter (test_timing.py)."""
    for module in (timing, realtime):
        monkeypatch.setattr(module, "CLIP_SEC", 2)


@pytest.mark.usefixtures("timed_on_two_seconds")
def test_systems_are_timed_once(few: Collection, tmp_path: Path) -> None:
    arguments = [
        *("bench", "run", "--gmd", few.root, "--kits", KIT, "--split", "all", "--limit", 1),
        *("--systems", "mixture", "--audio", 0, "--out", tmp_path / "r"),
    ]
    first, second = stemgmd_here(*arguments), stemgmd_here(*arguments)
    assert first.returncode == second.returncode == 0, first.stderr
    assert "x real time" in first.stderr
    assert "x real time" not in second.stderr


@pytest.mark.usefixtures("timed_on_two_seconds")
def test_a_checkpoint_of_ones_own_enters_under_its_name(few: Collection, tmp_path: Path) -> None:
    """Beside another, as the system that its file is, and timed as others are."""
    for name, seed in (("first", 0), ("second", 1)):
        save_checkpoint(wild_model(TINY, seed), tmp_path / f"{name}.safetensors")
    given = ",".join(f"my-{n}={tmp_path / n}.safetensors" for n in ("first", "second"))
    arguments = [
        *("bench", "run", "--gmd", few.root, "--kits", KIT, "--split", "all", "--limit", 1),
        *("--systems", given, "--audio", 1, "--out", tmp_path / "r"),
    ]
    result = stemgmd_here(*arguments)
    assert result.returncode == 0, result.stderr
    found = scores(tmp_path / "r")
    by_system = {r.system: r.nsdr_db for r in found if r.stem == "kick"}
    assert set(by_system) == {"my-first", "my-second"}
    assert by_system["my-first"] != by_system["my-second"]
    assert "my-second: " in result.stderr, "x real time"
    assert list((tmp_path / "r" / "audio").rglob("my-first/kick.flac"))
    (tmp_path / "first.safetensors").unlink()
    line = error_line(stemgmd_here(*arguments))
    assert str(tmp_path / "first.safetensors") in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--systems", "nmdf"), "no system 'nmdf'"),
        (("run", "--systems", "nmfd=x.safetensors"), "'nmfd' is taken"),
        (("run", "--systems", "../x=x.safetensors"), "letters, digits"),
        (("run", "--systems", "mine="), "mine=: there is no such file"),
        (("run", "--systems", "mine=."), "mine=.: there is no such file"),
        (("run", "--kits", "no-such-kit"), "no-such-kit"),
        (("run", "--split", "evaluation"), "evaluation"),
        (("run", "--limit", "0"), "--limit must be at least 1"),
        (("run", "--workers", "0"), "--workers must be at least 1"),
        (("run", "--audio", "-1", "--systems", "zero"), "--audio at least 0"),
        (("run", "--data", "."), "cannot be read"),
        (("score", "--estimates", "nowhere", "--name", "x"), "nowhere is no folder"),
        (("score", "--estimates", ".", "--name", "nmfd"), "is taken"),
        (("score", "--estimates", ".", "--name", "../x"), "letters, digits"),
        (("score", "--estimates", ".", "--name", "x", "--inputs", "ears"), "'ears' is none of"),
        (("score", "--estimates", ".", "--name", "x", "--map", "bass=b"), "no stem 'bass'"),
        (("score", "--estimates", ".", "--name", "x", "--inputs", "score"), "sees the mixture"),
        (("score", "--estimates", ".", "--name", "x", "--parameters", "-5"), "--parameters"),
        (("score", "--estimates", ".", "--name", "x"), "no stem in"),
    ],
)
def test_bad_input_is_one_line(
    few: Collection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["bench", *arguments, "--out", tmp_path / "r"]
    if "--data" not in arguments:
        given += ["--gmd", few.root]
    if "--split" not in arguments:
        given += ["--split", "all"]
    if "--kits" not in arguments:
        given += ["--kits", KIT]
    assert says in error_line(stemgmd_here(*given))
    assert not (tmp_path / "r" / "systems.jsonl").exists()
