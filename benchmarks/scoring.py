"""One estimate against one track: every score that the leaderboard shows.

The references' share of the work (BSS Eval's factorizations, onsets of the true stems) is done
once a track and serves all systems.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.system import Inputs, SystemInfo
from benchmarks.records import METRICS_VERSION, StemRecord
from benchmarks.scores.bsseval import PreparedReference, prepare_reference, score_frames, summarize
from benchmarks.scores.metrics import score_clip
from benchmarks.scores.onsets import OnsetScore, score_onsets
from benchmarks.tracks import LoadedTrack, Track
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS


@dataclass(frozen=True)
class ReadyTrack:
    """A track with what all systems' scores share; ``true_onsets`` fills as stems are scored."""

    track: Track
    loaded: LoadedTrack
    prepared: PreparedReference
    true_onsets: dict[str, OnsetScore] = field(default_factory=dict)

    @classmethod
    def of(cls, track: Track, loaded: LoadedTrack) -> ReadyTrack:
        """Prepare a track. Raises UserError where no stem is present or audible."""
        if not any(loaded.present()):
            raise UserError(f"{track.clip}: no stem is present, nothing to score")
        try:
            return cls(track, loaded, prepare_reference(reference=loaded.references))
        except ValueError as error:
            raise UserError(f"{track.clip}: {error}") from error


def inputs_for(info: SystemInfo, loaded: LoadedTrack) -> Inputs:
    """What a system sees of a track: copies, and nothing that it does not declare."""
    return Inputs(
        mixture=loaded.mixture.copy(),
        score=dict(loaded.score) if "score" in info.inputs else None,
        references=loaded.references.copy() if "references" in info.inputs else None,
    )


def check_estimate(estimate: object, track: Track, loaded: LoadedTrack, system: str) -> None:
    """Raise UserError unless an estimate is float (5, channels, n_samples) of finite numbers."""
    where = f"{system} on {track.clip}"
    if not isinstance(estimate, np.ndarray) or estimate.dtype.kind != "f":
        kind = getattr(estimate, "dtype", type(estimate).__name__)
        raise UserError(f"{where}: the estimate is {kind}, not an array of float32")
    if estimate.shape != loaded.references.shape:
        raise UserError(
            f"{where}: the estimate is of shape {estimate.shape}, not {loaded.references.shape} "
            "(stems, channels, samples)"
        )
    for stem, audio in zip(STEMS, estimate, strict=True):
        if not np.isfinite(audio).all():
            raise UserError(f"{where}: the estimate of {stem} holds NaN or infinity")


def score_estimate(
    ready: ReadyTrack, estimate: NDArray[np.floating], *, system: str, revision: str
) -> list[StemRecord]:
    """Score the five stems of an estimate.

    Args:
        ready: the track.
        estimate: float (5, channels, n_samples), full scale 1.0.
        system, revision: what made it.

    Raises:
        UserError: the estimate is of another shape or not finite.
    """
    track, loaded = ready.track, ready.loaded
    check_estimate(estimate, track, loaded, system)
    present = loaded.present()
    scores = score_clip(
        reference=loaded.references,
        estimate=estimate,
        mixture=loaded.mixture,
        stems=STEMS,
        present=present,
    )
    frames = summarize(score_frames(ready.prepared, estimate=estimate))
    by_stem = {score.stem: score for score in scores.present}
    leaks = {leak.stem: leak.leakage_db for leak in scores.absent}
    records = []
    for index, stem in enumerate(STEMS):
        onsets = loaded.onsets_of(stem)
        facts: dict[str, Any] = {
            "system": system,
            "revision": revision,
            "track": track.performance,
            "kit": track.kit,
            "kit_split": track.kit_split,
            "data": track.data,
            "metrics": METRICS_VERSION,
            "stem": stem,
            "present": present[index],
            "duration_sec": round(loaded.mixture.shape[-1] / SAMPLE_RATE, 3),
            "n_hits": len(onsets),
        }
        if not present[index]:
            records.append(StemRecord(**facts, leakage_db=leaks[stem]))
            continue
        score, bss = by_stem[stem], frames[index]
        heard = score_onsets(
            reference=loaded.references[index],
            estimate=estimate[index],
            onsets_sec=onsets,
            true_stem=ready.true_onsets.get(stem),
        )
        ready.true_onsets[stem] = heard.true_stem
        records.append(
            StemRecord(
                **facts,
                nsdr_db=score.nsdr_db,
                nsdr_mdx_db=score.nsdr_mdx_db,
                si_sdr_db=score.si_sdr_db,
                sdr_db=_defined(bss.sdr_db),
                isr_db=_defined(bss.isr_db),
                sir_db=_defined(bss.sir_db),
                sar_db=_defined(bss.sar_db),
                n_frames=bss.n_frames,
                n_sir_frames=bss.n_sir_frames,
                onset_f=heard.estimate.f_measure,
                onset_precision=heard.estimate.precision,
                onset_recall=heard.estimate.recall,
                onset_f_true=heard.true_stem.f_measure,
            )
        )
    return records


def _defined(value: float) -> float | None:
    """None for NaN, as a line of JSON would give it back."""
    return None if np.isnan(value) else value
