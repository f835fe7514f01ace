"""Hydrogen drum kits: tiny kits of sine waves, and Debian's real kits where they are at hand."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from platformdirs import user_cache_path

from stemgmd_build.errors import UserError
from stemgmd_build.samplers.hydrogen import HydrogenKit

RATE = 44100
NAMESPACE = 'xmlns="http://www.hydrogen-music.org/drumkit"'


def sine(frequency: float = 1000.0, rate: int = RATE, seconds: float = 0.1) -> NDArray[np.float32]:
    """float32 (n_samples,), amplitude 0.5."""
    times = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def write_sample(folder: Path, name: str, samples: NDArray[np.float32], rate: int = RATE) -> None:
    """``samples``: (n,) or (n, channels)."""
    subtype = "PCM_24" if name.endswith((".flac", ".aiff")) else "FLOAT"
    soundfile.write(folder / name, samples, rate, subtype=subtype)


def layer(name: str = "a.wav", low: float = 0, high: float = 1, more: str = "") -> str:
    return f"<layer><filename>{name}</filename><min>{low}</min><max>{high}</max>{more}</layer>"


def instrument(content: str, number: object = 0) -> str:
    return f"<instrument><id>{number}</id><name>Drum</name>{content}</instrument>"


def kit(folder: Path, *instruments: str, head: str = "", attributes: str = "") -> HydrogenKit:
    """A kit of these instruments and one sample, a.wav."""
    folder.mkdir(exist_ok=True)
    if not (folder / "a.wav").exists():
        write_sample(folder, "a.wav", sine())
    (folder / "drumkit.xml").write_text(
        f"<drumkit_info {attributes}>{head}<instrumentList>{''.join(instruments)}"
        "</instrumentList></drumkit_info>"
    )
    return HydrogenKit(folder)


def peaks(sound: NDArray[np.float32]) -> list[float]:
    """Loudest sample of each channel, by the amplitude of the test's sine."""
    return [float(np.abs(channel).max()) / 0.5 for channel in sound]


# --- gains --------------------------------------------------------------------------------------


def test_velocity_127_gives_the_file_itself_in_both_channels(tmp_path: Path) -> None:
    sound = kit(tmp_path, instrument(layer())).strike(0, 127)
    assert sound.dtype == np.float32
    np.testing.assert_array_equal(sound, np.stack([sine()] * 2))


@given(velocity=st.integers(1, 127))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_amplitude_is_linear_in_velocity(tmp_path: Path, velocity: int) -> None:
    drums = kit(tmp_path, instrument(layer()))
    np.testing.assert_allclose(
        drums.strike(0, velocity), drums.strike(0, 127) * (velocity / 127), atol=1e-7
    )


def test_velocity_is_ignored_where_the_kit_says_so(tmp_path: Path) -> None:
    drums = kit(tmp_path, instrument("<applyVelocity>false</applyVelocity>" + layer()))
    np.testing.assert_array_equal(drums.strike(0, 3), drums.strike(0, 127))


def test_gains_of_layer_component_and_instrument_multiply(tmp_path: Path) -> None:
    component = (
        "<instrumentComponent><component_id>2</component_id><gain>1.5</gain>"
        + layer(more="<gain>0.5</gain>")
        + "</instrumentComponent>"
    )
    head = (
        "<componentList><drumkitComponent><id>2</id><volume>0.8</volume></drumkitComponent>"
        "</componentList>"
    )
    drums = kit(tmp_path, instrument("<volume>0.9</volume><gain>1.2</gain>" + component), head=head)
    expected = 0.5 * 1.5 * 0.8 * 0.9 * 1.2
    assert peaks(drums.strike(0, 127)) == pytest.approx([expected] * 2, rel=1e-3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<pan>0</pan>", [1, 1]),
        ("<pan>0.25</pan>", [0.75, 1]),
        ("<pan>-1</pan>", [1, 0]),
        ("<pan_L>1</pan_L><pan_R>0.44</pan_R>", [1, 0.44]),
        ("<pan_L>0.2</pan_L><pan_R>1</pan_R>", [0.2, 1]),
        ("<pan_L>0.25</pan_L><pan_R>0.5</pan_R>", [0.5, 1]),
        ("<pan_L>0</pan_L><pan_R>0</pan_R>", [1, 1]),
        ("<pan>0</pan><pan_L>0.2</pan_L><pan_R>1</pan_R>", [1, 1]),
    ],
)
def test_pan_follows_the_ratio_law(tmp_path: Path, content: str, expected: list[float]) -> None:
    assert peaks(kit(tmp_path, instrument(content + layer())).strike(0, 127)) == pytest.approx(
        expected, rel=1e-3
    )


def test_stereo_files_keep_their_sides_and_components_sound_together(tmp_path: Path) -> None:
    write_sample(tmp_path, "left.wav", np.stack([sine(), 0 * sine()], axis=1))
    write_sample(tmp_path, "long.wav", np.stack([0 * sine(), sine()], axis=1).repeat(2, axis=0))
    drums = kit(
        tmp_path,
        instrument(
            f"<instrumentComponent>{layer('left.wav')}</instrumentComponent>"
            f"<instrumentComponent>{layer('long.wav')}</instrumentComponent>"
        ),
    )
    left, right = drums.strike(0, 127)
    np.testing.assert_array_equal(left, np.pad(sine(), (0, len(sine()))))
    np.testing.assert_array_equal(right, sine().repeat(2))


# --- layers -------------------------------------------------------------------------------------


def _layered(folder: Path, *ranges: tuple[float, float]) -> HydrogenKit:
    """A kit whose layer k is a constant k + 1."""
    for index in range(len(ranges)):
        write_sample(folder, f"{index}.wav", np.full(8, index + 1, np.float32))
    layers = (layer(f"{index}.wav", *ends) for index, ends in enumerate(ranges))
    return kit(folder, instrument("<applyVelocity>false</applyVelocity>" + "".join(layers)))


def _played(drums: HydrogenKit, velocity: int) -> int:
    return round(float(drums.strike(0, velocity)[0, 0])) - 1


def test_the_first_layer_that_holds_the_velocity_is_played(tmp_path: Path) -> None:
    drums = _layered(tmp_path, (0.5, 1), (0, 0.5), (0.4, 0.6))
    assert [_played(drums, v) for v in (1, 63, 64, 127)] == [1, 1, 0, 0]


def test_a_velocity_in_a_hole_takes_the_layer_that_starts_nearest(tmp_path: Path) -> None:
    drums = _layered(tmp_path, (0, 0.2), (0.6, 1))
    assert [_played(drums, round(127 * x)) for x in (0.25, 0.29, 0.31, 0.5)] == [0, 0, 1, 1]


def test_layer_ends_count_in_single_precision(tmp_path: Path) -> None:
    assert 64 / 127 > 0.503937
    assert _played(_layered(tmp_path, (0, 0.503937), (0.51, 1)), 64) == 0


def test_round_robin_layers_do_not_alternate(tmp_path: Path) -> None:
    write_sample(tmp_path, "b.wav", -sine())
    drums = kit(
        tmp_path,
        instrument(
            "<sampleSelectionAlgo>ROUND_ROBIN</sampleSelectionAlgo>" + layer() + layer("b.wav")
        ),
    )
    for _ in range(3):
        np.testing.assert_array_equal(drums.strike(0, 127)[0], sine())


# --- pitch, envelope, filter --------------------------------------------------------------------


def _frequency(sound: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(sound[0] * np.hanning(sound.shape[1]), 1 << 18))
    return float(spectrum.argmax()) * RATE / (1 << 18)


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 96000])
@pytest.mark.parametrize("semitones", [0.0, -5.0, 7.5])
def test_rate_and_pitch_are_resampled_without_change_of_level(
    tmp_path: Path, rate: int, semitones: float
) -> None:
    write_sample(tmp_path, "a.wav", sine(1000, rate, 0.5), rate)
    sound = kit(tmp_path, instrument(layer())).strike(0, 127, semitones=semitones)
    ratio = 2 ** (semitones / 12)
    assert sound.shape[1] == pytest.approx(0.5 * RATE / ratio, abs=2)
    assert _frequency(sound) == pytest.approx(1000 * ratio, rel=1e-3)
    middle = sound[0, 2000:-2000]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=2e-3)


def test_pitches_of_instrument_layer_and_strike_add_up(tmp_path: Path) -> None:
    drums = kit(
        tmp_path,
        instrument("<pitchOffset>1</pitchOffset>" + layer(more="<pitch>2.88</pitch>")),
        instrument(layer(), 1),
    )
    np.testing.assert_array_equal(
        drums.strike(0, 127, semitones=-1.88), drums.strike(1, 127, semitones=2)
    )


def _constant_kit(folder: Path, content: str, n_samples: int = 400) -> HydrogenKit:
    write_sample(folder, "a.wav", np.ones(n_samples, np.float32))
    return kit(folder, instrument(content + layer()))


def test_sustain_holds_after_attack_and_decay(tmp_path: Path) -> None:
    content = "<Attack>100</Attack><Decay>50</Decay><Sustain>0.5</Sustain><Release>9</Release>"
    sound = _constant_kit(tmp_path, content).strike(0, 127)[0]
    assert sound[0] == 0
    assert sound[50] == pytest.approx(0.5 ** (1 / math.e), rel=1e-5)
    assert sound[100] == 1
    assert sound[126] == pytest.approx(0.5 + 0.5 * 0.5**math.e, rel=1e-5)
    np.testing.assert_array_equal(sound[152:], 0.5)
    assert (np.diff(sound[:101]) > 0).all()
    assert (np.diff(sound[101:152]) < 0).all()


def test_attack_counts_samples_of_the_file_not_of_the_output(tmp_path: Path) -> None:
    write_sample(tmp_path, "a.wav", np.ones(800, np.float32), 2 * RATE)
    drums = kit(tmp_path, instrument("<Attack>200</Attack>" + layer()))
    assert drums.strike(0, 127)[0, 50] == pytest.approx(0.5 ** (1 / math.e), rel=0.01)


def test_a_release_alone_changes_nothing(tmp_path: Path) -> None:
    drums = _constant_kit(tmp_path, "<Attack>0</Attack><Decay>9</Decay><Release>300</Release>")
    np.testing.assert_array_equal(drums.strike(0, 127), 1)


def test_the_filter_follows_hydrogens_recursion(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    noise = rng.uniform(-0.5, 0.5, 300).astype(np.float32)
    write_sample(tmp_path, "a.wav", noise)
    cutoff, resonance = 0.3, 0.7
    drums = kit(
        tmp_path,
        instrument(
            f"<filterActive>true</filterActive><filterCutoff>{cutoff}</filterCutoff>"
            f"<filterResonance>{resonance}</filterResonance>" + layer()
        ),
    )
    expected, band, low = [], 0.0, 0.0
    for sample in noise:
        band = resonance * band + cutoff * (float(sample) - low)
        low += cutoff * band
        expected.append(low)
    np.testing.assert_allclose(drums.strike(0, 127)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "content",
    [
        "<filterActive>false</filterActive><filterCutoff>0.1</filterCutoff>",
        "<filterActive>true</filterActive><filterCutoff>1</filterCutoff>",
        "",
    ],
)
def test_an_idle_filter_is_the_identity(tmp_path: Path, content: str) -> None:
    drums = kit(tmp_path, instrument(content + layer()))
    np.testing.assert_array_equal(drums.strike(0, 127)[0], sine())


# --- dialects -----------------------------------------------------------------------------------


def test_every_dialect_of_the_xml_gives_the_same_sound(tmp_path: Path) -> None:
    contents = {
        "component": f"<instrumentComponent><gain>1</gain>{layer()}</instrumentComponent>",
        "layers": layer(),
        "one-file": "<filename>a.wav</filename><exclude></exclude>",
    }
    for name, content in contents.items():
        for attributes in ("", NAMESPACE):
            sound = kit(tmp_path / name, instrument(content), attributes=attributes).strike(0, 90)
            np.testing.assert_allclose(sound[0], sine() * (90 / 127), atol=1e-7)


@pytest.mark.parametrize("name", ["b.flac", "b.aiff", "b.wav"])
def test_samples_may_be_flac_aiff_or_wav(tmp_path: Path, name: str) -> None:
    write_sample(tmp_path, name, sine())
    sound = kit(tmp_path, instrument(layer(name))).strike(0, 127)
    np.testing.assert_allclose(sound[0], sine(), atol=2**-23)


def test_old_kits_that_name_a_wav_may_hold_a_flac(tmp_path: Path) -> None:
    write_sample(tmp_path, "b.flac", sine())
    drums = kit(tmp_path, instrument("<filename>b.wav</filename>"))
    assert drums.strike(0, 127).any()
    assert (tmp_path / "b.flac").resolve() in drums.source_files()


def test_texts_are_read_in_both_spellings(tmp_path: Path) -> None:
    head = "<name>My\n kit</name><author>Somebody</author><licence>CC0</licence>"
    drums = kit(tmp_path / "k", instrument(layer()), head=head)
    assert (drums.name, drums.author, drums.licence) == ("My kit", "Somebody", "CC0")
    bare = kit(tmp_path / "k", instrument(layer()), head="<license>GPL</license>")
    assert (bare.name, bare.author, bare.licence) == ("k", "", "GPL")


def test_stray_bytes_in_a_kit_without_xml_declaration_do_not_matter(tmp_path: Path) -> None:
    kit(tmp_path, instrument(layer()), head="<author>J@rg</author>")
    path = tmp_path / "drumkit.xml"
    path.write_bytes(path.read_bytes().replace(b"@", b"\xf6"))
    assert HydrogenKit(tmp_path).strike(0, 127).any()


# --- the map and the files ----------------------------------------------------------------------


def _noted(*notes: int | None) -> list[str]:
    return [
        instrument((f"<midiOutNote>{n}</midiOutNote>" if n is not None else "") + layer(), i * 3)
        for i, n in enumerate(notes)
    ]


def test_the_kits_own_notes_make_the_map_where_it_sets_them(tmp_path: Path) -> None:
    assert kit(tmp_path, *_noted(35, 38, 42, 42)).general_midi_map() == {35: 0, 38: 3, 42: 6}


@pytest.mark.parametrize("notes", [(60, 60, 60), (None, None, None)])
def test_otherwise_notes_count_from_36_by_index(tmp_path: Path, notes: tuple[int | None]) -> None:
    assert kit(tmp_path, *_noted(*notes)).general_midi_map() == {36: 0, 37: 3, 38: 6}


def test_slots_without_a_sample_are_not_in_the_map_but_keep_their_index(tmp_path: Path) -> None:
    drums = kit(
        tmp_path,
        instrument(layer("missing.wav"), 0),
        instrument("", 1),
        instrument(layer(), 2),
        instrument(layer("emptySample.wav"), 3),
    )
    write_sample(tmp_path, "emptySample.wav", 0 * sine())
    assert drums.general_midi_map() == {38: 2}
    names = ("drumkit.xml", "a.wav", "emptySample.wav")
    assert drums.source_files() == tuple((tmp_path / name).resolve() for name in names)


# --- what a user can mend -----------------------------------------------------------------------


def test_only_the_instrument_that_lacks_its_sample_fails(tmp_path: Path) -> None:
    drums = kit(tmp_path, instrument(layer("missing.wav"), 0), instrument(layer(), 1))
    assert drums.strike(1, 127).any()
    with pytest.raises(UserError, match=r"missing\.wav.*Drum"):
        drums.strike(0, 127)


@pytest.mark.parametrize(
    ("content", "number", "velocity"),
    [
        (layer(), 7, 127),
        ("", 0, 127),
        (layer(), 0, 0),
        (layer(), 0, 128),
        ("<volume>0</volume>" + layer(), 0, 127),
        ("<pitchOffset>30</pitchOffset>" + layer(more="<pitch>30</pitch>"), 0, 127),
    ],
)
def test_a_strike_is_never_silent(tmp_path: Path, content: str, number: int, velocity: int) -> None:
    drums = kit(tmp_path, instrument(content))
    with pytest.raises(UserError, match=r"\.(xml|wav)"):
        drums.strike(number, velocity)


def _broken_samples() -> dict[str, NDArray[np.float32]]:
    return {
        "silent": np.zeros(100, np.float32),
        "empty": np.zeros(0, np.float32),
        "nan": np.full(100, np.nan, np.float32),
        "infinite": np.full(100, np.inf, np.float32),
        "too long": np.ones(61 * 4000, np.float32),
    }


@pytest.mark.parametrize("fault", _broken_samples())
def test_samples_without_sound_are_refused(tmp_path: Path, fault: str) -> None:
    write_sample(tmp_path, "a.wav", _broken_samples()[fault], 4000)
    with pytest.raises(UserError, match=r"a\.wav|gives no sound"):
        kit(tmp_path, instrument(layer())).strike(0, 127)


@pytest.mark.parametrize("name", ["b.wav", "b.flac", "b.raw", "b.aiff", "drumkit.xml"])
def test_files_that_are_no_sound_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"RIFF\x10\x00\x00\x00WAVEfmt nothing")
    with pytest.raises(UserError, match=name):
        kit(tmp_path, instrument(layer(name))).strike(0, 127)


@pytest.mark.parametrize("name", ["../b.wav", "/etc/hostname", "x/../../b.wav", ".", "link.wav"])
def test_sample_paths_must_stay_inside_the_kit(tmp_path: Path, name: str) -> None:
    write_sample(tmp_path, "b.wav", sine())
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "link.wav").symlink_to(tmp_path / "b.wav")
    with pytest.raises(UserError, match="leads out"):
        kit(tmp_path / "kit", instrument(layer(name)))


@pytest.mark.parametrize("name", ["", "loop", "x" * 5000])
def test_unusable_sample_names_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError):
        kit(tmp_path, instrument(layer(name))).strike(0, 127)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(UserError, match=r"pipe\.wav"):
        kit(tmp_path, instrument(layer("pipe.wav"))).strike(0, 127)
    (tmp_path / "other").mkdir()
    os.mkfifo(tmp_path / "other" / "drumkit.xml")
    with pytest.raises(UserError, match="not a file"):
        HydrogenKit(tmp_path / "other")


@pytest.mark.parametrize("field", ["volume", "gain", "pan", "pan_L", "Sustain", "filterResonance"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300", "-5", "1,5", "loud"])
def test_hostile_numbers_are_named(tmp_path: Path, field: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"drumkit\.xml.*{field}"):
        kit(tmp_path, instrument(f"<{field}>{value}</{field}>" + layer()))


@pytest.mark.parametrize("number", ["-1", "1.5", "nan", "", "9" * 5000])
def test_hostile_ids_are_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(UserError, match="id"):
        kit(tmp_path, instrument(layer(), number))


def test_two_instruments_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two instruments have the id 3"):
        kit(tmp_path, instrument(layer(), 3), instrument(layer(), 3))


BOMB = (
    "<!DOCTYPE x [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;'>]><drumkit_info>&b;</drumkit_info>"
)
EXTERNAL = (
    "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/hostname'>]><drumkit_info>&a;</drumkit_info>"
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        EXTERNAL,
        "",
        "<drumkit_info>",
        "<song/>",
        "<drumkit_info/>",
        "<drumkit_info><instrumentList/></drumkit_info>",
        "<?xml version='1.0' encoding='nonsense'?><drumkit_info/>",
        "<a>" * 100_000,
        "<drumkit_info><instrumentList>"
        + "<instrument/>" * 1025
        + "</instrumentList></drumkit_info>",
        "<drumkit_info>" + "<layer/>" * 4097 + "</drumkit_info>",
        " " * ((8 << 20) + 1),
    ],
)
def test_what_is_no_kit_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "drumkit.xml").write_text(text)
    with pytest.raises(UserError, match=r"drumkit\.xml") as caught:
        HydrogenKit(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_document_type_is_refused_even_in_a_good_kit(tmp_path: Path) -> None:
    kit(tmp_path, instrument(layer()))
    path = tmp_path / "drumkit.xml"
    path.write_text("<!DOCTYPE drumkit_info SYSTEM 'kit.dtd'>" + path.read_text())
    with pytest.raises(UserError, match="not readable XML"):
        HydrogenKit(tmp_path)


def test_a_folder_without_drumkit_xml_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"drumkit\.xml cannot be read"):
            HydrogenKit(folder)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="loop"):
        HydrogenKit(tmp_path / "loop")


def test_deeply_nested_xml_is_read_in_no_time(tmp_path: Path) -> None:
    depth = 200_000
    (tmp_path / "drumkit.xml").write_text("<drumkit_info>" * depth + "</drumkit_info>" * depth)
    start = time.monotonic()
    with pytest.raises(UserError, match="0 instruments"):
        HydrogenKit(tmp_path)
    assert time.monotonic() - start < 5


# --- fuzzing ------------------------------------------------------------------------------------

SEED_XML = (
    f"<?xml version='1.0' encoding='UTF-8'?><drumkit_info {NAMESPACE}><name>k</name>"
    "<componentList><drumkitComponent><id>0</id><volume>1</volume></drumkitComponent>"
    "</componentList><instrumentList>"
    + instrument(
        "<volume>1</volume><pan>0.5</pan><filterActive>true</filterActive><Attack>5</Attack>"
        f"<midiOutNote>36</midiOutNote><instrumentComponent>{layer()}</instrumentComponent>"
    )
    + instrument("<pan_L>1</pan_L><pan_R>0.5</pan_R>" + layer(more="<pitch>-1</pitch>"), 1)
    + instrument("<filename>a.wav</filename>", 2)
    + "</instrumentList></drumkit_info>"
).encode()

HOSTILE = st.sampled_from(
    [b"nan", b"inf", b"-1", b"1e300", b"", b"0", b"2", b"99999999999", b"../a.wav", b"\x00",
     b"&lt;", b"<", b"</layer>", b"\xff", b"<layer>", b"&#0;", b"&x;", b"\xe2\x80\xae"]
)  # fmt: skip


def _only_user_errors(folder: Path, xml: bytes) -> None:
    (folder / "drumkit.xml").write_bytes(xml)
    try:
        drums = HydrogenKit(folder)
        drums.general_midi_map()
        assert drums.source_files()[0] == drums.xml_path
        for each in drums.instruments:
            sound = drums.strike(each.id, 100)
            assert sound.shape[0] == 2
            assert np.isfinite(sound).all()
            assert sound.any()
    except UserError as error:
        if "\n" in str(error) or str(folder.resolve()) not in str(error):
            pytest.fail(f"not one line that names the file: {error!r}")


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    write_sample(folder, "a.wav", sine(seconds=0.01))
    _only_user_errors(folder, SEED_XML)
    assert len(HydrogenKit(folder).instruments) == 3
    return folder


@given(
    at=st.integers(0, len(SEED_XML)), cut=st.integers(0, 40), new=HOSTILE | st.binary(max_size=9)
)
@settings(max_examples=300, deadline=None)
def test_mutated_xml_gives_a_kit_or_a_user_error(
    fuzz_folder: Path, at: int, cut: int, new: bytes
) -> None:
    _only_user_errors(fuzz_folder, SEED_XML[:at] + new + SEED_XML[at + cut :])


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_hostile_values_give_a_kit_or_a_user_error(fuzz_folder: Path, data: st.DataObject) -> None:
    parts = SEED_XML.split(b">")
    leaves = [i for i, part in enumerate(parts) if not part.startswith(b"<") and b"</" in part]
    for index in data.draw(st.lists(st.sampled_from(leaves), max_size=3)):
        tail = parts[index][parts[index].index(b"<") :]
        parts[index] = data.draw(HOSTILE) + tail
    _only_user_errors(fuzz_folder, b">".join(parts))


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_no_kit(fuzz_folder: Path, xml: bytes) -> None:
    _only_user_errors(fuzz_folder, xml)


@given(data=st.binary(max_size=200), at=st.integers(0, 4000))
@settings(max_examples=100, deadline=None)
def test_mutated_samples_give_sound_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("samples")
    write_sample(folder, "a.flac", sine(seconds=0.02))
    whole = (folder / "a.flac").read_bytes()
    (folder / "a.flac").write_bytes(whole[:at] + data + whole[at + len(data) :])
    write_sample(folder, "a.wav", sine(seconds=0.02))
    listed = f"<instrumentList>{instrument(layer('a.flac'))}</instrumentList>"
    _only_user_errors(folder, f"<drumkit_info>{listed}</drumkit_info>".encode())


# --- the real kits ------------------------------------------------------------------------------


def _real_kits() -> list[Path]:
    """Hydrogen kits in STEMGMD_KITS, in the cache of `stemgmd kits fetch` and in /usr/share."""
    cache = Path(os.environ.get("STEMGMD_CACHE") or user_cache_path("stemgmd"))
    inner = "usr/share/hydrogen/data/drumkits"
    roots = [Path("/") / inner, *sorted(cache.glob(f"packages/*/{inner}"))]
    if "STEMGMD_KITS" in os.environ:
        roots += [Path(os.environ["STEMGMD_KITS"]) / inner, Path(os.environ["STEMGMD_KITS"])]
    found = {xml.parent.name: xml.parent for root in roots for xml in root.glob("*/drumkit.xml")}
    return [found[name] for name in sorted(found)]


@pytest.mark.parametrize("folder", _real_kits(), ids=lambda folder: str(folder.name))
def test_a_real_kit_strikes_every_instrument_of_its_map(folder: Path) -> None:
    drums = HydrogenKit(folder)
    notes = drums.general_midi_map()
    assert len(notes) >= 12
    assert len(drums.source_files()) > len(notes)
    for number in notes.values():
        sound = drums.strike(number, 100)
        assert sound.dtype == np.float32
        assert sound.shape[0] == 2
        assert 1e-3 < np.abs(sound).max() < 4
        np.testing.assert_array_equal(sound, drums.strike(number, 100))
