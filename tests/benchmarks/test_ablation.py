"""The ablation's variants differ from the base by what they are named for, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.studies.ablation import FULL, VARIANTS
from benchmarks.studies.variants import variant_toml
from larsnet.training.augment import NAMES
from larsnet.training.config import TrainConfig, load_config


def variant(name: str, folder: Path) -> TrainConfig:
    path = folder / "variant.toml"
    path.write_text(variant_toml(VARIANTS[name], steps=400, seed=7))
    return load_config(str(path))


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {FULL}))
def test_a_variant_differs_in_one_thing(name: str, tmp_path: Path) -> None:
    base, other = variant(FULL, tmp_path), variant(name, tmp_path)
    assert base != other
    if name == "one-shared-net":
        unet = replace(other.model.unet, n_masks=1)
        assert replace(other.model, shared=False, unet=unet) == base.model
        assert replace(other, model=base.model) == base
    else:
        without = "example" if name == "no-augmentation" else name[3:].replace("-", "_")
        assert getattr(other.augment, without) == 0
        restored = replace(
            other.augment,
            **{without: getattr(base.augment, without)},  # type: ignore[arg-type]
        )
        assert replace(other, augment=restored) == base


def test_every_augmentation_is_left_out_once() -> None:
    assert len(VARIANTS) == len(NAMES) + 3


def test_the_base_is_larsnet_small_at_other_steps(tmp_path: Path) -> None:
    packaged, base = load_config("larsnet-small"), variant(FULL, tmp_path)
    assert (base.model, base.augment, base.kits) == (
        packaged.model,
        packaged.augment,
        packaged.kits,
    )
    assert (base.steps, base.seed, base.decay_steps) == (400, 7, 200)
