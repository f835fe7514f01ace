"""The folds: what is validated on was never heard, and nothing that is held out is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.studies.unheard import FOLDS, VARIANTS, fold_toml, last_validation
from larsnet.training.config import TrainConfig, load_config
from stemgmd_build.kits.catalogue import select_kits


def run_of(variant: str, fold: str, folder: Path) -> TrainConfig:
    path = folder / "run.toml"
    path.write_text(fold_toml(variant, fold, steps=400, seed=7))
    return load_config(str(path))


@pytest.mark.parametrize("fold", FOLDS)
def test_no_family_is_on_both_sides_of_a_fold(fold: str, tmp_path: Path) -> None:
    config = run_of("paper", fold, tmp_path)
    assert config.validation_kits
    heard, unheard = select_kits(config.kits), select_kits(config.validation_kits)
    assert not {kit.family for kit in heard} & {kit.family for kit in unheard}
    assert {kit.id for kit in (*heard, *unheard)} == set(load_config("larsnet-small").kits)
    assert {kit.split for kit in (*heard, *unheard)} == {"train"}


def test_variants_differ_in_their_augmentations_alone(tmp_path: Path) -> None:
    paper, *others = (run_of(variant, "avl", tmp_path) for variant in VARIANTS)
    assert paper.augment == load_config("larsnet-small").augment
    assert others[0].augment == load_config("larsnet-small-varied").augment
    assert len({config.augment for config in (paper, *others)}) == len(VARIANTS)
    assert all(replace(config, augment=paper.augment) == paper for config in others)


def test_a_run_is_told_by_its_last_validation(tmp_path: Path) -> None:
    (tmp_path / "validation.csv").write_text("step,nsdr_db\n10,1.5\n20,2.5\n")
    assert last_validation(tmp_path) == {"step": "20", "nsdr_db": "2.5"}
