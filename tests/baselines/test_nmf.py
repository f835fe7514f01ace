from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import non_negative_factorization
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from baselines import nmfd
from baselines.factorization import Factorization, FactorizationConfig
from baselines.settings import SETTINGS


def factorize(
    spectrogram: Tensor,
    templates: Tensor,
    config: FactorizationConfig,
    activations: Tensor | None = None,
) -> Factorization:
    """NMF is NMFD whose templates are one frame long."""
    return nmfd.factorize(spectrogram, templates.unsqueeze(-1), config, activations=activations)


def random_problem(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    spectrogram = torch.rand(1, 30, 50, generator=rng) ** 3 * 5 + 1e-3
    return (
        spectrogram,
        torch.rand(4, 30, generator=rng) + 0.01,
        torch.rand(1, 4, 50, generator=rng) + 0.01,
    )


def scikit_learn(
    spectrogram: Tensor, templates: Tensor, activations: Tensor, *, n_iterations: int, adapt: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(components, bins) templates and (components, frames) activations by scikit-learn.

    It updates its W first and can hold its H: frames are its samples when the templates are
    held, bins are when both are updated in our order. With its H held it starts from a
    constant of its own and warns that the given start is not used.
    """
    v = spectrogram[0].double().numpy()
    b, g = templates.double().numpy(), activations[0].double().numpy()
    x, w, h = (v, b.T, g) if adapt else (v.T, g.T, b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "When update_H=False", RuntimeWarning)
        w, h, _ = non_negative_factorization(
            x,
            W=w.copy(),
            H=h.copy(),
            n_components=4,
            init="custom",
            update_H=adapt,
            solver="mu",
            beta_loss="kullback-leibler",
            tol=0,
            max_iter=n_iterations,
        )
    return (w.T, h) if adapt else (h, w.T)


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("n_iterations", [1, 40])
def test_agrees_with_scikit_learn_on_the_same_start(adapt: bool, n_iterations: int) -> None:
    spectrogram, templates, activations = random_problem(0)
    config = FactorizationConfig(n_iterations, adaptation="free" if adapt else "fixed")
    if not adapt:
        activations = torch.full_like(activations, float((spectrogram.mean() / 4).sqrt()))
    ours = factorize(spectrogram, templates, config, activations=activations)
    b, g = scikit_learn(spectrogram, templates, activations, n_iterations=n_iterations, adapt=adapt)
    np.testing.assert_allclose(ours.templates[0, :, :, 0].numpy(), b, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(ours.activations[0].numpy(), g, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        FactorizationConfig(n_iterations=25, adaptation="semi", adaptation_power=4.0),
        SETTINGS["nmf-sab"].factorization,
    ],
    ids=["their-figures", "ours"],
)
def test_sab_nmf_is_that_of_dittmar_and_gaertner(config: FactorizationConfig) -> None:
    """Their steps in float64, written from the paper, on the same start."""
    spectrogram, templates, activations = random_problem(1)
    x, g = spectrogram[0].double().numpy(), activations[0].double().numpy()
    given_b = templates.double().numpy().T
    g = g * given_b.sum(axis=0)[:, None]
    given_b = given_b / given_b.sum(axis=0)
    b = given_b
    for k in range(1, config.n_iterations + 1):
        alpha = (k / config.n_iterations) ** config.adaptation_power
        b = b * ((x / (b @ g)) @ g.T) / (np.ones_like(x) @ g.T)
        b = (1 - alpha) * given_b + alpha * b
        g = g * b.sum(axis=0)[:, None]
        b = b / b.sum(axis=0)
        g = g * (b.T @ (x / (b @ g))) / (b.T @ np.ones_like(x))
    ours = factorize(spectrogram, templates, config, activations=activations)
    np.testing.assert_allclose(ours.templates[0, :, :, 0].numpy().T, b, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(ours.activations[0].numpy(), g, rtol=2e-3, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), zeros=st.sampled_from([0.0, 0.5, 0.95]))
def test_kl_never_rises(seed: int, zeros: float) -> None:
    spectrogram, templates, activations = random_problem(seed)
    spectrogram = spectrogram * (torch.rand(spectrogram.shape) >= zeros)
    for adaptation in ("fixed", "free"):
        config = FactorizationConfig(15, adaptation=adaptation, track_cost=True)
        costs = factorize(spectrogram, templates, config, activations=activations).costs
        assert costs is not None
        slack = 1e-6 * (spectrogram.sum().double() + costs[:-1])
        assert bool((costs[1:] <= costs[:-1] + slack).all())


def test_fixed_templates_lead_to_one_cost_from_any_start() -> None:
    """The problem is convex in the activations."""
    spectrogram, templates, activations = random_problem(2)
    config = FactorizationConfig(n_iterations=300, track_cost=True)
    runs = [
        factorize(spectrogram, templates, config, activations=start).costs
        for start in (None, activations, activations.flip(1))
    ]
    last = torch.stack([costs[-1, 0] for costs in runs if costs is not None])
    assert last.shape == (3,)
    torch.testing.assert_close(last, last[:1].expand(3), rtol=1e-4, atol=0)


def test_fixed_nmf_explains_each_frame_by_itself() -> None:
    spectrogram, templates, _ = random_problem(3)
    start, config = torch.ones(4, 50), SETTINGS["nmf-fixed"].factorization
    whole = factorize(spectrogram, templates, config, activations=start)
    part = factorize(spectrogram[:, :, 20:30], templates, config, activations=start[:, 20:30])
    torch.testing.assert_close(whole.activations[:, :, 20:30], part.activations)
