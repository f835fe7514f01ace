"""NMFD-net: it starts as NMFD, its results do not depend on level, its loss is exact."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from synthetic_drums import groove
from torch import Tensor

from baselines.spectral import stft
from larsnet.network.bands import whole_bin_edges
from larsnet.network.checkpoint import load_checkpoint, save_checkpoint
from larsnet.network.nmfd_net import NmfdNet, NmfdNetConfig
from larsnet.separation.inference import Separator, stem_groups
from larsnet.separation.refinement import RefinedSeparator
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE, STEM_OF_PIECE, STEMS

PIECE_OF_STEM = (0, 1, 2, 5, 7)
SMALL = NmfdNetConfig(widths=(4, 4, 8, 8), core=16, heads=2, blocks=1, n_frames=256)


@pytest.fixture
def network() -> NmfdNet:
    """Small, and corrects at random."""
    torch.manual_seed(3)
    made = NmfdNet(SMALL)
    torch.nn.init.normal_(made.last.weight, std=0.5)
    return made.eval()


def mixture(seconds: float = 4.0, seed: int = 0) -> Tensor:
    stems, _ = groove(round(seconds * SAMPLE_RATE), seed=seed)
    return stems.sum(dim=0)


def test_at_its_start_it_is_blind_nmfd() -> None:
    heard = mixture()[None]
    start = NmfdNet(SMALL).eval()
    guide = start.prepare(heard)[..., :256]
    cells = stft(heard, SMALL.stft)[..., :256]
    masks = start.masks_of(cells, guide)
    nmfd_masks = guide.exp() / guide.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(masks[:, :, 0], nmfd_masks[:, :, start.band_of_bin])
    alone = start.masks_of(cells)
    torch.testing.assert_close(alone, torch.full_like(alone, 1 / 9))


@pytest.mark.parametrize("gain_db", [-30.0, -6.0, 10.0])
def test_stems_scale_with_the_recording(network: NmfdNet, gain_db: float) -> None:
    """From -30 to +10 dB, within 0.05 dB of nSDR; here within far less."""
    gain = 10 ** (gain_db / 20)
    for separator in (Separator(network), RefinedSeparator(network)):
        plain, scaled = separator.separate(mixture()), separator.separate(mixture() * gain) / gain
        error = (plain - scaled).square().sum() / plain.square().sum()
        assert 10 * float(torch.log10(error + 1e-12)) < -55


def test_masks_sum_to_one_and_stems_to_the_mixture(network: NmfdNet) -> None:
    heard = mixture(9.0)
    for kind in (Separator, RefinedSeparator):
        nine = kind(network, stems="nine").separate(heard)
        assert nine.shape == (9, *heard.shape)
        assert float((nine.sum(dim=0) - heard).abs().max()) < 1e-5
        five, six = kind(network).separate(heard), kind(network, stems="six").separate(heard)
        torch.testing.assert_close(five[2], nine[2:5].sum(dim=0), atol=1e-5, rtol=0)
        torch.testing.assert_close(six[4:], nine[[8, 7]], atol=1e-5, rtol=0)


def test_only_pieces_can_be_added_up(network: NmfdNet) -> None:
    assert stem_groups(STEMS, "five") == (STEMS, None)
    for given, wanted in ((STEMS, "nine"), (("drums",), "five"), (PIECES, "seven")):
        with pytest.raises(UserError):
            stem_groups(given, wanted)


def test_the_loss_is_the_error_of_the_masks(network: NmfdNet) -> None:
    """Against masks on bins and spectra, cell by cell."""
    five, _ = groove(256 * SMALL.stft.hop_samples - 512, seed=5)
    pieces = torch.zeros(9, *five.shape[1:])
    pieces[list(PIECE_OF_STEM)] = five
    batch = network.examples(pieces[None])
    losses = network.losses(batch).detach()
    masks = network(batch.seen).detach()[0]
    spectra = stft(pieces, SMALL.stft)[..., : masks.shape[-1]]
    whole = spectra.sum(dim=0)
    stem_masks = torch.stack([masks[[STEM_OF_PIECE[p] == s for p in PIECES]].sum(0) for s in STEMS])
    for stem, piece in enumerate(PIECE_OF_STEM):
        power = spectra[piece].abs().square().sum()
        ratios = [
            float((mask * whole - spectra[piece]).abs().square().sum() / power)
            for mask in (masks[piece], stem_masks[stem])
        ]
        expected = 0.25 * math.log(ratios[0] + 1e-3) + math.log(ratios[1] + 1e-3)
        assert float(losses[piece]) == pytest.approx(expected, abs=1e-3), PIECES[piece]


def test_it_learns(network: NmfdNet) -> None:
    five, _ = groove(256 * SMALL.stft.hop_samples, seed=6)
    pieces = torch.zeros(1, 9, *five.shape[1:])
    pieces[0, list(PIECE_OF_STEM)] = five
    batch = network.examples(pieces)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = network.losses(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1


def test_a_checkpoint_has_all_that_it_needs(network: NmfdNet, tmp_path: Path) -> None:
    network.templates.mul_(0.5)  # other templates than the packaged
    path = tmp_path / "net.safetensors"
    save_checkpoint(network, path)
    again = load_checkpoint(path)
    heard = mixture(2.0)
    assert torch.equal(Separator(again).separate(heard), Separator(network).separate(heard))


def test_bands_hold_every_bin_once() -> None:
    for n_bands in (16, 96, 128, 256):
        edges = whole_bin_edges(n_bands, 1025)
        assert len(edges) == n_bands + 1
        assert edges[0] == 0
        assert edges[-1] == 1025
        assert (edges[1:] > edges[:-1]).all()


@pytest.mark.parametrize(
    "wrong", [{"widths": (8, 8)}, {"n_bands": 100}, {"core": 15}, {"n_frames": 1030}, {"heads": 3}]
)
def test_sizes_that_make_no_network_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)) if "heads" not in wrong else "core"):
        NmfdNetConfig(**wrong)  # type: ignore[arg-type]
