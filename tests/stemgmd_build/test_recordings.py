"""Audio files of any kind: all that is there is read, or one line says what is missing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from encoded import RATE_HZ, encode, write

from stemgmd_build.errors import UserError
from stemgmd_build.recordings import open_source, read_whole

N_SAMPLES = 2 * RATE_HZ
NOISE = (np.random.default_rng(0).standard_normal((2, N_SAMPLES)) * 0.1).astype(np.float32)

KINDS = {
    # container and codec: exact, states a length, can be written into a pipe
    ("wav", "pcm_s16le"): (True, True, True),
    ("aiff", "pcm_s16be"): (True, True, True),
    ("au", "pcm_s16be"): (True, True, True),
    ("caf", "pcm_s16le"): (True, True, True),
    ("w64", "pcm_s16le"): (True, True, True),
    ("flac", "flac"): (True, True, True),
    ("tta", "tta"): (True, True, False),
    ("wv", "wavpack"): (True, True, False),
    ("ipod", "alac"): (True, True, False),
    ("matroska", "flac"): (True, True, True),
    ("matroska", "aac"): (False, True, True),
    ("mp3", "libmp3lame"): (False, True, True),
    ("flv", "aac"): (False, True, True),
    ("adts", "aac"): (False, False, True),
    ("mpegts", "aac"): (False, False, True),
}
PADDING = 2 * 1152  # what lossy coders add without saying so


def seconds(path: Path) -> float:
    samples, rate = read_whole(path, max_sec=60, what="a test")
    return samples.shape[-1] / rate


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_all_that_is_there_is_read(tmp_path: Path, kind: tuple[str, str]) -> None:
    is_exact, _, pipes = KINDS[kind]
    for into_pipe in (False, True)[: 1 + pipes]:
        path = write(tmp_path / "file", encode(NOISE, *kind, into_pipe=into_pipe))
        samples, rate = read_whole(path, max_sec=60, what="a test")
        assert rate == RATE_HZ
        if is_exact:
            np.testing.assert_allclose(samples, NOISE, atol=1 / 32768)
        else:
            assert 0 <= samples.shape[-1] - N_SAMPLES <= PADDING


@pytest.mark.parametrize("kind", [k for k, (_, states, _) in KINDS.items() if states], ids="-".join)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_ends_early_is_refused(
    tmp_path: Path, kind: tuple[str, str], share: float
) -> None:
    data = encode(NOISE, *kind)
    path = write(tmp_path / "file", data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"cut short|cannot be read|can be read|damaged"):
        seconds(path)


@pytest.mark.parametrize("kind", [("mp3", "libmp3lame"), ("flac", "flac"), ("adts", "aac")])
def test_joined_files_are_read_to_the_last(tmp_path: Path, kind: tuple[str, str]) -> None:
    path = write(tmp_path / "file", 3 * encode(NOISE, *kind))
    assert seconds(path) == pytest.approx(6, abs=0.2)


def test_ogg_is_read_to_the_end_of_its_last_stream_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, NOISE.T, RATE_HZ)
    data = path.read_bytes()
    assert seconds(path) == pytest.approx(2, abs=0.01)
    assert seconds(write(path, 3 * data)) == pytest.approx(6, abs=0.05)
    with pytest.raises(UserError, match="cut short"):
        seconds(write(path, data[: len(data) // 2]))


def test_a_wav_that_goes_on_after_its_header_ends_is_refused(tmp_path: Path) -> None:
    """A recorder that crashed, and two files in one. Other chunks may follow."""
    data = encode(NOISE, "wav", "pcm_s16le")
    place = data.index(b"data") + 4
    crashed = data[:place] + (1000).to_bytes(4, "little") + data[place + 4 :]
    for faulty in (crashed, data + data):
        with pytest.raises(UserError, match="goes on after the end"):
            seconds(write(tmp_path / "a.wav", faulty))
    tagged = data + b"LIST" + (100_000).to_bytes(4, "little") + bytes(100_000)
    assert seconds(write(tmp_path / "a.wav", tagged)) == 2


def test_a_damaged_flac_is_refused_and_not_patched(tmp_path: Path) -> None:
    data = bytearray(encode(NOISE, "flac", "flac"))
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    with pytest.raises(UserError, match="damaged"):
        seconds(write(tmp_path / "a.flac", bytes(data)))


@pytest.mark.parametrize("name", [b"caf\xe9.wav", "太鼓.wav".encode(), b"a" * 251 + b".wav"])
def test_any_name_is_opened(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    write(path, encode(NOISE, "wav", "pcm_s16le"))
    assert seconds(path) == 2


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_pipe, "is a named pipe"),
        (_socket, "is a socket"),
        (Path.mkdir, "is a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (Path.touch, "is empty"),
        (lambda path: None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_file_is_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], expected: str
) -> None:
    path = tmp_path / "a.wav"
    make(path)
    said: list[str] = []

    def look() -> None:
        with pytest.raises(UserError) as caught, open_source(path):
            pass
        said.append(str(caught.value))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(20)
    assert said, "it is still waiting"
    assert expected in said[0]


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.wav", encode(NOISE, "wav", "pcm_s16le"))
    for name, text in {
        "list.m3u8": f"#EXTM3U\n#EXTINF:1,\nfile:{secret}\n#EXT-X-ENDLIST\n",
        "list.wav": f"ffconcat version 1.0\nfile {secret.name}\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=name), open_source(tmp_path / name):
            pass


def test_more_than_a_reader_asks_for_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", encode(NOISE, "wav", "pcm_s16le"))
    with pytest.raises(UserError, match="more than 1 s, the most for a drum hit"):
        read_whole(path, max_sec=1, what="a drum hit")
