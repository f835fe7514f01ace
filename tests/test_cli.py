"""The command line as a whole: instant help, one line for an error, never a traceback."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stemgmd_build import cli
from stemgmd_build.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "scipy", "pandas", "matplotlib", "soundfile", "mido")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stemgmd_build.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command_and_gives_examples() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "examples:" in result.stdout
    assert all(f"  {name} " in result.stdout for name in cli.COMMANDS)


IMPORTED = """
import sys
from stemgmd_build.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(status, [m for m in {heavy!r} if m in sys.modules], file=sys.stderr)
"""

LINES = {
    "": 0, "kits": 2, "gmd": 2, "biuld": 2,
    **{f"{name} --help": 0 for name in cli.COMMANDS},
    **{f"bench {name} --help": 0 for name in ("run", "score", "systems", "export")},
    **{f"kits {name} --help": 0 for name in ("list", "fetch", "audit", "preview")},
    **{f"{name} --no-such-option": 2 for name in cli.COMMANDS},
    "build --out x --workers none": 2, "separate": 2, "train": 2,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_what_is_answered_from_the_arguments_alone_loads_nothing_heavy(line: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(heavy=HEAVY), *line.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stderr.splitlines()[-1] == f"{LINES[line]} []"
    if line.endswith("--help") and " " not in line.removesuffix(" --help"):
        assert "examples:" in result.stdout
        assert f"stemgmd {line.split()[0]}" in result.stdout


def test_a_missing_module_names_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra, modules in cli.EXTRAS.items():
        for module in modules.split():
            monkeypatch.setattr(
                "stemgmd_build.commands.info.main",
                lambda argv, name=module: importlib.import_module(name),
            )
            with monkeypatch.context() as gone:
                gone.setitem(sys.modules, module, None)
                assert cli.main(["info"]) == 2
            line = f"this needs {module}: pip install 'stemgmd-bench[{extra}]'"
            assert capsys.readouterr().err == f"stemgmd info: error: {line}\n"


def test_the_extras_are_those_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    by_name = {"sklearn": "scikit-learn", "PIL": "pillow", "fluidsynth": "pyfluidsynth"}
    for extra, modules in cli.EXTRAS.items():
        named = " ".join(project["optional-dependencies"][extra])
        brought = set(re.findall(r"(?<![\w-])([\w-]+)[>\[]", named)) | {"distributed"}
        for module in modules.split():
            assert by_name.get(module, module) in brought, (extra, module)


def test_the_version_is_that_of_the_distribution() -> None:
    result = run("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("stemgmd ")


def test_an_unknown_command_is_one_line_and_status_2() -> None:
    result = run("biuld")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "biuld" in result.stderr


def test_bad_input_is_one_line_and_status_2() -> None:
    result = run("info", "no-such-folder")
    assert result.returncode == 2
    assert result.stderr.startswith("stemgmd info: error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_a_user_error_of_any_command_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: list[str]) -> int:
        raise UserError("x.mid is cut short; fetch it again")

    monkeypatch.setattr("stemgmd_build.commands.info.main", fail)
    assert cli.main(["info"]) == 2
    assert capsys.readouterr().err == ("stemgmd info: error: x.mid is cut short; fetch it again\n")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied", "x/y"), "x/y: Permission denied"),
        (OSError(36, "File name too long", "a" * 300), "File name too long"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    expected: str,
) -> None:
    def fail(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr("stemgmd_build.commands.info.main", fail)
    assert cli.main(["info"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("stemgmd info: error: ")
    assert said.count("\n") == 1
    assert expected in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    ("redirected", "status"),
    [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), ("2>/dev/full", 0), (">/dev/full", 2)],
)
def test_standard_streams_may_be_closed_or_full(
    tmp_path: Path, redirected: str, status: int
) -> None:
    """A file that a command writes never gets what is printed."""
    command = f"{sys.executable} -m stemgmd_build.cli --help {redirected}"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == status
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_the_program(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import os, sys, stemgmd_build.commands.info as info\n"
        "from stemgmd_build import cli\n"
        "def wait(argv):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "    finally:\n"
        "        print('tidied up')\n"
        "info.main = wait\n"
        "sys.argv[1:] = ['info']\n"
        "sys.exit(cli.main())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 128 + number
    assert result.stdout == "tidied up\n"
    assert result.stderr == f"stemgmd info: ended by {number.name}; run it again to go on\n"


def test_a_name_that_is_not_utf8_is_printed_as_its_bytes() -> None:
    code = (
        "import sys, stemgmd_build.commands.info as info\n"
        "from stemgmd_build import cli\n"
        "info.main = lambda argv: print(argv[0]) or 0\n"
        "sys.exit(cli.main())\n"
    )
    command = [sys.executable.encode(), b"-c", code.encode(), b"info", b"caf\xe9"]
    result = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, b"caf\xe9" + os.linesep.encode())
