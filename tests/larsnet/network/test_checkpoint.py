"""Checkpoints, ours and the published ones: whole, or one line that says what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_larsnets import BANDED, TINY, wild_model

from larsnet.network.checkpoint import FORMAT, load_checkpoint, read_info, save_checkpoint
from larsnet.network.larsnet import LARSNET, LarsNet, LarsnetConfig
from larsnet.network.original import find_files, load_original
from larsnet.network.unet import UnetConfig
from larsnet.network.weights import load_weights
from larsnet.separation.system import make_larsnet
from larsnet.training.config import as_values, load_config
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import STEMS


@pytest.mark.parametrize("notes", [{}, {"training": 3}, {"by": "x", "training": {"steps": "y"}}])
def test_a_checkpoint_with_notes_of_another_program_enters_a_table(
    tmp_path: Path, notes: dict[str, Any]
) -> None:
    path = tmp_path / "foreign.safetensors"
    save_checkpoint(wild_model(TINY), path, notes=notes)
    info = make_larsnet(path, id="foreign", name="Foreign", licence="not stated").info
    assert (info.trained_on, info.kits_seen) == ("not stated", ())
    assert "2048 bins" in info.summary


def test_a_checkpoint_of_a_kit_that_is_gone_enters_a_table(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    config = load_config("smoke", {"kits": ["train", "/gone/mine.toml"]})
    notes = {"training": as_values(config), "step": 40}
    save_checkpoint(LarsNet(config.model), path, notes=notes)
    info = make_larsnet(path, id="own", name="Own", licence="not stated").info
    assert info.kits_seen[-1] == "mine.toml"
    assert info.trained_on.startswith(f"GMD's train split on {len(info.kits_seen)} kits, 40 steps")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LarsNet]:
    """Five files laid out and filled as the release is, with random weights."""
    root = tmp_path_factory.mktemp("pretrained_larsnet_models")
    model = wild_model(LARSNET)
    for stem in STEMS:
        net = model.net(stem)
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.Adam([weight], lr=1e-4)
        weight.sum().backward()
        optimizer.step()
        content = {
            "epoch": 21,
            "model_state_dict": net.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "loss": 0.5,
        }
        (root / stem).mkdir()
        torch.save(content, root / stem / f"pretrained_{stem}_unet.pth")
    return root, model


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return list(left) == list(right) and all(torch.equal(left[n], right[n]) for n in left)


def line(action: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("config", [TINY, BANDED])
def test_a_bank_comes_back_as_it_was(tmp_path: Path, config: LarsnetConfig) -> None:
    model = wild_model(config)
    path = tmp_path / "new" / "bank.safetensors"
    digest = save_checkpoint(model, path, notes={"steps": 7})
    loaded = load_checkpoint(path)
    assert loaded.config == config
    assert same(loaded, model)
    assert not loaded.training
    info = read_info(path)
    assert (info.config, info.sha256, dict(info.notes)) == (config, digest, {"steps": 7})
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_half_precision_halves_the_convolutions_and_keeps_large_variances(tmp_path: Path) -> None:
    model = wild_model(LarsnetConfig(unet=UnetConfig(widths=(8, 16, 32))))
    for stem in STEMS:
        variance = model.net(stem).input_norm.running_var
        assert variance is not None
        variance.fill_(1e6)
    save_checkpoint(model, tmp_path / "full.safetensors")
    save_checkpoint(model, tmp_path / "half.safetensors", dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    for name, tensor in loaded.state_dict().items():
        original = model.state_dict()[name]
        assert tensor.dtype == original.dtype
        torch.testing.assert_close(tensor, original, rtol=1e-3, atol=1e-4)


def test_a_file_that_is_cut_short_anywhere_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    save_checkpoint(wild_model(BANDED), path)
    content = path.read_bytes()
    for n_bytes in (0, 5, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:n_bytes])
        assert str(path) in line(lambda: load_checkpoint(path))


def test_the_same_content_has_the_same_bytes(tmp_path: Path) -> None:
    model, contents = wild_model(BANDED), set()
    for number in range(6):
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(model, path, notes={"step": 3, "by": "x"})
        contents.add(path.read_bytes())
        assert same(load_checkpoint(path), model)
    assert len(contents) == 1


def test_a_changed_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    save_checkpoint(wild_model(BANDED), path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert "damaged" in line(lambda: load_checkpoint(path))


def rewritten(path: Path, **changes: str) -> None:
    """The same tensors under another header."""
    save_checkpoint(wild_model(BANDED), path)
    info = read_info(path)
    header = {"format": FORMAT, "config": "", "notes": "{}", "sha256": info.sha256, **changes}
    save_file(load_file(path), path, metadata=header)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": "other"}, "format 'other'"),
        ({"config": "{"}, "header"),
        ({"config": "[]"}, "header"),
        ({"config": json.dumps({"unet": {"widths": [10**6] * 2}})}, "header"),
        ({"config": json.dumps({"unet": {"widths": [60_000] * 2, "dropouts": []}})}, "parameters"),
        ({"config": json.dumps({"unet": {}, "stems": ["../kick"]})}, "header"),
        ({"config": json.dumps({"unet": {}, "stems": [3]})}, "header"),
        ({"config": json.dumps({"unet": {}, "surprise": 1})}, "header"),
        ({"config": json.dumps({"unet": {}}), "notes": "3"}, "header"),
        ({"config": json.dumps({"unet": {}})}, "damaged"),
    ],
)
def test_a_header_is_not_believed(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    path = tmp_path / "bank.safetensors"
    rewritten(path, **changes)
    assert expected in line(lambda: load_checkpoint(path))


def test_a_checkpoint_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "bank.safetensors"
    assert "cannot be written" in line(lambda: save_checkpoint(wild_model(BANDED), path))
    assert os.listdir(tmp_path) == ["file"]


def test_the_release_loads_from_its_folder_and_from_paths(release: tuple[Path, LarsNet]) -> None:
    root, model = release
    loaded = load_weights(root)
    assert loaded.config == LARSNET
    assert same(loaded, model)
    assert same(load_original(find_files(root)), model)


def test_files_are_found_by_name_or_by_folder(tmp_path: Path) -> None:
    for stem in STEMS:
        (tmp_path / stem).mkdir()
        (tmp_path / stem / "best.ckpt").write_bytes(b"")
    assert find_files(tmp_path)["toms"] == tmp_path / "toms" / "best.ckpt"
    (tmp_path / "toms" / "last.ckpt").write_bytes(b"")
    assert "2 files for toms" in line(lambda: find_files(tmp_path))
    assert "no file for kick" in line(lambda: find_files(tmp_path / "snare"))
    assert "folder" in line(lambda: find_files(tmp_path / "toms" / "last.ckpt"))


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_code_in_a_published_checkpoint_does_not_run(
    release: tuple[Path, LarsNet], tmp_path: Path
) -> None:
    files = dict(find_files(release[0]))
    files["snare"] = tmp_path / "evil.pth"
    trace = tmp_path / "it-ran"
    state = release[1].net("snare").state_dict()
    torch.save({"model_state_dict": state, "optimizer": Payload(trace)}, files["snare"])
    message = line(lambda: load_original(files))
    assert not trace.exists()
    assert "evil.pth" in message
    assert "refused" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"model_state_dict": {"input_norm.weight": torch.ones(2048)}}, "is missing"),
        ({"state_dict": {}}, "no model_state_dict"),
        ([1, 2], "no model_state_dict"),
        ({"model_state_dict": {"a": 3}}, "other things than tensors"),
        ({"model_state_dict": {3: torch.ones(1)}}, "other things than tensors"),
    ],
)
def test_a_published_checkpoint_of_another_kind_is_one_line(
    release: tuple[Path, LarsNet], tmp_path: Path, content: object, expected: str
) -> None:
    files = dict(find_files(release[0]))
    files["kick"] = tmp_path / "other.pth"
    torch.save(content, files["kick"])
    message = line(lambda: load_original(files))
    assert expected in message
    assert "other.pth" in message


def test_shapes_that_differ_and_numbers_that_are_not_finite_are_named(
    release: tuple[Path, LarsNet], tmp_path: Path
) -> None:
    files = dict(find_files(release[0]))
    state = dict(release[1].net("kick").state_dict())
    files["kick"] = tmp_path / "kick.pth"
    torch.save({"model_state_dict": {**state, "enc2.conv.bias": torch.ones(7)}}, files["kick"])
    assert "enc2.conv.bias of shape (7,) where (32,)" in line(lambda: load_original(files))
    torch.save({"model_state_dict": {**state, "enc9.conv.bias": torch.ones(7)}}, files["kick"])
    assert "enc9.conv.bias is unknown" in line(lambda: load_original(files))
    bias = torch.full((32,), float("nan"))
    torch.save({"model_state_dict": {**state, "enc2.conv.bias": bias}}, files["kick"])
    assert "not finite" in line(lambda: load_original(files))
    bias = torch.quantize_per_tensor(torch.ones(32), 0.1, 0, torch.qint8)
    torch.save({"model_state_dict": {**state, "enc2.conv.bias": bias}}, files["kick"])
    assert "kick.pth" in line(lambda: load_original(files))


@pytest.mark.parametrize("n_bytes", [0, 10, 1000, 5_000_000])
def test_a_published_checkpoint_that_is_cut_short_is_one_line(
    release: tuple[Path, LarsNet], tmp_path: Path, n_bytes: int
) -> None:
    files = dict(find_files(release[0]))
    content = files["kick"].read_bytes()
    files["kick"] = tmp_path / "kick.pth"
    files["kick"].write_bytes(content[:n_bytes])
    assert "kick.pth" in line(lambda: load_original(files))


def test_a_missing_file_or_stem_is_one_line(release: tuple[Path, LarsNet], tmp_path: Path) -> None:
    files = dict(find_files(release[0]))
    del files["cymbals"]
    assert "no cymbals" in line(lambda: load_original(files))
    files["cymbals"] = tmp_path / "none.pth"
    assert "none.pth cannot be read" in line(lambda: load_original(files))
    assert "cannot be read" in line(lambda: load_weights(tmp_path / "none.safetensors"))
    one = release[0] / "kick" / "pretrained_kick_unet.pth"
    assert "folder of all five" in line(lambda: load_weights(one))
