"""Published sets of recordings, made small: their layouts and annotations, noise as audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from stemgmd_build.taxonomy import SAMPLE_RATE


def put(path: Path, seconds: float = 1.5, channels: int = 1, rate: int = SAMPLE_RATE) -> Path:
    """Noise; of the same seed for a path's name, so that files differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))
    audio = 0.1 * rng.standard_normal((round(seconds * rate), channels))
    soundfile.write(path, audio, rate, "PCM_16")
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def xml(hits: Mapping[str, tuple[float, ...]]) -> str:
    events = "".join(
        f"<event><pitch>36</pitch><onsetSec>{t}</onsetSec><instrument>{drum}</instrument></event>"
        for drum, times in hits.items()
        for t in times
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><instrumentRecording><globalParameter>'
        "<instrument>Drums</instrument></globalParameter>"
        f"<transcription>{events}</transcription></instrumentRecording>"
    )


def svl(frames: tuple[int, ...], rate: int = SAMPLE_RATE) -> str:
    points = "".join(f'<point frame="{frame}" label="New Point" />' for frame in frames)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE sonic-visualiser>\n<sv><data>'
        f'<model id="1" sampleRate="{rate}" type="sparse" dataset="0" />'
        f'<dataset id="0" dimensions="1">{points}</dataset></data></sv>'
    )


def make_idmt(root: Path) -> Path:
    """Four loops: with stems, with onsets alone, with svl files alone, with nothing known."""
    audio = root / "IDMT-SMT-DRUMS-V2" / "audio"
    for name in ("RealDrum01_00", "RealDrum02_01", "TechnoDrum01_00", "WaveDrum02_01"):
        put(audio / f"{name}#MIX.wav")
        put(audio / f"{name}#KD#train.wav")
    for drum in ("KD", "SD", "HH"):  # the stems end a little early
        put(audio / f"WaveDrum02_01#{drum}.wav", seconds=1.49)
    kept = audio.parent / "annotation_xml"
    hits = {"KD": (-0.001, 1.0), "SD": (0.5,), "HH": ()}
    write(kept / "WaveDrum02_01#MIX.xml", xml(hits))
    write(kept / "RealDrum01_00#MIX.xml", xml(hits))
    write(kept.with_name("annotation_svl") / "RealDrum02_01#KD.svl", svl((-3, 4410)))
    write(kept.with_name("annotation_svl") / "RealDrum02_01#HH.svl", svl((2400,), rate=48000))
    return root


def make_mdb(root: Path) -> Path:
    """Three recordings: both annotations, classes alone in stereo at 48 kHz, none."""
    home = root / "MDB Drums"
    put(home / "audio" / "drum_only" / "MusicDelta_A_Drum.wav", channels=2)
    put(home / "audio" / "drum_only" / "MusicDelta_B_Drum.wav", channels=2, rate=48000)
    put(home / "audio" / "drum_only" / "MusicDelta_C_Drum.wav")
    put(home / "audio" / "full_mix" / "MusicDelta_A_MIX.wav")
    write(home / "annotations" / "class" / "MusicDelta_A_class.txt", "0.1\tKD \n0.5\tOT \n")
    write(home / "annotations" / "subclass" / "MusicDelta_A_subclass.txt",
          "0.1\tKD \n0.3\tSDNS\n0.5\tSST\n0.6\tMHT\n0.7\tRDB\n0.8\tTMB \n0.9\tPHH\n")  # fmt: skip
    write(home / "annotations" / "class" / "MusicDelta_B_class.txt", "0.1\tTT\n0.5\tOT\n")
    return root


def make_enst(root: Path) -> Path:
    """Two drummers: a stereo wet mix, a dry mix in its place, hits, one without annotation."""
    one, two = (root / "ENST-drums-public" / f"drummer_{n}" for n in (1, 2))
    put(one / "audio" / "wet_mix" / "036_phrase_disco_simple_slow_sticks.wav", channels=2)
    put(one / "audio" / "dry_mix" / "036_phrase_disco_simple_slow_sticks.wav")
    put(one / "audio" / "kick" / "036_phrase_disco_simple_slow_sticks.wav")
    put(one / "audio" / "wet_mix" / "001_hits_snare-drum_sticks_x6.wav", channels=2)
    put(one / "audio" / "wet_mix" / "107_minus-one_salsa_sticks.wav", channels=2)
    put(two / "audio" / "dry_mix" / "162_MIDI-minus-one_fusion-125_sticks.wav")
    write(one / "annotation" / "036_phrase_disco_simple_slow_sticks.txt",
          "0.1 bd\n0.2 sd-\n0.3 mtr\n0.4 c\n0.5 rc2\n0.6 cb\n0.7 sticks\n0.8 chh\n")  # fmt: skip
    write(one / "annotation" / "001_hits_snare-drum_sticks_x6.txt", "0.1 sd\n0.9 sd\n")
    write(two / "annotation" / "162_MIDI-minus-one_fusion-125_sticks.txt", "0.25 ohh\n")
    return root
