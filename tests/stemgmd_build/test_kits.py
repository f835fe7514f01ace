"""The catalogue as data, own kits, and where kits are found."""

from __future__ import annotations

import errno
import gzip
import io
import re
import shutil
import struct
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_kits import HERE, WHEEL_KIT, drum_sounds, wheel_font, write_kit

from stemgmd_build.building.licences import licences_text
from stemgmd_build.errors import UserError
from stemgmd_build.kits import archives
from stemgmd_build.kits.catalogue import (
    available,
    catalogue,
    find_kit,
    locate,
    require,
    select_kits,
)
from stemgmd_build.kits.kit import GENERAL_MIDI, Kit, Sound, source_hash
from stemgmd_build.kits.own import own_kit
from stemgmd_build.paths import CacheError
from stemgmd_build.performances.collection import Collection
from stemgmd_build.samplers.hydrogen import HydrogenKit
from stemgmd_build.taxonomy import ARTICULATIONS, PIECE_OF_ARTICULATION, PIECES

NINE = {piece: i for i, piece in enumerate(PIECES)}


def test_there_are_at_least_14_kits_of_at_least_7_families() -> None:
    assert len(catalogue()) >= 14
    assert len({kit.family for kit in catalogue()}) >= 7
    assert len({kit.id for kit in catalogue()}) == len(catalogue())


def test_six_of_the_ten_default_kits_train_and_four_test() -> None:
    ten = [kit for kit in catalogue() if kit.default]
    assert Counter(kit.split for kit in ten) == {"train": 6, "test": 4}


def test_no_family_is_on_both_sides_of_the_split() -> None:
    splits = defaultdict(set)
    for kit in catalogue():
        splits[kit.family].add(kit.split)
    assert {family for family, found in splits.items() if {"train", "test"} <= found} == set()


def test_one_kit_is_at_hand_wherever_the_project_is_installed() -> None:
    assert find_kit(WHEEL_KIT) in HERE
    assert require(find_kit(WHEEL_KIT)) == wheel_font()


def test_every_kit_is_whole_data() -> None:
    for kit in catalogue():
        _check_data(kit)


def _check_data(kit: Kit) -> None:
    assert set(PIECES) <= set(kit.sounds) <= set(ARTICULATIONS)
    for text in (kit.name, kit.author, kit.licence, kit.family, kit.url, kit.path):
        assert text
    assert re.fullmatch(r"[0-9a-f]{64}", kit.sha256)
    assert kit.kind in ("soundfont", "hydrogen", "samples")
    assert kit.split in ("train", "test")
    assert [bool(source) for source in (kit.wheel, kit.package, kit.files)].count(True) == 1
    if not kit.files:  # a recorded kit's gain is measured where it is used
        assert kit.gain is not None
        assert 0.1 < kit.gain < 2
    assert not Path(kit.path).is_absolute()
    if kit.package:
        assert re.fullmatch(r"[0-9a-f]{64}", kit.package.sha256)
        assert kit.package.n_bytes > 1000
        assert kit.package.deb.startswith("pool/")


def test_every_kit_at_hand_is_the_one_of_the_catalogue() -> None:
    for kit in HERE:
        path = require(kit)
        assert source_hash(path, kit.sounds) == kit.sha256, kit.id
        if kit.kind == "hydrogen":
            instruments = {instrument.id for instrument in HydrogenKit(path).instruments}
            assert {sound.key for sound in kit.sounds.values()} <= instruments, kit.id


def test_an_articulation_without_a_sound_is_its_piece() -> None:
    kit = find_kit(WHEEL_KIT)
    for name, piece in PIECE_OF_ARTICULATION.items():
        assert kit.sound(name) == kit.sounds.get(name, kit.sounds[piece])


def test_sets_of_kits_are_chosen_by_name() -> None:
    assert select_kits(["all"]) == catalogue()
    ten = select_kits(["default"])
    assert len(ten) == 10
    assert set(select_kits(["train", "test"])) == set(ten)
    assert select_kits(["test", WHEEL_KIT, "test"])[-1].id == WHEEL_KIT
    assert len(select_kits(["test", WHEEL_KIT, "test"])) == 5


def test_an_unknown_kit_is_an_error_with_the_way_out() -> None:
    with pytest.raises(UserError, match="no kit 'nonsense'; `stemgmd kits list`"):
        select_kits(["default", "nonsense"])


def test_two_kits_of_one_id_are_an_error(tmp_path: Path) -> None:
    for seed, folder in enumerate(("one", "two")):
        write_kit(tmp_path / folder / "same", drum_sounds(seed))
    with pytest.raises(UserError, match="both called 'same'"):
        select_kits([str(tmp_path / "one" / "same"), str(tmp_path / "two" / "same")])


def test_a_soundfont_by_path_has_the_general_midi_map() -> None:
    kit = find_kit(str(wheel_font()))
    assert {name: sound.key for name, sound in kit.sounds.items()} == GENERAL_MIDI
    assert (kit.id, kit.kind, kit.bank, kit.preset) == ("timgm6mb", "soundfont", 128, 0)
    assert kit.gain is None


def test_a_hydrogen_kit_by_path_has_its_general_midi_notes(tmp_path: Path) -> None:
    kit = find_kit(str(write_kit(tmp_path / "My Kit (2)", drum_sounds())))
    assert {piece: kit.sounds[piece].key for piece in PIECES} == NINE
    assert (kit.id, kit.kind, kit.family) == ("my-kit-2", "hydrogen", "own-my-kit-2")


TEXTS = "<name>My kit</name><author>Somebody</author><license>CC0</license>"


def test_a_hydrogen_kit_says_itself_whose_it_is(
    tmp_path: Path, builtin_collection: Collection
) -> None:
    """Unless the TOML file says otherwise; a build's LICENSES.md states it."""
    xml = write_kit(tmp_path / "source", drum_sounds()) / "drumkit.xml"
    xml.write_text(xml.read_text().replace("<drumkit_info>", f"<drumkit_info>{TEXTS}"))
    (tmp_path / "mine.toml").write_text("path = 'source'\nauthor = 'Me'\nlicence = ''")
    kit, own = find_kit(str(xml.parent)), find_kit(str(tmp_path / "mine.toml"))
    assert (kit.name, kit.author, kit.licence) == ("My kit", "Somebody", "CC0")
    assert (own.name, own.author, own.licence) == ("My kit", "Me", "")
    facts = {kit.id: {"name": kit.name, "author": kit.author, "licence": kit.licence}}
    assert "| source | My kit | Somebody | CC0 |" in licences_text(builtin_collection, facts)


def _riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (_riff(b"INAM", b"F\0") + _riff(b"IENG", b"B\0xx") + _riff(b"ICOP", b"C"), "FBC"),
        (_riff(b"ICOP", b"A\n\xe9\0") + b"IENG\xff\xff\xff\xffx", ("my", "x", "A \ufffd")),
        (b"IENG", ("my", "", "")),
        (b"", ("my", "", "")),
    ],
)
def test_a_soundfont_says_itself_whose_it_is(
    tmp_path: Path, info: bytes, expected: tuple[str, str, str]
) -> None:
    lists = b"".join(_riff(b"LIST", part) for part in (b"INFO" + info, b"sdta", b"pdta"))
    (tmp_path / "my.sf2").write_bytes(_riff(b"RIFF", b"sfbk" + lists))
    kit = own_kit(tmp_path / "my.sf2")
    assert (kit.name, kit.author, kit.licence) == tuple(expected)


def test_a_path_to_drumkit_xml_is_its_folder(tmp_path: Path) -> None:
    folder = write_kit(tmp_path / "My Kit", drum_sounds())
    assert own_kit(folder / "drumkit.xml") == own_kit(folder)
    (folder / "drumkit.xml").unlink()
    with pytest.raises(UserError, match=r"My Kit has no drumkit\.xml"):
        own_kit(folder / "drumkit.xml")


def _export(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    """A kit as Hydrogen exports it: a tar.gz."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_exported_hydrogen_kit_is_the_kit_of_its_folder(tmp_path: Path, cache: Path) -> None:
    """Hydrogen exports a sample twice where two instruments play it."""
    folder = write_kit(tmp_path / "Inner", drum_sounds())
    files = [(f"Inner/{file.name}", file.read_bytes()) for file in sorted(folder.iterdir())]
    export = _export(tmp_path / "My Kit.h2drumkit", *files, files[-1])
    kit = find_kit(str(export))
    assert (kit.id, kit.name, kit.kind) == ("my-kit", "Inner", "hydrogen")
    assert kit.sha256 == own_kit(folder).sha256
    assert Path(kit.path).is_relative_to(cache)
    (Path(kit.path) / "drumkit.xml").touch()
    before = (Path(kit.path) / "drumkit.xml").stat().st_mtime_ns
    assert find_kit(str(export)) == kit
    assert (Path(kit.path) / "drumkit.xml").stat().st_mtime_ns == before, "unpacked once"
    lines = "\n".join(f"{piece} = '{piece}-0.wav'" for piece in PIECES)
    (tmp_path / "mine.toml").write_text(f"path = '{export.name}'\n[sounds]\n{lines}")
    assert own_kit(tmp_path / "mine.toml").kind == "samples"


def _link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("kit")
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("../evil.wav", b"x")], "leads out of it"),
        ([("/tmp/evil.wav", b"x")], "leads out of it"),
        ([("a/" * 3000 + "evil.wav", b"x")], "too deep"),
        ([_link(tarfile.SYMTYPE, ".."), ("kit/../../evil.wav", b"x")], "leads out of it"),
        ([_link(tarfile.SYMTYPE, "../.."), ("kit/evil.txt", b"x")], "holds 0 drumkit.xml"),
        ([_link(tarfile.LNKTYPE, "/etc/hostname")], "holds 0 drumkit.xml"),
        ([_link(tarfile.CHRTYPE, "")], "holds 0 drumkit.xml"),
        ([("a/drumkit.xml", b"x"), ("b/drumkit.xml", b"x")], "holds 2 drumkit.xml, not one"),
        ([("a", b"x"), ("a/drumkit.xml", b"x")], "export it again, or unpack it"),
        ([("a/drumkit.xml", bytes(30_000))], "unpacks to more than 20,000 bytes"),
        ([], "holds 0 drumkit.xml, not one; unpack it and give a kit's folder"),
        (None, "is no tar.gz, damaged"),
    ],
)
def test_a_hostile_export_is_one_line_and_writes_nothing_outside(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    members: list[tuple[str, bytes] | tarfile.TarInfo] | None,
    problem: str,
) -> None:
    monkeypatch.setattr(archives, "MAX_EXPORT_BYTES", 20_000)
    path = tmp_path / "bad.h2drumkit"
    path.write_bytes(b"PK\x03\x04") if members is None else _export(path, *members)
    with pytest.raises(UserError, match=problem) as caught:
        own_kit(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    found = [file for file in tmp_path.rglob("*") if not file.is_dir() and file != path]
    assert all(file.is_relative_to(cache / "drumkits") for file in found)
    assert not any(file.is_symlink() for file in found)
    assert not list(cache.rglob(".making-*"))


@given(where=st.floats(0, 1), new=st.binary(max_size=30), packed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_mutated_export_is_unpacked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, where: float, new: bytes, packed: bool
) -> None:
    folder = tmp_path_factory.mktemp("export")
    export = _export(folder / "a.h2drumkit", ("kit/drumkit.xml", b"x" * 700), ("kit/b", b"y"))
    data = export.read_bytes() if packed else gzip.decompress(export.read_bytes())
    at = int(where * len(data))
    data = data[:at] + new + data[at + len(new) // 2 :]
    export.write_bytes(data if packed else gzip.compress(data))
    try:
        archives.unpack_export(export, folder / "out")
    except UserError as error:
        if "a.h2drumkit" not in str(error) or "\n" in str(error):
            pytest.fail(f"not one line that names the file: {error}")
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise


def test_an_export_where_the_cache_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match=r"a\.h2drumkit cannot be written there"):
        own_kit(_export(tmp_path / "a.h2drumkit", ("kit/drumkit.xml", b"x")))


def test_a_hydrogen_kit_without_a_piece_asks_for_a_map(tmp_path: Path) -> None:
    sounds = drum_sounds()
    del sounds["ride"], sounds["hi_tom"]
    with pytest.raises(UserError, match=r"no General MIDI sound for hi_tom, ride; give a map"):
        own_kit(write_kit(tmp_path / "lacking", sounds))


def _toml(folder: Path, text: str) -> Path:
    write_kit(folder / "source", drum_sounds())
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_toml_map_gives_keys_semitones_and_gains(tmp_path: Path) -> None:
    lines = [f"{piece} = {key}" for piece, key in NINE.items() if piece != "low_tom"]
    kit = own_kit(
        _toml(
            tmp_path,
            "path = 'source'\nid = 'mine'\nfamily = 'f'\nsplit = 'test'\nauthor = 'A'\n"
            "[sounds]\nlow_tom = { key = 3, semitones = -5.5 }\nsnare_rim = 0\n"
            + "\n".join(lines)
            + "\n[gain_db]\nsnare = -3.0\nsnare_rim = 1.5\nkick = 2",
        )
    )
    assert kit.sounds["low_tom"] == Sound(3, -5.5)
    assert kit.sounds["snare"].gain_db == -3.0
    assert kit.sounds["snare_rim"].gain_db == -1.5  # its own on top of its piece's
    assert kit.sounds["kick"] == Sound(0, 0.0, 2)
    assert (kit.id, kit.family, kit.split, kit.author) == ("mine", "f", "test", "A")
    assert kit.path == str((tmp_path / "source").resolve())
    assert kit.sha256 == source_hash(tmp_path / "source", kit.sounds)


def test_a_toml_file_without_a_map_has_general_midis_with_gains(tmp_path: Path) -> None:
    kit = own_kit(_toml(tmp_path, "path = 'source'\n[gain_db]\nride = -40"))
    assert {piece: kit.sounds[piece].key for piece in PIECES} == NINE
    assert kit.sounds["ride"].gain_db == -40


ALL_NINE = "[sounds]\n" + "\n".join(f"{piece} = {key}" for piece, key in NINE.items())


_FAULTS: dict[str, str] = {
    "path = 'source'\nvolume = 3": "unknown field volume; there are path, id, name",
    "id = 'a'": "missing required field path",
    "path = 3": "path: Expected str",
    "path = 'elsewhere'": "does not exist",
    'path = "a\\u0000b"': "does not exist",
    f"path = '{'x' * 5000}'": "does not exist",
    "path = 'source'\nid = '../x'": "cannot be a kit's id",
    "path = 'source'\nid = ''": "cannot be a kit's id",
    "path = 'source'\nid = 'Loud'": "cannot be a kit's id",
    "path = 'source'\nsplit = 'valid'": "split: Invalid enum value 'valid'",
    "path = 'source'\nsounds = 3": "sounds: Expected object",
    "path = 'source'\npreset = 1.5": "preset: Expected int",
    f"path = 'source'\nbank = {'9' * 4000}": "bank: ",
    f"path = 'source'\nbank = {'9' * 5000}": "not valid TOML",
    f"path = 'source'\nbank = 0x{'f' * 5000}": "bank: ",
    "path = 'source'\n[sounds]\nkick = 36": "no sound for snare",
    f"path = 'source'\n{ALL_NINE}\ncowbell = 56": "no articulation 'cowbell'",
    f"path = 'source'\n{ALL_NINE}\nsnare_rim = 'x'": "snare_rim: 'x' is no key number",
    f"path = 'source'\n{ALL_NINE}\nsnare_rim = -1": "snare_rim: Expected int >= 0",
    f"path = 'source'\n{ALL_NINE}\nsnare_rim = true": "snare_rim: Expected ",
    f"path = 'source'\n{ALL_NINE}\nsnare_rim = {{}}": "snare_rim: a sound has key or files",
    f"path = 'source'\n{ALL_NINE}\nsnare_rim = {{ key = 1, semitones = 99 }}": "semitones: Expec",
    f"path = 'source'\n{ALL_NINE}\nsnare_rim = {{ key = 1, pitch = 2 }}": "unknown field pitch",
    f"path = 'source'\n{ALL_NINE}\nsnare_rim = {['x.wav'] * 128}": "snare_rim: Expected",
    "path = 'source'\n[gain_db]\ncowbell = 1": "no articulation 'cowbell'",
    "path = 'source'\n[gain_db]\nkick = 1000": "gain_db.kick: Expected float <= 40",
    "path = 'source'\n[gain_db]\nkick = nan": "gain_db.kick: Expected float",
    "path = 'source'\n[gain_db]\nkick = '3'": "gain_db.kick: Expected float, got str",
    "path = ": "not valid TOML",
    "path = " + "[" * 5000: "not valid TOML",
    ".".join("a" * 50_000) + " = 1": "more than 32 parts",
}


@pytest.fixture(scope="module")
def source_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faulty")
    write_kit(folder / "source", drum_sounds())
    return folder


def test_every_faulty_map_is_one_short_line_that_names_the_file(source_folder: Path) -> None:
    path = source_folder / "mine.toml"
    for text, problem in _FAULTS.items():
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            own_kit(path)
        message = str(caught.value)
        assert problem in message, text[:200]
        assert str(path) in message
        assert message.isprintable()
        assert len(message) < 500 + len(str(path)), text[:200]


def test_a_map_that_is_not_utf_8_or_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes("path = 'käse'".encode("latin-1"))
    (tmp_path / "folder.toml").mkdir()
    for name, problem in (
        ("latin.toml", "is not UTF-8"),
        ("missing.toml", "cannot be read"),
        ("folder.toml", "is a folder"),
    ):
        with pytest.raises(UserError, match=rf"{name}.* {problem}"):
            own_kit(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("太鼓", "太鼓"),
        ("Барабаны 2", "барабаны-2"),
        ("ढोल", "ढोल"),
        ("My Kit (3)", "my-kit-3"),
        ("x" * 100, "x" * 60),
    ],
)
def test_a_kit_has_its_id_from_its_name_in_any_script(
    tmp_path: Path, name: str, expected: str
) -> None:
    folder = write_kit(tmp_path / name, drum_sounds())
    kit = own_kit(folder)
    assert kit.id == expected
    (tmp_path / "again.toml").write_text(f"path = '{name}'\nid = '{kit.id}'", "utf-8")
    assert own_kit(tmp_path / "again.toml") == replace(kit, by_general_midi=True)


def test_a_name_without_letters_gives_an_id_too(tmp_path: Path) -> None:
    assert re.fullmatch("kit-[0-9a-f]{8}", own_kit(write_kit(tmp_path / "🥁", drum_sounds())).id)


@pytest.mark.parametrize(
    "spelt",
    [
        lambda name: name.upper(),
        lambda name: f".\\{name}",
        lambda name: name.replace(".wav", ".flac"),
        lambda name: f"sub\\{name}".title(),
    ],
)
def test_files_of_a_hydrogen_kit_are_found_however_they_are_spelt(
    tmp_path: Path, spelt: Callable[[str], str]
) -> None:
    """In capitals, with the slashes of another system, repacked in another format."""
    folder = write_kit(tmp_path / "kit", drum_sounds())
    (folder / "sub").mkdir()
    for file in folder.glob("*.wav"):
        shutil.copy(file, folder / "sub")
    right = own_kit(folder)
    xml = folder / "drumkit.xml"
    text = re.sub(r"(?<=<filename>)[^<]*", lambda m: spelt(m[0]), xml.read_text())
    xml.write_text(text)
    kit = own_kit(folder)
    assert kit.sounds == right.sounds
    assert len(HydrogenKit(folder).source_files()) == 10
    xml.write_text(re.sub(r"(?<=<filename>)[^<]*", "gone.wav", text))
    with pytest.raises(UserError, match="none of its sample files is there"):
        own_kit(folder)


def test_texts_of_a_kit_are_one_printable_line(source_folder: Path) -> None:
    path = source_folder / "loud.toml"
    path.write_text('path = "source"\nname = "a\\nb\\u001b[31m"\nlicence = "\\u202ex\\r\\ny"')
    kit = own_kit(path)
    assert (kit.name, kit.licence) == ("a b [31m", "x y")


def test_a_path_that_is_no_kit_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.sf2").write_text("hello")
    for name in ("empty", "text.sf2", "missing.sf2"):
        with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
            find_kit(str(tmp_path / name))


def _packaged(kit: Kit) -> Kit:
    """The kit inside the wheel as if it came from a package of Debian."""
    package = next(k.package for k in catalogue() if k.package)
    return replace(kit, wheel="", package=package, path="usr/share/sounds/sf2/a.sf2")


def test_kits_are_found_in_the_folder_that_the_user_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below it as packages have them, or right in it."""
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STEMGMD_KITS", str(tmp_path))
    kit = _packaged(find_kit(WHEEL_KIT))
    assert locate(kit) is None
    assert available([kit]) == ()
    with pytest.raises(UserError, match="is not on this machine; `stemgmd kits fetch"):
        require(kit)
    shutil.copy(wheel_font(), tmp_path / "a.sf2")
    assert require(kit) == tmp_path / "a.sf2"
    folder = tmp_path / "usr" / "share" / "sounds" / "sf2"
    folder.mkdir(parents=True)
    shutil.copy(wheel_font(), folder)
    (folder / wheel_font().name).rename(folder / "a.sf2")
    assert require(kit) == folder / "a.sf2"
    assert available([kit]) == (kit,)


def test_kits_are_found_where_fetch_unpacks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path))
    monkeypatch.delenv("STEMGMD_KITS", raising=False)
    kit = _packaged(find_kit(WHEEL_KIT))
    assert kit.package
    root = tmp_path / "packages" / f"{kit.package.name}_{kit.package.version}"
    (root / kit.path).parent.mkdir(parents=True)
    shutil.copy(wheel_font(), root / kit.path)
    assert require(kit) == root / kit.path


def test_another_file_than_the_catalogues_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_KITS", str(tmp_path))
    (tmp_path / "a.sf2").write_bytes(wheel_font().read_bytes() + b"\0")
    with pytest.raises(UserError, match="its SHA-256 differs") as caught:
        require(_packaged(find_kit(WHEEL_KIT)))
    assert str(tmp_path / "a.sf2") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hash_of_a_hydrogen_kit_is_that_of_its_content_not_its_place(tmp_path: Path) -> None:
    first = write_kit(tmp_path / "first", drum_sounds())
    second = shutil.copytree(first, tmp_path / "elsewhere" / "second")
    before = source_hash(first, {})
    assert source_hash(second, {}) == before
    (second / "unused.txt").write_text("not of the kit")
    assert source_hash(second, {}) == before
    with (second / "kick-0.wav").open("ab") as file:
        file.write(b"\0")
    assert source_hash(second, {}) != before
