"""One estimate against one track: every score that the track's data allow.

A stem with true audio is scored against it, an absent stem by what leaks into it, and a stem that
is merely annotated by its onsets. The references' share of the work (BSS Eval's factorizations,
onsets of the true stems and of the mixture) is done once per track and serves all systems.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.onsets import detect_onsets, merge_hits
from baselines.system import Inputs, SystemInfo
from benchmarks.provenance import commit
from benchmarks.records import METRIC_OF_FIELD, METRIC_VERSIONS, StemRecord
from benchmarks.scores.bsseval import (
    PreparedReference,
    TrackScores,
    prepare_reference,
    score_frames,
    summarize,
)
from benchmarks.scores.crosstalk import crosstalk_db, idle_spans, isolated_hits, levels_db
from benchmarks.scores.metrics import Floats, leakage_db, nsdr_db, nsdr_mdx_db, si_sdr_db
from benchmarks.scores.onsets import (
    OnsetScore,
    compare_onsets,
    score_annotated,
    score_onsets,
)
from benchmarks.sources import LoadedTrack, Track
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS


@dataclass(frozen=True)
class ReadyTrack:
    """A track with what all systems' scores share; ``true_onsets`` fills as stems are scored.

    ``prepared`` is None where no true stem sounds. ``mixture_onsets``: what the detector finds in
    the mixture.
    """

    track: Track
    loaded: LoadedTrack
    prepared: PreparedReference | None
    mixture_onsets: Floats
    true_onsets: dict[str, OnsetScore] = field(default_factory=dict)

    @classmethod
    def of(cls, track: Track, loaded: LoadedTrack) -> ReadyTrack:
        """Prepare a track. Raises UserError where there is nothing to score."""
        if all(loaded.present(stem) is None for stem in STEMS):
            raise UserError(f"{track.clip}: neither a stem nor an onset is known: nothing to score")
        if not loaded.mixture.any():
            raise UserError(f"{track.clip}: the mixture is silent, nothing to score")
        references = _references(loaded)
        try:
            prepared = prepare_reference(reference=references) if references.any() else None
        except ValueError as error:
            raise UserError(f"{track.clip}: {error}") from error
        peak = float(np.abs(loaded.mixture).max())
        mixture = loaded.mixture.astype(np.float64)
        return cls(track, loaded, prepared, detect_onsets(mixture, full_scale=peak))


def _references(loaded: LoadedTrack) -> NDArray[np.float32]:
    """The true stems; where some are unknown, a sixth that holds what is left of the mixture.

    BSS Eval compares a stem with the sum of all else, so that sum is all that it needs.
    """
    if loaded.whole:
        return loaded.references
    if not loaded.held:
        return np.zeros((0, *loaded.mixture.shape), np.float32)
    rest = loaded.mixture - loaded.references.sum(axis=0)
    return np.concatenate([loaded.references, rest[None]])


def inputs_for(info: SystemInfo, loaded: LoadedTrack) -> Inputs:
    """What a system sees of a track: copies, and nothing that it does not declare."""
    return Inputs(
        mixture=loaded.mixture.copy(),
        score=dict(loaded.score) if "score" in info.inputs and loaded.score else None,
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
    """Score the stems of an estimate: one record for each of which anything is known.

    Args:
        ready: the track.
        estimate: float (5, channels, n_samples), full scale 1.0.
        system, revision: what made it.

    Raises:
        UserError: the estimate is of another shape or not finite.
    """
    track, loaded = ready.track, ready.loaded
    check_estimate(estimate, track, loaded, system)
    frames = _frames(ready, estimate)
    records = []
    n_stems = sum(loaded.present(stem) is not None for stem in STEMS)
    for index, stem in enumerate(STEMS):
        present = loaded.present(stem)
        if present is None:
            continue
        onsets = loaded.onsets.get(stem)
        scores: dict[str, Any] = {}
        if not present:
            level = leakage_db(estimate=estimate[index], mixture=loaded.mixture)
            scores["leakage_db"] = float(level)
            if not onsets:  # else it is played, and merely too soft for its file
                scores |= _of_false_onsets(ready, estimate[index])
        elif stem in loaded.held:
            scores |= _against_stem(loaded.references[index], estimate[index], frames[index])
        if onsets and present:
            scores |= _of_onsets(ready, estimate[index], stem)
            scores |= _of_passages(loaded, estimate, stem)
        records.append(
            StemRecord(
                system=system,
                revision=revision,
                track=track.id,
                data=track.data,
                stem=stem,
                present=present,
                duration_sec=round(loaded.mixture.shape[-1] / SAMPLE_RATE, 3),
                metrics=_versions(scores),
                n_stems=n_stems,
                n_hits=None if onsets is None else len(onsets),
                kit=track.kit,
                kit_split=track.kit_split,
                board=track.board,
                group=track.group,
                material=track.material,
                commit=commit(),
                **scores,
            )
        )
    return records


def _versions(scores: Iterable[str]) -> dict[str, int]:
    names = dict.fromkeys(METRIC_OF_FIELD[name] for name in scores if name in METRIC_OF_FIELD)
    return {name: METRIC_VERSIONS[name] for name in names}


def _frames(ready: ReadyTrack, estimate: NDArray[np.floating]) -> Sequence[TrackScores]:
    if ready.prepared is None:
        return ()
    if ready.prepared.n_stems > len(estimate):  # the rest has no estimate, and its score no reader
        estimate = np.concatenate([estimate, np.zeros_like(estimate[:1])])
    return summarize(score_frames(ready.prepared, estimate=estimate))


def _against_stem(
    reference: NDArray[np.float32], estimate: NDArray[np.floating], bss: TrackScores
) -> dict[str, Any]:
    pair = {"reference": reference, "estimate": estimate}
    return {
        "nsdr_db": float(nsdr_db(**pair)),
        "nsdr_mdx_db": float(nsdr_mdx_db(**pair)),
        "si_sdr_db": float(si_sdr_db(**pair)),
        "sdr_db": _defined(bss.sdr_db),
        "isr_db": _defined(bss.isr_db),
        "sir_db": _defined(bss.sir_db),
        "sar_db": _defined(bss.sar_db),
        "n_frames": bss.n_frames,
        "n_sir_frames": bss.n_sir_frames,
    }


def _of_onsets(ready: ReadyTrack, estimate: NDArray[np.floating], stem: str) -> dict[str, Any]:
    loaded = ready.loaded
    onsets = loaded.onsets[stem]
    mixture = compare_onsets(merge_hits(onsets), ready.mixture_onsets)
    scores = {"onset_f_mixture": mixture.f_measure}
    if stem in loaded.held:
        heard = score_onsets(
            reference=loaded.references[STEMS.index(stem)],
            estimate=estimate,
            onsets_sec=onsets,
            true_stem=ready.true_onsets.get(stem),
        )
        ready.true_onsets[stem] = heard.true_stem
        scores["onset_f_true"] = heard.true_stem.f_measure
        found = heard.estimate
    else:
        peak = float(np.abs(loaded.mixture).max())
        found = score_annotated(audio=estimate, onsets_sec=onsets, full_scale=peak)
    return scores | {
        "onset_f": found.f_measure,
        "onset_precision": found.precision,
        "onset_recall": found.recall,
    }


def _of_false_onsets(ready: ReadyTrack, estimate: NDArray[np.floating]) -> dict[str, Any]:
    """Onsets in a stem that nobody plays: every one is false."""
    peak = float(np.abs(ready.loaded.mixture).max())
    found = detect_onsets(estimate.astype(np.float64), full_scale=peak)
    return {"n_false": len(found), "n_false_mixture": len(ready.mixture_onsets)}


def _of_passages(loaded: LoadedTrack, estimate: NDArray[np.floating], stem: str) -> dict[str, Any]:
    """Cross-talk and idle level, of an annotated stem that is played."""
    scores: dict[str, Any] = {}
    mixture = loaded.mixture
    unknown = [s for s in STEMS if loaded.present(s) is not False and s not in loaded.onsets]
    hits = isolated_hits(loaded.onsets, stem)
    spans = idle_spans(loaded.onsets[stem], mixture.shape[-1] / SAMPLE_RATE)
    if len(hits) and not unknown:  # else nobody knows which hits are alone
        with suppress(ValueError):  # the recording is silent where the annotation has hits
            scores["crosstalk_db"] = crosstalk_db(
                estimates=estimate, mixture=mixture, stems=STEMS, hits_sec=hits
            )
            scores["n_isolated"] = len(hits)
    with suppress(ValueError):  # never idle, or everybody pauses
        one = estimate[STEMS.index(stem)][None]
        (scores["idle_db"],) = levels_db(estimates=one, mixture=mixture, spans=spans)
        scores["idle_sec"] = round(sum(end - begin for begin, end in spans), 3)
    return scores


def _defined(value: float) -> float | None:
    """None for NaN, as a line of JSON would give it back."""
    return None if np.isnan(value) else value
