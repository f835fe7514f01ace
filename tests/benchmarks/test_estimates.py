"""Stems that another program made: found in every layout, checked before they count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_builds import KIT, shortest, write_collection

from baselines.system import SystemInfo
from benchmarks.estimates import LAYOUTS, EstimateFolder, parse_map
from benchmarks.sources import Track, load
from benchmarks.sources.rendered import rendered_tracks
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Collection
from stemgmd_build.taxonomy import STEMS

INFO = SystemInfo("mine", "mine", ("mixture",), "1", "nothing", 0, "MIT", "")


@pytest.fixture(scope="module")
def tracks(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> list[Track]:
    folder = tmp_path_factory.mktemp("few") / "groove"
    few = write_collection(folder, builtin_collection, shortest(builtin_collection, 2))
    return rendered_tracks(few, split=["all"], kits=[KIT])


@pytest.fixture
def track(tracks: list[Track]) -> Track:
    return tracks[0]


def folder_of(root: Path, names: str = "") -> EstimateFolder:
    return EstimateFolder(root, INFO, parse_map(names))


def write(
    root: Path, track: Track, layout: str = LAYOUTS[0], ending: str = ".wav", names: str = ""
) -> np.ndarray:
    """The true stems in a layout, as float; return them."""
    references = load(track).references
    folder = folder_of(root, names)
    for stem, audio in zip(STEMS, references, strict=True):
        path = root / (folder._place(layout, track, dict(folder.names)[stem][0]) + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio.T, 44100, subtype="PCM_16")
    return references


def shape(track: Track) -> tuple[int, int]:
    height, width = load(track).mixture.shape
    return height, width


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_every_layout_is_read(tmp_path: Path, track: Track, layout: str, ending: str) -> None:
    references = write(tmp_path, track, layout, ending)
    loaded = folder_of(tmp_path).load(track, references.shape[1:])
    np.testing.assert_array_equal(loaded, references)
    assert loaded.dtype == np.float32


def test_names_are_mapped(tmp_path: Path, track: Track) -> None:
    references = write(tmp_path, track, names="kick=bd,hihat=hh")
    assert (tmp_path / track.clip / "bd.wav").exists()
    loaded = folder_of(tmp_path, "kick=bd,hihat=hh").load(track, references.shape[1:])
    np.testing.assert_array_equal(loaded, references)


@pytest.mark.parametrize("text", ["bass=b", "kick=../x", "kick=", "kick=a/b", "kick=.x"])
def test_a_map_of_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--map"):
        parse_map(text)


def test_a_missing_stem_is_named_and_may_be_silence(tmp_path: Path, track: Track) -> None:
    references = write(tmp_path, track)
    (tmp_path / track.clip / "toms.wav").unlink()
    with pytest.raises(UserError, match=r"no file of toms beside .*--missing silence"):
        folder_of(tmp_path).load(track, references.shape[1:])
    lenient = replace(folder_of(tmp_path), missing_is_silent=True)
    loaded = lenient.load(track, references.shape[1:])
    assert not loaded[STEMS.index("toms")].any()
    np.testing.assert_array_equal(loaded[0], references[0])


def test_a_clip_without_any_stem_is_named(tmp_path: Path, track: Track) -> None:
    with pytest.raises(UserError, match=f"mine on {track.clip}: no stem in"):
        folder_of(tmp_path).load(track, shape(track))
    with pytest.raises(UserError, match="no stem in"):  # never silence altogether
        replace(folder_of(tmp_path), missing_is_silent=True).load(track, shape(track))


@pytest.mark.parametrize(
    ("change", "rate", "says"),
    [
        (lambda a: a, 48000, "48000 Hz, not 44100"),
        (lambda a: a[:-1], 44100, "samples, its mixture"),
        (lambda a: np.repeat(a, 2, axis=1), 44100, "4 channels"),
        (lambda a: np.where(np.arange(len(a))[:, None] == 5, np.nan, a), 44100, "NaN"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(
    tmp_path: Path, track: Track, change: object, rate: int, says: str
) -> None:
    references = write(tmp_path, track)
    path = tmp_path / track.clip / "snare.wav"
    soundfile.write(path, change(references[1].T), rate, subtype="FLOAT")  # type: ignore[operator]
    with pytest.raises(UserError, match=says) as caught:
        folder_of(tmp_path).load(track, references.shape[1:])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"RIFF\0\0\0\0WAVEfmt ", b"\0" * 1000])
def test_a_file_that_is_no_audio_is_named(tmp_path: Path, track: Track, data: bytes) -> None:
    references = write(tmp_path, track)
    path = tmp_path / track.clip / "kick.wav"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"kick\.wav cannot be read"):
        folder_of(tmp_path).load(track, references.shape[1:])


def test_mono_counts_for_both_channels(tmp_path: Path, track: Track) -> None:
    references = write(tmp_path, track)
    soundfile.write(tmp_path / track.clip / "kick.wav", references[0][0], 44100, subtype="PCM_16")
    loaded = folder_of(tmp_path).load(track, references.shape[1:])
    np.testing.assert_array_equal(loaded[0], np.stack([references[0][0]] * 2))


def test_the_revision_follows_the_files(tmp_path: Path, tracks: list[Track]) -> None:
    for track in tracks:
        write(tmp_path, track)
    first = folder_of(tmp_path).with_revision_of(tracks).info.revision
    assert folder_of(tmp_path).with_revision_of(tracks).info.revision == first
    path = tmp_path / tracks[0].clip / "kick.wav"
    path.write_bytes(path.read_bytes()[:-4] + b"\1\2\1\2")
    assert folder_of(tmp_path).with_revision_of(tracks).info.revision != first


def test_a_folder_of_something_else_has_no_revision(tmp_path: Path, tracks: list[Track]) -> None:
    with pytest.raises(UserError, match="no stem in"):
        folder_of(tmp_path).with_revision_of(tracks)


def test_several_files_are_summed_and_letter_case_does_not_count(
    tmp_path: Path, track: Track
) -> None:
    references = write(tmp_path, track)
    folder = tmp_path / track.clip
    (folder / "hihat.wav").rename(folder / "HH.WAV")
    for name in ("Ride", "Crash"):
        soundfile.write(folder / f"{name}.wav", references[4].T / 2, 44100, subtype="FLOAT")
    (folder / "cymbals.wav").unlink()
    estimates = folder_of(tmp_path, "hihat=hh,cymbals=ride+crash")
    np.testing.assert_allclose(estimates.load(track, references.shape[1:]), references, atol=1e-6)
    (folder / "Ride.wav").unlink()
    (line,) = estimates.faults([track])
    assert "no file of ride" in line
    with pytest.raises(UserError, match="'ride' is given to two stems"):
        parse_map("hihat=ride,cymbals=ride+crash")


def test_a_wrong_layout_is_one_line_that_says_what_was_found(tmp_path: Path, track: Track) -> None:
    soundfile.write(tmp_path / "song_drums.wav", np.zeros((100, 2)), 44100)
    (line,) = folder_of(tmp_path).faults([track])
    assert "looked for" in line
    assert "song_drums.wav" in line
