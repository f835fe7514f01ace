"""The command line as a whole: instant help, one line for an error, never a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stemgmd_build import cli
from stemgmd_build.errors import UserError

HEAVY = ("torch", "numpy", "scipy", "pandas", "matplotlib", "soundfile", "mido")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stemgmd_build.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command_and_gives_examples() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "examples:" in result.stdout
    assert all(f"  {name} " in result.stdout for name in cli.COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from stemgmd_build.cli import main; main(['--help']); "
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stderr.strip() == "[]"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_with_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.returncode == 0, result.stderr
    assert "examples:" in result.stdout
    assert f"stemgmd {name}" in result.stdout


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
