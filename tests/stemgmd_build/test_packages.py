"""Debian packages: tiny .debs made here, unpacked and fetched from every source."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import importlib.util
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemgmd_build.errors import UserError
from stemgmd_build.kits import archives
from stemgmd_build.kits.archives import unpack_deb
from stemgmd_build.kits.packages import MARKER, Package, fetch_package

KIT = "usr/share/hydrogen/data/drumkits/My Kit"
FONT = "usr/share/sounds/sf2/font.sf2"
COPYRIGHT = "usr/share/doc/tiny/copyright"
FILES = {
    COPYRIGHT: b"CC0\n",
    FONT: b"font" * 5000,
    f"{KIT}/drumkit.xml": b"<drumkit_info/>",
    f"{KIT}/kick.wav": b"kick",
    f"{KIT} 2/drumkit.xml": b"another kit",
    "usr/bin/tool": b"not wanted",
}
LINKS = {
    "usr/share/links/font.sf2": "../sounds/sf2/font.sf2",
    "usr/share/links/again.sf2": "/usr/share/links/font.sf2",
    "usr/share/links/outside": "../../../../etc/hostname",
    "usr/share/links/loop": "loop",
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    "": bytes,
}


def tar_bytes(files: dict[str, bytes], links: dict[str, str], hard: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for kind, table in ((tarfile.SYMTYPE, links), (tarfile.LNKTYPE, hard)):
            for name, target in table.items():
                info = tarfile.TarInfo(f"./{name}")
                info.type, info.linkname = kind, target
                tar.addfile(info)
        device = tarfile.TarInfo("./usr/share/links/null")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
    return out.getvalue()


def ar_bytes(members: dict[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members.items():
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
        out += head.encode() + data + b"\n" * (len(data) % 2)
    return out


def write_deb(
    path: Path,
    files: dict[str, bytes] = FILES,
    *,
    ending: str = ".xz",
    control: bytes = b"",
) -> Package:
    """A .deb file, and the record that describes it."""
    data = tar_bytes(files, LINKS, {"usr/share/links/hard.sf2": f"./{FONT}"})
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": control or b"odd",
        f"data.tar{ending}": COMPRESS[ending](data),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ar_bytes(members))
    return Package("tiny", "1:2.0-1", f"pool/main/t/{path.name}", _sha256(path), _size(path))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


# --- unpacking ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", COMPRESS)
def test_just_what_is_wanted_is_unpacked(tmp_path: Path, ending: str) -> None:
    write_deb(tmp_path / "a.deb", ending=ending)
    unpack_deb(tmp_path / "a.deb", tmp_path / "out", {KIT, FONT}, {COPYRIGHT, "usr/none"})
    expected = {COPYRIGHT, FONT, f"{KIT}/drumkit.xml", f"{KIT}/kick.wav"}
    assert _files(tmp_path / "out") == expected
    for name in expected:
        assert (tmp_path / "out" / name).read_bytes() == FILES[name]


def test_links_inside_the_package_become_copies_and_others_are_left(tmp_path: Path) -> None:
    write_deb(tmp_path / "a.deb")
    unpack_deb(tmp_path / "a.deb", tmp_path / "out", {"usr/share/links"})
    names = {f"usr/share/links/{name}.sf2" for name in ("font", "again", "hard")}
    assert _files(tmp_path / "out") == names | {FONT}
    for name in names:
        path = tmp_path / "out" / name
        assert not path.is_symlink()
        assert path.read_bytes() == FILES[FONT]


@pytest.mark.parametrize("name", ["usr/none", "usr/share/links/outside", "usr/share/links/null"])
def test_a_wanted_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    write_deb(tmp_path / "a.deb")
    with pytest.raises(UserError, match=f"does not hold {name}"):
        unpack_deb(tmp_path / "a.deb", tmp_path / "out", {name})


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "usr/../../evil"])
def test_a_package_with_climbing_paths_is_refused(tmp_path: Path, name: str) -> None:
    write_deb(tmp_path / "a.deb", {FONT: b"x"})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    (tmp_path / "a.deb").write_bytes(ar_bytes({"data.tar": out.getvalue()}))
    with pytest.raises(UserError, match="leads out"):
        unpack_deb(tmp_path / "a.deb", tmp_path / "x" / "out", {"usr", "evil", "etc"})
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_UNPACKED_BYTES", 19_999, "more than 19,999 bytes"),
        ("MAX_TAR_BYTES", 5000, "damaged"),
        ("MAX_MEMBERS", 1, "more than 1 files"),
    ],
)
def test_a_package_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str
) -> None:
    write_deb(tmp_path / "a.deb")
    unpack_deb(tmp_path / "a.deb", tmp_path / "fits", {FONT})
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(UserError, match=message):
        unpack_deb(tmp_path / "a.deb", tmp_path / "out", {FONT})


def test_zstandard_is_read_where_python_can_and_named_where_not(tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(ar_bytes({"data.tar.zst": b"\x28\xb5\x2f\xfdrubbish"}))
    can = any(importlib.util.find_spec(name) for name in ("compression", "zstandard"))
    with pytest.raises(UserError, match="damaged" if can else "Zstandard"):
        unpack_deb(tmp_path / "a.deb", tmp_path / "out", {FONT})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"!<arch>\n",
        b"PK\x03\x04",
        ar_bytes({"debian-binary": b"2.0\n"}),
        ar_bytes({"data.tar.lz4": b""}),
        ar_bytes({"data.tar.xz": b""}),
        ar_bytes({"data.tar.gz": b"\x1f\x8b"}),
        ar_bytes({"data.tar": b"x" * 600}),
    ],
)
def test_what_is_no_package_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.deb").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.deb") as caught:
        unpack_deb(tmp_path / "a.deb", tmp_path / "out", {FONT})
    assert "\n" not in str(caught.value)


@given(ending=st.sampled_from(list(COMPRESS)), where=st.floats(0, 1), new=st.binary(max_size=30))
@settings(max_examples=150, deadline=None)
def test_a_mutated_package_is_unpacked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, ending: str, where: float, new: bytes
) -> None:
    folder = tmp_path_factory.mktemp("deb")
    write_deb(folder / "a.deb", ending=ending)
    data = (folder / "a.deb").read_bytes()
    at = int(where * len(data))
    (folder / "a.deb").write_bytes(data[:at] + new + data[at + len(new) // 2 :])
    try:
        unpack_deb(folder / "a.deb", folder / "out", {FONT, KIT})
    except UserError as error:
        if "a.deb" not in str(error):
            pytest.fail(f"does not name the file: {error}")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is Debian's own")
def test_a_package_of_debians_own_making_is_unpacked(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n"
    )
    (tree / FONT).parent.mkdir(parents=True)
    (tree / FONT).write_bytes(FILES[FONT])
    for kind in ("xz", "gzip", "none"):
        path = tmp_path / f"{kind}.deb"
        subprocess.run(["dpkg-deb", f"-Z{kind}", "--build", tree, path], check=True)
        unpack_deb(path, tmp_path / kind, {FONT})
        assert (tmp_path / kind / FONT).read_bytes() == FILES[FONT]


# --- fetching -----------------------------------------------------------------------------------


@pytest.fixture
def without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no-programs").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))


def _fetch(
    package: Package,
    cache: Path,
    wanted: tuple[str, ...] = (FONT,),
    *,
    mirror: Path | str | None = None,
    debs: Path | None = None,
) -> Path:
    url = mirror.as_uri() if isinstance(mirror, Path) else mirror
    return fetch_package(package, cache, mirror=url, deb_folder=debs, wanted=wanted)


@pytest.mark.usefixtures("without_apt")
def test_a_folder_of_debs_is_used_whatever_follows_the_name(tmp_path: Path) -> None:
    package = write_deb(tmp_path / "debs" / "tiny_1%3a2.0-1_all.deb")
    write_deb(tmp_path / "debs" / "tiny_0.9_all.deb", {FONT: b"older"})
    folder = _fetch(package, tmp_path / "cache", debs=tmp_path / "debs")
    assert folder == tmp_path / "cache" / "packages" / "tiny_1:2.0-1"
    assert _files(folder) == {FONT, COPYRIGHT, MARKER}
    assert len(list((tmp_path / "debs").iterdir())) == 2


@pytest.mark.usefixtures("without_apt")
def test_a_mirror_is_used_and_the_download_removed(tmp_path: Path) -> None:
    package = write_deb(tmp_path / "mirror" / "pool" / "main" / "t" / "tiny_2.0+x-1_all.deb")
    folder = _fetch(package, tmp_path / "cache", mirror=tmp_path / "mirror")
    assert (folder / FONT).read_bytes() == FILES[FONT]
    assert not list((tmp_path / "cache" / "packages").glob("*.deb"))


@pytest.mark.usefixtures("without_apt")
def test_what_is_unpacked_is_not_fetched_again(tmp_path: Path) -> None:
    package = write_deb(tmp_path / "debs" / "tiny_2_all.deb")
    folder = _fetch(package, tmp_path / "cache", debs=tmp_path / "debs")
    inode = folder.stat().st_ino
    assert _fetch(package, tmp_path / "cache") == folder
    assert folder.stat().st_ino == inode


@pytest.mark.usefixtures("without_apt")
def test_more_wanted_files_are_added_to_the_earlier_ones(tmp_path: Path) -> None:
    package = write_deb(tmp_path / "debs" / "tiny_2_all.deb")
    _fetch(package, tmp_path / "cache", debs=tmp_path / "debs")
    folder = _fetch(package, tmp_path / "cache", (f"./{KIT}/",), debs=tmp_path / "debs")
    assert {FONT, f"{KIT}/kick.wav"} < _files(folder)
    assert _fetch(package, tmp_path / "cache", (FONT, f"{KIT}/kick.wav")) == folder


@pytest.mark.usefixtures("without_apt")
@pytest.mark.parametrize("damage", ["no marker", "bad marker", "missing file", "other package"])
def test_a_damaged_folder_is_unpacked_anew(tmp_path: Path, damage: str) -> None:
    package = write_deb(tmp_path / "debs" / "tiny_2_all.deb")
    folder = _fetch(package, tmp_path / "cache", debs=tmp_path / "debs")
    if damage == "no marker":
        (folder / MARKER).unlink()
    elif damage == "bad marker":
        (folder / MARKER).write_text("{}")
    elif damage == "missing file":
        (folder / FONT).unlink()
    else:
        package = write_deb(tmp_path / "debs" / "tiny_3_all.deb", {**FILES, FONT: b"newer"})
    _fetch(package, tmp_path / "cache", debs=tmp_path / "debs")
    expected = b"newer" if damage == "other package" else FILES[FONT]
    assert (folder / FONT).read_bytes() == expected


@pytest.mark.usefixtures("without_apt")
def test_a_deb_with_other_bytes_is_never_unpacked(tmp_path: Path) -> None:
    name = "pool/main/t/tiny_2_all.deb"
    package = write_deb(tmp_path / "mirror" / name)
    data = bytearray((tmp_path / "mirror" / name).read_bytes())
    data[-5] ^= 1
    (tmp_path / "mirror" / name).write_bytes(data)
    mirror = tmp_path / "mirror"
    with pytest.raises(UserError, match="not the expected file"):
        _fetch(package, tmp_path / "cache", mirror=mirror, debs=mirror / "pool/main/t")
    assert not (tmp_path / "cache" / "packages" / "tiny_1:2.0-1").exists()


@pytest.mark.usefixtures("without_apt")
def test_without_any_source_the_error_says_what_to_do(tmp_path: Path) -> None:
    package = write_deb(tmp_path / "away" / "tiny_2_all.deb")
    (tmp_path / "debs").mkdir()
    with pytest.raises(UserError) as caught:
        _fetch(package, tmp_path / "cache", mirror="http://127.0.0.1:9/d", debs=tmp_path / "debs")
    text = str(caught.value)
    for part in (
        "sudo apt-get install tiny",
        "--mirror",
        "--deb-folder",
        "tiny_2_all.deb",
        "http://127.0.0.1:9/d/pool/main/t/tiny_2_all.deb",
        "apt-get is not installed",
    ):
        assert part in text
    assert "\n" not in text


@pytest.mark.usefixtures("without_apt")
def test_a_failed_unpacking_leaves_what_was_there(tmp_path: Path) -> None:
    package = write_deb(tmp_path / "debs" / "tiny_2_all.deb")
    folder = _fetch(package, tmp_path / "cache", debs=tmp_path / "debs")
    before = _files(folder)
    with pytest.raises(UserError, match="does not hold usr/none"):
        _fetch(package, tmp_path / "cache", ("usr/none",), debs=tmp_path / "debs")
    assert _files(folder) == before
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f"{folder.name}.lock"}


@pytest.mark.parametrize("wanted", ["", ".", "/", "..", "usr/../../x"])
def test_wanted_paths_must_lie_inside_the_package(tmp_path: Path, wanted: str) -> None:
    package = write_deb(tmp_path / "debs" / "tiny_2_all.deb")
    with pytest.raises(UserError, match="no path inside"):
        _fetch(package, tmp_path / "cache", (wanted,), debs=tmp_path / "debs")


@pytest.mark.parametrize("name", ["../evil", "--option", "", "a b"])
def test_odd_package_names_are_refused(tmp_path: Path, name: str) -> None:
    package = replace(write_deb(tmp_path / "debs" / "tiny_2_all.deb"), name=name)
    with pytest.raises(UserError, match="no Debian package"):
        _fetch(package, tmp_path / "cache", debs=tmp_path / "debs")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    package = write_deb(tmp_path / "debs" / "tiny_2_all.deb")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cache"):
        _fetch(package, tmp_path / "cache", debs=tmp_path / "debs")


# --- apt ----------------------------------------------------------------------------------------


def _private_apt(folder: Path, monkeypatch: pytest.MonkeyPatch, *packages: Package) -> None:
    """Make apt-get know one repository alone: the folder's, through file addresses."""
    index = "".join(
        f"Package: {p.name}\nVersion: {p.version}\nArchitecture: all\nMaintainer: a <a@b.c>\n"
        f"Filename: ./{p.deb}\nSize: {p.n_bytes}\nSHA256: {p.sha256}\nDescription: x\n\n"
        for p in packages
    )
    (folder / "repository" / "Packages").write_text(index)
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (folder / "apt" / name).mkdir(parents=True)
    (folder / "apt" / "status").touch()
    (folder / "apt" / "sources").write_text(f"deb [trusted=yes] file:{folder}/repository ./\n")
    (folder / "apt" / "conf").write_text(
        f'Dir::State "{folder}/apt/state";\nDir::State::status "{folder}/apt/status";\n'
        f'Dir::Cache "{folder}/apt/cache";\nDir::Etc "{folder}/apt/etc";\n'
        f'Dir::Etc::sourcelist "{folder}/apt/sources";\nAPT::Sandbox::User "";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(folder / "apt" / "conf"))
    subprocess.run(["apt-get", "-qq", "update"], check=True, env=os.environ)


needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="apt-get is Debian's own")


@needs_apt
def test_apt_downloads_the_very_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = tmp_path / "repository" / "pool/main/t"
    control = lzma.compress(tar_bytes({"control": b"Package: tiny\n"}, {}, {}))
    package = write_deb(pool / "tiny_2_all.deb", control=control)
    newer = write_deb(pool / "tiny_3_all.deb", {FONT: b"newer"}, control=control)
    _private_apt(tmp_path, monkeypatch, package, replace(newer, version="1:3.0-1"))
    folder = _fetch(package, tmp_path / "cache")
    assert (folder / FONT).read_bytes() == FILES[FONT]
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, f"{folder.name}.lock"}


@needs_apt
def test_another_build_that_apt_offers_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_deb(tmp_path / "repository" / "pool/main/t" / "tiny_2_all.deb", {FONT: b"other"})
    package = write_deb(tmp_path / "away" / "tiny_2_all.deb")
    _private_apt(tmp_path, monkeypatch, other)
    with pytest.raises(UserError, match=r"apt offers no tiny 1:2\.0-1 with the right SHA-256"):
        _fetch(package, tmp_path / "cache")
