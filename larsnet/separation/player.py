"""A page beside the stems: mixture and stems in step, with mute and solo.

One HTML file that opens from disk and asks for nothing else. Sounds are MP3 inside it. What plays
them, player.js, is the leaderboard's too.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import soundfile

from larsnet.separation.waveforms import resampled
from stemgmd_build.recordings import open_source
from stemgmd_build.taxonomy import SAMPLE_RATE

MAX_SEC: Final = 360
"""A browser holds all sounds decoded: six minutes of six sounds are 760 MB."""


def write_player(path: Path, title: str, recording: Path, stems: Mapping[str, Path]) -> None:
    """Write the page of a recording and its stems.

    Args:
        path: of the page.
        title: its heading.
        recording: the mixture.
        stems: name -> audio file.

    Raises:
        UserError: a file that cannot be read.
    """
    sounds = {"mixture": recording, **stems}
    coded, seconds, is_cut = [], 0.0, False
    for sound in sounds.values():
        content, seconds, is_cut = _as_mp3(sound)
        coded.append(content)
    facts = {
        "names": list(sounds),
        "seconds": seconds,
        "lengths": [len(content) for content in coded],
        "audio": base64.b64encode(gzip.compress(b"".join(coded), 1, mtime=0)).decode(),
    }
    here = files("larsnet.separation")
    page = Template((here / "player.html").read_text("utf-8")).substitute(
        title=html.escape(title.encode(errors="replace").decode()),
        note=f"The first {MAX_SEC // 60} minutes." if is_cut else "",
        data=json.dumps(facts).replace("<", "\\u003c"),
        player=(here / "player.js").read_text("utf-8"),
    )
    path.write_text(page, "utf-8")


def _as_mp3(sound: Path) -> tuple[bytes, float, bool]:
    """The first minutes of a file as MP3, their length in seconds, and whether more follows."""
    left = MAX_SEC * SAMPLE_RATE
    with TemporaryDirectory(prefix="stemgmd-") as folder, open_source(sound) as source:
        part = Path(folder) / "sound.mp3"
        n_channels = min(2, source.n_channels)
        with soundfile.SoundFile(
            part, "w", SAMPLE_RATE, n_channels, format="MP3", compression_level=0.4
        ) as file:
            for block in resampled(source.blocks(), source.sample_rate, SAMPLE_RATE):
                file.write(np.clip(block[:n_channels, :left].T, -1, 1))
                is_cut = block.shape[-1] > left
                left -= min(left, block.shape[-1])
                if is_cut:
                    break
            else:
                is_cut = False
        return part.read_bytes(), MAX_SEC - left / SAMPLE_RATE, is_cut
