"""Configurations of training runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from larsnet.network.larsnet import LARSNET
from larsnet.training.augment import AugmentConfig
from larsnet.training.config import as_values, config_names, load_config, train_config
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import select_kits

PACKAGED = config_names()


def test_the_packaged_configurations_are_those_of_the_documentation() -> None:
    small = [
        f"larsnet-small{name}" for name in ("", "-accelerator", "-more-kits", "-varied", "-virtual")
    ]
    assert sorted(["larsnet", "larsnet-medium", "nmfd-net", *small, "smoke"]) == PACKAGED
    assert load_config("larsnet").model == LARSNET
    assert all(load_config(name).model == load_config(small[0]).model for name in small)


def test_the_papers_recipe_is_what_larsnet_is_trained_with() -> None:
    config = load_config("larsnet")
    assert (config.batch, config.learning_rate, config.seed) == (24, 1e-4, 42)
    assert config.n_samples == pytest.approx(11.85 * 44_100, rel=0.002)
    assert {config.learning_rate_at(step) for step in (0, 50_000, 99_999)} == {1e-4}
    assert config.augment == AugmentConfig()
    assert (config.split, config.stem_weights) == ("train", None)


@pytest.mark.parametrize("name", PACKAGED)
def test_nothing_is_trained_on_held_out_kits_or_performances(name: str) -> None:
    config = load_config(name)
    assert config.split == "train"
    assert {kit.split for kit in select_kits(config.kits)} == {"train"}


@pytest.mark.parametrize("name", PACKAGED)
def test_a_configuration_survives_being_json(name: str) -> None:
    config = load_config(name)
    assert train_config(json.loads(json.dumps(as_values(config)))) == config


def test_the_learning_rate_rises_stays_and_falls() -> None:
    config = load_config("smoke", {"warmup_steps": 4, "decay_steps": 10, "learning_rate": 1.0})
    rates = [config.learning_rate_at(step) for step in range(config.steps)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(rates[4:30]) == {1.0}
    assert rates[30:] == pytest.approx([(40 - step) / 11 for step in range(30, 40)])


def test_what_is_asked_for_replaces_what_the_file_says() -> None:
    assert load_config("smoke", {"steps": 7}).steps == 7


UNTRAINED = ("test", "validation", "eval_session", "all")
MODEL = "[model]\nn_bands=64\n[model.unet]\nn_bins=64\nn_frames=64\nwidths=[8, 12]\ndropouts=[]\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("steps = ", "not valid TOML"),
        (MODEL, "steps"),
        ("steps=5\nbach=3\n" + MODEL, "unknown key 'bach'"),
        ("steps=0\n" + MODEL, "steps"),
        ("steps=5\nn_frames=63\n" + MODEL, "multiple of 4"),
        ("steps=5\nbatch=3\naccumulate=2\n" + MODEL, "multiple of accumulate"),
        ("steps=5\nprecision='float8'\n" + MODEL, "precision"),
        ("steps=5\nstem_weights=[1, 2]\n" + MODEL, "one a stem"),
        ("steps=5\n[augment]\nremix=2\n" + MODEL, "from 0 to 1"),
        ("steps=5\n[augment]\nremux=0.2\n" + MODEL, "remux"),
        ("steps=5\n[model]\nn_bands='many'\n", "n_bands"),
        ("steps=5\nlearning_rate=nan\n" + MODEL, "learning_rate"),
        ("steps=5\nlearning_rate=inf\n" + MODEL, "learning_rate"),
        ("steps=5\nseed=-1\n" + MODEL, "seed"),
        ("steps=5\nseed='x'\n" + MODEL, "seed"),
        ("steps=5\nsplit=5\n" + MODEL, "split"),
        ("steps=5\nkits=[]\n" + MODEL, "kits"),
        ("steps=5\nvalidation_kits=[]\n" + MODEL, "validation_kits"),
        ("steps=5\nstem_weights=[1, 1, 1, 1, 'x']\n" + MODEL, "stem_weights"),
        ("steps=5\nlimit='a'\n" + MODEL, "limit must be a whole number"),
        ("steps=5\nlimit=0\n" + MODEL, "limit"),
        ("steps=5\nlearning_rate='x'\n" + MODEL, "learning_rate must be a number"),
        ("steps=5\nwarmup_steps='1'\n" + MODEL, "warmup_steps must be a whole number"),
        ("steps=5\nwarmup_steps=1.5\n" + MODEL, "warmup_steps must be a whole number"),
        ("steps=true\n" + MODEL, "steps must be a whole number"),
        ("steps=5\ncompile='yes'\n" + MODEL, "compile must be true or false"),
        ("steps=5\nkits='train'\n" + MODEL, "kits must be a list"),
        ("steps=5\nmodel=3\n", "settings must be a table"),
        ("steps=5\naugment=3\n" + MODEL, "augment must be a table"),
        ("steps=5\n[augment]\ndrive=3\n" + MODEL, "drive must be a list of 2"),
        ("steps=5\n[augment]\npitchshift=0.3\n" + MODEL, "unknown key 'pitchshift' in augment"),
        ("steps=5\n[model]\nn_bins=3\n", "unknown key 'n_bins' in model"),
        ("steps=5\n[model.unet]\nwidths=[8, '9']\n", "widths must be a list"),
        *((f"steps=5\nsplit='{name}'\n" + MODEL, "split must be train") for name in UNTRAINED),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=problem) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)
    assert "run.toml" in str(caught.value)


def test_a_name_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(UserError, match=r"larsnet, larsnet-medium, larsnet-small, .*smoke"):
        load_config("larsnet-big")
