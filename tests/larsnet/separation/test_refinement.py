"""Stems refined by NMFD: better than what they start from, in blocks as on the whole, and exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_larsnets import BANDED, bursts, wild_model
from synthetic_drums import groove

import larsnet
from baselines import learn
from baselines.blocks import BlockConfig
from benchmarks.scores.metrics import nsdr_db
from larsnet.network.checkpoint import save_checkpoint
from larsnet.separation import refinement
from larsnet.separation.inference import Separator
from larsnet.separation.refinement import RECIPE, RefinedSeparator, refine
from stemgmd_build import cli
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS


def test_stems_that_leak_into_each_other_are_parted() -> None:
    """A kit that no template was learnt from, a third of every stem spread over the others."""
    true, _ = groove(8 * SAMPLE_RATE, seed=4, kit=9)
    mixture = true.sum(dim=0)
    leaky = 0.6 * true + 0.1 * (mixture - true)
    stems = refine(mixture, leaky, learn.load(RECIPE).templates)
    before, after = (
        np.array([nsdr_db(reference=t, estimate=e) for t, e in zip(true, x, strict=True)])
        for x in (leaky, stems)
    )
    assert (after > before).sum() >= 4, (before, after)
    assert (after - before).mean() > 1.5
    assert float((stems.sum(dim=0) - mixture).abs().max()) < 1e-5


def test_a_stem_without_energy_is_no_fault_and_silence_stays_silent() -> None:
    true, _ = groove(SAMPLE_RATE, seed=1)
    templates = learn.load(RECIPE).templates
    estimate = true.clone()
    estimate[2] = 0
    assert refine(true.sum(dim=0), estimate, templates).isfinite().all()
    nothing = torch.zeros_like(true)
    assert torch.equal(refine(nothing[0], nothing, templates), nothing)
    assert not refine(nothing[0], true, templates).any()


def test_a_stream_is_refined_in_the_blocks_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the nets' own stems, cut, refined one by one and faded by hand."""
    blocks = BlockConfig(block_samples=1024 * 60, overlap_samples=1024 * 16)
    monkeypatch.setattr(refinement, "BLOCKS", blocks)
    model = wild_model(BANDED)
    mixture = torch.from_numpy(bursts(100_000))
    refined = RefinedSeparator(model)
    chunks = mixture[None].split(7_001, dim=2)
    stems = torch.cat(list(refined.stream(chunks)), dim=-1)[0]
    assert stems.shape == (len(STEMS), *mixture.shape)
    first = Separator(model).separate(mixture)
    templates = learn.load(RECIPE).templates
    step, n_sure = 1024 * 44, 1024 * 44 + 1024 * 4  # before the fade, within the first block
    one = refine(mixture[:, : 1024 * 60], first[..., : 1024 * 60], templates)
    two = refine(mixture[:, step:], first[..., step:], templates)
    torch.testing.assert_close(stems[..., :n_sure], one[..., :n_sure], atol=1e-4, rtol=0)
    after = step + 1024 * 12
    torch.testing.assert_close(stems[..., after:], two[..., after - step :], atol=1e-4, rtol=0)
    assert float((stems.sum(dim=0) - mixture).abs().max()) < 1e-4


def test_the_command_and_the_function_refine(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_checkpoint(wild_model(BANDED), weights)
    mixture = bursts(60_000)
    soundfile.write(tmp_path / "in.wav", mixture.T, SAMPLE_RATE, subtype="FLOAT")
    arguments = [tmp_path / "in.wav", "-o", tmp_path / "out", "--weights", weights, "--refine"]
    assert cli.main(["separate", *map(str, arguments), "--sum-to-mixture"]) == 0
    written = [soundfile.read(tmp_path / "out" / "in" / f"{s}.wav")[0].T for s in STEMS]
    assert np.abs(np.sum(written, axis=0) - mixture).max() < 1e-6
    own = larsnet.separate(mixture, SAMPLE_RATE, sum_to_mixture=True, weights=weights)
    same = larsnet.separate(mixture, SAMPLE_RATE, sum_to_mixture=True, weights=weights, refine=True)
    for stem, audio in zip(STEMS, written, strict=True):
        np.testing.assert_allclose(audio, same[stem], atol=1e-5)
    assert any(np.abs(own[s] - same[s]).max() > 1e-3 for s in STEMS)


def test_other_stems_than_the_templates_cannot_be_refined() -> None:
    model = wild_model(replace(BANDED, stems=("kick", "snare")))
    with pytest.raises(UserError, match="only kick, snare, toms, hihat, cymbals"):
        RefinedSeparator(model)
