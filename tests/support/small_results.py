"""Synthetic results for tests of the report: seeded records, and clips of synthetic audio.

Nothing here is a measurement: values are drawn so that they look like those of a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
from msgspec.structs import replace

from benchmarks.records import METRIC_VERSIONS, StemRecord, SystemRecord, to_line
from benchmarks.results_folder import AUDIO, RECORDS, RUN, SYSTEMS
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

# id, name, inputs, mean nSDR, real-time ratio, parameters
SHAPES = (
    ("mixture", "Mixture", ("mixture",), -4.0, 90000.0, 0),
    ("zero", "Zero", ("mixture",), 0.0, 100000.0, 0),
    ("nmf", "NMF, fixed templates", ("mixture",), 5.1, 21.0, 9225),
    ("sab-nmf", "SAB-NMF", ("mixture",), 6.0, 19.0, 9225),
    ("nmfd", "NMFD", ("mixture",), 7.3, 3.1, 92250),
    ("larsnet-small", "LarsNet, small", ("mixture",), 9.8, 18.0, 1200000),
    ("nmfd-score-informed", "NMFD, score-informed", ("mixture", "score"), 9.1, 2.9, 92250),
    ("ideal-binary", "Ideal binary mask", ("mixture", "references"), 16.4, 60.0, 0),
    ("ideal-ratio", "Ideal ratio mask", ("mixture", "references"), 17.2, 58.0, 0),
    ("magnitude", "Magnitude oracle", ("mixture", "references"), 18.0, 55.0, 0),
)
KITS = {
    "avl-black-pearl": "test",
    "forzee-stereo": "test",
    "bja-pacific": "test",
    "colombo": "test",
}
PRESENCE = {"kick": 1.0, "snare": 1.0, "toms": 0.2, "hihat": 0.97, "cymbals": 0.12}
LEVEL = {"kick": 6.0, "snare": 2.0, "toms": -5.0, "hihat": -3.0, "cymbals": -6.0}


def systems() -> list[SystemRecord]:
    return [
        SystemRecord(
            system=name,
            revision="1",
            name=title,
            inputs=inputs,
            trained_on="one-shots of the six training kits" if parameters else "nothing",
            kits_seen=(),
            n_parameters=parameters,
            licence="MIT",
            summary=f"{title}, as a synthetic example.",
            real_time_ratio=ratio,
            device="cpu",
            device_name="Example CPU @ 2.00 GHz",
            n_threads=2,
            dtype="float32",
            peak_memory_bytes=700 * 2**20,
        )
        for name, title, inputs, _, ratio, parameters in SHAPES
    ]


def records(
    n_performances: int = 40, kits: dict[str, str] | None = None, seed: int = 0
) -> Iterator[StemRecord]:
    """Records of every system on every kit; the same performance is alike on all kits."""
    rng = np.random.default_rng(seed)
    counts = {s: max(2, round(share * n_performances)) for s, share in PRESENCE.items()}
    present = {s: rng.permutation(n_performances) < count for s, count in counts.items()}
    hard = rng.normal(0, 2.5, (n_performances, len(STEMS)))
    for name, _, _, mean, _, _ in SHAPES:
        for kit_number, (kit, split) in enumerate((kits or KITS).items()):
            for p in range(n_performances):
                for i, stem in enumerate(STEMS):
                    value = mean + LEVEL[stem] + hard[p, i] + kit_number + rng.normal(0, 1)
                    yield _record(name, p, kit, split, stem, bool(present[stem][p]), float(value))


def _record(
    name: str, p: int, kit: str, split: str, stem: str, is_present: bool, value: float
) -> StemRecord:
    silent = name == "zero"
    record = StemRecord(
        system=name,
        revision="1",
        track=f"drummer{p % 4}/eval_session/{p}",
        kit=kit,
        kit_split=split,
        data=f"hash-{p}-{kit}",
        metrics=dict(METRIC_VERSIONS),
        stem=stem,
        present=is_present,
        duration_sec=30.0 + p,
        n_hits=40 if is_present else 0,
    )
    if not is_present:
        return replace(record, leakage_db=float("-inf") if silent else value - 40)
    return replace(
        record,
        nsdr_db=0.0 if silent else value,
        nsdr_mdx_db=0.0 if silent else value - 0.1,
        si_sdr_db=float("-inf") if silent else value - 1,
        sdr_db=0.0 if silent else value + 0.5,
        isr_db=0.0 if silent else value + 4,
        sir_db=None if silent else value + 8,
        sar_db=None if silent else value + 3,
        n_frames=20,
        n_sir_frames=20,
        onset_f=0.0 if silent else float(1 / (1 + np.exp(-value / 5))),
        onset_precision=0.8,
        onset_recall=0.8,
        onset_f_true=0.95,
    )


def write_results(folder: Path, lines: Iterator[StemRecord] | None = None) -> Path:
    """A results folder without audio."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(map(to_line, records() if lines is None else lines))
    (folder / RECORDS).write_text(text, "utf-8")
    (folder / SYSTEMS).write_text("".join(map(to_line, systems())), "utf-8")
    (folder / RUN).write_text(json.dumps({"split": "eval_session", "source": "synthetic"}))
    return folder


def write_clip(folder: Path, name: str, *, seconds: float = 8.0) -> None:
    """Audio of one clip: decaying noise and tones as stems, estimates that leak into each other."""
    rng = np.random.default_rng(0)
    n = round(seconds * SAMPLE_RATE)
    stems = np.zeros((len(STEMS), 2, n), dtype=np.float32)
    for i in (0, 1, 3):  # no toms, no cymbals
        for start in range(i * 3000, n, (0, 22050, 1, 11025)[i] or 22050):
            length = min(n - start, 12000)
            time = np.arange(length) / SAMPLE_RATE
            tone = np.sin(2 * np.pi * (55, 190, 0, 7000)[i] * time) + (i > 0) * rng.normal(
                0, 0.5, length
            )
            stems[i, :, start : start + length] += (
                0.2 * np.exp(-time * (12, 20, 0, 60)[i]) * tone
            ).astype(np.float32)
    root = folder / AUDIO / name
    _write(root / "mixture.flac", stems.sum(axis=0))
    for stem, audio in zip(STEMS, stems, strict=True):
        _write(root / "reference" / f"{stem}.flac", audio)
    for k, (system, *_) in enumerate(SHAPES):
        leak = 0.5 / (k + 1)
        for i, stem in enumerate(STEMS):
            audio = (1 - leak) * stems[i] + leak / 4 * (stems.sum(axis=0) - stems[i])
            if system in ("zero", "mixture"):
                audio = stems.sum(axis=0) * (system == "mixture")
            _write(root / system / f"{stem}.flac", audio)


def _write(path: Path, audio: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, audio.T, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
