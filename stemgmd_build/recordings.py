"""Audio files of any origin: recordings, a kit's samples, estimates of other programs.

What holds plain samples (WAV, AIFF, AU, W64, RF64) is read by libsndfile; what is coded (FLAC, MP3,
Ogg, AAC, video) by FFmpeg's libraries, which come with PyAV. Headers are not believed: files
written into a pipe state no length, joined files state the first one's, and downloads that were cut
off state more than is there. All that is there is read; where less is there than was promised, that
is an error.

Blocks are float32 (channels, samples) with full scale 1.0, at the file's own rate. FFmpeg is given
formats that hold audio themselves and no protocol, so a playlist that points elsewhere opens
nothing.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.files import open_file

Block = NDArray[np.float32]

MAX_CHANNELS: Final = 16
RATES_HZ: Final = (1_000, 768_000)
_BLOCK_SAMPLES: Final = 1 << 16

_CODED: Final = (b"fLaC", b"OggS", b"ID3", b"\xff")
"""How coded files begin that libsndfile reads too. FFmpeg goes on where a header ends early."""
_LOSSLESS: Final = ("flac", "alac", "tta", "wavpack", "ape", "tak", "mlp", "truehd")
_ESTIMATED: Final = ("aac", "ac3", "amr", "avi", "eac3", "mp3", "mpeg", "mpegts", "ogg")
"""Formats that state no duration, or a wrong one where it is not known. FFmpeg guesses one."""
_PADDING_SEC: Final = 0.1
"""Lossy coding adds so much silence at most at the beginning and the end, which is cut off."""
_ROUNDING_SEC: Final = 0.01
"""Containers state durations in milliseconds or in the frames of a film."""

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

_WAY_OUT: Final = "if that will do, `ffmpeg -i` it to another file first"


@dataclass(frozen=True)
class Source:
    """An open file. ``n_samples`` is how many it holds, None where only reading tells.

    ``about_sec`` is how long it probably is, None where nobody knows.
    """

    sample_rate: int
    n_channels: int
    n_samples: int | None
    about_sec: float | None
    blocks: Callable[[], Iterator[Block]]


@contextmanager
def open_source(path: Path, *, max_channels: int = MAX_CHANNELS) -> Iterator[Source]:
    """Open an audio file to read it once.

    Raises:
        UserError: missing, no audio, cut short or damaged (here or while it is read), of a rate or
            a number of channels that no recording has.
    """
    with open_file(path, "audio") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            raise UserError(f"{path} cannot be read: it is empty")
        _check_nothing_follows(stream, path)
        refused = ""
        if not _part(stream, 0, 4).startswith(_CODED):
            try:
                # By its descriptor: libsndfile's Python takes no name that is not UTF-8.
                file = soundfile.SoundFile(os.dup(stream.fileno()), closefd=True)
            except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
                refused = str(error)
            else:
                with file:
                    yield _checked(_plain_source(file, path), path, max_channels)
                return
        with _open_coded(stream, path, refused) as source:
            yield _checked(source, path, max_channels)


def read_whole(
    path: Path,
    *,
    max_sec: float,
    what: str,
    max_channels: int = MAX_CHANNELS,
    max_bytes: int = 1 << 40,
) -> tuple[Block, int]:
    """A whole file: float32 (channels, samples) and its rate in Hz.

    Raises:
        UserError: as :func:`open_source`; longer than ``max_sec``, the most that ``what`` can have.
    """
    with open_source(path, max_channels=max_channels) as source:
        most = int(max_sec * source.sample_rate)
        blocks: list[Block] = []
        n_samples = 0
        for block in source.blocks():
            n_samples += block.shape[-1]
            if n_samples > most:
                raise UserError(f"{path} has more than {max_sec:g} s, the most for {what}")
            if 4 * n_samples * source.n_channels > max_bytes:
                raise UserError(f"{path} unpacks to more than {max_bytes >> 20} MB")
            blocks.append(block)
        if not blocks:
            raise UserError(f"{path} holds no sound")
        return np.concatenate(blocks, axis=-1), source.sample_rate


def _checked(source: Source, path: Path, max_channels: int) -> Source:
    low, high = RATES_HZ
    if not low <= source.sample_rate <= high:
        raise UserError(f"{path} has a rate of {source.sample_rate} Hz, not {low} to {high} Hz")
    if not 1 <= source.n_channels <= max_channels:
        raise UserError(f"{path} has {source.n_channels} channels, not 1 to {max_channels}")
    return source


# ---------------------------------------------------------------- plain samples


def _plain_source(file: soundfile.SoundFile, path: Path) -> Source:
    _check_whole(file, path)
    n_samples = file.frames

    def blocks() -> Iterator[Block]:
        n_read = 0
        while True:
            try:
                block = file.read(_BLOCK_SAMPLES, "float32", always_2d=True)
            except (soundfile.SoundFileError, RuntimeError) as error:
                raise UserError(f"{path} is damaged: {error}") from error
            if not len(block):
                break
            n_read += len(block)
            yield block.T
        if n_read < n_samples:
            raise _cut_short(path, n_read / file.samplerate, n_samples / file.samplerate)

    return Source(file.samplerate, file.channels, n_samples, n_samples / file.samplerate, blocks)


_PROMISED: Final = re.compile(r"^ *(data|SSND|Data [Ss]ize) *: (\d+)\b", re.MULTILINE)
_SHORT: Final = re.compile(
    r"^ *(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
_OVERHEAD: Final = {"SSND": 8, ("W64", "data"): 24, ("CAF", "data"): 4}
"""Bytes that a chunk counts beside its samples."""
_SAMPLE_BYTES: Final = {
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8,
    "ULAW": 1, "ALAW": 1,
}  # fmt: skip


def _check_whole(file: soundfile.SoundFile, path: Path) -> None:
    """Refuse a file that ends before its samples do.

    libsndfile reads what is there and tells of the promise in its log alone. A program that writes
    into a pipe cannot know the length and promises all that the header can hold: that is no fault.
    """
    told = file.extra_info
    for promised, there in _SHORT.findall(told):
        if int(there) < int(promised) and not _is_unknown(int(promised)):
            rate = file.frames / file.samplerate
            raise _cut_short(path, rate, rate * int(promised) / max(1, int(there)))
    size = _SAMPLE_BYTES.get(file.subtype)
    for name, promised in _PROMISED.findall(told) if size else ():
        overhead = _OVERHEAD.get(name, 0) + _OVERHEAD.get((file.format, name), 0)
        n_samples = (int(promised) - overhead) // (size * file.channels)
        if n_samples > file.frames and not _is_unknown(int(promised)):
            raise _cut_short(path, file.frames / file.samplerate, n_samples / file.samplerate)


def _is_unknown(n_bytes: int) -> bool:
    """Whether a size is one of those that stand for "not known": all that the field can hold."""
    return n_bytes > 1 << 62 or any(abs(n_bytes - limit) <= 1 << 16 for limit in (1 << 31, 1 << 32))


def _cut_short(path: Path, there_sec: float, promised_sec: float) -> UserError:
    return UserError(
        f"{path} is cut short: {there_sec:.2f} of its {promised_sec:.2f} s are there; {_WAY_OUT}"
    )


def _damaged(path: Path, lost_sec: float) -> UserError:
    return UserError(f"{path} is damaged: {lost_sec:.2f} s of it cannot be decoded")


def _check_nothing_follows(stream: BinaryIO, path: Path) -> None:
    """Refuse a WAV file whose samples go on after the end that its header states.

    A recorder that crashed leaves such a header, and so do joined files. What follows the samples
    must be other chunks, or little.
    """
    head = _part(stream, 0, 12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return
    n_bytes = os.fstat(stream.fileno()).st_size
    place, past_samples = 12, False
    while place + 8 <= n_bytes:
        name, size = struct.unpack("<4sI", _part(stream, place, 8))
        if name == b"RIFF" or not all(32 <= byte < 127 for byte in name):
            break
        if name == b"data" and (size == 0 or _is_unknown(size)):
            return
        past_samples |= name == b"data"
        place += 8 + size + size % 2
    if past_samples and n_bytes - place > 1 << 16:
        raise UserError(
            f"{path} goes on after the end that its header states: {n_bytes - place:,} bytes are "
            "no part of a WAV file; `ffmpeg -ignore_length 1 -i` it to another file first"
        )


# ---------------------------------------------------------------- what FFmpeg decodes


@contextmanager
def _open_coded(stream: BinaryIO, path: Path, refused: str) -> Iterator[Source]:
    import av

    if _part(stream, 0, 4) == b"OggS":
        _check_ogg_ends(stream, path)
    n_xing_frames = _xing_frames(stream)
    stream.seek(0)
    options = {"format_whitelist": _FFMPEG_FORMATS, "protocol_whitelist": "none"}
    try:
        container = av.open(stream, "r", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        said = f"; libsndfile: {refused}" if refused else ""
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: no audio file ({reason}{said})") from error
    with container:
        if not container.streams.audio:
            raise UserError(f"{path} holds no sound")
        audio = container.streams.audio[0]
        codec = audio.codec_context
        about = container.duration / av.time_base if container.duration else None
        formats = container.format.name.split(",")
        promised = None if set(formats) & set(_ESTIMATED) else about
        n_promised = n_xing_frames * codec.frame_size if "mp3" in formats else 0
        if "caf" in formats and codec.name.startswith("pcm_") and audio.frames:
            n_promised = audio.frames
        if codec.name in _LOSSLESS:  # else a damaged frame is left out without a word
            codec.options = {"err_detect": "crccheck+explode"}
        rate, n_channels = codec.sample_rate or 0, codec.channels or 0

        exact = codec.name in _LOSSLESS or codec.name.startswith("pcm_")
        tolerance = _ROUNDING_SEC if exact else _PADDING_SEC

        def blocks() -> Iterator[Block]:
            decoder = _Decoder(container, audio, path)
            yield from decoder.blocks(rate, n_channels)
            there = decoder.n_samples / rate
            if promised is not None and max(there, decoder.end_sec) < promised - tolerance:
                raise _cut_short(path, there, promised)
            reach = max(promised or 0, decoder.end_sec)
            # FFmpeg leaves bad frames out; PCM has none, and its last packet may claim too much
            is_checked = codec.name in _LOSSLESS and not container.streams.video
            if is_checked and there < reach - tolerance:
                raise _damaged(path, reach - there)
            if there < n_promised / rate - tolerance:
                raise _cut_short(path, there, n_promised / rate)

        yield Source(rate, n_channels, None, about, blocks)


class _Decoder:
    """The samples of one stream of a container, and how far its packets reach."""

    def __init__(self, container: Any, audio: Any, path: Path) -> None:
        self._container, self._audio, self._path = container, audio, path
        self.n_samples = 0
        self.end_sec = 0.0

    def blocks(self, rate: int, n_channels: int) -> Iterator[Block]:
        waiting: list[Block] = []
        n_waiting = 0
        for frame in self._frames():
            block = _samples(frame)
            if frame.sample_rate != rate or len(block) != n_channels:
                at = self.n_samples / rate
                raise UserError(
                    f"{self._path} changes its rate or channels at {at:.2f} s; convert it first"
                )
            self.n_samples += block.shape[-1]
            waiting.append(block)
            n_waiting += block.shape[-1]
            if n_waiting >= _BLOCK_SAMPLES:
                yield np.concatenate(waiting, axis=-1)
                waiting, n_waiting = [], 0
        if waiting:
            yield np.concatenate(waiting, axis=-1)

    def _frames(self) -> Iterator[Any]:
        import av

        lost_sec = 0.0
        start = (self._container.start_time or 0) / av.time_base
        try:
            for packet in self._container.demux():
                n_units = packet.duration or 0
                if packet.pts is not None:
                    end = float((packet.pts + n_units) * packet.time_base)
                    self.end_sec = max(self.end_sec, end - start)
                if packet.stream is not self._audio:
                    continue
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError:
                    if self._audio.codec_context.name in _LOSSLESS:
                        raise
                    lost_sec += float(n_units * packet.time_base)
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            at = self.n_samples / max(1, self._audio.codec_context.sample_rate or 1)
            raise UserError(f"{self._path} is damaged or cut short at {at:.2f} s ({reason})") from (
                error
            )
        if lost_sec > _PADDING_SEC:
            raise _damaged(self._path, lost_sec)


def _samples(frame: Any) -> Block:
    """A decoded frame as float32 (channels, samples)."""
    given: NDArray[Any] = frame.to_ndarray()
    n_channels = len(frame.layout.channels)
    if not frame.format.is_planar:
        given = given.reshape(-1, n_channels).T
    if given.dtype.kind == "f":
        return np.asarray(given, dtype=np.float32, order="C")
    if given.dtype == np.uint8:
        return (given.astype(np.float32) - np.float32(128)) / np.float32(128)
    full_scale = 2.0 ** (8 * given.dtype.itemsize - 1)
    scaled: Block = (given / full_scale).astype(np.float32)
    return scaled


def _part(stream: BinaryIO, start: int, n_bytes: int) -> bytes:
    """Some bytes of a file; where others read on stays as it is."""
    return os.pread(stream.fileno(), n_bytes, start)


def _xing_frames(stream: BinaryIO) -> int:
    """How many frames the first frame of an MP3 file announces, 0 where it announces none."""
    head = _part(stream, 0, 10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:  # its size has seven bits to the byte
        start = 10 + sum(byte << 7 * (3 - i) for i, byte in enumerate(head[6:]))
    frame = _part(stream, start, 4096)
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    if place < 0 or len(frame) < place + 12:
        return 0
    flags, n_frames = struct.unpack(">II", frame[place + 4 : place + 12])
    return int(n_frames) if flags & 1 else 0


def _check_ogg_ends(stream: BinaryIO, path: Path) -> None:
    """Refuse an Ogg file whose last page is not whole or does not say that it is the last."""
    n_bytes = os.fstat(stream.fileno()).st_size
    longest = 2 * 65_307  # two of the longest pages
    tail = _part(stream, max(0, n_bytes - longest), longest)
    place = tail.rfind(b"OggS")
    page = tail[place:] if place >= 0 else b""
    n_segments = page[26] if len(page) > 26 else 0
    size = 27 + n_segments + sum(page[27 : 27 + n_segments])
    if len(page) < 27 or len(page) < size or not page[5] & 4:
        raise UserError(f"{path} is cut short: its last page lacks the mark of the end; {_WAY_OUT}")
