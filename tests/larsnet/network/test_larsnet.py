"""The bank: the published arrangement, in blocks of any size, on any number of threads."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_larsnets import BANDED, TINY, bursts, plain_separation, wild_model

from larsnet.network.bands import Bands, band_edges
from larsnet.network.larsnet import LARSNET, LarsNet, LarsnetConfig
from larsnet.network.protocol import Threaded, flops
from larsnet.network.unet import UnetConfig
from larsnet.separation.inference import Separator, sharing_masks, wiener_masks
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import STEMS

HOP = 1024


@pytest.fixture(scope="module")
def tiny() -> LarsNet:
    return wild_model(TINY)


@pytest.mark.parametrize("n_samples", [4096, 15 * HOP, 16 * HOP, 33 * HOP + 1, 100_000])
@pytest.mark.parametrize("alpha", [None, 1.5])
def test_stems_equal_those_of_the_plain_arrangement(
    tiny: LarsNet, n_samples: int, alpha: float | None
) -> None:
    mixture = torch.from_numpy(bursts(n_samples))
    states = [tiny.net(stem).state_dict() for stem in STEMS]
    expected = plain_separation(states, mixture, 16, alpha)
    assert expected.abs().max() > 0.1
    found = Separator(tiny, wiener=alpha).separate(mixture)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_the_full_bank_separates_as_the_plain_arrangement() -> None:
    model = wild_model(LarsnetConfig(stems=("kick", "cymbals")))
    mixture = torch.from_numpy(bursts(520 * HOP))[:, : 515 * HOP]  # two patches
    states = [model.net(stem).state_dict() for stem in ("kick", "cymbals")]
    expected = plain_separation(states, mixture, LARSNET.unet.n_frames)
    found = Separator(model, n_threads=1).separate(mixture)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    n_samples=st.integers(0, 70 * HOP),
    chunk=st.integers(500, 40_000),
    n_threads=st.integers(1, 5),
)
def test_a_stream_gives_what_the_whole_file_gives(
    tiny: LarsNet, n_samples: int, chunk: int, n_threads: int
) -> None:
    """Blocks hold two to five patches here, and the file up to five."""
    mixture = torch.from_numpy(bursts(n_samples))[None]
    whole = Separator(tiny, n_threads=8).separate(mixture)
    chunks = mixture.split(chunk, dim=-1)
    runs = list(Separator(tiny, n_threads=n_threads).stream(chunks))
    stream = torch.cat([whole[..., :0], *runs], dim=-1)
    assert stream.shape == (1, 5, 2, n_samples)
    torch.testing.assert_close(stream, whole, rtol=0, atol=1e-6)


def test_modules_on_a_device_and_fused_nets_agree(tiny: LarsNet) -> None:
    """The accelerator's path, run on the processor."""
    separator = Separator(tiny)
    mixture = torch.from_numpy(bursts(90_000))
    expected = separator.separate(mixture)
    separator._runner._threaded = None
    torch.testing.assert_close(separator.separate(mixture), expected, rtol=0, atol=1e-6)


def test_a_batch_is_separated_as_each_alone(tiny: LarsNet) -> None:
    mixtures = torch.stack([torch.from_numpy(bursts(30_000, seed=seed)) for seed in (0, 1)])
    together = Separator(tiny).separate(mixtures)
    for mixture, stems in zip(mixtures, together, strict=True):
        torch.testing.assert_close(stems, Separator(tiny).separate(mixture), rtol=0, atol=1e-6)


def test_inference_mode_and_a_fork_change_nothing(tiny: LarsNet) -> None:
    """A forked process has none of the threads that its parent had."""
    separator, mixture = Separator(tiny, n_threads=2), torch.from_numpy(bursts(30_000))
    expected = separator.separate(mixture)
    with torch.inference_mode():
        assert torch.equal(Separator(tiny, n_threads=2).separate(mixture), expected)
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if torch.equal(separator.separate(mixture), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_silence_gives_silence_and_silent_patches_cost_nothing(tiny: LarsNet) -> None:
    separator = Separator(tiny)
    separator._runner._threaded = Threaded(lambda seen: seen, [(slice(None), _refuse)])
    stems = separator.separate(torch.zeros(2, 50_000))
    assert stems.shape == (5, 2, 50_000)
    assert not stems.any()


def _refuse(magnitudes: torch.Tensor, rooms: object) -> torch.Tensor:
    raise AssertionError("a net was asked about silence")


def test_separation_leaves_the_model_and_its_mode_alone(tiny: LarsNet) -> None:
    model = wild_model(TINY).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    n_threads = torch.get_num_threads()
    expected = Separator(tiny).separate(torch.from_numpy(bursts(20_000)))
    found = Separator(model).separate(torch.from_numpy(bursts(20_000)))
    assert torch.equal(found, expected)
    assert model.training
    assert torch.get_num_threads() == n_threads
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("config", [TINY, BANDED])
def test_forward_gives_a_mask_a_stem_that_training_can_follow(config: LarsnetConfig) -> None:
    model = LarsNet(config)
    magnitudes = torch.rand(2, 2, 2048, 32)
    masks = model(magnitudes)
    assert masks.shape == (2, 5, 2, 2048, 32)
    assert masks.min() >= 0
    assert masks.max() <= 1
    masks.mean().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    depth = config.unet.depth  # the deepest level hands on its convolution, not normalized
    fixed = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert len(fixed) == 10
    assert all(f".enc{depth}.bn." in name for name in fixed)


def test_forward_of_one_stem_runs_that_net_alone(tiny: LarsNet) -> None:
    magnitudes = torch.rand(1, 2, 2048, 16)
    with torch.no_grad():
        torch.testing.assert_close(tiny(magnitudes, ("toms",)), tiny(magnitudes)[:, 2:3])


def test_one_shared_net_gives_all_stems() -> None:
    unet = UnetConfig(widths=(2, 3), n_frames=16, dropouts=(), n_masks=5)
    model = wild_model(LarsnetConfig(unet=unet, shared=True))
    mixture = torch.from_numpy(bursts(40_000))
    separator = Separator(model)
    stems = separator.separate(mixture)
    assert stems.shape == (5, 2, 40_000)
    assert (stems[0] - stems[1]).abs().max() > 1e-3
    separator._runner._threaded = None
    torch.testing.assert_close(separator.separate(mixture), stems, rtol=0, atol=1e-6)


def test_operations_are_those_of_the_convolutions_counted_by_hand() -> None:
    """A first level sees 2 channels; each further one halves bins and frames."""
    unet = UnetConfig(n_bins=8, n_frames=8, widths=(3, 4), dropouts=())
    config = LarsnetConfig(n_fft=16, hop_samples=4, unet=unet)
    taps, cells = unet.kernel_size**2, 8 * 16
    down = cells // 4 * 2 * 3 * taps + cells // 16 * 3 * 4 * taps
    up = cells // 16 * 4 * 3 * taps + cells // 4 * 6 * 2 * taps
    mask = cells * 2 * 2 * 16
    assert flops(config, 16) == 5 * 2 * (down + up + mask)


def test_masks_that_share_sum_to_one_and_wiener_masks_to_no_more() -> None:
    masks, magnitudes = torch.rand(5, 2, 8, 4), 10 * torch.rand(2, 8, 4)
    masks[..., 0] = 0
    one = torch.ones(2, 8, 4)
    torch.testing.assert_close(sharing_masks(masks).sum(dim=0), one)
    shares = wiener_masks(masks, magnitudes, 2.0)
    assert not shares[..., 0].any()
    torch.testing.assert_close(shares[..., 1:].sum(dim=0), one[..., 1:], rtol=0, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_wiener_masks_are_shares_of_the_stems_powers(alpha: float) -> None:
    masks, magnitudes = torch.rand(5, 2, 8, 4), torch.rand(2, 8, 4)
    powers = (masks * magnitudes).double() ** alpha
    expected = (powers / (powers.sum(dim=0) + 1e-7)).float()
    torch.testing.assert_close(wiener_masks(masks, magnitudes, alpha), expected)


@pytest.mark.parametrize("alpha", [14.0, 50.0, 1000.0])
def test_a_high_exponent_leaves_each_cell_to_its_loudest_stem(alpha: float) -> None:
    masks = torch.tensor([0.9, 0.5, 1e-3, 0.0, 0.0])[:, None, None, None].expand(5, 2, 1, 3)
    magnitudes = torch.tensor([0.0, 2000.0, 1e9]).expand(2, 1, 3)
    shares = wiener_masks(masks, magnitudes, alpha)
    assert torch.isfinite(shares).all()
    assert not shares[..., 0].any()
    if alpha <= 50:
        assert (shares[0, ..., 1:] > 0.999).all()
    assert (shares[1:, ..., 1:] < 0.001).all()


@pytest.mark.parametrize(("n_bins", "n_bands"), [(2048, 256), (2048, 64), (64, 64), (100, 2)])
def test_bands_keep_what_is_constant_and_widen_upwards(n_bins: int, n_bands: int) -> None:
    edges = band_edges(n_bins, n_bands)
    widths = edges[1:] - edges[:-1]
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(n_bins)
    assert widths[0] == pytest.approx(1) or n_bands == 2
    assert (widths[1:] >= widths[:-1] - 1e-9).all()
    bands = Bands(n_bins, n_bands)
    torch.testing.assert_close(bands.pool(torch.ones(2, n_bins, 3)), torch.ones(2, n_bands, 3))
    torch.testing.assert_close(bands.expand(torch.ones(2, n_bands, 3)), torch.ones(2, n_bins, 3))
    assert bands.expand(torch.eye(n_bands)).min() >= 0
    assert float(bands.widths.sum()) == pytest.approx(n_bins)
    assert not bands.state_dict()


def test_as_many_bands_as_bins_change_nothing() -> None:
    cells = torch.rand(2, 64, 3)
    bands = Bands(64, 64)
    torch.testing.assert_close(bands.expand(bands.pool(cells)), cells)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wiener_exponent_must_be_above_zero(tiny: LarsNet, alpha: float) -> None:
    with pytest.raises(UserError, match="exponent"):
        Separator(tiny, wiener=alpha)


@pytest.mark.parametrize("device", ["cuda:99", "warp", "meta:", "cpu:x"])
def test_a_device_that_is_not_there_is_one_line(tiny: LarsNet, device: str) -> None:
    with pytest.raises(UserError, match="device") as caught:
        Separator(tiny, device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"n_bands": 100},
        {"n_fft": 2**20},
        {"input_exponent": 0.0},
        {"stems": ("../kick",)},
        {"shared": True},
        {"hop_samples": 1000},
    ],
)
def test_a_bank_that_does_not_fit_together_is_refused(values: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        LarsnetConfig(**values)  # type: ignore[arg-type]
