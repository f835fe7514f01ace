"""A net in ONNX and in torch.export's format computes what torch computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_larsnets import BANDED, TINY, wild_model

from larsnet.network.checkpoint import save_checkpoint
from larsnet.network.export import export_stem
from larsnet.network.larsnet import LarsNet
from stemgmd_build.cli import main
from stemgmd_build.errors import UserError


def test_onnxruntime_gives_the_masks_that_torch_gives_at_any_batch(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = wild_model(BANDED)
    path = tmp_path / "toms.onnx"
    assert export_stem(model, "toms", path) < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    magnitudes = 3 * torch.rand(3, 2, 2048, 16)
    (masks,) = session.run(["masks"], {"seen": magnitudes.numpy()})
    with torch.no_grad():
        expected = model(magnitudes)[:, 2]
    torch.testing.assert_close(torch.from_numpy(masks), expected, rtol=0, atol=1e-5)
    assert list(tmp_path.iterdir()) == [path]


def test_an_exported_program_holds_one_net(tmp_path: Path) -> None:
    model = wild_model(TINY)
    path = tmp_path / "kick.pt2"
    assert export_stem(model, "kick", path) < 1e-4
    names = set(torch.export.load(path).state_dict)
    assert names == {f"model.nets.kick.{name}" for name in model.net("kick").state_dict()}


def test_an_export_that_differs_from_torch_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("larsnet.network.export.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differs"):
        export_stem(wild_model(TINY), "kick", tmp_path / "kick.pt2")
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "bank.safetensors"
    save_checkpoint(LarsNet(TINY), weights)
    named = ["--weights", str(weights)]
    assert main(["export", str(tmp_path / "kick.txt"), "--stem", "kick", *named]) == 2
    assert main(["export", str(tmp_path / "kick.onnx"), "--stem", "cowbell", *named]) == 2
    assert main(["export", str(weights / "k.pt2"), "--stem", "kick", *named]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [error.startswith("stemgmd export: error: ") for error in errors] == [True] * 3
