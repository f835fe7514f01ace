"""The dataset's benchmarks measure what they name, at a size that takes seconds."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_builds import KIT, shortest

from benchmarks.speed import dataset, gpu, whole
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.performances.collection import Collection


def test_a_build_is_raced_against_the_obvious_way_and_its_encoder(
    builtin_collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_N_SEGMENTS", 3)
    figures = dataset.measure(builtin_collection, KIT, 1)
    values = {row["name"]: row["value"] for row in figures["targets"]}
    assert len(values) == 5
    assert all(math.isfinite(value) and value > 0 for value in values.values())
    assert values["obvious way / build, WAV"] > 1
    assert all(name in dataset._text(figures) for name in values)


def test_a_part_of_the_dataset_is_scaled_to_the_whole(builtin_collection: Collection) -> None:
    few = replace(builtin_collection, performances=tuple(shortest(builtin_collection, 4)))
    figures = whole.measure(few, select_kits([KIT]), 2, 1, verified=True)
    assert figures["failed"] == []
    assert figures["kits"] == [KIT]
    assert figures["performances"].startswith("builtin, 2 of 4")
    assert "all of GMD on 1 kits" in whole._text(figures)


CONFIG = f"""
steps = 1
batch = 2
n_frames = 16
kits = ["{KIT}"]
virtual_kits = 1
[model]
n_bands = 64
[model.unet]
n_bins = 64
n_frames = 16
widths = [4, 6]
dropouts = []
"""


def test_a_gpu_is_measured_beside_the_cpu(
    builtin_collection: Collection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a processor in its place, which differs from itself by rounding."""
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    arguments = ["--device", "cpu", "--config", str(config), "--rounds", "1", "--workers", "1"]
    more = ["--seconds", "2", "--small", "--gmd", str(builtin_collection.root)]
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments, *more])
    assert gpu.main() == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^ *[0-9.]+  ms: ", said, re.MULTILINE)) == 6
    differences = re.findall(r"^([0-9.e+-]+)  largest difference", said, re.MULTILINE)
    assert [float(one) < 1e-4 for one in differences] == [True, True]
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cuda:99"])
    assert gpu.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
