"""The dataset's benchmarks measure what they name, at a size that takes seconds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from small_builds import KIT, shortest

from benchmarks.speed import dataset, whole
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
