from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchnmf.nmf import NMFD as TorchNMFD

from baselines import nmfd
from baselines.factorization import Factorization, FactorizationConfig, kl_divergence
from baselines.nmfd import factorize, reconstruct, stem_magnitudes

FREE = FactorizationConfig(n_iterations=8, adaptation="free", track_cost=True)


def random_problem(
    seed: int,
    *,
    batch: int = 2,
    bins: int = 12,
    frames: int = 20,
    components: int = 3,
    taps: int = 5,
) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    spectrogram = torch.rand(batch, bins, frames, generator=rng) ** 4 * 10
    templates = torch.rand(components, bins, taps, generator=rng) ** 2
    activations = torch.rand(batch, components, frames, generator=rng)
    return spectrogram, templates, activations


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    frames=st.integers(1, 14),
    taps=st.integers(1, 18),
    zeros=st.sampled_from([0.0, 0.4, 0.9]),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    adaptation=st.sampled_from(["fixed", "free", "joint"]),
    extrapolate=st.booleans(),
)
def test_kl_never_rises(
    seed: int,
    frames: int,
    taps: int,
    zeros: float,
    scale: float,
    adaptation: str,
    extrapolate: bool,
) -> None:
    """Templates that reach beyond the end of the clip, and beyond all of it, included."""
    problem = random_problem(seed, frames=frames, taps=taps)
    rng = torch.Generator().manual_seed(seed)
    spectrogram, templates, activations = (
        array * (torch.rand(array.shape, generator=rng) >= zeros) for array in problem
    )
    config = replace(FREE, adaptation=adaptation, extrapolate=extrapolate)
    costs = factorize(scale * spectrogram, templates, config, activations=activations).costs
    assert costs is not None
    assert costs.shape == (config.n_iterations + 1, 2)
    # rounding is relative to what is summed: the data, or the model while it is far louder
    slack = 1e-6 * (scale * spectrogram.sum(dim=(1, 2)).double() + costs[:-1]) + 1e-12
    assert bool((costs[1:] <= costs[:-1] + slack).all())


def by_the_book(
    spectrogram: np.ndarray, w: np.ndarray, h: np.ndarray, *, n_iterations: int, joint: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The update rules as sums over every index, in float64: slow, and hard to get wrong."""
    frames, taps = spectrogram.shape[1], w.shape[2]
    reach = [(t, m) for t in range(taps) for m in range(frames) if m + t < frames]

    def ratio(w: np.ndarray, h: np.ndarray) -> np.ndarray:
        model = np.zeros(spectrogram.shape)
        for t, m in reach:
            model[:, m + t] += h[:, m] @ w[:, :, t]
        return spectrogram / model

    for _ in range(n_iterations):
        old = w.astype(np.float64)
        q, top, bottom = ratio(old, h), np.zeros(old.shape), np.zeros((len(old), 1, taps))
        for t, m in reach:
            top[:, :, t] += np.outer(h[:, m], q[:, m + t])
            bottom[:, 0, t] += h[:, m]
        w = old * top / bottom
        if not joint:
            old, q = w, ratio(w, h)
        top, bottom = np.zeros(h.shape), np.zeros(h.shape)
        for t, m in reach:
            top[:, m] += old[:, :, t] @ q[:, m + t]
            bottom[:, m] += w[:, :, t].sum(axis=1)
        h = h * top / bottom
    return w, h


@pytest.mark.parametrize("taps", [1, 4, 9])
@pytest.mark.parametrize("adaptation", ["free", "joint"])
def test_updates_are_those_of_the_book_up_to_the_last_frame(taps: int, adaptation: str) -> None:
    spectrogram, templates, activations = random_problem(3, batch=1, bins=7, frames=9, taps=taps)
    config = replace(FREE, adaptation=adaptation)
    found = factorize(spectrogram, templates, config, activations=activations)
    w, h = by_the_book(
        spectrogram[0].double().numpy(),
        templates.double().numpy(),
        activations[0].double().numpy(),
        n_iterations=config.n_iterations,
        joint=adaptation == "joint",
    )
    np.testing.assert_allclose(found.templates[0].numpy(), w, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(found.activations[0].numpy(), h, rtol=2e-4, atol=1e-6)


def test_joint_updates_reach_the_cost_of_alternating_ones_a_little_later() -> None:
    spectrogram, templates, activations = random_problem(4, bins=40, frames=60)
    costs = {}
    for adaptation in ("free", "joint"):
        config = FactorizationConfig(60, adaptation=adaptation, track_cost=True)
        found = factorize(spectrogram, templates, config, activations=activations)
        assert found.costs is not None
        costs[adaptation] = found.costs.sum(dim=1)
    assert costs["joint"][45] < costs["free"][30]


@pytest.mark.parametrize("adaptation", ["fixed", "free", "joint"])
def test_extrapolation_needs_two_thirds_of_the_iterations_or_less(adaptation: str) -> None:
    spectrogram, templates, activations = random_problem(4, bins=40, frames=60)
    costs = {}
    for extrapolate in (False, True):
        config = FactorizationConfig(30, adaptation, extrapolate=extrapolate, track_cost=True)
        found = factorize(spectrogram, templates, config, activations=activations)
        assert found.costs is not None
        costs[extrapolate] = found.costs
    assert bool((costs[True][20] < costs[False][30]).all())


@pytest.mark.parametrize("adaptation", ["fixed", "free", "joint", "semi"])
def test_looking_at_the_cost_changes_nothing(adaptation: str) -> None:
    """Extrapolated steps are taken back where they raise it, whoever else looks at it."""
    spectrogram, templates, activations = random_problem(5, bins=40, frames=60)
    config = FactorizationConfig(25, adaptation, extrapolate=True)
    plain, tracked = (
        factorize(spectrogram, templates, one, activations=activations)
        for one in (config, replace(config, track_cost=True))
    )
    assert torch.equal(plain.templates, tracked.templates)
    assert torch.equal(plain.activations, tracked.activations)


def test_a_step_that_raises_the_cost_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the clip that it raises it for, and only of that one."""
    taken: list[list[bool]] = []
    take_back = nmfd._State._take_back

    def watched(state: nmfd._State, cost: Tensor) -> bool:
        if state.pending is not None:
            taken.append((cost > state.pending.cost_before).tolist())
        return take_back(state, cost)

    monkeypatch.setattr(nmfd._State, "_take_back", watched)
    monkeypatch.setattr(nmfd, "_LARGEST_MOMENTUM", 5.0)
    spectrogram, templates, activations = random_problem(6, bins=40, frames=60)
    config = FactorizationConfig(60, "fixed", extrapolate=True, track_cost=True)
    together = factorize(spectrogram, templates, config, activations=activations)
    assert [True, False] in taken or [False, True] in taken
    assert together.costs is not None
    assert bool((together.costs[1:] <= together.costs[:-1] * (1 + 1e-6)).all())
    alone = factorize(spectrogram[1:], templates, config, activations=activations[1:])
    assert alone.costs is not None
    torch.testing.assert_close(alone.costs[:, 0], together.costs[:, 1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("adaptation", ["fixed", "free"])
def test_agrees_with_torchnmf_on_the_same_start(adaptation: str) -> None:
    """torchnmf has no activations in the last T - 1 frames; zeros there make the same problem."""
    spectrogram, templates, activations = random_problem(5, batch=1, bins=40, frames=90, taps=7)
    activations[:, :, -6:] = 0
    other = TorchNMFD(
        W=templates.permute(1, 0, 2),
        H=activations[:, :, :-6],
        trainable_W=adaptation == "free",
    )
    other.fit(spectrogram, beta=1, tol=-1e9, max_iter=20)
    config = FactorizationConfig(n_iterations=20, adaptation=adaptation, floor=2.0**-23)
    ours = factorize(spectrogram, templates, config, activations=activations)
    theirs_w, theirs_h = other.W.detach().permute(1, 0, 2)[None], other.H.detach()
    torch.testing.assert_close(ours.templates, theirs_w, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(ours.activations[:, :, :-6], theirs_h, rtol=2e-3, atol=1e-4)
    ours_model = reconstruct(ours.templates, ours.activations)
    torch.testing.assert_close(
        kl_divergence(spectrogram, ours_model),
        kl_divergence(spectrogram, other().detach()),
        rtol=1e-5,
        atol=0,
    )


def test_tracked_cost_is_the_divergence_of_the_model_and_the_floor() -> None:
    spectrogram, templates, activations = random_problem(7)
    config = replace(FREE, floor=0.01)
    found = factorize(spectrogram, templates, config, activations=activations)
    model = reconstruct(found.templates, found.activations) + 0.01
    assert found.costs is not None
    torch.testing.assert_close(
        found.costs[-1], kl_divergence(spectrogram, model), rtol=1e-5, atol=0
    )
    v, m = spectrogram.double(), model.double()
    book = (torch.special.xlogy(v, v / m) - v + m).sum(dim=(1, 2))
    torch.testing.assert_close(found.costs[-1], book, rtol=1e-5, atol=0)


def test_clips_of_a_batch_do_not_influence_each_other() -> None:
    spectrogram, templates, activations = random_problem(11, batch=3)
    together = factorize(spectrogram, templates, FREE, activations=activations)
    for clip in range(3):
        alone = factorize(
            spectrogram[clip : clip + 1], templates, FREE, activations=activations[clip]
        )
        torch.testing.assert_close(together.templates[clip], alone.templates[0])
        torch.testing.assert_close(together.activations[clip], alone.activations[0])


@pytest.mark.parametrize("n_values", [1, 100])
def test_frames_are_worked_off_in_chunks_without_a_trace(
    n_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = random_problem(13)
    whole = factorize(problem[0], problem[1], FREE, activations=problem[2])
    monkeypatch.setitem(nmfd._VALUES_PER_CHUNK, "cpu", n_values)
    chunked = factorize(problem[0], problem[1], FREE, activations=problem[2])
    torch.testing.assert_close(whole.templates, chunked.templates)
    torch.testing.assert_close(whole.activations, chunked.activations)
    torch.testing.assert_close(whole.costs, chunked.costs)


@pytest.mark.parametrize("adaptation", ["fixed", "semi", "free", "joint"])
def test_the_same_start_gives_the_same_bits_and_is_left_alone(adaptation: str) -> None:
    config = replace(FREE, adaptation=adaptation)
    problem = random_problem(17, batch=1, components=1, bins=16, taps=1)
    before = [array.clone() for array in problem]
    first = factorize(problem[0], problem[1], config, activations=problem[2])
    again = factorize(problem[0], problem[1], config, activations=problem[2])
    assert torch.equal(first.templates, again.templates)
    assert torch.equal(first.activations, again.activations)
    assert all(torch.equal(a, b) for a, b in zip(problem, before, strict=True))


@pytest.mark.parametrize("adaptation", ["fixed", "semi", "free", "joint"])
def test_silence_stays_silent_and_leaves_the_templates(adaptation: str) -> None:
    _, templates, _ = random_problem(19)
    templates /= templates.sum(dim=(1, 2), keepdim=True)
    config = replace(FREE, adaptation=adaptation)
    found = factorize(torch.zeros(2, 12, 20), templates, config)
    assert not found.activations.any()
    torch.testing.assert_close(found.templates, templates.expand(2, -1, -1, -1))


def test_a_component_that_never_sounds_keeps_its_templates() -> None:
    spectrogram, templates, activations = random_problem(23)
    activations[:, 1] = 0
    found = factorize(spectrogram, templates, FREE, activations=activations)
    torch.testing.assert_close(found.templates[:, 1], templates[1].expand(2, -1, -1))
    assert found.templates.isfinite().all()


def test_what_the_score_rules_out_stays_zero() -> None:
    spectrogram, templates, activations = random_problem(29)
    allowed = torch.rand(activations.shape, generator=torch.Generator().manual_seed(1)) > 0.7
    found = factorize(spectrogram, templates, FREE, activations=activations * allowed)
    assert not found.activations[~allowed].any()
    assert found.activations[allowed].any()


def test_known_hits_are_found_again() -> None:
    rng = torch.Generator().manual_seed(31)
    templates = torch.rand(3, 64, 6, generator=rng) ** 6
    truth = torch.zeros(1, 3, 60)
    for component, frame in ((0, 3), (0, 30), (1, 10), (1, 33), (2, 20), (2, 57)):
        truth[0, component, frame] = 1.0 + component
    spectrogram = reconstruct(templates[None], truth)
    config = FactorizationConfig(n_iterations=400)
    found = factorize(spectrogram, templates, config)
    torch.testing.assert_close(found.activations, truth, atol=0.02, rtol=0)


def test_semi_adaptive_templates_sum_to_one_and_start_from_the_given() -> None:
    spectrogram, templates, _ = random_problem(37)
    given_values = templates / templates.sum(dim=(1, 2), keepdim=True)
    config = FactorizationConfig(n_iterations=10, adaptation="semi", adaptation_power=2000.0)
    found = factorize(spectrogram, templates, config)
    torch.testing.assert_close(found.templates.sum(dim=(2, 3)), torch.ones(2, 3))
    freed = factorize(spectrogram, templates, replace(config, adaptation_power=1e-6))
    # a power so high adapts in the last iteration alone, one so low in all of them
    far = (freed.templates - given_values).abs().sum()
    assert (found.templates - given_values).abs().sum() < far


def test_stems_add_up_to_the_model_and_an_unused_stem_is_silent() -> None:
    spectrogram, templates, activations = random_problem(41, components=4)
    found = factorize(spectrogram, templates, FREE, activations=activations)
    stems = stem_magnitudes(found, (0, 2, 2, 3), 5)
    assert stems.shape == (2, 5, 12, 20)
    torch.testing.assert_close(stems.sum(dim=1), reconstruct(found.templates, found.activations))
    assert not stems[:, 1].any()
    assert not stems[:, 4].any()
    with pytest.raises(ValueError, match="each component"):
        stem_magnitudes(found, (0, 1), 2)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("fault", ["negative", "nan", "shape"])
def test_arrays_that_cannot_be_factorized_are_refused(which: int, fault: str) -> None:
    arrays = [array.clone() for array in random_problem(43)]
    if fault == "shape":
        arrays[which] = arrays[which][:, :-1]
    else:
        arrays[which].view(-1)[3] = -1.0 if fault == "negative" else float("nan")
    with pytest.raises(ValueError, match=r"fit|finite"):
        factorize(arrays[0], arrays[1], FREE, activations=arrays[2])


def test_batches_may_bring_templates_of_their_own() -> None:
    spectrogram, templates, activations = random_problem(47)
    own = torch.stack([templates, templates.flip(0)])
    found = factorize(spectrogram, own, FREE, activations=activations)
    second = factorize(spectrogram[1:], own[1], FREE, activations=activations[1:])
    assert isinstance(found, Factorization)
    torch.testing.assert_close(found.templates[1], second.templates[0])
