"""Training runs: they learn, and killed, resumed or shared they go through the same losses."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_builds import KIT, command, shortest, write_collection
from small_kits import drum_sounds, write_kit
from waiting import wait_until

from larsnet.network.checkpoint import load_checkpoint, read_info, save_checkpoint
from larsnet.network.larsnet import LarsNet
from larsnet.network.tensors import read_tensors, write_tensors
from larsnet.network.weights import PACKAGED_WEIGHTS
from larsnet.separation.system import make_larsnet_small
from larsnet.training.config import CONFIGS, load_config
from larsnet.training.pack import pack
from stemgmd_build import cli
from stemgmd_build.errors import UserError
from stemgmd_build.files import locked
from stemgmd_build.performances.collection import Collection

CONFIG = f"""
seed = 1
steps = 12
batch = 4
n_frames = 16
learning_rate = 3e-3
validate_every = 6
validation_segments = 2
checkpoint_every = 3
kits = ["{KIT}"]
[model]
n_bands = 64
input_exponent = 0.5
[model.unet]
n_bins = 64
n_frames = 32
widths = [4, 6]
"""
Losses = dict[int, list[float]]


@pytest.fixture(scope="module")
def gmd(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A handful of short performances of either split."""
    ways = [
        [p for p in builtin_collection.performances if p.split == split]
        for split in ("train", "validation")
    ]
    chosen = [p for way in ways for p in shortest(Collection(**{**vars(builtin_collection),
        "performances": tuple(way)}), 4)]  # fmt: skip
    folder = tmp_path_factory.mktemp("performances") / "gmd"
    write_collection(folder, builtin_collection, chosen)
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(CONFIG + "dropouts = [0.5]\n")
    return path


def arguments(config: Path, gmd: Path, out: Path, *more: object) -> list[object]:
    return ["train", config, "--gmd", gmd, "--out", out, "--threads", 1, *more]


def train(*arguments: object) -> int:
    return cli.main(list(map(str, arguments)))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that bad input gets, after what was told of progress."""
    capsys.readouterr()
    assert train(*arguments) == 2
    *before, error = capsys.readouterr().err.splitlines()
    assert all(line.startswith("training: ") for line in before)
    return error


def losses(out: Path) -> Losses:
    with (out / "losses.csv").open(newline="") as file:
        return {
            int(row.pop("step")): list(map(float, row.values())) for row in csv.DictReader(file)
        }


@pytest.fixture(scope="module")
def whole(config: Path, gmd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert train(*arguments(config, gmd, out)) == 0
    return out


def test_a_run_leaves_weights_tables_and_curves(whole: Path) -> None:
    assert list(losses(whole)) == list(range(1, 13))
    with (whole / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["6", "12"]
    assert all(0 < float(row["data_share"]) < 1 for row in rows)
    scores = {int(row["step"]): float(row["nsdr_db"]) for row in rows}
    best, last = (read_info(whole / f"{name}.safetensors") for name in ("best", "last"))
    assert best.notes["nsdr_db"] == pytest.approx(max(scores.values()), rel=1e-6)
    assert last.notes["step"] == 12
    assert load_checkpoint(whole / "best.safetensors").config.unet.widths == (4, 6)
    with Image.open(whole / "curves.png") as picture:
        assert picture.width > 800
    assert list((whole / "tensorboard").iterdir())
    assert not list(whole.glob(".*"))


def test_a_finished_run_has_nothing_left_to_do(
    whole: Path, config: Path, gmd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "last.safetensors").read_bytes()
    assert train(*arguments(config, gmd, whole)) == 0
    assert "nan" not in capsys.readouterr().out, "no share of no time"
    assert (whole / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_through_the_very_same_losses(
    number: signal.Signals, whole: Path, config: Path, gmd: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with subprocess.Popen(
        command(*arguments(config, gmd, out)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_until((out / "state.safetensors").exists, process)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=100)
    if number == signal.SIGINT:
        assert process.returncode in (0, 130), stderr
    assert b"Traceback" not in stderr
    assert train(*arguments(config, gmd, out)) == 0
    assert losses(out) == losses(whole)
    for name in ("best", "last"):
        theirs = load_checkpoint(whole / f"{name}.safetensors").state_dict()
        for key, value in load_checkpoint(out / f"{name}.safetensors").state_dict().items():
            assert torch.equal(value, theirs[key]), key


def test_a_run_can_be_extended(config: Path, gmd: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(*arguments(config, gmd, out, "--steps", 6)) == 0
    assert train(*arguments(config, gmd, out, "--steps", 12)) == 0
    assert losses(out) == losses(whole)


def test_stems_that_serve_several_steps_serve_them_after_a_stop_too(
    config: Path, gmd: Path, tmp_path: Path
) -> None:
    """Stopped between two steps of the same stems; a virtual kit plays along."""
    path, whole, out = tmp_path / "uses.toml", tmp_path / "whole", tmp_path / "run"
    path.write_text(f"uses = 3\nvirtual_kits = 1\n{config.read_text()}")
    assert train(*arguments(path, gmd, whole, "--steps", 6)) == 0
    assert train(*arguments(path, gmd, out, "--steps", 2)) == 0
    assert train(*arguments(path, gmd, out, "--steps", 6)) == 0
    assert losses(out) == losses(whole)
    assert len({loss for loss, *_ in losses(whole).values()}) == 6, "the mixtures are others"


def test_a_run_goes_on_where_a_setting_has_come_to_be_since(
    config: Path, gmd: Path, whole: Path, tmp_path: Path
) -> None:
    """Its state knows nothing of the setting, which is at its default."""
    out = tmp_path / "run"
    assert train(*arguments(config, gmd, out, "--steps", 6)) == 0
    path = out / "state.safetensors"
    header, tensors = read_tensors(path, hashed="run")
    run = json.loads(header["run"])
    del run["config"]["augment"]["reverb"], run["config"]["validation_kits"]
    write_tensors(path, tensors, {**header, "run": json.dumps(run)}, hashed="run")
    assert train(*arguments(config, gmd, out, "--steps", 12)) == 0
    assert losses(out) == losses(whole)


def test_a_run_can_start_from_the_weights_of_another(
    config: Path,
    gmd: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And says from which; to go on with it, the same weights must be named."""
    out, init = tmp_path / "run", whole / "last.safetensors"
    more = ("--seed", 5, "--init", init)
    assert train(*arguments(config, gmd, out, "--steps", 1, *more)) == 0
    info = read_info(out / "last.safetensors")
    assert info.notes["training"]["init_sha256"] == read_info(init).sha256
    assert info.notes["before"] == read_info(init).notes
    theirs = dict(load_checkpoint(init).named_parameters())
    farthest = 1.01 * load_config(str(config)).learning_rate  # of Adam's first step
    for name, parameter in load_checkpoint(out / "last.safetensors").named_parameters():
        assert float((parameter - theirs[name]).detach().abs().max()) <= farthest, name
    assert "init_sha256 is different" in refusal(
        capsys, *arguments(config, gmd, out, "--steps", 2, "--seed", 5)
    )
    assert train(*arguments(config, gmd, out, "--steps", 2, *more)) == 0
    monkeypatch.setenv("STEMGMD_WEIGHTS", str(out / "last.safetensors"))
    assert " 14 steps, " in make_larsnet_small().info.trained_on, "12 and 2"
    other = tmp_path / "other.toml"
    other.write_text(f'init_sha256 = "{"0" * 64}"\n{config.read_text()}')
    assert "name their file with --init" in refusal(
        capsys, *arguments(other, gmd, tmp_path / "x", "--init", init)
    )
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(config.read_text().replace("widths = [4, 6]", "widths = [4, 8]"))
    assert str(init) in refusal(capsys, *arguments(wrong, gmd, tmp_path / "y", "--init", init))


def test_another_run_in_the_folder_is_refused(
    config: Path, gmd: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, *arguments(config, gmd, whole, "--seed", 5))
    assert "seed is different" in line
    assert "--out" in line


def test_two_runs_at_once_in_a_folder_are_refused(
    config: Path, gmd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path / "run", "training run"):
        line = refusal(capsys, *arguments(config, gmd, tmp_path / "run"))
    assert "another training run is writing" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "zeros"])
def test_a_damaged_state_is_one_line(
    damage: str,
    config: Path,
    gmd: Path,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = (whole / "state.safetensors").read_bytes()
    half = state[: len(state) // 2]
    kept = {
        "cut": half,
        "empty": b"",
        "text": b"not a checkpoint" * 100,
        "zeros": half + bytes(len(state) - len(half)),
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.safetensors").write_bytes(kept[damage])
    line = refusal(capsys, *arguments(config, gmd, tmp_path / "run"))
    assert "state.safetensors" in line
    assert "delete it" in line


def test_torn_rows_of_a_table_are_made_again(
    config: Path, gmd: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert train(*arguments(config, gmd, out, "--steps", 6)) == 0
    for name in ("losses.csv", "validation.csv"):
        with (out / name).open("ab") as file:
            file.write(b"3,0.5\n4,x\xff,,,,,,\n" + b"\0" * 9 + b"\n5,0.1,0.1")
    assert train(*arguments(config, gmd, out, "--steps", 12)) == 0
    assert losses(out) == losses(whole)
    assert Image.open(out / "curves.png").format == "PNG"


@pytest.mark.parametrize("n_bytes", [20, 400, 10_000])
def test_a_full_disk_is_one_line_and_leaves_a_run_that_goes_on(
    n_bytes: int,
    config: Path,
    gmd: Path,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Files may not grow beyond a table's header, its first rows, or the curves."""
    out = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        status = train(*arguments(config, gmd, out))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert status == 2
    assert "cannot be written" in error
    assert "Traceback" not in error
    assert train(*arguments(config, gmd, out)) == 0
    assert losses(out) == losses(whole)


def test_a_device_that_is_not_there_is_one_line(
    config: Path, gmd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, *arguments(config, gmd, tmp_path / "run", "--device", "cuda:9"))
    assert "cuda:9" in line
    assert not (tmp_path / "run").exists()


def test_two_processes_follow_the_losses_of_one_with_the_whole_batch(
    gmd: Path, tmp_path: Path
) -> None:
    """With batch statistics over both; dropout is drawn by each for itself, so there is none."""
    config = tmp_path / "tiny.toml"
    config.write_text("sync_batch_norm = true\n" + CONFIG + "dropouts = []\n")
    assert train(*arguments(config, gmd, tmp_path / "one")) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launcher += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    result = subprocess.run(
        [*launcher, "-m", *command(*arguments(config, gmd, tmp_path / "two"))[2:]],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(two) == list(one)
    for step, values in one.items():
        assert two[step] == pytest.approx(values, rel=2e-3), step
    assert two[1] == pytest.approx(one[1], rel=1e-5)


def test_validation_can_listen_to_kits_that_training_leaves_out(
    config: Path, gmd: Path, whole: Path, tmp_path: Path
) -> None:
    other = write_kit(tmp_path / "other", drum_sounds())
    changed = tmp_path / "changed.toml"
    changed.write_text(f'validation_kits = ["{other}"]\n' + config.read_text())
    assert train(*arguments(changed, gmd, tmp_path / "run")) == 0
    assert losses(tmp_path / "run") == losses(whole), "what is trained on is the same"
    scores = [(folder / "validation.csv").read_text() for folder in (tmp_path / "run", whole)]
    assert scores[0] != scores[1]


def test_a_run_whose_loss_is_no_number_ends_in_one_line(
    config: Path, gmd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And leaves no state that is lost as well."""
    steep = tmp_path / "steep.toml"
    steep.write_text(config.read_text().replace("3e-3", "1e30"))
    line = refusal(capsys, *arguments(steep, gmd, tmp_path / "run"))
    assert "no number any more at step" in line
    assert "learning_rate" in line
    assert not (tmp_path / "run" / "state.safetensors").exists()


@pytest.mark.parametrize("name", ["kits", "validation_kits"])
def test_nothing_is_chosen_by_held_out_kits(
    name: str, config: Path, gmd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed.toml"
    others = config.read_text() if name != "kits" else config.read_text().replace("kits =", "#")
    changed.write_text(f'{name} = ["colombo"]\n' + others)
    line = refusal(capsys, *arguments(changed, gmd, tmp_path / "run"))
    assert "colombo is held out" in line


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_smoke_configuration_learns(precision: str, gmd: Path, tmp_path: Path) -> None:
    """On the same segments the loss is lower after all its steps than after half of them."""
    packaged = load_config("smoke")
    assert packaged.steps * packaged.batch <= 400
    path = tmp_path / "smoke.toml"
    text = (CONFIGS / "smoke.toml").read_text().replace("fluidr3-standard", KIT)
    path.write_text(f'precision = "{precision}"\n{text}')
    assert train(*arguments(path, gmd, tmp_path / "run")) == 0
    with (tmp_path / "run" / "validation.csv").open(newline="") as file:
        half, all_steps = (float(row["loss"]) for row in csv.DictReader(file))
    assert all_steps < 0.95 * half


def test_packed_weights_are_half_as_large_and_score_the_same(
    whole: Path, gmd: Path, tmp_path: Path
) -> None:
    target = tmp_path / "packed.safetensors"
    line = pack(whole, target, which="last", gmd=gmd)
    single, half = (load_checkpoint(path) for path in (whole / "last.safetensors", target))
    for (name, one), other in zip(
        single.state_dict().items(), half.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6, msg=name)
    assert target.stat().st_size < 0.75 * (whole / "last.safetensors").stat().st_size
    assert "step 12" in line
    assert read_info(target).notes["training"]["kits"] == [KIT]


def test_weights_may_be_packed_part_of_the_way_from_their_start(
    whole: Path, gmd: Path, tmp_path: Path
) -> None:
    target, start, last = (tmp_path / "packed", tmp_path / "start", whole / "last.safetensors")
    save_checkpoint(LarsNet(load_checkpoint(last).config), start)
    pack(whole, target, which="last", gmd=gmd, start=start, share=0.25)
    begun, ended, packed = (load_checkpoint(path).state_dict() for path in (start, last, target))
    assert any(not torch.equal(begun[name], ended[name]) for name in begun)
    for name, values in packed.items():
        expected = 0.75 * begun[name].float() + 0.25 * ended[name].float()
        if values.is_floating_point():
            torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5, msg=name)
    assert read_info(target).notes["share"] == 0.25
    with pytest.raises(UserError, match="share must be above 0"):
        pack(whole, tmp_path / "x", gmd=gmd, start=start, share=0.0)
    with pytest.raises(UserError, match=r"does not hold this network|has .* of shape"):
        pack(whole, tmp_path / "x", gmd=gmd, start=PACKAGED_WEIGHTS, share=0.5)
    assert not (tmp_path / "x").exists()


def test_weights_that_half_precision_would_change_are_not_packed(
    whole: Path, gmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("larsnet.training.pack.MAX_LOSS_DB", -1.0)
    with pytest.raises(UserError, match="half precision"):
        pack(whole, tmp_path / "packed.safetensors", gmd=gmd)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_weights_cannot_be_packed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"best\.safetensors"):
        pack(tmp_path, tmp_path / "packed.safetensors")
