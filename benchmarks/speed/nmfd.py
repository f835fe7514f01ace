"""Speed of NMFD beside torchnmf and libnmfd: ``stemgmd speed nmfd``.

All factorize the same drum-like spectrogram (37 s, 1025 bins, 9 components) from the same
start, both factors free. Ours comes three times: ``alternating`` updates, as in torchnmf,
``joint`` ones, and joint ones that are ``extrapolated``, as the leaderboard's NMFD is. Seconds per
iteration are the slope between a run of 1 and one of 9 iterations (at the tenth torchnmf looks at
its cost), so that set-up does not count; all take turns, and the median is taken, so that what else
the machine does hits all alike.

Costs are D(V | model), generalized Kullback-Leibler, of what each hands back after 30
iterations, computed here in one way. Equal cost: the other library's time for its 30
iterations over our time for as many as we need to get at least as low.

torchnmf has no activations in the last T - 1 frames; the common start has zeros there. libnmfd
1.0.0 declares numpy < 2 and wants a notebook for its progress bar: it is installed with
``pip install --no-deps libnmfd==1.0.0`` and its bar replaced by a plain range. It leaves the
activations as they are when it rescales the templates.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from baselines import nmfd
from baselines.factorization import FactorizationConfig, kl_divergence

N_BINS, N_FRAMES, N_COMPONENTS = 1025, 3188, 9
N_TIMED, N_TO_COST = 9, 30
OURS: Mapping[str, FactorizationConfig] = {
    "alternating": FactorizationConfig(adaptation="free"),
    "joint": FactorizationConfig(adaptation="joint"),
    "extrapolated": FactorizationConfig(adaptation="joint", extrapolate=True),
}
OTHERS = ("torchnmf", "libnmfd")

Fit = Callable[[int], Tensor]
"""Runs so many iterations and returns the model, (1, bins, frames)."""


@dataclass(frozen=True)
class Problem:
    """One spectrogram (1, bins, frames) and one start for all."""

    spectrogram: Tensor
    templates: Tensor
    activations: Tensor


@dataclass(frozen=True)
class Timing:
    """Seconds per iteration, the median and the least, and the cost after ``N_TO_COST``."""

    seconds: float
    least_seconds: float
    cost: float


def make_problem(n_template_frames: int) -> Problem:
    """Spectra of nine decaying drums, 300 hits, a noise floor; a start that knows no hit."""
    rng = torch.Generator().manual_seed(0)
    shape = (N_COMPONENTS, N_BINS, n_template_frames)
    decay_frames = torch.linspace(3, 40, N_COMPONENTS)[:, None, None]
    decay = torch.exp(-torch.arange(n_template_frames) / decay_frames)
    colour = torch.rand(N_COMPONENTS, N_BINS, 1, generator=rng) ** 4
    truth = colour * decay * (0.5 + torch.rand(shape, generator=rng))
    hits = torch.zeros(1, N_COMPONENTS, N_FRAMES)
    where = torch.randint(N_FRAMES, (300,), generator=rng)
    who = torch.randint(N_COMPONENTS, (300,), generator=rng)
    hits[0, who, where] = 20 * torch.rand(300, generator=rng)
    noise = torch.rand(1, N_BINS, N_FRAMES, generator=rng)
    spectrogram = nmfd.reconstruct(truth[None], hits) * (0.8 + 0.4 * noise) + 1e-3 * noise
    activations = 0.1 + 0.1 * torch.rand(1, N_COMPONENTS, N_FRAMES, generator=rng)
    activations[:, :, N_FRAMES - n_template_frames + 1 :] = 0
    templates = truth * (0.5 + torch.rand(shape, generator=rng))
    return Problem(spectrogram.contiguous(), templates, activations)


def fit_ours(problem: Problem, config: FactorizationConfig, n_iterations: int) -> Tensor:
    """NMFD of :mod:`baselines.nmfd`."""
    found = nmfd.factorize(
        problem.spectrogram,
        problem.templates,
        replace(config, n_iterations=n_iterations),
        activations=problem.activations,
    )
    return nmfd.reconstruct(found.templates, found.activations)


def fit_torchnmf(problem: Problem, n_iterations: int) -> Tensor:
    """NMFD of torchnmf, its stopping rule switched off."""
    n_played = N_FRAMES - problem.templates.shape[2] + 1
    played = problem.activations[:, :, :n_played]
    library = importlib.import_module("torchnmf.nmf")
    model = library.NMFD(W=problem.templates.transpose(0, 1), H=played)
    model.fit(problem.spectrogram, beta=1, tol=float("-inf"), max_iter=n_iterations)
    result: Tensor = model().detach()
    return result


def fit_libnmfd(problem: Problem, n_iterations: int) -> Tensor:
    """NMFD of libnmfd, which works in float64 on data scaled to sum one."""
    nmfconv: Any = importlib.import_module("libnmfd.core.nmfconv")
    nmfconv.tnrange = lambda n, **_: range(n)
    level = float(problem.spectrogram.double().sum())
    _, _, parts, *_ = nmfconv.nmfd(
        V=problem.spectrogram[0].double().numpy(),
        num_comp=N_COMPONENTS,
        num_iter=n_iterations,
        num_template_frames=problem.templates.shape[2],
        init_W=[template.double().numpy() for template in problem.templates],
        init_H=problem.activations[0].double().numpy() / level,
    )
    return torch.from_numpy(sum(parts) * level)[None].float()


def contestants(problem: Problem) -> dict[str, Fit]:
    """Ours and those of the others that are installed."""
    fits: dict[str, Fit] = {
        name: partial(fit_ours, problem, config) for name, config in OURS.items()
    }
    for name, fit in zip(OTHERS, (fit_torchnmf, fit_libnmfd), strict=True):
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: left out")
        else:
            fits[name] = partial(fit, problem)
    return fits


def time_all(problem: Problem, fits: Mapping[str, Fit], n_rounds: int) -> dict[str, Timing]:
    """Let all take turns; the run that gives the cost warms up."""
    costs = {name: _cost(problem, fit(N_TO_COST)) for name, fit in fits.items()}
    slopes: dict[str, list[float]] = {name: [] for name in fits}
    for _ in range(n_rounds):
        for name, fit in fits.items():
            short, long = _seconds(fit, 1), _seconds(fit, N_TIMED)
            slopes[name].append((long - short) / (N_TIMED - 1))
    return {
        name: Timing(statistics.median(slopes[name]), min(slopes[name]), costs[name])
        for name in fits
    }


def iterations_to(problem: Problem, config: FactorizationConfig, cost: float) -> int | None:
    """Our least number of iterations to ``cost``, None if twice theirs do not get there."""
    found = nmfd.factorize(
        problem.spectrogram,
        problem.templates,
        replace(config, n_iterations=2 * N_TO_COST, track_cost=True),
        activations=problem.activations,
    )
    assert found.costs is not None
    # within float32's rounding: the same iterate has the same cost
    enough = cost * (1 + 1e-4)
    reached = (found.costs[:, 0] <= enough).nonzero()
    if not len(reached):
        return None
    # the last iteration of a run is not extrapolated from, so a run of its own may end elsewhere
    needed = int(reached[0])
    while _cost(problem, fit_ours(problem, config, needed)) > enough:
        needed += 1
    return needed


def report(problem: Problem, timings: Mapping[str, Timing]) -> str:
    """A line for each contestant, then one for each of the others against each of ours."""
    cost_title = f"cost after {N_TO_COST}"
    lines = [f"{'':<12}{'s/iteration':>12}{'least':>10}{cost_title:>16}"]
    for name, timing in timings.items():
        lines.append(
            f"{name:<12}{timing.seconds:>12.4f}{timing.least_seconds:>10.4f}{timing.cost:>16.6g}"
        )
    for name in OTHERS:
        for own in OURS if name in timings else ():
            ratio = timings[name].seconds / timings[own].seconds
            needed = iterations_to(problem, OURS[own], timings[name].cost)
            equal = f"{ratio * N_TO_COST / needed:.2f}x" if needed else "never"
            lines.append(
                f"{own} against {name}: {ratio:.2f}x an iteration; its cost after "
                f"{needed} of ours for {N_TO_COST} of its iterations: {equal} to equal cost"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison, and which libraries are missing."""
    parser = argparse.ArgumentParser(
        prog="stemgmd speed nmfd", description="NMFD per iteration beside other libraries"
    )
    parser.add_argument("--template-frames", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    problem = make_problem(options.template_frames)
    print(
        f"{N_BINS} bins x {N_FRAMES} frames, {N_COMPONENTS} components, "
        f"T = {options.template_frames}, {options.threads} threads, torch {torch.__version__}, "
        f"median of {options.rounds} rounds"
    )
    with threadpool_limits(limits=options.threads):  # numpy's, for libnmfd
        print(report(problem, time_all(problem, contestants(problem), options.rounds)))


def _seconds(fit: Fit, n_iterations: int) -> float:
    start = time.perf_counter()
    fit(n_iterations)
    return time.perf_counter() - start


def _cost(problem: Problem, model: Tensor) -> float:
    return float(kl_divergence(problem.spectrogram, model.clamp_min(1e-8)))
