"""The report's tables: their numbers, their words and their escapes."""

from __future__ import annotations

import io
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D
from msgspec.structs import replace as changed
from PIL import Image
from small_results import KITS, SHAPES, records, systems, write_results

from benchmarks.records import to_line
from benchmarks.report.board import METRICS, Board, group_of, make_boards
from benchmarks.report.markup import latex, markdown, to_latex, to_markdown
from benchmarks.report.picture import board_figure, draw_board
from benchmarks.report.results import Results, read_results
from benchmarks.report.statistics import Estimate
from benchmarks.report.tables import Table, describe_data, make_tables, number, published_table
from benchmarks.report.tidy import averages_csv, comparisons_csv
from benchmarks.results_folder import RECORDS, SYSTEMS
from benchmarks.scores.metrics import pool
from stemgmd_build.errors import UserError
from stemgmd_build.plots import COLORS
from stemgmd_build.taxonomy import STEMS

BOTH = {"avl-black-pearl": "test", "millo-2": "train"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("results")
    return read_results([write_results(folder, records(12, BOTH))])


@pytest.fixture(scope="module")
def boards(results: Results) -> tuple[Board, ...]:
    return make_boards(results)


def values(results: Results, system: str, split: str, field: str) -> list[tuple[str, float]]:
    found = [
        (r.stem, getattr(r, field))
        for r in results.records
        if r.system == system and r.kit_split == split and r.present
    ]
    return [(stem, math.nan if value is None else value) for stem, value in found]


def test_numbers_equal_those_of_pool(results: Results, boards: tuple[Board, ...]) -> None:
    frame = pd.read_csv(io.StringIO(averages_csv(boards)))
    for view, split in (("unseen", "test"), ("seen", "train")):
        for metric in METRICS:
            if metric.average == "power" or metric not in boards[0].metrics:
                continue
            for system in ("nmfd", "larsnet-small", "ideal-ratio"):
                expected = pool(values(results, system, split, metric.id))
                rows = frame[
                    (frame["view"] == view) & (frame["system"] == system) & (frame["kit"] == "all")
                    & (frame["metric"] == metric.id)
                ].set_index("stem")["value"]  # fmt: skip
                median = metric.average == "median"
                assert rows["all"] == pytest.approx(expected.median if median else expected.mean)
                macro = expected.macro_median if median else expected.macro_mean
                assert rows["macro"] == pytest.approx(macro)
                for stem in expected.stems:
                    value = stem.median if median else stem.mean
                    assert rows[stem.stem] == pytest.approx(value)


def test_leakage_is_of_absent_stems_alone(results: Results, boards: tuple[Board, ...]) -> None:
    row = next(r for r in boards[0].rows if r.system.system == "nmfd")
    absent = [
        r.leakage_db
        for r in results.records
        if r.system == "nmfd" and r.kit_split == "test" and r.leakage_db is not None
    ]
    mean_db = 10 * np.log10(np.mean(10 ** (np.array(absent) / 10)))
    assert row.summaries["leakage_db"].pooled.value == pytest.approx(mean_db)
    assert row.summaries["leakage_db"].pooled.n == len(absent)


def test_the_csv_keeps_every_digit_infinities_and_blanks(boards: tuple[Board, ...]) -> None:
    frame = pd.read_csv(io.StringIO(averages_csv(boards)))
    row = boards[0].rows[0]
    chosen = frame[(frame["view"] == boards[0].view) & (frame["system"] == row.system.system)]
    pooled = chosen[(chosen["metric"] == "nsdr_db") & (chosen["stem"] == "all")]
    value = pooled[pooled["kit"] == "all"]["value"].item()
    assert value == pytest.approx(row.summaries["nsdr_db"].pooled.value, rel=1e-15)
    zero = frame[(frame["system"] == "zero") & (frame["metric"] == "si_sdr_db")]
    assert (zero["value"] == -math.inf).all()
    assert (zero["n_infinite"] == zero["n_pairs"]).all()
    assert not ((frame["system"] == "zero") & (frame["metric"] == "sir_db")).any()
    compared = pd.read_csv(io.StringIO(comparisons_csv(boards)))
    assert len(compared) == 2 * (len(SHAPES) - 3)  # two views, three groups with a best each
    assert compared["p_holm"].between(0, 1).all()
    assert (compared["p_holm"] >= compared["p"]).all()


def test_seen_kits_and_unseen_kits_stand_apart(boards: tuple[Board, ...]) -> None:
    assert [(b.view, b.kits) for b in boards] == [
        ("unseen", ("avl-black-pearl",)),
        ("seen", ("millo-2",)),
    ]


def test_a_kit_that_a_system_has_seen_is_seen_whatever_its_split(tmp_path: Path) -> None:
    folder = write_results(tmp_path, (r for r in records(4) if r.system == "nmfd"))
    line = changed(next(s for s in systems() if s.system == "nmfd"), kits_seen=("colombo",))
    (folder / SYSTEMS).write_text(to_line(line))
    unseen, seen = make_boards(read_results([folder]))
    assert set(unseen.kits) == set(KITS) - {"colombo"}
    assert seen.kits == ("colombo",)


def test_groups_are_ranked_apart_and_bounds_are_no_competitors(boards: tuple[Board, ...]) -> None:
    for board in boards:
        for group in ("blind", "score-informed", "oracle"):
            rows = [row for row in board.rows if row.group == group]
            assert [row.rank for row in rows] == list(range(1, len(rows) + 1))
            heights = [row.summaries["nsdr_db"].pooled.value for row in rows]
            assert heights == sorted(heights, reverse=True)
            assert all(group_of(row.system) == group for row in rows)


def test_captions_say_what_a_table_rests_on(results: Results, boards: tuple[Board, ...]) -> None:
    for table in make_tables(results, boards):
        if " kits" not in table.title or "Published" in table.title:
            continue
        for word in (
            "12 clips, 12 performances",
            "pairs (KD",
            "All metrics are of version 1",
            "synthetic",
        ):
            assert word in table.caption
    headline = make_tables(results, boards)[0].caption
    for word in ("LarsNet's definition", "bootstrap over performances", "Holm", "Example CPU"):
        assert word in headline


def test_intervals_of_few_performances_are_marked(
    results: Results, boards: tuple[Board, ...]
) -> None:
    table = make_tables(results, boards)[0]
    toms, kick = (table.header.index(stem) for stem in ("TT", "KD"))
    assert all(row[toms].endswith("]†") for row in table.rows)
    assert not any("†" in row[kick] for row in table.rows)


def test_published_figures_are_not_ranked() -> None:
    table = published_table()
    assert [row[2] for row in table.rows] == ["17.70", "10.97", "7.24"]
    assert table.rows[0][3:] == ("13.72", "27.19", "21.77", "9.10", "6.43", "4.09")
    assert "not ranked" in table.caption
    assert "#" not in table.header


def test_clips_that_not_all_were_scored_on_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [
        r for r in records(6)
        if not (r.system == "nmfd" and r.track.endswith(("/4", "/5")))
        and not (r.system == "zero" and r.track.endswith("/0") and r.stem == "snare")
    ]  # fmt: skip
    results = read_results([write_results(tmp_path, iter(lines))])
    (board,) = make_boards(results)
    assert board.n_performances == 3
    assert "Only the 12 clips" in describe_data(board, results)
    assert "12 more (missing from nmfd)" in describe_data(board, results)
    for row in board.rows:
        assert row.summaries["nsdr_db"].pooled.n == sum(board.n_pairs.values())


def test_nothing_in_common_is_one_line(tmp_path: Path) -> None:
    lines = [r for r in records(2) if (r.system == "nmfd") == r.track.endswith("/0")]
    with pytest.raises(UserError, match="no clip on unseen kits was scored whole by all of"):
        make_boards(read_results([write_results(tmp_path, iter(lines))]))


def test_unlike_records_are_refused_and_latest_chooses(tmp_path: Path) -> None:
    folder = write_results(tmp_path, records(2))
    new = (folder / RECORDS).read_text()
    old = [changed(r, metrics={**r.metrics, "nsdr": 0}) for r in records(2) if r.system == "nmfd"]
    (folder / RECORDS).write_text(new + "".join(map(to_line, old)))
    with pytest.raises(UserError, match=r"metric versions \(nsdr; older ones of nmfd\).*--latest"):
        read_results([folder])
    chosen = read_results([folder], latest_only=True)
    assert "nmfd" not in {s.system for s in chosen.systems}
    assert f"{len(old)} records of earlier versions of nsdr are left out." in chosen.notes
    (folder / RECORDS).write_text("".join(map(to_line, old)) + new)  # that system scored again
    assert read_results([folder]).notes == ()
    other = [changed(r, data="other") for r in records(2) if r.track.endswith("/1")]
    (folder / RECORDS).write_text(new + "".join(map(to_line, other)))
    with pytest.raises(UserError, match=r"4 tracks were scored on several renderings.*--latest"):
        read_results([folder])
    kept = read_results([folder], latest_only=True)
    assert {r.data for r in kept.records if r.track.endswith("/1")} == {"other"}


def test_earlier_revisions_are_left_out_with_a_note(tmp_path: Path) -> None:
    folder = write_results(tmp_path, records(2))
    old = "".join(to_line(changed(r, revision="0")) for r in records(2) if r.system == "nmfd")
    (folder / RECORDS).write_text(old + (folder / RECORDS).read_text())
    results = read_results([folder])
    assert {s.revision for s in results.systems} == {"1"}
    assert results.notes == ("40 records of earlier revisions of systems are left out.",)


def test_folders_merge_and_compressed_records_are_read(tmp_path: Path) -> None:
    import gzip

    one = write_results(tmp_path / "one", (r for r in records(3) if r.system == "nmfd"))
    two = write_results(tmp_path / "two", (r for r in records(3) if r.system != "nmfd"))
    with gzip.open(two / f"{RECORDS}.gz", "wt") as file:
        file.write((two / RECORDS).read_text())
    (two / RECORDS).unlink()
    merged = read_results([one, two])
    assert len(merged.records) == len(list(records(3)))
    assert {s.system for s in merged.systems} == {name for name, *_ in SHAPES}
    assert [r.system for r in read_results([one, two], wanted=["zero"]).systems] == ["zero"]


def test_some_performances_alone_are_chosen_by_a_pattern(tmp_path: Path) -> None:
    folder = write_results(tmp_path, records(8))
    results = read_results([folder], tracks="drummer1/*")
    assert {r.track for r in results.records} == {f"drummer1/eval_session/{n}" for n in (1, 5)}
    (board,) = make_boards(results)
    assert board.n_performances == 2
    assert "Performances drummer1/* alone." in describe_data(board, results)
    with pytest.raises(UserError, match=r"no record is of a performance 'drummer9/\*'"):
        read_results([folder], tracks="drummer9/*")


def test_systems_are_compared_with_the_one_that_is_named(results: Results) -> None:
    """Others of its group with it, those of other groups with their best as before."""
    plain, named = make_boards(results)[0], make_boards(results, "nmf")[0]
    by_name = {row.system.system: row for row in named.rows}
    assert by_name["nmf"].against is None
    best = next(row for row in plain.rows if row.rank == 1)
    against_best = next(row.against for row in plain.rows if row.system.system == "nmf")
    found = by_name[best.system.system].against
    assert found is not None
    assert against_best is not None
    assert found.difference == pytest.approx(-against_best.difference)
    assert [r for r in named.rows if r.group != "blind"] == [
        r for r in plain.rows if r.group != "blind"
    ]
    text = to_markdown(make_tables(results, [named]), "t")
    assert "mean paired difference to NMF, fixed templates" in text
    assert "mean paired difference to the best of the group" in text
    rows = pd.read_csv(io.StringIO(comparisons_csv([named])))
    assert set(rows[rows.group == "blind"].against) == {"nmf"}
    with pytest.raises(UserError, match="no records of wonder"):
        make_boards(results, "wonder")


def test_bad_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        read_results([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="holds no records"):
        read_results([tmp_path])
    folder = write_results(tmp_path / "run", records(1))
    with pytest.raises(UserError, match="no records of wonder; there are mixture"):
        read_results([folder], wanted=["wonder"])
    (folder / "run.json").write_text("{")  # facts alone: tables can do without
    assert read_results([folder]).runs == ({},)
    (folder / SYSTEMS).write_text("")
    with pytest.raises(UserError, match="says nothing of mixture, revision 1"):
        read_results([folder])


def test_latex_is_balanced_and_escaped(results: Results, boards: tuple[Board, ...]) -> None:
    hostile = Table("50 % & more_{x} $y$ \\end #1 ~ ^", "A\nB", ("a", "b"), (("[1]", "−∞ < 2"),))
    source = to_latex([*make_tables(results, boards), hostile])
    assert source.count(r"\begin{tabular}") == source.count(r"\end{tabular}") > 10
    assert source.count(r"\begin{table*}") == source.count(r"\end{table*}")
    assert source.count(r"\toprule") == source.count(r"\bottomrule") == source.count(r"\midrule")
    bare = re.sub(r"\\.", "", source)  # without escaped characters
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    body = [line for line in source.splitlines() if line.endswith(r" \\")]
    for line in body:
        assert not re.search(r"(?<!\\)[%#_]", line)
    assert latex("50 % & a_b") == r"50 \% \& a\_b"
    assert r"{[1]} & {$-$$\infty$ $<$ 2} \\" in source
    for line in source.splitlines():  # as many cells as columns
        if line.startswith(r"\begin{tabular}"):
            n_columns = len(line.removeprefix(r"\begin{tabular}").strip("{}"))
        if line in body:
            assert len(re.split(r"(?<!\\) & ", line)) == n_columns


def test_markdown_shows_names_as_they_are(results: Results, boards: tuple[Board, ...]) -> None:
    document = to_markdown(make_tables(results, boards), "Title")
    for block in re.split(r"\n\n", document):
        if block.startswith("|"):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(counts) == 1
    assert markdown("a|b <script> *x* `y`\n[z](u)") == (r"a\|b &lt;script&gt; \*x\* \`y\` \[z\](u)")


def test_numbers_read_well() -> None:
    minus = "\N{MINUS SIGN}"
    assert number(-0.004, 2) == "0.00"
    assert number(-1.5, 2) == f"{minus}1.50"
    assert number(-math.inf, 2) == f"{minus}∞"
    assert number(math.nan, 2) == "\N{EN DASH}"


def test_every_stem_of_the_taxonomy_has_its_column(boards: tuple[Board, ...]) -> None:
    for row in boards[0].rows:
        assert set(row.summaries["nsdr_db"].stems) == set(STEMS)
        for kit in row.kits.values():
            assert set(kit) == {"all", *STEMS}


def test_the_picture_shows_every_system_where_the_table_has_it(boards: tuple[Board, ...]) -> None:
    (axes,) = board_figure(boards[0]).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [row.system.name for row in reversed(boards[0].rows)]
    low, high = axes.get_xlim()
    for place, row in enumerate(reversed(boards[0].rows)):
        summary = row.summaries["nsdr_db"]
        (bar,) = (line for line in axes.lines if list(line.get_ydata()) == [place, place])
        assert list(bar.get_xdata()) == [summary.pooled.low, summary.pooled.high]
        marks = [(line.get_xdata()[0], line.get_marker()) for line in axes.lines
                 if list(line.get_ydata()) == [place]]  # fmt: skip
        assert (summary.pooled.value, "D") in marks
        assert len(marks) == 1 + len(summary.stems)
        for stem in summary.stems.values():
            assert ((stem.value, "o") in marks) or stem.value < low
        assert all(low < x < high for x, _ in marks)


def with_values(board: Board, system: str, pooled: Estimate, stems: dict[str, float]) -> Board:
    """A board on which a system has other values."""
    rows = []
    for row in board.rows:
        if row.system.system == system:
            summary = row.summaries["nsdr_db"]
            found = {s: replace(summary.stems[s], value=value) for s, value in stems.items()}
            other = replace(summary, pooled=pooled, stems=found)
            row = replace(row, summaries={**row.summaries, "nsdr_db": other})
        rows.append(row)
    return replace(board, rows=tuple(rows))


POOLED = Estimate(-8.19, -8.80, -7.62, 100, 12, 0, 0)
BELOW = {"kick": -11.5, "snare": 2.0, "toms": -3.0, "hihat": -16.5, "cymbals": -17.6}


@pytest.mark.parametrize(
    ("pooled", "stems"),
    [
        (POOLED, BELOW),
        (POOLED, dict.fromkeys(STEMS, -12.0)),
        (POOLED, {**BELOW, "hihat": -9.3, "cymbals": -math.inf}),
        (replace(POOLED, value=-30.0, low=-41.0, high=-20.0), dict.fromkeys(STEMS, -50.0)),
        (replace(POOLED, low=math.nan, high=math.nan), BELOW),
    ],
)
def test_what_lies_below_the_axis_of_the_picture_has_its_own_place(
    boards: tuple[Board, ...], pooled: Estimate, stems: dict[str, float]
) -> None:
    board = with_values(boards[0], "mixture", pooled, stems)
    figure = board_figure(board)
    figure.canvas.draw()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    for row in board.rows:
        mean = row.summaries["nsdr_db"].pooled
        assert all(low < x < high for x in (mean.value, mean.low, mean.high) if not math.isnan(x))
    place = [row.system.system for row in reversed(board.rows)].index("mixture")
    missing = {COLORS[stem]: value for stem, value in stems.items() if value < low}
    marks = [
        line for line in axes.lines
        if line.get_marker() == "<" and list(line.get_ydata()) == [place]
    ]  # fmt: skip
    assert {line.get_color() for line in marks} == set(missing)
    assert len(marks) == len(missing) > 1
    # In pixels: apart from each other, from the scale and from the name, in the order of values.
    width = marks[0].get_markersize() * figure.dpi / 72
    marks.sort(key=lambda line: -middle(line))
    assert all(middle(b) < middle(a) - width for a, b in itertools.pairwise(marks))
    ordered = [missing[line.get_color()] for line in marks]
    assert ordered == sorted(ordered, reverse=True)
    name = axes.get_yticklabels()[place].get_window_extent()
    assert name.x1 < middle(marks[-1]) - width / 2
    assert middle(marks[0]) + width / 2 < axes.get_window_extent().x0
    # Their values beneath, side by side, in their colours.
    texts = {t.get_color(): t for t in axes.texts if t.xy == (0, place) and t.get_fontsize() == 7}
    assert {color: t.get_text() for color, t in texts.items()} == {
        color: number(value, 1) for color, value in missing.items()
    }
    beneath = [texts[line.get_color()].get_window_extent() for line in marks]
    assert all(b.x1 < a.x0 for a, b in itertools.pairwise(beneath))
    assert all(box.y1 < name.y0 + 2 for box in beneath)
    (legend,) = figure.legends
    assert any("below the axis" in text.get_text() for text in legend.get_texts())
    assert all(box.x0 >= 0 for box in (legend.get_window_extent(), *beneath))
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def middle(line: Line2D) -> float:
    """Where a mark stands, in pixels from the picture's left edge."""
    return float(line.get_transform().transform((line.get_xdata()[0], 0))[0])


def test_the_legend_of_the_picture_names_nothing_that_is_not_drawn(
    boards: tuple[Board, ...],
) -> None:
    near = with_values(
        boards[0], "mixture", replace(POOLED, value=-4.0, low=-5.0, high=-3.0),
        dict.fromkeys(STEMS, -7.5),
    )  # fmt: skip
    figure = board_figure(near)
    assert all(line.get_marker() != "<" for line in figure.axes[0].lines)
    (legend,) = figure.legends
    assert not any("below" in text.get_text() for text in legend.get_texts())


def test_the_picture_is_written_whole(boards: tuple[Board, ...], tmp_path: Path) -> None:
    draw_board(boards[0], tmp_path / "new" / "board.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["board.png"]
    with Image.open(tmp_path / "new" / "board.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20
