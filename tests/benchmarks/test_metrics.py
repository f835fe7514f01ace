"""nSDR in both definitions, SI-SDR, leakage and pooling."""

from __future__ import annotations

import ast
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scores import metrics

RNG = np.random.default_rng(0)
STEMS = ("kick", "snare", "toms", "hihat", "cymbals")


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(shape)


def clip(absent: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Reference, estimate and presence of five stems."""
    reference = noise(5, 2, 1000)
    reference[list(absent)] = 0
    estimate = reference + noise(5, 2, 1000, seed=1, level=0.01)
    return reference, estimate, [i not in absent for i in range(5)]


def test_larsnet_nsdr_takes_means_over_channels_and_samples() -> None:
    reference = np.array([[0.6, 0.0], [0.0, 0.2]])
    estimate = np.array([[0.5, 0.0], [0.1, 0.2]])
    expected = 10 * math.log10((0.4 / 4 + 1e-7) / (0.02 / 4 + 1e-7))
    assert metrics.nsdr_db(reference=reference, estimate=estimate) == pytest.approx(expected)


def test_mdx_nsdr_takes_sums_over_channels_and_samples() -> None:
    reference = np.array([[0.6, 0.0], [0.0, 0.2]])
    estimate = np.array([[0.5, 0.0], [0.1, 0.2]])
    expected = 10 * math.log10((0.4 + 1e-7) / (0.02 + 1e-7))
    assert metrics.nsdr_mdx_db(reference=reference, estimate=estimate) == pytest.approx(expected)


def test_larsnet_nsdr_counts_energies_below_float32_epsilon_as_zero() -> None:
    below, above = (np.full((2, 100), math.sqrt(x * 1.19209290e-7)) for x in (0.999, 1.001))
    silence = np.zeros((2, 100))
    assert metrics.nsdr_db(reference=below, estimate=silence) == 0
    assert metrics.nsdr_db(reference=below, estimate=below) == 0
    heard = 10 * math.log10((1.001 * 1.19209290e-7 + 1e-7) / 1e-7)
    assert metrics.nsdr_db(reference=above, estimate=above) == pytest.approx(heard)


def test_mdx_nsdr_has_no_threshold_and_differs_on_quiet_stems() -> None:
    quiet = np.full((2, 1000), 1e-4)
    assert metrics.nsdr_mdx_db(reference=quiet, estimate=quiet) == pytest.approx(
        10 * math.log10((2e-5 + 1e-7) / 1e-7)
    )
    assert metrics.nsdr_db(reference=quiet, estimate=quiet) == 0


def test_both_definitions_agree_on_loud_stems() -> None:
    reference = noise(2, 44100)
    estimate = reference + noise(2, 44100, seed=1, level=0.02)
    mean_form = metrics.nsdr_db(reference=reference, estimate=estimate)
    sum_form = metrics.nsdr_mdx_db(reference=reference, estimate=estimate)
    assert mean_form == pytest.approx(sum_form, abs=0.01)
    assert mean_form == pytest.approx(20 * math.log10(0.1 / 0.02), abs=0.1)


@pytest.mark.parametrize("score", [metrics.nsdr_db, metrics.nsdr_mdx_db])
def test_silence_given_back_as_silence_scores_zero(score: object) -> None:
    silence = np.zeros((2, 10))
    assert score(reference=silence, estimate=silence) == 0  # type: ignore[operator]


@pytest.mark.parametrize("score", [metrics.nsdr_db, metrics.nsdr_mdx_db, metrics.si_sdr_db])
def test_scores_of_a_batch_are_the_scores_of_its_members(score: object) -> None:
    reference, estimate = noise(3, 2, 2, 500), noise(3, 2, 2, 500, seed=1)
    batch = score(reference=reference, estimate=estimate)  # type: ignore[operator]
    assert batch.shape == (3, 2)
    single = score(reference=reference[2, 1], estimate=estimate[2, 1])  # type: ignore[operator]
    assert batch[2, 1] == single


def test_torch_tensors_and_float32_are_scored_in_float64() -> None:
    reference, estimate = noise(2, 500).astype("f4"), noise(2, 500, seed=1).astype("f4")
    tensors = {"reference": torch.from_numpy(reference), "estimate": torch.from_numpy(estimate)}
    doubles = {"reference": reference.astype("f8"), "estimate": estimate.astype("f8")}
    assert metrics.nsdr_db(**tensors) == metrics.nsdr_db(**doubles)
    assert metrics.nsdr_db(**tensors).dtype == np.float64


@given(gain=st.floats(1e-3, 1e3), sign=st.sampled_from([-1, 1]))
def test_si_sdr_does_not_depend_on_the_estimates_gain(gain: float, sign: int) -> None:
    reference, estimate = noise(2, 200), noise(2, 200) + noise(2, 200, seed=1)
    plain = metrics.si_sdr_db(reference=reference, estimate=estimate)
    scaled = metrics.si_sdr_db(reference=reference, estimate=sign * gain * estimate)
    assert scaled == pytest.approx(plain, abs=1e-9)


def test_si_sdr_is_the_ratio_to_what_is_orthogonal_to_the_reference() -> None:
    reference = np.array([[3.0, 0.0, 0.0, 0.0]])
    estimate = np.array([[1.0, 0.1, 0.0, 0.0]])
    assert metrics.si_sdr_db(reference=reference, estimate=estimate) == pytest.approx(20)


def test_si_sdr_uses_one_scale_for_both_channels() -> None:
    reference = noise(2, 1000)
    panned = reference * np.array([[1.0], [0.5]])
    assert metrics.si_sdr_db(reference=reference, estimate=panned) < 12


def test_an_estimate_without_its_stem_has_si_sdr_minus_infinity() -> None:
    reference = np.array([[1.0, 0.0]])
    for nothing in ([[0.0, 0.0]], [[0.0, 1.0]]):
        assert metrics.si_sdr_db(reference=reference, estimate=nothing) == -math.inf


def test_a_silent_reference_has_no_si_sdr() -> None:
    assert np.isnan(metrics.si_sdr_db(reference=np.zeros((1, 4)), estimate=np.ones((1, 4))))


def test_leakage_is_the_level_relative_to_the_mixture() -> None:
    mixture = noise(2, 1000)
    estimate = np.stack([0.1 * mixture, np.zeros_like(mixture)])
    levels = metrics.leakage_db(estimate=estimate, mixture=mixture)
    assert levels[0] == pytest.approx(-20)
    assert levels[1] == -math.inf


def test_leakage_against_a_silent_mixture_is_refused() -> None:
    with pytest.raises(ValueError, match="mixture is silent"):
        metrics.leakage_db(estimate=np.ones((2, 4)), mixture=np.zeros((2, 4)))


def test_absent_stems_are_reported_as_leakage_only() -> None:
    reference, estimate, present = clip(absent=(2, 4))
    scores = metrics.score_clip(
        reference=reference,
        estimate=estimate,
        mixture=reference.sum(axis=0),
        stems=STEMS,
        present=present,
    )
    assert [score.stem for score in scores.present] == ["kick", "snare", "hihat"]
    assert [leak.stem for leak in scores.absent] == ["toms", "cymbals"]
    snare = metrics.nsdr_db(reference=reference[1], estimate=estimate[1])
    assert scores.present[1].nsdr_db == snare
    toms = metrics.leakage_db(estimate=estimate[2], mixture=reference.sum(axis=0))
    assert scores.absent[0].leakage_db == toms


def test_a_clip_with_every_stem_present_has_no_leakage() -> None:
    reference, estimate, present = clip()
    scores = metrics.score_clip(
        reference=reference,
        estimate=estimate,
        mixture=reference.sum(axis=0),
        stems=STEMS,
        present=present,
    )
    assert len(scores.present) == 5
    assert scores.absent == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"present": [False] * 5, "reference": np.zeros((5, 2, 1000))}, "no stem is present"),
        ({"present": [True] * 5}, "toms is said to be present, but its reference is silent"),
        ({"present": [False] + [True] * 4}, "kick is said to be absent"),
        ({"present": [True] * 4}, "5 stem names and 4 presence flags"),
        ({"estimate": np.zeros((5, 2, 999))}, "estimate is of shape"),
        ({"estimate": np.full((5, 2, 1000), np.nan)}, "estimate holds NaN or infinity"),
        ({"mixture": np.full((2, 1000), np.inf)}, "mixture holds NaN or infinity"),
        ({"mixture": np.zeros((2, 10))}, "the mixture is of shape"),
        ({"reference": np.zeros((5, 2, 0)), "estimate": np.zeros((5, 2, 0))}, "is empty"),
        ({"reference": np.zeros(5), "estimate": np.zeros(5)}, "must be"),
    ],
)
def test_bad_clips_are_refused_in_one_line(change: dict[str, object], message: str) -> None:
    reference, estimate, present = clip(absent=(2,))
    arguments = {
        "reference": reference,
        "estimate": estimate,
        "mixture": reference.sum(axis=0),
        "stems": STEMS,
        "present": present,
    }
    with pytest.raises(ValueError, match=message) as caught:
        metrics.score_clip(**(arguments | change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_pooling_reproduces_the_papers_all_from_its_stems() -> None:
    """Table 3's LarsNet row: 17.70 pooled over 1,280 pairs, 13.72 over five stems."""
    rows = {
        "kick": (27.19, 400),
        "snare": (21.77, 400),
        "toms": (9.10, 40),
        "hihat": (6.43, 390),
        "cymbals": (4.09, 50),
    }
    pairs = [(stem, value) for stem, (value, n) in rows.items() for _ in range(n)]
    pooled = metrics.pool(pairs)
    assert pooled.mean == pytest.approx(17.70, abs=0.005)
    assert pooled.macro_mean == pytest.approx(13.72, abs=0.005)
    assert pooled.n == 1280
    assert [(s.stem, s.n) for s in pooled.stems] == [(k, n) for k, (_, n) in rows.items()]


def test_undefined_values_are_left_out_and_counted() -> None:
    pooled = metrics.pool([("kick", 1.0), ("kick", math.nan), ("toms", math.nan), ("kick", 3.0)])
    assert (pooled.n, pooled.n_undefined, pooled.mean) == (2, 2, 2.0)
    assert [s.stem for s in pooled.stems] == ["kick"]


def test_a_median_survives_one_infinite_value() -> None:
    pooled = metrics.pool([("kick", 1.0), ("kick", 2.0), ("kick", -math.inf)])
    assert pooled.median == 1.0
    assert pooled.mean == -math.inf


@pytest.mark.parametrize("pairs", [[], [("kick", math.nan)]])
def test_pooling_nothing_is_refused(pairs: list[tuple[str, float]]) -> None:
    with pytest.raises(ValueError, match="nothing to pool"):
        metrics.pool(pairs)


def test_metrics_import_nothing_of_the_project() -> None:
    tree = ast.parse(Path(metrics.__file__).read_text(encoding="utf-8"))
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    roots = {name.partition(".")[0] for name in names}
    assert roots <= {"__future__", "math", "collections", "dataclasses", "typing", "numpy"}


def test_a_long_clip_is_scored_stem_by_stem() -> None:
    """Float64 of everything at once took 9 GB on a clip of four minutes, and workers died."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((5, 2, 1 << 18), dtype=np.float32)
    estimate = reference + np.float32(0.1)
    tracemalloc.start()
    try:
        metrics.score_clip(
            reference=reference,
            estimate=estimate,
            mixture=reference.sum(axis=0),
            stems=["a", "b", "c", "d", "e"],
            present=[True] * 5,
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * reference.nbytes
