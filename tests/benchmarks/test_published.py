"""The tables that are published say what the records beside them say."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from benchmarks.tracks import rendered_tracks

from benchmarks.run import described
from benchmarks.systems import SYSTEMS, load
from stemgmd_build.performances.collection import read_collection
from stemgmd_build.taxonomy import STEMS

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ["leaderboard", "leaderboard/seen-kits", "leaderboard/ablation"]
NAMES = {
    "LarsNet-small + NMFD": "larsnet-small-nmfd",
    "NMFD": "nmfd",
    "LarsNet-small, alpha-Wiener": "larsnet-small-wiener",
    "LarsNet-small": "larsnet-small",
    "SAB-NMF": "nmf-sab",
    "NMF, fixed templates": "nmf-fixed",
    "NMFD, score-informed": "nmfd-score-informed",
    "oracle, phase-sensitive mask": "phase-sensitive",
    "ideal binary mask": "ideal-binary",
    "oracle, magnitude mask": "magnitude",
    "ideal ratio mask": "ideal-ratio",
}
"""As README and the results name the systems; silence and the mixture share a row there."""


@functools.cache
def records_of(board: str) -> pd.DataFrame:
    """All rows; not to be changed."""
    return pd.read_json(ROOT / board / "records.jsonl.gz", lines=True)


def nsdr(board: str) -> pd.DataFrame:
    """Rows of `leaderboard.csv`: mean nSDR over all kits of a view."""
    table = pd.read_csv(ROOT / board / "leaderboard.csv")
    return table[(table.metric == "nsdr_db") & (table.average == "mean") & (table.kit == "all")]


def cells_of(page: str, heading: str) -> dict[str, list[str]]:
    """Cells behind the name, by system, of the first table under a heading."""
    text = (ROOT / page).read_text()
    table = text[text.index(f"{heading}\n") :].split("\n| sees |", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[1]: row[2:] for row in rows if row[1] in NAMES}


@pytest.mark.parametrize("board", BOARDS)
def test_the_tables_are_of_the_records_beside_them(board: str) -> None:
    records = records_of(board)
    present = records[records.present]
    pooled = present.groupby("system").nsdr_db.mean()
    by_stem = present.groupby(["system", "stem"]).nsdr_db.mean()
    table = nsdr(board)
    assert set(table.system) == set(present.system)
    for row in table[table.stem.isin(["all", *STEMS])].itertuples():
        expected = pooled[row.system] if row.stem == "all" else by_stem[row.system, row.stem]
        assert row.value == pytest.approx(expected, abs=1e-9), (row.system, row.stem)


def test_every_system_was_scored_on_every_clip_in_one_run_of_one_commit() -> None:
    records = records_of("leaderboard")
    records = records.assign(clip=records.track + " " + records.kit + " " + records.data)
    clips = records.groupby("system").clip.agg(set)
    assert set(clips.index) == set(SYSTEMS)
    assert {len(each) for each in clips} == {516}
    assert all(each == clips.iloc[0] for each in clips)
    assert not records.duplicated(["system", "clip", "stem"]).any()
    run = json.loads((ROOT / "leaderboard" / "run.json").read_text())
    assert len(run["commits"]) == 1
    assert run["machine"]


def test_the_systems_are_those_of_the_code_at_hand() -> None:
    """Their revisions are hashes of all that decides what they give."""
    records = records_of("leaderboard")
    scored = records.groupby("system").revision.agg(set).to_dict()
    assert scored == {system: {load(system).info.revision} for system in SYSTEMS}


def test_the_clips_are_those_that_are_rendered_today(gmd_root: Path | None) -> None:
    """The hash of a track follows from the renderer, the kit's bank and gain, and the MIDI."""
    if gmd_root is None:
        pytest.skip("needs the Groove MIDI Dataset")
    records = records_of("leaderboard")
    tracks = rendered_tracks(read_collection(gmd_root), split=["test"], kits=["test"])
    assert {(t.performance, t.kit, t.data) for t in tracks} == {
        *zip(records.track, records.kit, records.data, strict=True)
    }


@pytest.mark.parametrize(
    ("page", "heading", "board"),
    [
        ("README.md", "### Leaderboard", "leaderboard"),
        ("docs/results.md", "## The 40 clips", "leaderboard/paper-clips"),
    ],
)
def test_the_written_table_is_the_boards(page: str, heading: str, board: str) -> None:
    table = nsdr(board).set_index(["system", "stem"])
    written = cells_of(page, heading)
    assert set(written) == set(NAMES)
    for name, system in NAMES.items():
        row = table.loc[system]
        pooled = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**row.loc["all"])
        expected = [pooled, *(f"{row.loc[stem].value:.2f}" for stem in ["macro", *STEMS])]
        assert [cell.replace("*", "") for cell in written[name]][:7] == expected, name


def test_readme_has_the_clips_and_the_speed_of_the_board() -> None:
    clips = nsdr("leaderboard/paper-clips").set_index(["system", "stem"])
    ratios = {entry.system: entry.real_time_ratio for entry in described(ROOT / "leaderboard")}
    for name, cells in cells_of("README.md", "### Leaderboard").items():
        value = clips.loc[(NAMES[name], "all")].value
        written = [cells[7].strip("*"), cells[8]]
        assert written == [f"{value:.2f}", f"{ratios[NAMES[name]]:.1f}"], name


def test_the_model_card_scores_are_the_boards() -> None:
    """Rows of the packaged weights, their refinement and NMFD, of each of the boards in turn."""
    card = (ROOT / "larsnet" / "weights" / "larsnet-small.md").read_text()
    seen = "leaderboard/seen-kits"
    for label, system, board in [
        ("alpha-Wiener filter, alpha 1", "larsnet-small-wiener", "leaderboard/paper-clips"),
        ("masks as they are", "larsnet-small", "leaderboard/paper-clips"),
        ("with the filter, refined", "larsnet-small-nmfd", "leaderboard"),
        ("for comparison: NMFD, blind", "nmfd", "leaderboard"),
        ("the whole split, alpha-Wiener filter, alpha 1", "larsnet-small-wiener", seen),
        ("the whole split, masks as they are", "larsnet-small", seen),
        ("all six augmentations", "all-augmentations", "leaderboard/ablation"),
    ]:
        row = nsdr(board).set_index(["system", "stem"]).loc[system]
        pooled = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**row.loc["all"])
        stems = " | ".join(f"{row.loc[stem].value:.2f}" for stem in STEMS)
        pattern = rf"^\| {re.escape(label)} \| {re.escape(pooled)} \|.*{re.escape(stems)} \|"
        assert re.search(pattern, card, re.MULTILINE), label
