"""The U-Net is the published one, and the form that separates computes the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_larsnets import TINY, plain_masks, wild_model
from torch import nn

from larsnet.network.fused import FusedUNet
from larsnet.network.larsnet import (
    LARSNET,
    LarsNet,
    LarsnetConfig,
)
from larsnet.network.protocol import config_from_values, config_to_values, n_parameters
from larsnet.network.unet import UNet, UnetConfig
from larsnet.training.config import load_config

LARSNET_SMALL = load_config("larsnet-small").model


@pytest.fixture(scope="module")
def full_net() -> UNet:
    return wild_model(LarsnetConfig(shared=True, stems=("kick",))).net("shared")


def test_the_paper_has_9_828_680_parameters_a_net(full_net: UNet) -> None:
    assert LARSNET.unet == UnetConfig()
    assert n_parameters(full_net) == 9_828_680


def test_the_small_bank_has_at_most_2_5_million_parameters() -> None:
    assert not LARSNET_SMALL.shared
    assert n_parameters(UNet(LARSNET_SMALL.unet)) == 351_272
    assert n_parameters(LarsNet(LARSNET_SMALL)) <= 2_500_000


def test_the_state_dict_has_the_published_names_and_shapes(full_net: UNet) -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = [f"input_norm.{part}" for part in norm]
    for level in range(1, 7):
        for side, conv in (("enc", "conv"), ("dec", "conv_trans")):
            names += [f"{side}{level}.{conv}.weight", f"{side}{level}.{conv}.bias"]
            names += [f"{side}{level}.bn.{part}" for part in norm]
    state = full_net.state_dict()
    assert set(state) == {*names, "mask_layer.0.weight", "mask_layer.0.bias"}
    assert state["input_norm.weight"].shape == (2048,)
    assert state["enc6.conv.weight"].shape == (512, 256, 5, 5)
    assert state["dec2.conv_trans.weight"].shape == (512, 128, 5, 5)
    assert state["dec6.conv_trans.weight"].shape == (32, 2, 5, 5)
    assert state["mask_layer.0.weight"].shape == (2, 2, 4, 4)


def test_the_full_net_equals_the_plain_one_and_its_fused_form(full_net: UNet) -> None:
    magnitudes = 5 * torch.rand(1, 2, 2048, 64)
    with torch.inference_mode():
        masks = full_net(magnitudes)
        plain = plain_masks(full_net.state_dict(), magnitudes)
    assert masks.shape == magnitudes.shape
    assert masks.std() > 0.05  # nothing is saturated, so equality says something
    torch.testing.assert_close(masks, plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(FusedUNet(full_net)(magnitudes), plain, rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    widths=st.lists(st.integers(2, 5), min_size=1, max_size=4),
    kernel_size=st.sampled_from([3, 5, 7]),
    n_masks=st.integers(1, 3),
    n_cells=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_the_fused_form_equals_the_net_at_any_size(
    widths: list[int], kernel_size: int, n_masks: int, n_cells: int, seed: int
) -> None:
    unet = UnetConfig(
        n_bins=16,
        n_frames=16,
        widths=tuple(widths),
        kernel_size=kernel_size,
        dropouts=(),
        n_masks=n_masks,
    )
    stems = ("kick", "snare", "toms")[:n_masks]
    net = wild_model(LarsnetConfig(unet=unet, n_fft=32, hop_samples=8, shared=True, stems=stems))
    n_frames = n_cells * 2 ** len(widths)
    rng = torch.Generator().manual_seed(seed)
    magnitudes = torch.rand(2, 2, 16, n_frames, generator=rng)
    with torch.inference_mode():
        masks = net.net("shared")(magnitudes)
    assert masks.shape == (2, 2 * n_masks, 16, n_frames)
    fused = FusedUNet(net.net("shared"))(magnitudes)
    torch.testing.assert_close(fused, masks, rtol=0, atol=1e-5)


def test_weights_start_uniform_after_kaiming_with_biases_of_zero() -> None:
    net = UNet(UnetConfig())
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.bias is not None
            assert not module.bias.any()
    slope_gain = (2 / (1 + 0.2**2)) ** 0.5
    expected = slope_gain * (3 / (25 * 256)) ** 0.5
    assert net.encoder(6).conv.weight.detach().abs().max() == pytest.approx(expected, rel=1e-3)
    expected = 2**0.5 * (3 / (25 * 512)) ** 0.5
    weight = net.decoder(2).conv_trans.weight.detach()
    assert weight.abs().max() == pytest.approx(expected, rel=1e-3)


def test_dropout_is_in_the_first_three_decoders_and_only_in_training() -> None:
    net = UNet(UnetConfig())
    assert [net.decoder(level).dropout.p for level in range(1, 7)] == [0.5] * 3 + [0] * 3
    small = UNet(TINY.unet)
    magnitudes = torch.rand(2, 2, 2048, 16)
    assert not torch.equal(small(magnitudes), small(magnitudes))
    small.eval()
    assert torch.equal(small(magnitudes), small(magnitudes))


@pytest.mark.parametrize("config", [LARSNET, LARSNET_SMALL, TINY])
def test_a_configuration_survives_being_plain_values(config: LarsnetConfig) -> None:
    assert config_from_values(config_to_values(config)) == config


@pytest.mark.parametrize(
    "values",
    [
        {"n_bins": 100},
        {"n_frames": 32},
        {"widths": ()},
        {"widths": (16, 1)},
        {"kernel_size": 4},
        {"dropouts": (0.5,) * 7},
        {"n_masks": 10**9},
        {"n_bins": "2048"},
    ],
)
def test_sizes_that_make_no_net_are_refused(values: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        UnetConfig(**values)  # type: ignore[arg-type]
