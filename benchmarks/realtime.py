"""Real-time ratio of the systems of a run, each on the same clip of 60 s in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from baselines.system import Inputs, System, SystemInfo
from benchmarks import systems
from benchmarks.records import SystemRecord
from benchmarks.run import describe_fault
from benchmarks.sources import LoadedTrack, Track, load
from benchmarks.timing import CLIP_SEC, clip_of_60_sec, measure_speed
from stemgmd_build.taxonomy import SAMPLE_RATE


def record_of(info: SystemInfo) -> SystemRecord:
    """What is known of a system before it is timed."""
    return SystemRecord(
        system=info.id,
        revision=info.revision,
        name=info.name,
        inputs=info.inputs,
        trained_on=info.trained_on,
        kits_seen=info.kits_seen,
        n_parameters=info.n_parameters,
        licence=info.licence,
        summary=info.summary,
        url=info.url,
    )


def timed(
    names: Sequence[str], tracks: Sequence[Track], device: str
) -> Iterator[SystemRecord | str]:
    """Time each system on a clip cut from the longest of the tracks; a line where it fails.

    The runs count `separate` alone: warm-up, then the median of five, with all threads that
    torch takes by itself. Raises UserError where the clip cannot be loaded.
    """
    longest = max(tracks, key=lambda track: (track.duration_sec, track.clip))
    loaded = load(longest)
    everything = inputs_of_60_sec(loaded)
    for name in names:
        system = systems.load(name, device)
        if not longest.gives.issuperset(system.info.inputs):
            continue
        inputs = dataclasses.replace(
            everything,
            score=everything.score if "score" in system.info.inputs else None,
            references=everything.references if "references" in system.info.inputs else None,
        )

        def separate(
            mixture: NDArray[np.float32], system: System = system, inputs: Inputs = inputs
        ) -> object:
            return system.separate(dataclasses.replace(inputs, mixture=mixture))

        try:
            speed = measure_speed(separate, inputs.mixture, device=device)
        except Exception as error:  # another's system may raise anything; the others go on
            yield describe_fault(error, f"{name} on 60 s of {longest.clip}")
            continue
        yield msgspec.structs.replace(
            record_of(system.info),
            real_time_ratio=speed.real_time_ratio,
            device=speed.device,
            device_name=speed.device_name,
            n_threads=speed.n_threads,
            dtype=speed.dtype,
            peak_memory_bytes=speed.peak_device_memory_bytes or speed.peak_memory_bytes,
        )


def inputs_of_60_sec(loaded: LoadedTrack) -> Inputs:
    """The first 60 s of a track, repeated where it is shorter, its score as well."""
    period_sec = loaded.mixture.shape[-1] / SAMPLE_RATE
    n_repeats = int(np.ceil(CLIP_SEC / period_sec))
    score = {
        piece: [
            onset + i * period_sec
            for i in range(n_repeats)
            for onset in onsets
            if onset + i * period_sec < CLIP_SEC
        ]
        for piece, onsets in (loaded.score or {}).items()
    }
    return Inputs(
        mixture=clip_of_60_sec(loaded.mixture),
        score=score,
        references=clip_of_60_sec(loaded.references),
    )
