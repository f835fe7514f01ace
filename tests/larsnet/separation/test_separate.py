"""Recordings in, stems out: any rate, any channels, any length, and nothing half-written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from encoded import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_larsnets import BANDED, bursts, wild_model
from waiting import wait_until

import larsnet
from baselines.blocks import BlockConfig
from baselines.system import Inputs
from benchmarks import systems
from larsnet.network.checkpoint import save_checkpoint
from larsnet.separation import stemfiles, waveforms
from larsnet.separation.inference import Separator
from larsnet.separation.models import DEFAULT_MODEL, MODELS
from larsnet.separation.stemfiles import Output, Track, find_tracks, separate_file
from larsnet.separation.waveforms import (
    SeparationOptions,
    SystemEngine,
    make_separator,
    separate_blocks,
)
from stemgmd_build import cli
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import STEMS


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(wild_model(BANDED), path)
    return path


@pytest.fixture(scope="module")
def exact() -> Separator:
    return make_separator(wild_model(BANDED), SeparationOptions(sum_to_mixture=True))


def write(path: Path, samples: NDArray[np.float32], rate: int = 44100, **how: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T, rate, **how)
    return path


def stems_in(folder: Path, suffix: str = "wav") -> dict[str, NDArray[np.float64]]:
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(f"{stem}.{suffix}" for stem in STEMS)
    return {stem: soundfile.read(folder / f"{stem}.{suffix}", always_2d=True)[0] for stem in STEMS}


def separate(*arguments: object) -> int:
    return cli.main(["separate", *map(str, arguments)])


@pytest.mark.parametrize(
    ("rate", "n_channels"), [(44100, 2), (44100, 1), (8000, 1), (48000, 2), (96000, 3), (22050, 5)]
)
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_stems_have_the_inputs_rate_length_and_channels_and_sum_to_it_exactly(
    tmp_path: Path, weights: Path, rate: int, n_channels: int, suffix: str
) -> None:
    mixture = 0.5 * bursts(int(1.3 * rate) + 1, n_channels)
    path = write(tmp_path / "drums.wav", mixture, rate, subtype="PCM_24")
    out = tmp_path / "out"
    named = ("--weights", weights, *(["--flac"] if suffix == "flac" else []))
    assert separate(path, "-o", out, *named, "--sum-to-mixture") == 0
    stems = stems_in(out / "drums", suffix)
    assert all(soundfile.info(p).samplerate == rate for p in (out / "drums").iterdir())
    assert all(stem.shape == (mixture.shape[1], n_channels) for stem in stems.values())
    assert all(np.abs(stem).max() > 1e-3 for stem in stems.values())
    assert np.array_equal(sum(stems.values()), mixture.T)


@settings(max_examples=12, deadline=None)
@given(
    n_samples=st.integers(0, 60_000),
    n_channels=st.integers(1, 4),
    rate=st.sampled_from([11_025, 44_100, 48_000]),
    cuts=st.lists(st.integers(0, 60_000), max_size=4),
)
def test_blocks_of_any_size_give_the_same_stems(
    exact: Separator, n_samples: int, n_channels: int, rate: int, cuts: list[int]
) -> None:
    mixture = bursts(n_samples, n_channels)
    blocks = np.split(mixture, sorted(min(cut, n_samples) for cut in cuts), axis=1)
    nothing = np.zeros((5, n_channels, 0), np.float32)
    whole, cut = (
        np.concatenate([nothing, *separate_blocks(exact, given_blocks, rate)], axis=-1)
        for given_blocks in ([mixture], blocks)
    )
    assert whole.shape == (5, n_channels, n_samples)
    np.testing.assert_allclose(cut, whole, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(whole.sum(axis=0, dtype=np.float64), mixture)


def test_without_the_sum_stems_are_the_nets_own(weights: Path) -> None:
    mixture = bursts(50_000)
    stems = larsnet.separate(mixture, 44100, weights=weights)
    expected = Separator(wild_model(BANDED)).separate(torch.from_numpy(mixture))
    assert list(stems) == list(STEMS)
    for stem, samples in zip(stems.values(), expected, strict=True):
        assert stem.dtype == np.float32
        np.testing.assert_allclose(stem, samples.numpy(), rtol=0, atol=1e-6)


def test_mono_and_bare_vectors_and_batches_are_waveforms_too(weights: Path) -> None:
    mono = bursts(20_000, 1)
    separator = larsnet.Separator(weights=weights)
    stems = separator.separate(mono[0], 44100)
    both = separator.separate(np.concatenate((mono, mono)), 44100)
    batch = separator.separate(np.stack((mono, 0 * mono)), 44100)
    for stem in STEMS:
        assert stems[stem].shape == (1, 20_000)
        np.testing.assert_allclose(stems[stem][0], both[stem].mean(axis=0), rtol=0, atol=1e-6)
        assert np.array_equal(batch[stem], np.stack((stems[stem], 0 * mono)))
    assert separator.separate(np.zeros((0, 2, 50), np.float32), 44100)["kick"].shape == (0, 2, 50)


def test_tensors_come_out_where_tensors_go_in_and_files_are_waveforms(
    tmp_path: Path, weights: Path
) -> None:
    mixture = bursts(20_000)
    separator = larsnet.Separator(weights=weights, two_stems="kick")
    stems = separator.separate(torch.from_numpy(mixture), 48_000)
    path = write(tmp_path / "drums.wav", mixture, 48_000, subtype="FLOAT")
    of_file, rate = separator.separate_file(path)
    assert rate == 48_000
    assert list(stems) == list(of_file) == ["kick", "no_kick"]
    for stem, samples in stems.items():
        assert isinstance(samples, torch.Tensor)
        np.testing.assert_allclose(of_file[stem], samples.numpy(), rtol=0, atol=2e-6)
    whole = larsnet.separate(mixture, 48_000, weights=weights)
    rest = sum(whole[stem] for stem in STEMS[1:])
    np.testing.assert_allclose(of_file["no_kick"], rest, rtol=0, atol=2e-6)


def test_channels_beyond_the_second_are_separated_in_pairs(weights: Path) -> None:
    four = np.concatenate((bursts(20_000, seed=1), bursts(20_000, seed=2)))
    stems = larsnet.separate(four, 44100, weights=weights)
    second = larsnet.separate(four[2:], 44100, weights=weights)
    for stem in STEMS:
        np.testing.assert_allclose(stems[stem][2:], second[stem], rtol=0, atol=1e-6)


def test_wiener_changes_the_stems_and_silence_stays_silent(weights: Path) -> None:
    mixture = bursts(30_000)
    plain = larsnet.separate(mixture, 44100, weights=weights)
    shared = larsnet.separate(mixture, 44100, weights=weights, wiener=2.0)
    assert max(np.abs(plain[stem] - shared[stem]).max() for stem in STEMS) > 1e-2
    silent = larsnet.separate(np.zeros((2, 30_000)), 44100, weights=weights)
    assert not any(stem.any() for stem in silent.values())
    assert larsnet.separate(np.zeros((2, 0)), 44100, weights=weights)["kick"].shape == (2, 0)


@pytest.mark.parametrize(
    ("waveform", "rate", "expected"),
    [
        (np.zeros((2, 3, 4, 5)), 44100, "channels"),
        (np.zeros((99, 100)), 44100, "channels"),
        (np.zeros((2, 100)), 10, "rate"),
        (np.full((2, 100), np.inf), 44100, "finite"),
        (np.full((2, 100), 1e37), 44100, "full scale"),
        (np.zeros((2, 100)), "44100", "number of Hz"),
        ("drums.wav", 44100, "array of numbers"),
    ],
)
def test_what_is_no_recording_is_one_line(
    weights: Path, waveform: Any, rate: Any, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        larsnet.separate(waveform, rate, weights=weights)


@pytest.mark.parametrize("kind", ["int16", "uint8", "complex64"])
def test_whole_numbers_are_refused_and_not_taken_for_full_scale(weights: Path, kind: str) -> None:
    """What scipy.io.wavfile reads is int16; nets hear how loud a recording is."""
    with pytest.raises(UserError, match=r"floating point|not complex"):
        larsnet.separate(np.ones((2, 3000), kind), 44100, weights=weights)


def test_weights_that_change_on_disk_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    mixture = bursts(20_000)
    kicks = []
    for seed in (0, 1):
        save_checkpoint(wild_model(BANDED, seed), path)
        os.utime(path, ns=(seed, seed))
        kicks.append(larsnet.separate(mixture, 44100, weights=path)["kick"])
    assert np.abs(kicks[0] - kicks[1]).max() > 1e-3


def test_without_weights_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("larsnet.network.weights.WEIGHTS", tmp_path)
    path = write(tmp_path / "drums.wav", bursts(1000))
    assert separate(path, "-o", tmp_path / "out") == 2
    assert "--weights" in capsys.readouterr().err


def test_folders_are_searched_and_names_never_collide(tmp_path: Path) -> None:
    for name in ("a/x.wav", "a/x.flac", "a/deep/x.wav", "a/notes.txt", "a/.x.wav", "b/x.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "a" / "out" / "x").mkdir(parents=True)
    (tmp_path / "a" / "out" / "x" / "kick.wav").write_bytes(b"")
    inputs = [tmp_path / "a", tmp_path / "b" / "x.wav", tmp_path / "b" / "x.wav"]
    tracks = find_tracks(inputs, tmp_path / "a" / "out")
    assert {(str(t.path.relative_to(tmp_path)), t.name) for t in tracks} == {
        ("a/x.wav", "x.wav"),
        ("a/x.flac", "x.flac"),
        ("a/deep/x.wav", "deep/x"),
        ("b/x.wav", "x.wav-2"),
        ("b/x.wav", "x.wav-3"),
    }
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="no audio"):
        find_tracks([tmp_path / "c"], tmp_path / "out")


def test_hidden_folders_and_the_output_folder_are_not_searched(tmp_path: Path) -> None:
    for name in ("in/.trash/x.wav", "in/y.wav", "stems/y/kick.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (track,) = find_tracks([tmp_path / "in"], tmp_path / "stems")
    assert track.name == "y"
    with pytest.raises(UserError, match="inside the output folder"):
        find_tracks([tmp_path / "in"], tmp_path / "in")


@pytest.mark.parametrize("inputs", [["kick/kick.wav"], ["snare.wav", "snare/hihat.wav"]])
def test_no_recording_is_overwritten_by_a_stem(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str], inputs: list[str]
) -> None:
    paths = [write(tmp_path / name, bursts(2000)) for name in inputs]
    before = [path.read_bytes() for path in paths]
    assert separate(*paths, "-o", tmp_path, "--weights", weights) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert [path.read_bytes() for path in paths] == before


def test_stems_that_cannot_all_take_their_place_take_none(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "drums.wav", bursts(2000))
    folder = tmp_path / "out" / "drums"
    (folder / "snare.wav").mkdir(parents=True)
    assert separate(path, "-o", tmp_path / "out", "--weights", weights) == 2
    assert "snare.wav is a folder" in capsys.readouterr().err
    assert [entry.name for entry in folder.parent.rglob("*")] == ["drums", "snare.wav"]


@pytest.mark.parametrize(("n_channels", "rate"), [(9, 44_100), (2, 88_201)])
def test_what_flac_cannot_hold_is_said_with_the_way_out(
    tmp_path: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    n_channels: int,
    rate: int,
) -> None:
    path = write(tmp_path / "drums.wav", bursts(2000, n_channels), rate)
    out = tmp_path / "out"
    assert separate(path, "-o", out, "--weights", weights, "--flac") == 2
    assert "write WAV" in capsys.readouterr().err
    assert not list(out.iterdir())
    assert separate(path, "-o", out, "--weights", weights) == 0


def test_a_run_that_is_terminated_leaves_nothing(tmp_path: Path, weights: Path) -> None:
    path = write(tmp_path / "drums.wav", np.tile(bursts(44_100), 600))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stemgmd_build.cli", "separate", str(path), "-o", str(out)]
    process = subprocess.Popen([*command, "--weights", str(weights)])
    wait_until(lambda: len(list(out.glob(".making-*/*.wav"))) == 5, process)
    process.terminate()
    assert process.wait() == 143
    assert not list(out.iterdir())


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.wav"
    samples = bursts(30_000)
    if kind == "empty":
        return write(path, samples[:, :0])
    if kind == "no-bytes":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not audio\n" * 100)
    elif kind == "nan":
        samples[1, 22_050] = np.nan
        write(path, samples, subtype="FLOAT")
    elif kind == "loud":
        samples[1, 22_050] = 1e37
        write(path, samples, subtype="FLOAT")
    elif kind.startswith("cut-"):
        content = write(folder / f"whole.{kind[4:]}", samples).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "many-channels":
        write(path, bursts(100, 17))
    return path


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("empty", "no samples"),
        ("no-bytes", "is empty"),
        ("text", "no audio file"),
        ("nan", "0.500 s is no finite"),
        ("loud", "0.500 s is no finite number, or above 1e+06 times"),
        ("cut-flac", "damaged"),
        ("cut-wav", "cut short: 0.34 of its 0.68 s"),
        ("cut-aiff", "cut short"),
        ("many-channels", "17 channels"),
        ("missing", "No such file"),
    ],
)
def test_a_bad_file_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    expected: str,
) -> None:
    path = bad_file(kind, tmp_path)
    out = tmp_path / "out"
    assert separate(path, "-o", out, "--weights", weights) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert path.name in error
    assert not out.exists() or not list(out.iterdir())


def test_one_bad_file_does_not_keep_the_others_from_being_separated(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    bad_file("empty", tmp_path / "in")
    write(tmp_path / "in" / "good.wav", bursts(20_000))
    assert separate(tmp_path / "in", "-o", tmp_path / "out", "--weights", weights) == 1
    assert stems_in(tmp_path / "out" / "good")
    assert capsys.readouterr().err.count("\n") == 1
    assert os.listdir(tmp_path / "out") == ["good"]


def test_a_second_run_replaces_the_stems(tmp_path: Path, exact: Separator) -> None:
    track = Track(write(tmp_path / "drums.wav", bursts(20_000)), "drums")
    for n_samples in (20_000, 10_000):
        write(track.path, bursts(n_samples))
        written = separate_file(exact, track, Output(tmp_path / "out"))
        assert written.n_samples == n_samples
        assert all(len(s) == n_samples for s in stems_in(tmp_path / "out" / "drums").values())


def test_samples_that_flac_must_clip_are_counted(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "loud.wav", 9 * bursts(20_000), subtype="FLOAT")
    out = tmp_path / "out"
    assert separate(path, "-o", out, "--weights", weights, "--flac") == 0
    assert "clipped" in capsys.readouterr().err


LIMITED = """
import resource, sys, torch
import larsnet.separation.front  # under the limit OpenBLAS would look for memory without end
from stemgmd_build.cli import main
torch.set_num_threads(1)
torch.stft(torch.rand(1, 9000), 4096, 1024, window=torch.ones(4096), return_complex=True)
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
size = {size}
resource.setrlimit(resource.{limit}, (size, size))
sys.exit(main(["separate", *sys.argv[1:]]))
"""
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def run_limited(limit: str, size: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED.format(limit=limit, size=size), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


@linux_only
@pytest.mark.parametrize(
    ("limit", "size", "expected"),
    [
        ("RLIMIT_FSIZE", "300_000", "cannot be written"),
        ("RLIMIT_AS", "in_use + 60_000_000", "out of memory"),
        ("RLIMIT_AS", "in_use + 120_000_000", "out of memory"),
    ],
)
def test_a_full_disk_or_memory_is_one_line_and_leaves_no_stem(
    tmp_path: Path, weights: Path, limit: str, size: str, expected: str
) -> None:
    path = write(tmp_path / "drums.wav", bursts(100_000, 16))
    out = tmp_path / "out"
    result = run_limited(limit, size, path, "-o", out, "--weights", weights)
    assert result.returncode == 2, result.stderr
    *before, error = result.stderr.splitlines()
    assert expected in error
    assert all(": 1 seconds" in line for line in before), "progress, on a slow machine"
    assert not list(out.iterdir())


MEASURED = """
import resource, sys
from stemgmd_build import cli
status = cli.main(["separate", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(status)
"""


@linux_only
@pytest.mark.long
def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """With the packaged weights; the longer one's stems alone are half a gigabyte."""
    peaks_mb = []
    for seconds in (60, 300):
        path = write(tmp_path / f"{seconds}.wav", np.tile(bursts(44_100, 2), seconds))
        command = [sys.executable, "-c", MEASURED, str(path), "-o", str(tmp_path / "out")]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks_mb.append(int(result.stdout.split()[-1]))
    assert peaks_mb[1] < peaks_mb[0] + 100


def test_a_recording_whose_length_only_reading_tells_is_written_where_any_length_fits(
    tmp_path: Path, exact: Separator, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = tmp_path / "-drums.m4a"
    encoded.write_bytes(encode(bursts(50_000), "ipod", "alac"))
    written = separate_file(exact, Track(encoded, "drums"), Output(tmp_path / "out"))
    assert written.n_samples == 50_000
    monkeypatch.setattr(stemfiles, "_WAV_BYTES", 200_000)
    separate_file(exact, Track(encoded, "long"), Output(tmp_path / "out"))
    kick = tmp_path / "out" / "long" / "kick.wav"
    assert (soundfile.info(kick).format, soundfile.info(kick).frames) == ("RF64", 50_000)


def test_the_same_recording_gives_the_same_bytes(tmp_path: Path, exact: Separator) -> None:
    """libsndfile notes the time of writing in WAV files of floats."""
    path = write(tmp_path / "drums.wav", bursts(20_000))
    contents = []
    for name in ("a", "b"):
        paths = separate_file(exact, Track(path, name), Output(tmp_path / "out")).paths
        contents.append([file.read_bytes() for file in paths])
    assert contents[0] == contents[1]
    for content in contents[0]:  # after the chunk's name, size and version comes the time
        at = content.index(b"PEAK") + 12
        assert content[at : at + 4] == bytes(4)


@pytest.mark.parametrize("name", ["...wav", "..wav", "a...wav", "a .wav", "a" * 251 + ".wav"])
def test_stems_stay_in_a_folder_of_their_own_inside_the_output(tmp_path: Path, name: str) -> None:
    out = tmp_path / "inside" / "out"
    (tmp_path / name).write_bytes(b"")
    tracks = find_tracks([tmp_path / name, tmp_path / name], out)
    folders = [out / track.name for track in tracks]
    for folder in folders:
        assert folder.resolve().parent == out.resolve()
        assert not folder.name.endswith((".", " "))
        folder.mkdir(parents=True)
    assert len(set(folders)) == 2


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "farm").mkdir()
    write(tmp_path / "real" / "a.wav", bursts(100))
    (tmp_path / "farm" / "album").symlink_to("../real")
    (tmp_path / "farm" / "itself").symlink_to(".")
    tracks = find_tracks([tmp_path / "farm"], tmp_path / "out")
    assert [track.name for track in tracks] == ["album/a"]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path, exact: Separator) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    out = tmp_path / "out"
    left = out / f".making-{socket.gethostname()[:64]}-{dead.pid}-x"
    left.mkdir(parents=True)
    (left / "kick.wav").write_text("half")
    separate_file(exact, Track(write(tmp_path / "a.wav", bursts(100)), "a"), Output(out))
    assert [path.name for path in out.iterdir()] == ["a"]


MODELS_LISTED = """
import sys
from stemgmd_build.cli import main
status = main(["separate", "--list-models"])
assert "torch" not in sys.modules and "numpy" not in sys.modules
sys.exit(status)
"""


def test_models_are_listed_without_torch_and_are_the_leaderboards() -> None:
    command = [sys.executable, "-c", MODELS_LISTED]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in result.stdout.splitlines()]
    assert listed == list(MODELS)
    assert DEFAULT_MODEL in listed
    assert set(listed) <= set(systems.SYSTEMS)
    assert result.stdout.count("(default)") == 1


@pytest.mark.parametrize("model", MODELS)
def test_a_model_gives_what_its_system_gives(model: str) -> None:
    """Through the command's way: blocks, pairs of channels, a stream."""
    mixture = bursts(30_000)
    expected = systems.load(model).separate(Inputs(mixture))
    found = larsnet.separate(mixture, 44100, model=model)
    for stem, samples in zip(STEMS, expected, strict=True):
        np.testing.assert_allclose(found[stem], samples, rtol=0, atol=2e-6)


def test_a_factorization_streams_long_recordings_as_its_system_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = BlockConfig(1024 * 24, 1024 * 8)
    mixture = np.tile(bursts(44_100), 2)
    system = replace(systems.load("nmf-fixed"), blocks=config)
    monkeypatch.setattr(waveforms, "BlockConfig", lambda: config)
    engine = SystemEngine(systems.load("nmf-fixed"))
    runs = separate_blocks(engine, np.array_split(mixture, 7, axis=1), 44100)
    found = np.concatenate(list(runs), axis=-1)
    np.testing.assert_allclose(found, system.separate(Inputs(mixture)), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-n", "nonesuch"], "there are nmf-fixed"),
        (["-n", "nmfd", "--stems", "nine"], "five stems and no others"),
        (["-n", "nmfd", "--two-stems", "bass"], "gives kick, snare"),
        (["-n", "nmfd", "--weights", "w"], "not both"),
        (["-n", "nmfd", "--wiener", "1"], "go with weights"),
        (["--mp3", "--int16"], "MP3 has no --int16"),
        (["--filename", "../{track}/{stem}.wav"], "leads out"),
        (["--filename", "{stem}.{ext}"], "must name"),
        (["--filename", "{track}{stem}{x}"], "the fields are"),
        (["--filename", "{track}{stem"], "--filename"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    path = write(tmp_path / "drums.wav", bursts(1000))
    assert separate(path, "-o", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "suffix", "subtype"),
    [
        ([], "wav", "FLOAT"),
        (["--int16"], "wav", "PCM_16"),
        (["--flac"], "flac", "PCM_24"),
        (["--mp3"], "mp3", "MPEG_LAYER_III"),
    ],
)
def test_stems_are_written_as_asked_and_what_is_there_is_skipped(
    tmp_path: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    suffix: str,
    subtype: str,
) -> None:
    path = write(tmp_path / "drums.wav", 0.1 * bursts(44_100))
    pattern = ("--filename", "{stem}/{track}.{trackext}.{ext}", "--skip-existing")
    command = (path, "-o", tmp_path / "out", "--weights", weights, *arguments, *pattern)
    assert separate(*command) == 0
    assert " times real time" in capsys.readouterr().out
    kick = tmp_path / "out" / "kick" / f"drums.wav.{suffix}"
    info = soundfile.info(kick)
    assert (info.subtype, info.frames) == (subtype, 44_100)
    kick.write_bytes(b"mine")
    assert separate(*command) == 0
    assert kick.read_bytes() == b"mine"


def test_a_recording_comes_through_a_pipe(tmp_path: Path, weights: Path) -> None:
    path = write(tmp_path / "drums.wav", bursts(20_000))
    command = [sys.executable, "-m", "stemgmd_build.cli", "separate", "-", "-o", "out"]
    with path.open("rb") as file:
        subprocess.run([*command, "--weights", weights], cwd=tmp_path, stdin=file, check=True)
    assert all(len(stem) == 20_000 for stem in stems_in(tmp_path / "out" / "stdin").values())
