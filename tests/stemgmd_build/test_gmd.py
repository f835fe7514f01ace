"""stemgmd_build.performances.gmd, archives and the `stemgmd gmd` command."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemgmd_build.cli import main
from stemgmd_build.errors import UserError
from stemgmd_build.performances import gmd
from stemgmd_build.performances.archives import unpack_zip
from stemgmd_build.performances.collection import Collection

MOST_BYTES = 1 << 20


def _zip_of(folder: Path, prefix: str = "groove/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, prefix + str(path.relative_to(folder)))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def groove_zip(builtin_collection: Collection) -> bytes:
    return _zip_of(builtin_collection.root)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STEMGMD_GMD", raising=False)
    return tmp_path / "cache"


class Server:
    """A real HTTP server that knows ranges and can break off every answer."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.breaks_after: int | None = None
        self.asked: list[str | None] = []
        self.url = ""


@pytest.fixture
def server(groove_zip: bytes) -> Iterator[Server]:
    state = Server(groove_zip)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            body = state.content[start:]
            self.send_response(206 if asked else 200)
            if asked:
                size = len(state.content)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.breaks_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/groove.zip"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def _fetch(server: Server, folder: Path | None = None) -> Collection:
    sha256 = hashlib.sha256(server.content).hexdigest()
    return gmd.fetch(folder, url=server.url, sha256=sha256, n_bytes=len(server.content))


def _visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# ---------------------------------------------------------------- finding


def test_gmd_is_found_by_option_then_variable_then_cache_then_built_in(
    cache: Path, builtin_collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gmd.find_collection(None).root.parent == cache
    assert gmd.find_collection(None).source == "builtin"
    roots = [tmp_path / "option", tmp_path / "variable", cache / "groove"]
    for root in roots:
        shutil.copytree(builtin_collection.root, root)
    assert gmd.find_collection(None).root == roots[2]
    monkeypatch.setenv("STEMGMD_GMD", str(roots[1]))
    assert gmd.find_collection(None).root == roots[1]
    assert gmd.find_collection(str(roots[0])).root == roots[0]


def test_a_named_folder_without_gmd_is_an_error_never_the_built_in_grooves(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"info\.csv"):
        gmd.find_collection(tmp_path)
    monkeypatch.setenv("STEMGMD_GMD", str(tmp_path))
    with pytest.raises(UserError, match=r"info\.csv"):
        gmd.find_collection(None)


def test_without_gmd_and_without_the_built_in_the_way_out_is_named(cache: Path) -> None:
    with pytest.raises(UserError, match="stemgmd gmd fetch"):
        gmd.find_collection(None, allow_builtin=False)


# ---------------------------------------------------------------- fetching


def test_fetch_puts_the_collection_where_it_is_found(
    server: Server, cache: Path, builtin_collection: Collection
) -> None:
    collection = _fetch(server)
    assert collection.root == cache / "groove"
    assert collection.performances == builtin_collection.performances
    assert gmd.find_collection(None) == collection
    assert _visible(cache) == ["groove"]


def test_a_download_that_breaks_off_is_resumed(server: Server, cache: Path) -> None:
    server.breaks_after = len(server.content) * 2 // 5
    _fetch(server)
    assert server.asked == [
        None,
        f"bytes={server.breaks_after}-",
        f"bytes={2 * server.breaks_after}-",
    ]


def test_wrong_bytes_are_refused_before_anything_is_unpacked(server: Server, cache: Path) -> None:
    with pytest.raises(UserError, match="not the expected file"):
        gmd.fetch(url=server.url, sha256="0" * 64, n_bytes=len(server.content))
    assert not (cache / "groove").exists()


def test_the_official_archive_is_pinned(server: Server, cache: Path) -> None:
    assert gmd.ARCHIVE_URL.startswith("https://storage.googleapis.com/magentadata/")
    server.content = bytes(gmd.ARCHIVE_BYTES)
    with pytest.raises(UserError, match=gmd.ARCHIVE_SHA256):
        gmd.fetch(url=server.url)


def test_an_empty_folder_is_filled_and_another_is_left_alone(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert len(_fetch(server, tmp_path / "empty").performances) == 36
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(UserError, match="holds something else"):
            _fetch(server, tmp_path / name)
    assert _visible(tmp_path / "full") == ["thesis.txt"]
    assert len(server.asked) == 1


def test_what_a_killed_run_left_does_not_disturb_the_next(server: Server, cache: Path) -> None:
    (cache / "groove.unpacking" / "half").mkdir(parents=True)
    (cache / "groove.zip.part").write_bytes(server.content[:1000])
    _fetch(server)
    assert server.asked == ["bytes=1000-"]
    assert _visible(cache) == ["groove"]


def test_an_archive_without_an_index_leaves_nothing_behind(
    server: Server, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.mid").write_bytes(b"MThd")
    server.content = _zip_of(tmp_path / "other")
    with pytest.raises(UserError, match=r"holds no info\.csv"):
        _fetch(server)
    assert "groove" not in _visible(cache)
    assert "groove.unpacking" not in _visible(cache)


def test_a_place_that_takes_no_files_is_one_clear_line_at_once(server: Server) -> None:
    """A lock that cannot be made is not taken for one that another process holds."""
    with pytest.raises(UserError, match=r"/proc/groove: GMD cannot be put there: No such file"):
        _fetch(server, Path("/proc/groove"))
    assert server.asked == []


_FETCH_ON_A_FULL_DISK = """
import resource, sys
from stemgmd_build.performances import gmd
from stemgmd_build.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    gmd.fetch(url=sys.argv[1], sha256=sys.argv[2], n_bytes=int(sys.argv[3]))
except UserError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_takes_no_more_is_one_clear_line_and_can_be_completed(
    server: Server, cache: Path
) -> None:
    sha256 = hashlib.sha256(server.content).hexdigest()
    arguments = [server.url, sha256, str(len(server.content))]
    result = subprocess.run(
        [sys.executable, "-c", _FETCH_ON_A_FULL_DISK, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "too large" in result.stderr.splitlines()[-1].lower()
    assert "Traceback" not in result.stderr
    assert not (cache / "groove").exists()
    assert len(_fetch(server).performances) == 36


# ---------------------------------------------------------------- unpacking


def _archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    return path


def _unpack(archive: Path, folder: Path) -> None:
    unpack_zip(archive, folder, max_members=50, max_bytes=MOST_BYTES)


def test_unpack_gives_back_files_and_folders(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip", ("x/", b""), ("x/y/a", b"1"), ("b", b"22"))
    _unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "x" / "y" / "a").read_bytes() == b"1"
    assert (tmp_path / "out" / "b").read_bytes() == b"22"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../x",
        "a/../../x",
        "..",
        "a\\..\\..\\x",
        "C:/x",
        "C:x",
        "a\nb",
        "\x1b[2J",
        "",
        ".",
    ],
)
def test_names_that_climb_out_are_refused_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    archive = _archive(tmp_path / "a.zip", ("fine", b"1"), (zipfile.ZipInfo(name), b"2"))
    with pytest.raises(UserError, match=r"a\.zip: .*nothing is unpacked") as caught:
        _unpack(archive, tmp_path / "out")
    assert str(caught.value).isprintable()
    assert _visible(tmp_path) == ["a.zip"]


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip", ("fine_name", b"1"))
    archive.write_bytes(archive.read_bytes().replace(b"fine_name", b"fine\0name"))
    with pytest.raises(UserError, match="nothing is unpacked"):
        _unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int, tmp_path: Path) -> None:
    member = zipfile.ZipInfo("link")
    member.create_system = 3
    member.external_attr = (kind | 0o777) << 16
    archive = _archive(tmp_path / "a.zip", (member, b"/etc/passwd"))
    with pytest.raises(UserError, match="link or device"):
        _unpack(archive, tmp_path / "out")


def test_bombs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    big = _archive(tmp_path / "big.zip", ("a", bytes(MOST_BYTES + 1)))
    many = _archive(tmp_path / "many.zip", *((f"{i}", b"") for i in range(51)))
    for archive in (big, many):
        with pytest.raises(UserError, match="are unpacked: it is not what it should be"):
            _unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_that_grows_beyond_its_declared_size_is_stopped(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip", ("a", bytes(1 << 24)))
    size = (1 << 24).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(UserError, match=r"a\.zip"):
        _unpack(archive, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1000


@pytest.mark.parametrize(
    "members", [("a", "a"), ("a", "a/b"), ("a/b", "a")], ids=["twice", "file first", "folder first"]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide_are_refused(members: tuple[str, str], tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.zip", *((name, b"1") for name in members))
    with pytest.raises(UserError, match=r"a\.zip"):
        _unpack(archive, tmp_path / "out")


def test_encrypted_and_oddly_compressed_members_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a", b"1")
    with pytest.raises(UserError, match="oddly compressed"):
        _unpack(archive, tmp_path / "out")
    data = bytearray(_archive(archive, ("a", b"1")).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(UserError, match="encrypted"):
        _unpack(archive, tmp_path / "out")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 12), st.binary(max_size=6)), max_size=5),
    cut=st.integers(0, 400),
)
def test_a_mutated_archive_is_unpacked_inside_or_is_a_user_error(
    tmp_path: Path, changes: list[tuple[int, bytes]], cut: int
) -> None:
    archive = _archive(tmp_path / "a.zip", ("x/a.mid", bytes(300)), ("info.csv", b"bpm\n" * 9))
    data = archive.read_bytes()
    for where, new in changes:
        i = where % len(data)
        data = data[:i] + new + data[i + len(new) :]
    archive.write_bytes(data[: len(data) - cut] if cut % 4 == 0 else data)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    message = "a.zip: unpacked"
    try:
        _unpack(archive, tmp_path / "out")
    except UserError as error:
        message = str(error)
    assert "a.zip" in message
    assert message.isprintable()
    assert set(_visible(tmp_path)) <= {"a.zip", "out"}


# ---------------------------------------------------------------- verifying


@pytest.fixture(scope="module")
def real_copy(gmd_root: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the real GMD that tests may spoil, made by unpacking an archive of it."""
    if gmd_root is None:
        pytest.skip("the real Groove MIDI Dataset is not at hand (STEMGMD_GMD)")
    folder = tmp_path_factory.mktemp("real")
    archive = folder / "groove.zip"
    archive.write_bytes(_zip_of(gmd_root))
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    fetched = gmd.fetch(
        folder / "gmd", url=archive.as_uri(), sha256=sha256, n_bytes=archive.stat().st_size
    )
    for path in fetched.root.rglob("*"):
        path.chmod(0o755)
    return fetched.root


def test_the_real_gmd_is_fetched_once_and_verifies(
    real_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gmd.fetch(real_copy, url="http://127.0.0.1:9/").source == "gmd"  # nothing is asked
    assert main(["gmd", "verify", str(real_copy), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["is_right"] is True
    assert report["n_performances"] == 1150
    assert report["n_hits"] == 446_312
    assert report["n_pedal_events"] == 508_117
    assert report["splits"] == {"train": 897, "validation": 124, "test": 129}
    assert report["n_eval_session"] == 40


def test_every_kind_of_damage_to_the_real_gmd_is_named(
    real_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = tmp_path / "drummer1" / "eval_session"
    shutil.copytree(real_copy / "drummer1" / "eval_session", session)
    gone, cut, changed = sorted(session.glob("*.mid"))[:3]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-40])
    data = bytearray(changed.read_bytes())
    hit = data.index(b"\x99")
    data[hit + 2] ^= 1  # one velocity by one
    changed.write_bytes(data)
    rows = (real_copy / "info.csv").read_text().splitlines(keepends=True)
    rows[40] = rows[40].replace("train", "test")
    removed = rows.pop(50).split(",")[7]
    (tmp_path / "info.csv").write_text("".join(rows))
    assert main(["gmd", "verify", str(tmp_path)]) == 1
    lines = capsys.readouterr().out
    assert f"1,141 files missing:\n  {gone.relative_to(tmp_path)}\n" in lines
    for kind, path in {
        "1 files that cannot be read": str(cut.relative_to(tmp_path)),
        "1 files with other content": str(changed.relative_to(tmp_path)),
        "1 rows of info.csv that differ": rows[40].split(",")[7],
        "1 rows missing from info.csv": removed,
    }.items():
        assert f"{kind}:\n  {path}" in lines
    with pytest.raises(UserError, match="something else than a whole GMD"):
        gmd.fetch(tmp_path, url="http://127.0.0.1:9/")


def test_the_checksums_of_gmd_are_intact() -> None:
    text = (Path(gmd.__file__).parent / "gmd_checksums.txt").read_text()
    comments = [line for line in text.splitlines(keepends=True) if line.startswith("#")]
    body = text.removeprefix("".join(comments))
    assert comments[-1] == f"# {hashlib.sha256(body.encode()).hexdigest()}\n"
    paths = [line.split()[2] for line in body.splitlines()]
    assert paths == sorted(set(paths))
    assert len(paths) == 1150


def test_verify_tells_that_the_built_in_grooves_are_not_gmd(
    builtin_collection: Collection,
) -> None:
    report = gmd.verify(builtin_collection.root)
    assert not report.is_right
    assert len(report.missing_rows) == len(report.missing_files) == 1150
    assert len(report.extra_rows) == report.n_performances == 36


def test_ctrl_c_while_verifying_promises_nothing(
    builtin_collection: Collection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gmd, "read_score", stop)
    assert main(["gmd", "verify", str(builtin_collection.root)]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "stemgmd gmd verify: interrupted; nothing was changed"


# ---------------------------------------------------------------- the command


def test_the_command_without_a_sub_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gmd"]) == 2
    assert "examples:" in capsys.readouterr().out


def test_the_command_fetches_and_says_what(
    server: Server, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size, sha256 = len(server.content), hashlib.sha256(server.content).hexdigest()
    command = ["gmd", "fetch", "--url", server.url, "--sha256", sha256, "--size", str(size)]
    assert main([*command, "--dir", str(cache / "own")]) == 0
    assert "36 performances" in (out := capsys.readouterr().out)
    assert f"--gmd {cache / 'own'}" in out
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"root": str(cache / "groove"), "n_performances": 36, "source": "builtin"}


def test_an_unreadable_copy_and_half_an_own_archive_are_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gmd", "verify", str(tmp_path)]) == 2
    assert "info.csv: cannot be read" in capsys.readouterr().err
    for extra in (["--sha256", "0" * 64], ["--size", "3", "--sha256", "0" * 64]):
        assert main(["gmd", "fetch", "--dir", str(tmp_path / "x"), *extra]) == 2
        assert "all three" in capsys.readouterr().err
    assert main(["gmd", "fetch", "--dir", str(tmp_path / "x"), "--size", "-3"]) == 2
    assert "--size must be at least 1" in capsys.readouterr().err
