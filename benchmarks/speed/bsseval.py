"""Speed of BSS Eval beside museval on the same arrays: ``stemgmd speed bsseval``.

Five stereo stems of synthetic drums (so dense that museval scores most frames) and estimates
with bleed, gain errors and noise. museval runs once, since it takes most of a minute; ours is
the median of six, three before and three after it. Wall-clock seconds are the claim; CPU
seconds stand beside, since they depend less on what else the machine does. museval uses as
many BLAS threads as it likes, ours one. Differences are over all frames and stems that museval
scores.

museval's package imports musdb, which refuses to load where ffmpeg is missing; its measures
need neither, so the module that holds them is loaded alone. ``museval.evaluate`` is one call of
that module's ``bss_eval`` with these very arguments.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.scores.bsseval import (
    FILTER_TAPS,
    Against,
    FrameScores,
    prepare_reference,
    score_frames,
)
from benchmarks.scores.metrics import Floats
from stemgmd_build.taxonomy import SAMPLE_RATE


@dataclass(frozen=True)
class Timing:
    """One run: what it found, and what it took."""

    scores: FrameScores
    wall_sec: float
    cpu_sec: float


def load_museval_metrics() -> ModuleType:
    """museval's module of measures, without the rest of its package."""
    package = importlib.util.find_spec("museval")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("museval is not installed")
    path = Path(package.origin).with_name("metrics.py")
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def museval_frames(reference: Floats, estimate: Floats, n_taps: int = FILTER_TAPS) -> FrameScores:
    """``museval.evaluate`` of (stems, channels, samples), with filters of this length."""
    scores = load_museval_metrics().bss_eval(
        np.moveaxis(reference, 1, 2),
        np.moveaxis(estimate, 1, 2),
        compute_permutation=False,
        window=SAMPLE_RATE,
        hop=SAMPLE_RATE,
        filters_len=n_taps,
        framewise_filters=False,
        bsseval_sources_version=False,
    )
    return FrameScores(*scores[:4])


def our_frames(reference: Floats, estimate: Floats, against: Against) -> FrameScores:
    return score_frames(prepare_reference(reference=reference, against=against), estimate=estimate)


def synthetic_drums(n_stems: int, duration_sec: float, hits_per_sec: float, seed: int) -> Floats:
    """Decaying tones and noise, panned: float64 (stems, 2, samples)."""
    rng = np.random.default_rng(seed)
    n_samples = int(duration_sec * SAMPLE_RATE)
    time_sec = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    stems: Floats = np.zeros((n_stems, 2, n_samples + SAMPLE_RATE))
    for i, stem in enumerate(stems):
        decay = np.exp(-time_sec / (0.03 + 0.03 * i))
        tone = np.sin(2 * np.pi * 60 * 2.2**i * time_sec)
        shot = decay * (rng.uniform(0.3, 1, (2, 1)) * tone + 0.3 * rng.standard_normal((2, 1)))
        shot += decay * 0.2 * rng.standard_normal((2, SAMPLE_RATE))
        for onset in rng.integers(0, n_samples, int(duration_sec * hits_per_sec)):
            stem[:, onset : onset + SAMPLE_RATE] += rng.uniform(0.1, 0.6) * shot
    return stems[..., :n_samples]


def flawed_estimates(reference: Floats, seed: int) -> Floats:
    """A gain error, bleed of the mixture and noise that follows its level."""
    noise = np.random.default_rng(seed).standard_normal(reference.shape)
    mixture = reference.sum(axis=0)
    flawed: Floats = 0.85 * reference + 0.1 * mixture + 0.02 * noise * np.abs(mixture)
    return flawed


def largest_difference_db(ours: FrameScores, theirs: FrameScores) -> float:
    """Over all four measures; an error if they do not score the same frames."""
    pairs = [
        (getattr(ours, name), getattr(theirs, name)) for name in FrameScores.__dataclass_fields__
    ]
    if any((np.isnan(a) != np.isnan(b)).any() for a, b in pairs):
        raise AssertionError("museval scores other frames than we do")
    return float(max(np.nanmax(np.abs(a - b)) for a, b in pairs))


def main(argv: Sequence[str] | None = None) -> None:
    """Print both times, the ratio and the largest difference."""
    parser = argparse.ArgumentParser(
        prog="stemgmd speed bsseval", description="BSS Eval v4 beside museval on the same arrays"
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--stems", type=int, default=5)
    options = parser.parse_args(argv)
    reference = synthetic_drums(options.stems, options.seconds, hits_per_sec=4, seed=0)
    estimate = flawed_estimates(reference, seed=1)
    ours: dict[Against, list[Timing]] = {"each": [], "rest": []}

    def run_ours() -> None:
        for against, timings in ours.items():
            timings.extend(
                _timed(partial(our_frames, reference, estimate, against)) for _ in range(3)
            )

    run_ours()
    museval = _timed(partial(museval_frames, reference, estimate))
    run_ours()
    theirs = museval.scores
    n_scored = int(np.count_nonzero(~np.isnan(theirs.sdr_db[0])))
    print(
        f"{options.stems} stereo stems of {options.seconds:g} s, {n_scored} of "
        f"{theirs.sdr_db.shape[1]} frames scored by museval\n"
        f"{'':<26}{'wall s':>8}{'ratio':>8}{'CPU s':>8}{'ratio':>8}\n"
        f"{'museval':<26}{museval.wall_sec:>8.2f}{'':>8}{museval.cpu_sec:>8.2f}"
    )
    for against, timings in ours.items():
        wall = statistics.median(timing.wall_sec for timing in timings)
        cpu = statistics.median(timing.cpu_sec for timing in timings)
        print(
            f"{f'ours, stem against {against}':<26}{wall:>8.2f}{museval.wall_sec / wall:>7.1f}x"
            f"{cpu:>8.2f}{museval.cpu_sec / cpu:>7.1f}x"
        )
    difference = largest_difference_db(ours["each"][0].scores, theirs)
    print(f"largest difference on the frames that museval scores: {difference:.1e} dB")


def _timed(score: Callable[[], FrameScores]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    scores = score()
    return Timing(scores, time.perf_counter() - wall, time.process_time() - cpu)
