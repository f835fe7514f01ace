"""Every command and every program that README and the pages show is run, or at least understood.

Shell and Python blocks are run in order in one folder a page, with a few of the built-in grooves; a
block with a title is written to the file of that name instead. Where that would take hours, a
download or a machine, a comment before the block says so, ``<!-- not run: why -->``; such a block
is parsed by the real parsers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from small_builds import write_collection

from stemgmd_build import cli
from stemgmd_build.dataset import RenderedStemGMD
from stemgmd_build.performances.collection import Collection, Performance

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
TEXTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *PAGES]
SHELL = ("bash", "sh")
NOT_OURS = {"cd", "cp", "dask", "demucs", "ls", "pip", "source", "tensorboard"}

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?"
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"`((?:stemgmd|make|python -m|pytest) [^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is written in, the file that it is, why it is not run."""

    language: str
    code: str
    title: str | None
    why: str | None


class Understood(Exception):
    """A command line got through its parser."""


def blocks(page: Path) -> list[Block]:
    return [Block(**match.groupdict()) for match in _BLOCK.finditer(page.read_text("utf-8"))]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def commands(code: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, as lists of words."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set(";&|"):
                yield words
                words = []
            else:
                words.append(word)
        yield words


def understand(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check one command as far as that is possible without running it."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if not words:
        return
    program, rest = Path(words[0]).name, words[1:]
    for word in rest:
        if re.match(r"(tests|benchmarks|larsnet|baselines|stemgmd_build|scripts)/", word):
            assert (REPOSITORY / word).exists(), word
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif program == "stemgmd":
        parse(cli.main, rest, monkeypatch)
    elif program in ("python", "torchrun") and "-m" in rest:
        module = rest[rest.index("-m") + 1]
        parse_module(module, rest[rest.index(module) + 1 :], monkeypatch)
    else:
        assert program in NOT_OURS | {"python", "pytest"}, f"what is {program}?"


def parse(main: object, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a command's real ``main`` up to where its arguments are parsed."""
    real = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *args: object) -> None:
        real(parser, *args)  # type: ignore[call-overload]
        raise Understood

    if arguments == ["--help"]:
        return
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Understood):
            main(arguments)  # type: ignore[operator]


def parse_module(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None
    if module == "stemgmd_build.cli":
        parse(cli.main, arguments, monkeypatch)
    elif "parse_args" in Path(spec.origin).read_text("utf-8") and module != "pytest":
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        parse(lambda _: runpy.run_path(spec.origin or "", run_name="__main__"), [], monkeypatch)


# Half a minute of CPU and more each; their blocks are parsed in any case.
SLOW = ("README", "tutorial", "evaluate", "system", "render", "train")


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_block_is_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks(page):
        if block.language in SHELL:
            for words in commands(block.code):
                understand(words, monkeypatch)
        elif block.language == "python":
            compile(block.code, name_of(page), "exec")
        elif block.language == "toml":
            tomllib.loads(block.code)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_link_to_a_file_leads_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_every_command_in_the_list_of_figures_is_understood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = _INLINE.findall((REPOSITORY / "docs" / "figures.md").read_text("utf-8"))
    assert found
    for line in found:
        for words in commands(line):
            understand(words, monkeypatch)


def to_run(page: Path) -> list[Block]:
    return [b for b in blocks(page) if not b.why and b.language in (*SHELL, "python")]


@pytest.fixture(scope="module")
def grooves(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Two of each session and split: it is the commands that are tried, and one scores every system
    on all that there are."""
    chosen: dict[tuple[str, str], list[Performance]] = {}
    for performance in builtin_collection.performances:
        chosen.setdefault((performance.split, performance.session), []).append(performance)
    two = [performance for group in chosen.values() for performance in group[:2]]
    return write_collection(tmp_path_factory.mktemp("few") / "groove", builtin_collection, two)


@pytest.fixture(scope="module")
def drums(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording such as the reader has: a groove on the kit that is everywhere at hand."""
    path = tmp_path_factory.mktemp("recording") / "drums.wav"
    kit = ["timgm6mb-pretty-midi"]
    data = RenderedStemGMD(builtin_collection.root, kits=kit, segment_sec=4, limit=1)
    soundfile.write(path, data[0].mixture.T, 44100)
    return path


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=pytest.mark.long if p.stem in SLOW else (), id=name_of(p))
        for p in TEXTS
        if to_run(p)
    ],
)
def test_what_the_page_shows_runs(
    page: Path, drums: Path, grooves: Collection, tmp_path: Path
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    there = {"STEMGMD_GMD": str(grooves.root), "PYTHONPATH": str(tmp_path)}
    there["HF_HOME"] = str(tmp_path / "huggingface")
    there["CI"] = "true"  # with it pyfluidsynth prints when it is imported, on every CI service
    environment = {**os.environ, **there, "PATH": path, "OMP_NUM_THREADS": "1"}
    for name in ("drums.wav", "song.wav", "recordings/one.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(drums.read_bytes())
    (tmp_path / "groove").symlink_to(grooves.root)
    for block in blocks(page):
        if block.title:
            (tmp_path / block.title).write_text(block.code, "utf-8")
            register(tmp_path)
        elif block in to_run(page):
            shell = ["bash", "-euo", "pipefail"] if block.language in SHELL else [sys.executable]
            result = subprocess.run(
                [*shell, "-c", block.code],
                cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900,
                check=False,
            )  # fmt: skip
            assert result.returncode == 0, f"{block.code}\n{result.stdout}\n{result.stderr}"


def register(folder: Path) -> None:
    """What ``pip install -e`` does with a project's entry points, in a folder on PYTHONPATH."""
    project = folder / "pyproject.toml"
    if not project.exists():
        return
    facts = tomllib.loads(project.read_text("utf-8"))["project"]
    info = folder / f"{facts['name'].replace('-', '_')}-{facts['version']}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Name: {facts['name']}\nVersion: {facts['version']}\n")
    lines = [
        line
        for group, entries in facts["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def test_the_card_of_the_dataset_lists_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kits", "list", "--json"]) == 0
    kits = json.loads(capsys.readouterr().out)
    rows = [
        [k["id"], f"[{k['name']}]({k['url']})", k["family"], k["split"],
         "yes" if k["default"] else "", k["licence"], k["author"]]
        for k in kits
    ]  # fmt: skip
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    assert table in (REPOSITORY / "docs" / "dataset-card.md").read_text("utf-8"), table


def test_the_pages_build_without_a_warning_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    loaded = re.compile(r'<(?:script|img|iframe)[^>]*\ssrc="?(https?:)?//|<link[^>]*href="?https?:')
    built = list(tmp_path.rglob("*.html"))
    assert len(built) > len(PAGES)
    for page in built:
        assert not loaded.search(page.read_text("utf-8")), page
