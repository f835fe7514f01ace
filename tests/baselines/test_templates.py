from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_drums import PIECES, SAMPLE_RATE, groove, one_shot

from baselines.factorization import FactorizationConfig
from baselines.masks import apply_masks, soft_masks
from baselines.nmfd import factorize, stem_magnitudes
from baselines.spectral import FACTORIZATION_STFT, mono_magnitude, stft
from baselines.templates import (
    TemplateConfig,
    Templates,
    activations_from_onsets,
    cluster,
    learn_templates,
    template_of,
)
from stemgmd_build.taxonomy import STEMS

CONFIG = TemplateConfig(n_frames=20)


@pytest.fixture(scope="module")
def learnt() -> Templates:
    return learn_templates({p: [one_shot(p, seed=s) for s in range(4)] for p in PIECES}, CONFIG)


def test_each_piece_has_templates_of_sum_one_for_its_stem(learnt: Templates) -> None:
    assert learnt.values.shape == (5, FACTORIZATION_STFT.n_bins, 20)
    torch.testing.assert_close(learnt.values.sum(dim=(1, 2)), torch.ones(5))
    assert learnt.piece_of_component == PIECES
    assert tuple(STEMS[i] for i in learnt.stem_of_component) == STEMS


@settings(deadline=None, max_examples=25)
@given(gain=st.floats(1e-4, 1e2), n_samples=st.integers(1, 20000), n_channels=st.integers(1, 2))
def test_a_template_does_not_depend_on_loudness_at_any_length(
    gain: float, n_samples: int, n_channels: int
) -> None:
    hit = one_shot("snare", n_samples=n_samples)[:n_channels]
    quiet, loud = template_of(hit, CONFIG), template_of(gain * hit, CONFIG)
    assert quiet.shape == (FACTORIZATION_STFT.n_bins, 20)
    assert quiet.sum().item() == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(quiet, loud, atol=1e-6, rtol=1e-3)


def test_a_template_is_what_the_hit_looks_like_in_a_mixture() -> None:
    """A hit on a frame's centre shows its template from ``lead_frames`` before that frame on."""
    hit, hop = one_shot("snare"), FACTORIZATION_STFT.hop_samples
    clip = torch.zeros(2, 60000)
    clip[:, 30 * hop : 30 * hop + 20000] = hit[:, :20000]
    shown = mono_magnitude(stft(clip, FACTORIZATION_STFT))
    first = FACTORIZATION_STFT.frame_of_sample(30 * hop) - CONFIG.lead_frames
    cut = shown[:, first : first + 20]
    torch.testing.assert_close(cut / cut.sum(), template_of(hit, CONFIG), atol=1e-7, rtol=1e-3)
    assert not shown[:, :first].any()
    assert cut[:, 0].any()


def test_silent_one_shots_are_left_out() -> None:
    silence, hit = torch.zeros(2, 4000), one_shot("kick")
    learnt = learn_templates({"kick": [silence, hit], "ride": [silence]}, CONFIG)
    assert learnt.piece_of_component == ("kick",)
    torch.testing.assert_close(learnt.values[0], template_of(hit, CONFIG))
    with pytest.raises(ValueError, match="makes a sound"):
        learn_templates({"kick": [silence]}, CONFIG)


def test_variants_tell_apart_sounds_that_differ() -> None:
    """Two drums under one name come back as two components, each near its own sound."""
    shots = [one_shot(piece, seed=s) for s in range(3) for piece in ("kick", "ride")]
    learnt = learn_templates({"kick": shots}, TemplateConfig(n_frames=20, n_variants=2))
    assert learnt.piece_of_component == ("kick", "kick")
    for piece in ("kick", "ride"):
        ideal = torch.stack([template_of(one_shot(piece, seed=s), CONFIG) for s in range(3)])
        gaps = (learnt.values - ideal.mean(dim=0)).abs().sum(dim=(1, 2))
        assert gaps.min() < 1e-4
        assert gaps.max() > 0.5


def test_clusters_are_as_many_as_there_are_different_templates() -> None:
    one, other = (template_of(one_shot(p), CONFIG) for p in ("kick", "snare"))
    same = torch.stack([one, one, one])
    assert len(cluster(same, 3)) == 1
    mixed = torch.stack([one, other, one])
    assert len(cluster(mixed, 3)) == 2
    assert torch.equal(cluster(mixed, 3), cluster(mixed, 3))
    torch.testing.assert_close(cluster(mixed, 1)[0], mixed.mean(dim=0))


def test_segments_are_spectra_of_runs_of_frames(learnt: Templates) -> None:
    whole = learnt.segments()
    torch.testing.assert_close(whole.values[:, :, 0], learnt.values.sum(dim=2))
    split = learnt.segments((4,))
    assert split.values.shape == (10, FACTORIZATION_STFT.n_bins, 1)
    assert split.stem_of_component == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)
    tail = learnt.values[1, :, 4:].sum(dim=1)
    torch.testing.assert_close(split.values[3, :, 0], tail / tail.sum())


def test_a_score_puts_components_at_their_onsets_and_nowhere_else(learnt: Templates) -> None:
    rows = activations_from_onsets(
        {"kick": [0.0, 1.0], "ride": [0.5], "snare": [99.0]},
        learnt,
        n_frames=120,
        sample_rate=SAMPLE_RATE,
        tolerance_frames=2,
    )
    assert rows.shape == (5, 120)
    at_one = FACTORIZATION_STFT.frame_of_sample(SAMPLE_RATE) - CONFIG.lead_frames
    at_zero = FACTORIZATION_STFT.frame_of_sample(0) - CONFIG.lead_frames
    expected = {f for centre in (at_zero, at_one) for f in range(centre - 2, centre + 3) if f >= 0}
    assert set(rows[0].nonzero().flatten().tolist()) == expected
    assert rows[4].sum() == 5
    assert not rows[1:4].any()


def test_a_decay_lets_a_hit_ring_on_but_not_before_its_onset(learnt: Templates) -> None:
    row = activations_from_onsets(
        {"ride": [1.0]}, learnt, n_frames=300, sample_rate=SAMPLE_RATE, decay_sec=0.3
    )[4]
    onset = int(row.argmax())
    assert not row[:onset].any()
    after = row[onset + 3 : onset + 100]
    assert bool((after[1:] < after[:-1]).all())
    frames_a_decay = round(0.3 * SAMPLE_RATE / FACTORIZATION_STFT.hop_samples)
    assert row[onset + 1 + frames_a_decay].item() == pytest.approx(0.37, abs=0.02)


@pytest.mark.parametrize("scored", [False, True])
def test_learnt_templates_separate_an_unseen_kit(learnt: Templates, scored: bool) -> None:
    """Templates of four kits, a groove on a fifth; the score makes it better than blind."""
    stems, onsets = groove(2 * SAMPLE_RATE, seed=8, kit=9)
    mixture = stems.sum(dim=0)
    spectrum = stft(mixture, FACTORIZATION_STFT)
    start = None
    if scored:
        start = activations_from_onsets(
            onsets, learnt, n_frames=spectrum.shape[-1], sample_rate=SAMPLE_RATE, decay_sec=0.2
        )
    found = factorize(
        mono_magnitude(spectrum)[None], learnt.values, FactorizationConfig(30), activations=start
    )
    masks = soft_masks(stem_magnitudes(found, learnt.stem_of_component, 5)[0]).unsqueeze(-3)
    estimate = apply_masks(spectrum, masks, FACTORIZATION_STFT, mixture.shape[-1])
    error = (stems - estimate).square().sum(dim=(1, 2))
    gain_db = 10 * torch.log10(((stems - mixture).square().sum(dim=(1, 2))) / error)
    assert gain_db.mean() > (12 if scored else 9)
    assert gain_db.min() > 0


@pytest.mark.parametrize("values", [(0, 1), (8, 0)])
def test_templates_of_no_length_are_refused(values: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TemplateConfig(n_frames=values[0], n_variants=values[1])
