"""The whole mission in one command."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import KIT, shortest, stemgmd, stemgmd_here, write_collection, write_noise_kit

from benchmarks.reproduce import SIZES, Experiment, load_experiment, remember
from larsnet.network.weights import default_weights
from stemgmd_build import cli
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.performances.collection import Collection

SMALL = f'split = "all"\nkits = ["{KIT}"]\nlimit = 2\nsystems = ["mixture", "larsnet-small"]\n'


@pytest.fixture(scope="module")
def gmd(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("performances") / "gmd"
    write_collection(folder, builtin_collection, shortest(builtin_collection, 2))
    return folder


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "small.toml"
    path.write_text(SMALL + "clips = 0\nspeed = false\n")
    return path


def test_the_sizes_are_those_of_the_documentation() -> None:
    sizes = {path.stem: load_experiment(path) for path in SIZES.glob("*.toml")}
    assert sorted(sizes) == ["full", "paper"]
    assert (sizes["paper"].split, sizes["full"].split) == ("eval_session", "test")
    assert len(select_kits(sizes["paper"].kits)) == 10
    assert select_kits(sizes["full"].kits) == select_kits(["test"]), "as leaderboard/"
    assert [sizes[name].limit for name in ("paper", "full")] == [None, None]


def test_the_plan_comes_first_and_a_dry_run_writes_nothing(
    experiment: Path, gmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the cache: the kits are sampled when the dataset is built."""
    out = tmp_path / "out"
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    result = stemgmd("reproduce", "--config", experiment, "--gmd", gmd, "--out", out, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line[:1].isdigit()] == [
        line for line in result.stdout.splitlines() if ": " in line and line[1:3] == ". "
    ]
    for word in ("2 of 2 tracks to do", "GB", "min", "stemgmd build", "stemgmd bench run"):
        assert word in result.stdout
    assert f"1 kit ({KIT}) to be sampled first" in result.stdout
    assert not out.exists()
    assert not (tmp_path / "cache").exists()


def test_a_kit_that_is_built_from_a_path_is_scored_under_its_name(
    gmd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = write_noise_kit(tmp_path / "noise-kit")
    path = tmp_path / "own.toml"
    path.write_text(SMALL.replace(KIT, str(kit)))
    arguments = ("--config", path, "--gmd", gmd, "--out", tmp_path / "out", "--dry-run")
    assert cli.main(["reproduce", *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (built,) = [line for line in lines if "stemgmd build" in line]
    (scored,) = [line for line in lines if "stemgmd bench run" in line]
    assert f"--kits {kit} " in built
    assert "--kits noise-kit " in scored


def test_the_plan_says_how_long_training_takes(gmd: Path, tmp_path: Path) -> None:
    path = tmp_path / "trained.toml"
    path.write_text(SMALL + 'weights = "larsnet-small"\n')
    arguments = ["--config", path, "--gmd", gmd, "--out", tmp_path / "out", "--dry-run"]
    result = stemgmd_here("reproduce", *arguments, "--workers", 2)
    assert result.returncode == 0, result.stderr
    (training,) = [line for line in result.stdout.splitlines() if ". training: " in line]
    # the packaged weights' first run: 8,000 steps in 2.2 hours on two cores
    assert training.endswith(
        "8,000 steps, 105 h of audio rendered on the fly, about 2.2 h on 2 cores"
    )


def test_it_ends_with_a_leaderboard_and_goes_on_where_it_was(
    experiment: Path, gmd: Path, tmp_path: Path
) -> None:
    arguments = ("reproduce", "--config", experiment, "--gmd", gmd, "--out", tmp_path / "out")
    first = stemgmd(*arguments, "--workers", 1)
    assert first.returncode == 0, first.stderr
    for line in first.stdout.splitlines()[-2:]:
        named = line.partition(":")[2].split(", ")
        assert all(Path(name.strip()).is_file() for name in named)
    table = (tmp_path / "out" / "leaderboard" / "leaderboard.md").read_text()
    assert "LarsNet-small" in table
    again = stemgmd(*arguments, "--workers", 1)
    assert again.returncode == 0, again.stderr
    assert "0 of 2 tracks to do" in again.stdout
    assert "4 estimates are scored already, 0 to do" in again.stderr


def test_another_experiment_in_the_folder_is_refused(tmp_path: Path) -> None:
    remember(Experiment("test", ("default",)), tmp_path)
    remember(Experiment("test", ("default",)), tmp_path)
    with pytest.raises(UserError, match="another experiment"):
        remember(Experiment("all", ("default",)), tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("split = ", "not valid TOML"),
        ('kits = ["default"]', "split is missing"),
        (SMALL + "speeed = true", "unknown key 'speeed'"),
        (SMALL.replace('"all"', "3"), "split must be a name"),
        (SMALL.replace("limit = 2", "limit = 0"), "at least 1"),
        (SMALL.replace(f'["{KIT}"]', "[]"), "kits must be a list"),
        (SMALL.replace('"mixture"', '"nmf3"'), "no system 'nmf3'"),
        (SMALL.replace(KIT, "no-such-kit"), "no-such-kit"),
        (SMALL.replace('"all"', '"tests"'), "no split 'tests'"),
        (SMALL + 'weights = "larsnet-huge"', "larsnet-huge"),
    ],
)
def test_a_wrong_experiment_is_one_line(
    text: str, problem: str, gmd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    arguments = [
        "reproduce",
        "--config",
        str(path),
        "--gmd",
        str(gmd),
        "--out",
        str(tmp_path / "x"),
    ]
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert problem in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_weights_named_by_the_environment_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_WEIGHTS", str(tmp_path / "nothing.safetensors"))
    with pytest.raises(UserError, match=r"nothing\.safetensors"):
        default_weights()
    (tmp_path / "nothing.safetensors").touch()
    assert default_weights() == tmp_path / "nothing.safetensors"
