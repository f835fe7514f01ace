"""README and pages stay short, in words and in sentences. Their tables are the board's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stemgmd_build.taxonomy import STEMS

REPOSITORY = Path(__file__).resolve().parents[2]
README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
BOARD = REPOSITORY / "leaderboard"
# Maintainers' notes keep their own form.
NOTES = ("figures.md", "newcomer.md", "research-log.md")
CARDS = sorted((REPOSITORY / "larsnet" / "weights").glob("*.md"))
PAGES = [README, *CARDS, *(p for p in sorted(DOCS.rglob("*.md")) if p.name not in NOTES)]
_NOT_OUR_WORDS = re.compile(
    r"\b(accelerators?|processors?|goes on|go on|went on|heard|an own kit)\b",
    re.IGNORECASE,
)
MOST_WORDS = 30

_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"!?\[((?:\[[^\]]*\]|[^\]])*)\]\([^)]*\)")
_CODE = re.compile(r"`[^`]*`")


def words(text: str) -> list[str]:
    return [word for word in text.split() if re.search(r"\w", word)]


def sentences(page: str) -> Iterator[str]:
    """The sentences of a page in Markdown. A cell, a heading and a list item end one each.

    A piece of code in text is one word.
    """
    text = _COMMENT.sub("", _FENCE.sub("\n\n", page))
    text = _LINK.sub(r"\1", _CODE.sub("Code", text))
    text = re.sub(r"^\s*(?:[-*]|\d+\.|#+|>|!!!)\s", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"^\|.*\|$", lambda row: row[0].replace("|", "\n\n"), text, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", text):
        flat = " ".join(paragraph.split())
        yield from re.split(r"(?<=[.!?:])[\"')*]*\s+(?=[^a-z])", flat)


def test_a_long_sentence_is_found_wherever_it_stands() -> None:
    long = " ".join(["word"] * (MOST_WORDS + 1)) + "."
    for page in (
        long,
        f"- Short.\n- {long}",
        f"| a | {long} |",
        f"[{long}](x.md)",
        f"Short. A {long}",
    ):
        assert any(len(words(s)) > MOST_WORDS for s in sentences(page)), page
    assert not any(len(words(s)) > MOST_WORDS for s in sentences(f"```sh\n{long}\n```\n`{long}`"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_no_sentence_is_longer_than_thirty_words(page: Path) -> None:
    found = [s for s in sentences(page.read_text("utf-8")) if len(words(s)) > MOST_WORDS]
    assert not found, "\n".join(f"{len(words(s))}: {s}" for s in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_pages_use_the_fields_words(page: Path) -> None:
    text = " ".join(sentences(page.read_text("utf-8")))
    assert not _NOT_OUR_WORDS.findall(text)


def test_the_readme_has_at_most_900_words() -> None:
    assert len(words(README.read_text("utf-8"))) <= 900


def board_values(folder: Path) -> pd.DataFrame:
    """nSDR over all unseen kits: a row per system, best first in its group."""
    table = pd.read_csv(folder / "leaderboard.csv")
    chosen = (table["view"] == "unseen") & (table.metric == "nsdr_db") & (table.kit == "all")
    return table[chosen & ~table.system.isin(["zero", "mixture"])]


def shown_rows(page: Path, head: str) -> list[list[str]]:
    """The cells of the table that begins with ``head``."""
    text = page.read_text("utf-8")
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("page", [DOCS / "how-to" / "separate.md", *CARDS], ids=lambda p: p.stem)
def test_scores_of_models_are_the_boards(page: Path) -> None:
    pooled = board_values(BOARD).query("stem == 'all'").set_index("system").value
    head = re.search(r"^\| model \|.*$", page.read_text("utf-8"), re.MULTILINE)
    assert head is not None
    rows = shown_rows(page, head[0])
    assert rows
    for name, score, *_ in rows:
        named = re.sub(r"`| \(default\)", "", name)
        assert score == f"{pooled[named]:.2f}", name


def systems() -> dict[str, dict[str, Any]]:
    lines = (BOARD / "systems.jsonl").read_text("utf-8").splitlines()
    return {facts["system"]: facts for facts in map(json.loads, lines)}


def test_the_table_of_the_readme_is_the_boards() -> None:
    table = board_values(BOARD)
    blind = table[table.group == "blind"]
    wide = blind.pivot_table(index=["rank", "system"], columns="stem", values="value").sort_index()
    expected = [
        [systems()[system]["name"], *(f"{row[stem]:.2f}" for stem in ("all", *STEMS))]
        for (_, system), row in wide.iterrows()
    ]
    assert shown_rows(README, "| system | pooled |") == expected[:6]


def test_the_table_of_the_results_page_is_the_boards() -> None:
    table, paper = board_values(BOARD), board_values(BOARD / "paper-clips")
    found = {row[0]: row for row in shown_rows(DOCS / "results.md", "| system | sees |")}
    assert len(found) == table.system.nunique()
    for system, facts in systems().items():
        if facts["name"] in found:
            own = table[table.system == system].set_index("stem")
            pooled, mean = own.loc["all"], own.loc["macro"]
            clips = paper[(paper.system == system) & (paper.stem == "all")].value.item()
            assert found[facts["name"]][2:] == [
                f"{pooled.value:.2f} [{pooled.low:.2f}, {pooled.high:.2f}]",
                f"{mean.value:.2f}",
                f"{clips:.2f}",
                f"{facts['real_time_ratio']:.1f}",
            ]
