"""Samples to 16-bit files and back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from stemgmd_build.audio import (
    AudioFile,
    ClippingError,
    FileFormat,
    copy_silent,
    encoder_name,
    quantize,
    read_pcm,
)
from stemgmd_build.errors import UserError

FORMATS: tuple[FileFormat, ...] = ("flac", "wav")
PCM = st.integers(0, 400).flatmap(lambda n: arrays(np.int16, (n, 2)))


def _quantized(*values: float) -> list[int]:
    samples = np.tile(np.array(values, np.float64) / 32768, (2, 1)).astype(np.float32)
    pcm = quantize(samples, np.empty((2, len(values) + 3), np.float32))
    assert pcm.dtype == np.int16
    assert np.array_equal(pcm[:, 0], pcm[:, 1])
    return [int(value) for value in pcm[:, 0]]


def test_steps_round_half_to_even() -> None:
    assert _quantized(0.5, 1.5, 2.5, -0.5, -1.5, -2.5) == [0, 2, 2, 0, -2, -2]
    assert _quantized(0.49, 0.51, -0.51, 1.0, -7.3) == [0, 1, -1, 1, -7]


def test_both_ends_of_the_scale_fit() -> None:
    assert _quantized(32767, 32767.25, -32768, -32768.25) == [32767, 32767, -32768, -32768]


@pytest.mark.parametrize("value", [32767.5, 32768, 1e9, -32769, np.inf, -np.inf, np.nan])
def test_what_does_not_fit_is_an_error_never_a_wrap(value: float) -> None:
    with pytest.raises(ClippingError):
        _quantized(0, value)


def test_no_samples_are_no_samples() -> None:
    assert quantize(np.zeros((2, 0), np.float32), np.zeros((2, 0), np.float32)).shape == (0, 2)


@settings(max_examples=30, deadline=None)
@given(pcm=PCM)
def test_every_16_bit_sample_survives_float_and_back(pcm: NDArray[np.int16]) -> None:
    samples = (pcm.T / 32768).astype(np.float32)
    before = samples.copy()
    assert np.array_equal(quantize(samples, np.empty_like(samples)), pcm)
    assert np.array_equal(samples, before)


def _write(
    path: Path, file_format: FileFormat, *blocks: NDArray[np.int16], with_md5: bool = False
) -> tuple[int, str, str]:
    n_samples = sum(len(block) for block in blocks)
    file = AudioFile(path, file_format, n_samples, with_md5=with_md5)
    for block in blocks:
        file.write(block)
    return file.finish()


@pytest.mark.parametrize("file_format", FORMATS)
@settings(max_examples=20, deadline=None)
@given(pcm=PCM.filter(len), cut=st.floats(0, 1))
def test_files_hold_the_very_samples_and_the_size_and_hash_that_were_returned(
    file_format: FileFormat,
    pcm: NDArray[np.int16],
    cut: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"hypothesis.{file_format}"
    n_bytes, sha256, md5 = _write(path, file_format, pcm, with_md5=True)
    assert path.stat().st_size == n_bytes
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert hashlib.md5(path.read_bytes()).hexdigest() == md5
    assert np.array_equal(read_pcm(path), pcm)
    start = int(cut * (len(pcm) - 1))
    assert np.array_equal(read_pcm(path, start, 5), pcm[start : start + 5])


@pytest.mark.parametrize("file_format", FORMATS)
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 30000), max_size=5), seed=st.integers(0, 1000))
def test_blocks_give_the_same_bytes_as_one_piece(
    file_format: FileFormat, cuts: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pcm = np.random.default_rng(seed).integers(-3000, 3000, (30000, 2)).astype(np.int16)
    folder = tmp_path_factory.getbasetemp()
    whole = _write(folder / f"whole.{file_format}", file_format, pcm)
    blocks = np.split(pcm, sorted(cuts))
    assert _write(folder / f"blocks.{file_format}", file_format, *blocks) == whole


def test_what_wav_cannot_hold_is_refused_before_a_file_is_made(tmp_path: Path) -> None:
    most = (2**32 - 1 - 36) // 4  # the header counts all that follows its first eight bytes
    AudioFile(tmp_path / "most.wav", "wav", most).abandon()
    assert (tmp_path / "most.wav").read_bytes()[4:8] == (36 + 4 * most).to_bytes(4, "little")
    with pytest.raises(UserError, match=r"6\.8 hours are too long for WAV; use --format flac"):
        AudioFile(tmp_path / "more.wav", "wav", most + 1)
    assert not (tmp_path / "more.wav").exists()
    AudioFile(tmp_path / "more.flac", "flac", most + 1).abandon()


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("silent", [{0}, {1}, {2}, {0, 2}, {0, 1, 2}])
def test_silence_is_the_same_bytes_as_zeros(
    file_format: FileFormat, silent: set[int], tmp_path: Path
) -> None:
    pcm = np.random.default_rng(0).integers(-3000, 3000, (3, 20000, 2)).astype(np.int16)
    pcm[sorted(silent)] = 0
    wanted = _write(tmp_path / "zeros", file_format, *pcm, with_md5=True)
    file = AudioFile(tmp_path / "silence", file_format, 60000, with_md5=True)
    for number, block in enumerate(pcm):
        if number in silent:
            file.write_silence(len(block))
        else:
            file.write(block)
    assert file.finish() == wanted
    assert (tmp_path / "silence").read_bytes() == (tmp_path / "zeros").read_bytes()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_copy_of_silence_is_the_same_bytes(file_format: FileFormat, tmp_path: Path) -> None:
    _write(tmp_path / "one", file_format, np.zeros((100_000, 2), np.int16))
    copy_silent(tmp_path / "one", tmp_path / "two", file_format)
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.mark.parametrize("file_format", FORMATS)
def test_libsndfile_reads_44_1_khz_stereo_16_bit(tmp_path: Path, file_format: FileFormat) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32767, (1000, 2)).astype(np.int16)
    path = tmp_path / f"a.{file_format}"
    _write(path, file_format, pcm)
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (44100, 2, "PCM_16")
    assert (info.format, info.frames) == (file_format.upper(), 1000)
    assert np.array_equal(soundfile.read(path, dtype="int16")[0], pcm)


def test_our_wav_is_libsndfiles_byte_for_byte(tmp_path: Path) -> None:
    pcm = np.random.default_rng(1).integers(-32768, 32767, (777, 2)).astype(np.int16)
    _write(tmp_path / "ours.wav", "wav", pcm)
    soundfile.write(tmp_path / "theirs.wav", pcm, 44100, subtype="PCM_16")
    assert (tmp_path / "ours.wav").read_bytes() == (tmp_path / "theirs.wav").read_bytes()


def test_the_encoder_is_named_with_its_version() -> None:
    assert soundfile.__libsndfile_version__ in encoder_name("flac")
    assert encoder_name("wav") == "WAV PCM_16"


@pytest.mark.parametrize("content", [b"", b"RIFF", b"fLaC" + bytes(100), b"text" * 100])
def test_what_is_no_audio_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.flac"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.flac cannot be read") as caught:
        read_pcm(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.wav cannot be read"):
        read_pcm(tmp_path / "missing.wav")


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(48000, 2, "PCM_16"), (44100, 1, "PCM_16"), (44100, 2, "FLOAT"), (44100, 2, "PCM_24")],
)
def test_audio_of_another_kind_is_refused(
    tmp_path: Path, rate: int, channels: int, subtype: str
) -> None:
    path = tmp_path / "other.wav"
    soundfile.write(path, np.zeros((10, channels)), rate, subtype=subtype)
    with pytest.raises(UserError, match="not \\(44100 Hz, 2 channels, 16 bit\\)"):
        read_pcm(path)


def test_a_place_beyond_the_end_of_a_file_is_one_line(tmp_path: Path) -> None:
    _write(tmp_path / "a.flac", "flac", np.zeros((10, 2), np.int16))
    with pytest.raises(UserError, match="cannot be read"):
        read_pcm(tmp_path / "a.flac", 100, 5)
