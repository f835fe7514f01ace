"""BSS Eval v4 of sparse stems: museval's numbers, at a fraction of its time.

Definition (Vincent et al. 2006; Stöter, Liutkus & Ito 2018; museval's ``evaluate``): an
estimate is projected onto all delayed versions (0 to 511 samples) of one reference's channels,
and of all references' channels, by one least-squares filter each for the whole track. Frame by
frame (1 s, no overlap; a last partial second is dropped; a frame's filtered references start
from silence and ring out)

    s = reference,  e_spat = own projection - s,  e_interf = full projection - own projection,
    e_artif = estimate - full projection

    SDR = s / (estimate - s)                    ISR = s / e_spat
    SIR = own projection / e_interf             SAR = full projection / e_artif

as ratios of energies over all channels, in dB. Two ways to choose "all references":

- ``against="rest"``, ours: two sources, the stem and the sum of all other references. Each
  stem has its *own* active frames, those in which its reference is not all zero; SIR needs
  the rest to sound as well. An estimate of the rest plays no part in the stem's scores (each
  estimate has filters of its own), so none is asked for.
- ``against="each"``, museval's: every stem is a source. A frame in which any reference or
  estimate is silent is NaN for all stems, and a silent reference or estimate is refused. On
  drums nearly every frame is lost, so this serves to prove equality.

What makes it fast: correlations over short blocks, one structured factorization for all
estimates (museval: one dense LU each), frame energies by Parseval without inverse transforms,
and references prepared once for every system. Where museval's normal equations are singular
(a mono stem on two channels) its filters are arbitrary, though what they put out is not; here
a channel that is a multiple of others is left out, which spans the same space.

Arrays are (stems, channels, samples), computed in float64 piece by piece. Bad input raises
ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from benchmarks.scores.metrics import Floats, checked_audio, decibels
from benchmarks.scores.projection import Subspace, correlate, filters, spectra, subspace

Against = Literal["rest", "each"]
Audio = NDArray[Any]
"""In the numbers it came in: float64 of all stems of a long clip is gigabytes."""

Complex = NDArray[np.complex128]
Sources = tuple[tuple[int, ...], ...]
"""Sets of stems; the stems of a set are summed."""

FILTER_TAPS: Final = 512
"""museval's filter length."""

FRAME_SAMPLES: Final = 44100
"""One second at the project's rate."""


@dataclass(frozen=True)
class PreparedReference:
    """References of one track with their factorizations, for any number of estimates.

    A stem that is silent throughout has no score and no part in those of others: ``audio``,
    ``own`` and ``full`` hold the ``sounding`` ones (indices) of ``n_stems`` alone.
    """

    audio: Audio
    n_stems: int
    sounding: tuple[int, ...]
    against: Against
    n_taps: int
    own: tuple[Subspace, ...]
    full: tuple[Subspace, ...]


@dataclass(frozen=True)
class FrameScores:
    """dB, each float64 (stems, frames); NaN where a value is not defined or not used."""

    sdr_db: Floats
    isr_db: Floats
    sir_db: Floats
    sar_db: Floats


@dataclass(frozen=True)
class TrackScores:
    """One stem of one track: medians over its frames in dB, NaN where there is no frame.

    ``n_frames`` frames were used (the stem is active), ``n_sir_frames`` of them for SIR.
    """

    sdr_db: float
    isr_db: float
    sir_db: float
    sar_db: float
    n_frames: int
    n_sir_frames: int


def prepare_reference(
    *, reference: ArrayLike, against: Against = "rest", n_taps: int = FILTER_TAPS
) -> PreparedReference:
    """Correlate and factorize the references of one track.

    Args:
        reference: (stems, channels, samples); absent stems are all zero.
        against: "rest" or "each", see the module's header.

    Raises:
        ValueError: wrong shape, empty, not finite, every reference silent, or, against each,
            any reference silent.
    """
    audio = checked_audio(reference, name="reference")
    if audio.ndim != 3:
        raise ValueError(f"reference must be (stems, channels, samples), not {audio.shape}")
    n_stems = len(audio)
    sounding = tuple(i for i, stem in enumerate(audio) if stem.any())
    if not sounding:
        raise ValueError("every reference is silent: no stem to score")
    if against == "each" and len(sounding) < n_stems:
        raise ValueError("a reference is silent: museval's definition needs every stem present")
    audio = _only(sounding, audio)
    lags = correlate(_channels(audio), _channels(audio), n_taps)
    stems = range(len(audio))

    def span(*sources: tuple[int, ...]) -> Subspace:
        return subspace(_mixing(audio, sources), lags)

    if against == "each":
        full = [span(*((i,) for i in stems))] * len(audio)
    else:
        full = [span((i,), tuple(j for j in stems if j != i)) for i in stems]
    own = [span((i,)) for i in stems]
    return PreparedReference(
        audio, n_stems, sounding, against, n_taps, own=tuple(own), full=tuple(full)
    )


def score_frames(
    prepared: PreparedReference,
    *,
    estimate: ArrayLike,
    frame_samples: int = FRAME_SAMPLES,
    hop_samples: int = FRAME_SAMPLES,
) -> FrameScores:
    """SDR, ISR, SIR and SAR of every stem in every frame.

    Args:
        prepared: what `prepare_reference` gave.
        estimate: (stems, channels, samples), as the reference.

    Raises:
        ValueError: shapes differ, not finite, or, against each, an estimate is silent.
    """
    reference, guess = prepared.audio, checked_audio(estimate, name="estimate")
    if guess.shape != (prepared.n_stems, *reference.shape[1:]):
        wanted = (prepared.n_stems, *reference.shape[1:])
        raise ValueError(f"estimate is of shape {guess.shape}, its reference of {wanted}")
    guess = _only(prepared.sounding, guess)
    if prepared.against == "each" and _silent(guess).any():
        raise ValueError("an estimate is silent: museval's definition has no score for it")
    projection = _filter_spectra(prepared, guess, min(frame_samples, guess.shape[-1]))
    columns = []
    for window in _frames(guess.shape[-1], frame_samples, hop_samples):
        true, heard = (x[..., window].astype(np.float64) for x in (reference, guess))
        values = _ratios(prepared.against, projection, true, heard)
        used = _used(prepared.against, true, heard)
        column = np.full((len(values), prepared.n_stems), np.nan)
        column[:, prepared.sounding] = np.where(used, values, np.nan)
        columns.append(column)
    return FrameScores(*np.stack(columns, axis=-1))


def summarize(scores: FrameScores) -> tuple[TrackScores, ...]:
    """Medians over the frames of each stem, with the number of frames they rest on."""
    rows = zip(scores.sdr_db, scores.isr_db, scores.sir_db, scores.sar_db, strict=True)
    return tuple(
        TrackScores(
            sdr_db=_median(sdr),
            isr_db=_median(isr),
            sir_db=_median(sir),
            sar_db=_median(sar),
            n_frames=_count(sdr),
            n_sir_frames=_count(sir),
        )
        for sdr, isr, sir, sar in rows
    )


def bss_eval(
    *, reference: ArrayLike, estimate: ArrayLike, against: Against = "rest"
) -> tuple[TrackScores, ...]:
    """Score one estimate of one track; for several, prepare the reference once.

    Shapes and errors as in `prepare_reference` and `score_frames`.
    """
    prepared = prepare_reference(reference=reference, against=against)
    return summarize(score_frames(prepared, estimate=estimate))


@dataclass(frozen=True)
class _FilterSpectra:
    """Projection filters as spectra of length ``n_fft``; i: channel in, o: channel out.

    own: (stems, i, o, bins), full: (stems, sources, i, o, bins), where the sources are all
    stems, or the stem and the sum of all others.
    """

    own: Complex
    full: Complex
    n_fft: int


def _only(sounding: tuple[int, ...], audio: Audio) -> Audio:
    """These stems, and no copy where that is all of them."""
    return audio if len(sounding) == len(audio) else audio[list(sounding)]


def _channels(audio: Audio) -> Audio:
    """(stems, channels, samples) as (stems * channels, samples)."""
    return audio.reshape(-1, audio.shape[-1])


def _mixing(audio: Audio, sources: Sources) -> Floats:
    """One regressor for every channel of every source, a source being a set of stems."""
    n_stems, n_channels, _ = audio.shape
    mixing = np.zeros((len(sources), n_channels, n_stems, n_channels))
    for source, stems in enumerate(sources):
        for channel in range(n_channels):
            mixing[source, channel, list(stems), channel] = 1.0
    return mixing.reshape(len(sources) * n_channels, n_stems * n_channels)


def _filter_spectra(prepared: PreparedReference, estimate: Audio, n_frame: int) -> _FilterSpectra:
    """Solve for the filters of every stem's estimate."""
    n_stems, n_channels, _ = estimate.shape
    n_fft = fft.next_fast_len(n_frame + prepared.n_taps - 1, real=True)
    by_channel = (-1, n_channels, n_channels, prepared.n_taps)
    cross = correlate(_channels(prepared.audio), _channels(estimate), prepared.n_taps)
    mine = [cross[:, i * n_channels : (i + 1) * n_channels] for i in range(n_stems)]
    own = [filters(*pair).reshape(by_channel)[0] for pair in zip(prepared.own, mine, strict=True)]
    if prepared.against == "each":  # one subspace serves all stems: solved once
        taps = filters(prepared.full[0], cross).reshape(n_stems, n_channels, n_stems, -1)
        full = [taps[:, :, i].reshape(by_channel) for i in range(n_stems)]
    else:
        pairs = zip(prepared.full, mine, strict=True)
        full = [filters(*pair).reshape(by_channel) for pair in pairs]
    return _FilterSpectra(spectra(np.stack(own), n_fft), spectra(np.stack(full), n_fft), n_fft)


def _ratios(
    against: Against, projection: _FilterSpectra, reference: Floats, estimate: Floats
) -> Floats:
    """SDR, ISR, SIR, SAR in dB of one frame: (4, stems)."""
    true, guess = (spectra(x, projection.n_fft) for x in (reference, estimate))
    if against == "each":
        sources = np.broadcast_to(true, (len(true), *true.shape))
    else:
        sources = np.stack((true, true.sum(axis=0) - true), axis=1)
    own = _filtered(projection.own[:, None], true[:, None])
    full = _filtered(projection.full, sources)

    def energy(spectrum: Complex) -> Floats:
        return _parseval(spectrum, projection.n_fft)

    signal = np.sum(reference**2, axis=(1, 2))
    pairs = (
        (signal, np.sum((reference - estimate) ** 2, axis=(1, 2))),
        (signal, energy(own - true)),
        (energy(own), energy(full - own)),
        (energy(full), energy(guess - full)),
    )
    return np.stack([decibels(*pair) for pair in pairs])


def _filtered(filters: Complex, sources: Complex) -> Complex:
    """Sum over sources r and channels i: (s, r, i, o, bins) and (s, r, i, bins) to (s, o, bins).

    Product by product, since numpy vectorizes those and no einsum of complex numbers.
    """
    out: Complex = filters[:, 0, 0] * sources[:, 0, 0, None]
    for place in list(np.ndindex(filters.shape[1:3]))[1:]:
        out += filters[:, *place] * sources[:, *place, None]
    return out


def _parseval(spectrum: Complex, n_fft: int) -> Floats:
    """Energy of real signals, (n, channels, bins) -> (n,), from half their spectrum."""
    flat = spectrum.reshape(len(spectrum), -1).view(np.float64)
    edges = spectrum[..., [0, -1]] if n_fft % 2 == 0 else spectrum[..., :1]
    twice = np.einsum("ij,ij->i", flat, flat)
    once = np.sum(np.square(edges.real), axis=(1, 2))
    return np.asarray((2 * twice - once) / n_fft)


def _frames(n_samples: int, frame_samples: int, hop_samples: int) -> Iterator[slice]:
    """museval's frames: whole ones only, or the whole signal where it is shorter than one."""
    if frame_samples >= n_samples:
        yield slice(0, n_samples)
        return
    for start in range(0, n_samples - frame_samples + 1, hop_samples):
        yield slice(start, start + frame_samples)


def _silent(audio: Audio) -> NDArray[np.bool_]:
    """museval's silence: the sum over channels is exactly 0 at every sample."""
    return np.asarray(~audio.sum(axis=-2, dtype=np.float64).any(axis=-1))


def _used(against: Against, reference: Floats, estimate: Floats) -> NDArray[np.bool_]:
    """Which of (SDR, ISR, SIR, SAR) x stems this frame counts for."""
    if against == "each":
        spoilt = _silent(reference).any() or _silent(estimate).any()
        return np.full((4, len(reference)), not spoilt)
    active = reference.any(axis=(1, 2))
    rest_sounds = active.sum() > active
    return np.stack((active, active, active & rest_sounds, active))


def _median(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(np.median(defined)) if defined.size else float("nan")


def _count(values: Floats) -> int:
    return int(np.count_nonzero(~np.isnan(values)))
