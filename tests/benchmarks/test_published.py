"""The tables that are published say what the records beside them say, and no test asks for more.

Which systems were scored, when and by which commit is for the tables to state.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from msgspec.structs import asdict

from benchmarks.results_folder import ResultsFolder
from stemgmd_build.taxonomy import STEMS

ROOT = Path(__file__).resolve().parents[2] / "leaderboard"
BOARDS = sorted(path.parent for path in ROOT.glob("**/leaderboard.csv"))


def records_of(board: Path) -> pd.DataFrame:
    """The records beside a board's tables; of the paper's clips those of the board above."""
    paper = board.name == "paper-clips"
    found = pd.DataFrame(map(asdict, ResultsFolder(board.parent if paper else board).records()))
    return found[found.track.str.contains("/eval_session/")] if paper else found


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_the_tables_are_of_the_records_beside_them(board: Path) -> None:
    records = records_of(board)
    present = records[records.present]
    pooled = present.groupby("system").nsdr_db.mean()
    by_stem = present.groupby(["system", "stem"]).nsdr_db.mean()
    table = pd.read_csv(board / "leaderboard.csv")
    table = table[(table.metric == "nsdr_db") & (table.kit == "all")]
    assert set(table.system) == set(present.system)
    for row in table[table.stem.isin(["all", *STEMS])].itertuples():
        expected = pooled[row.system] if row.stem == "all" else by_stem[row.system, row.stem]
        assert row.value == pytest.approx(expected, abs=1e-9), (row.system, row.stem)
    page = (board / "leaderboard.md").read_text("utf-8")
    for commit in set(records.commit):
        assert commit in page
    described = {(s.system, s.revision) for s in ResultsFolder(board).systems()}
    if described:
        assert set(zip(records.system, records.revision, strict=True)) <= described
