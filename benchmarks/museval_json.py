"""museval's own scores of estimates as museval's own JSON: what its users' scripts read.

The numbers are `museval.evaluate`'s, not ours: the stems that are played are its sources, and a
frame in which one of them is silent is NaN for all (`benchmarks.scores.bsseval` says why we count
otherwise). museval has no score for an estimate that is all silence; such a track is told.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks.estimates import EstimateFolder
from benchmarks.sources import Track, load
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS


def write_museval(folder: EstimateFolder, tracks: Sequence[Track], out: Path) -> list[str]:
    """Write ``out/CLIP.json`` for each track that has none yet; a line for each that failed.

    Raises OSError where the folder cannot be written.
    """
    import museval  # slow, and needed for this alone

    failures = []
    for track in tracks:
        path = out / f"{track.clip}.json"
        if path.exists():
            continue
        try:
            loaded = load(track)
            estimate = folder.load(track, loaded.mixture.shape)
            stems = [i for i, s in enumerate(STEMS) if s in loaded.held and loaded.present(s)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of frames that are all silence
                sdr, isr, sir, sar = museval.evaluate(
                    loaded.references[stems].transpose(0, 2, 1),
                    estimate[stems].transpose(0, 2, 1),
                    win=SAMPLE_RATE,
                    hop=SAMPLE_RATE,
                )
        except (UserError, ValueError) as error:
            failures.append(f"museval on {track.clip}: {' '.join(str(error).split())[:200]}")
            continue
        store = museval.TrackStore(track.clip)
        for row, stem in enumerate(stems):
            values = {"SDR": sdr[row], "ISR": isr[row], "SIR": sir[row], "SAR": sar[row]}
            store.add_target(STEMS[stem], {name: list(v) for name, v in values.items()})
        write_whole(path, store.json + "\n")
    return failures
