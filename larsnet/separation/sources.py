"""Audio files as streams: what libsndfile reads, and through ffmpeg, where installed, the rest.

Blocks are float32 (channels, samples) with full scale 1.0, at the file's own rate. A file is
never held as a whole. ffmpeg is given formats that hold audio themselves and the local file alone,
so a playlist that points elsewhere opens nothing.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemgmd_build.errors import UserError

Block = NDArray[np.float32]

MAX_CHANNELS: Final = 16
RATES_HZ: Final = (1_000, 768_000)
_BLOCK_SAMPLES: Final = 1 << 16
_AUDIO_CHUNK: Final = re.compile(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_LENGTH_UNKNOWN: Final = 0x7FFFF000
_FFMPEG_FORMATS: Final = (
    "aac,ac3,aiff,amr,ape,asf,avi,caf,dsf,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "oga,ogg,opus,tak,tta,w64,wav,wv"
)
_FFMPEG_SUFFIXES: Final = (
    ".aac .ac3 .aif .aiff .amr .ape .avi .caf .dsf .eac3 .flac .flv .m4a .m4b .mka .mkv .mov .mp2 "
    ".mp3 .mp4 .mpc .mpg .oga .ogg .opus .tak .tta .ts .w64 .wav .webm .wma .wmv .wv"
)
SUFFIXES: Final = frozenset(
    {*_FFMPEG_SUFFIXES.split(), *(f".{name.lower()}" for name in soundfile.available_formats())}
    - {".raw", ".txt"}
)
"""What a folder is searched for, in lower case. A file that is named is read whatever its name."""


@dataclass(frozen=True)
class Source:
    """An open file. ``n_samples`` is what its header says, None where it says nothing.

    ``about_sec`` is how long it probably is, None where nobody knows.
    """

    sample_rate: int
    n_channels: int
    n_samples: int | None
    about_sec: float | None
    blocks: Callable[[], Iterator[Block]]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open an audio file to read it once.

    Raises:
        UserError: missing, no audio, no ffmpeg where that is needed, cut short or damaged (here or
            while it is read), of a rate or a number of channels that no recording has.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file" if path.exists() else f"{path} does not exist")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        with _open_ffmpeg(path, error) as source:
            yield _checked(source, path)
        return
    with file:
        _check_whole(file, path)
        about_sec = file.frames / file.samplerate
        rate, n_channels = file.samplerate, file.channels
        source = Source(rate, n_channels, file.frames, about_sec, lambda: _read(file, path))
        yield _checked(source, path)


def _check_whole(file: soundfile.SoundFile, path: Path) -> None:
    """Refuse a WAV or AIFF file that ends before its samples do.

    libsndfile reads what is there and tells it in its log alone. A program that writes into a pipe
    cannot know the length and promises all that the header can hold: that is no fault.
    """
    for promised, there in _AUDIO_CHUNK.findall(file.extra_info):
        if int(there) < int(promised) < _LENGTH_UNKNOWN:
            raise UserError(
                f"{path} is cut short: {int(there):,} of its {int(promised):,} bytes of sound are "
                "there; if they will do, `ffmpeg -i` it to another file first"
            )


def _checked(source: Source, path: Path) -> Source:
    low, high = RATES_HZ
    if not low <= source.sample_rate <= high:
        raise UserError(f"{path} has a rate of {source.sample_rate} Hz, not {low} to {high} Hz")
    if not 1 <= source.n_channels <= MAX_CHANNELS:
        raise UserError(f"{path} has {source.n_channels} channels, not 1 to {MAX_CHANNELS}")
    return source


def _read(file: soundfile.SoundFile, path: Path) -> Iterator[Block]:
    while True:
        try:
            block = file.read(_BLOCK_SAMPLES, "float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise UserError(f"{path} is damaged: {error}") from error
        if not len(block):
            return
        yield block.T


@contextmanager
def _open_ffmpeg(path: Path, reason: Exception) -> Iterator[Source]:
    program = shutil.which("ffmpeg")
    if program is None:
        raise UserError(
            f"{path} cannot be read by libsndfile ({_line(str(reason))}), and there is no ffmpeg; "
            "install it, or convert the file to WAV or FLAC"
        )
    command = [program, "-v", "error", "-nostdin", *_local(path)]
    command += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
        )
        try:
            assert process.stdout is not None
            header = _read_au_header(process.stdout)
            if header is None:
                process.wait()
                raise UserError(f"{path} cannot be read by ffmpeg: {_said(complaints)}")
            rate, n_channels = header

            def blocks() -> Iterator[Block]:
                assert process.stdout is not None
                yield from _read_pipe(process.stdout, n_channels)
                if process.wait() != 0:
                    raise UserError(f"{path} is damaged: {_said(complaints)}")

            yield Source(rate, n_channels, None, _probed_sec(path), blocks)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _local(path: Path) -> list[str]:
    """What ffmpeg and ffprobe are told to open: this file, as audio, and no other."""
    opened = ["-protocol_whitelist", "file", "-format_whitelist", _FFMPEG_FORMATS]
    return [*opened, "-i", f"file:{path.resolve()}"]


def _probed_sec(path: Path) -> float | None:
    """The duration that ffprobe, which comes with ffmpeg, tells; None where it tells none."""
    program = shutil.which("ffprobe")
    if program is None:
        return None
    command = [program, "-v", "quiet", "-show_entries", "format=duration", "-of", "csv=p=0"]
    told = subprocess.run(
        [*command, *_local(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    try:
        seconds = float(told.stdout)
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _read_au_header(pipe: IO[bytes]) -> tuple[int, int] | None:
    """Rate and channels of a Sun AU stream; the pipe then stands at the first sample."""
    fixed = pipe.read(24)
    if len(fixed) < 24 or fixed[:4] != b".snd":
        return None
    offset, _, _, rate, n_channels = struct.unpack(">5I", fixed[4:])
    pipe.read(offset - 24)
    return rate, n_channels


def _read_pipe(pipe: IO[bytes], n_channels: int) -> Iterator[Block]:
    frame_bytes = 4 * n_channels
    while data := pipe.read(_BLOCK_SAMPLES * frame_bytes):
        whole = data[: len(data) - len(data) % frame_bytes]
        samples = np.frombuffer(whole, ">f4").astype(np.float32)
        yield samples.reshape(-1, n_channels).T


def _said(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    text = complaints.read(4096).decode("utf-8", "replace")
    if "matches no streams" in text:
        return "it holds no sound"
    return _line(text) or "it says nothing"


def _line(text: str) -> str:
    """The last line that says anything: ffmpeg ends with what made it give up."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-200:] if lines else ""
