"""The report's page, in headless Chromium where there is one, and the files beside it."""

from __future__ import annotations

import argparse
import base64
import gzip
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from msgspec.structs import replace as changed
from PIL import Image
from small_results import SHAPES, records, systems, write_clip, write_results

from benchmarks.commands import report
from benchmarks.records import to_line
from benchmarks.report import write
from benchmarks.report.clips import (
    MAX_BYTES,
    clip_script,
    encode_mp3,
    find_clips,
    merge_clips,
    spectrogram_db,
)
from benchmarks.report.page import embed
from benchmarks.report.results import read_results
from benchmarks.results_folder import AUDIO, SYSTEMS
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

BOTH = {"avl-black-pearl": "test", "forzee-stereo": "test", "millo-2": "train"}
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">&amp; `x` \u2028"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return report.main(parser.parse_args(arguments))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten systems, one of which bears a hostile name, on seen and unseen kits, and two clips."""
    folder = write_results(tmp_path_factory.mktemp("results"), records(10, BOTH))
    lines = [changed(s, name=HOSTILE) if s.system == "sab-nmf" else s for s in systems()]
    (folder / SYSTEMS).write_text("".join(map(to_line, lines)), "utf-8")
    write_clip(folder, "one", seconds=3.0)
    write_clip(folder, "two", seconds=2.0)
    index = [{"clip": "one", "track": "a/b/1", "kit": HOSTILE}, {"clip": "two"}]
    (folder / AUDIO / "clips.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> Path:
    assert run(str(results)) == 0
    return results / "report" / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium with its driver here (Debian: chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                 "--window-size=1280,1000", "--no-first-run"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@contextmanager
def sized(browser: Any, page: Path, width: int) -> Iterator[None]:
    """The page in a window of a width, which a window's own size cannot be as small as."""
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(page.as_uri())
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    return browser


def wait(browser: Any, condition: str, seconds: float = 15) -> Any:
    """What a JavaScript expression gives as soon as it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds, 0.05).until(
        lambda b: b.execute_script(f"return {condition}"), condition
    )


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def order(browser: Any) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('#board tr[data-system]')].map(r => r.dataset.system)"
    )


def test_a_click_on_a_heading_sorts_within_groups(opened: Any) -> None:
    first = order(opened)
    assert first[:3] == ["larsnet-small", "nmfd", "sab-nmf"]
    heading = "#board th[data-key=speed]"
    find(opened, f"{heading} button").click()
    fast = order(opened)
    assert find(opened, heading).get_attribute("aria-sort") == "descending"
    assert fast[:3] == ["zero", "mixture", "nmf"]
    assert set(fast[:6]) == set(first[:6])  # the blind ones stay together
    find(opened, f"{heading} button").send_keys("\ue007")  # Enter, on the focused heading
    assert find(opened, heading).get_attribute("aria-sort") == "ascending"
    assert order(opened)[:3] == ["nmfd", "larsnet-small", "sab-nmf"]


def test_choosing_metric_kits_and_groups_redraws(opened: Any) -> None:
    from selenium.webdriver.support.ui import Select

    drawn = "return document.getElementById('dots').innerHTML"
    before = opened.execute_script(drawn)
    Select(find(opened, "select[name=metric]")).select_by_value("leakage_db")
    after = opened.execute_script(drawn)
    assert "leakage" in after
    assert before != after
    marks = opened.execute_script("return document.querySelectorAll('#dots [data-system]').length")
    assert marks == len(SHAPES)  # zero's -inf too
    value = "return document.querySelector('#board tr[data-system=nmfd] strong').textContent"
    unseen = opened.execute_script(value)
    find(opened, "input[name=view][value=seen]").click()
    assert opened.execute_script(value) != unseen
    assert "millo-2" in find(opened, "#board-caption").text
    find(opened, "input[value=oracle]").click()
    assert not {"ideal-ratio", "magnitude"} & set(order(opened))


def test_labels_in_the_plot_of_speed_do_not_overlap(opened: Any) -> None:
    boxes = opened.execute_script(
        "return [...document.querySelectorAll('#speed text.label')]"
        ".map(t => t.getBoundingClientRect()).map(b => [b.left, b.top, b.right, b.bottom])"
    )
    assert len(boxes) == len(SHAPES)
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            # A text's box is higher than its letters: two pixels may be shared.
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] + 2 or b[3] <= a[1] + 2
            assert apart, (a, b)


def boxes(browser: Any, selector: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of what is drawn."""
    found = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map(t => t.getBoundingClientRect()).map(b => [b.left, b.top, b.right, b.bottom])",
        selector,
    )
    return [tuple(box) for box in found]


@pytest.mark.parametrize("width", [320, 400, 1280])
@pytest.mark.parametrize("chart", ["dots", "speed"])
def test_intervals_are_seen_beside_their_marks(
    browser: Any, page: Path, chart: str, width: int
) -> None:
    with sized(browser, page, width):
        for name, *_ in SHAPES:
            drawn = f"#{chart} [data-system={name}]"
            (mark,) = boxes(browser, f"{drawn} .mark")
            ends = boxes(browser, f"{drawn} .range")[1:]
            assert len(ends) == 2
            upright = chart == "dots"
            for end in ends:
                assert end[upright] < mark[upright] - 1
                assert end[2 + upright] > mark[2 + upright] + 1


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_no_line_crosses_a_name(browser: Any, page: Path, width: int) -> None:
    with sized(browser, page, width):
        lines = boxes(browser, "#dots .grid, #dots .zero")
        names = boxes(browser, "#dots text.name")
        assert len(names) == len(SHAPES)
        assert len(lines) >= 3
        for name in names:
            for line in lines:
                assert (
                    line[2] < name[0] or name[2] < line[0] or line[3] <= name[1] + 2
                    or name[3] - 2 <= line[1]
                ), (name, line)  # fmt: skip


def test_the_caption_of_the_intervals_says_what_is_drawn(opened: Any) -> None:
    from selenium.webdriver.support.ui import Select

    seen = []
    for over in ("all", "toms"):  # of ten performances, and of two
        Select(find(opened, "select[name=over]")).select_by_value(over)
        caption, chart = find(opened, "#dots-caption").text, find(opened, "#dots").text
        assert "rackets" not in caption
        assert "Bars: 95 % percentile intervals" in caption
        assert ("†" in caption) == ("†" in chart)
        seen.append("†" in chart)
    assert seen == [False, True]


def test_no_caption_of_intervals_where_none_is_drawn(browser: Any, tmp_path: Path) -> None:
    """Of one performance there is none."""
    assert run(str(write_results(tmp_path, records(1)))) == 0
    browser.get((tmp_path / "report" / "index.html").as_uri())
    assert not boxes(browser, "#dots .range")
    assert len(boxes(browser, "#dots [data-system] .mark")) == len(SHAPES)
    assert "Bars" not in find(browser, "#dots-caption").text


def test_a_clip_plays_and_another_system_keeps_the_place(opened: Any) -> None:
    assert opened.execute_script("return stemgmd.player") is None
    find(opened, "[data-clip=one]").click()
    wait(opened, "!!stemgmd.player")
    find(opened, ".transport .play").click()
    wait(opened, "stemgmd.player.playing && stemgmd.player.position > 0.3")
    began = opened.execute_script("return stemgmd.player.began")
    clock = opened.execute_script("return stemgmd.player.context.currentTime")
    cell = find(opened, ".cell[data-row='4'][data-column='1']")
    opened.execute_script("arguments[0].scrollIntoView()", cell)
    cell.click()
    heard = "p.voices.size === 2 && p.voices.get(p.sound).gain.gain.value > 0.99"
    wait(opened, f"(p => {heard})(stemgmd.player)")
    state = opened.execute_script(
        "const p = stemgmd.player; return [p.began, p.context.currentTime, p.position,"
        " (p.context.currentTime - p.began) % p.seconds,"
        " p.voices.get(p.facts.rows[0].cells[0]).gain.gain.value]"
    )
    assert state[0] == began  # one start for all: nobody began anew
    assert state[1] > clock
    assert abs(state[2] - state[3]) < 0.05
    assert state[4] < 0.01  # the mixture has faded
    assert cell.get_attribute("aria-pressed") == "true"
    find(opened, ".transport .play").click()
    wait(opened, "!stemgmd.player.playing")


def test_a_click_on_the_large_spectrogram_seeks(opened: Any) -> None:
    find(opened, "[data-clip=one]").click()
    wait(opened, "!!stemgmd.player")
    find(opened, ".view").click()  # its middle
    position = wait(opened, "stemgmd.player.position")
    assert position == pytest.approx(1.5, abs=0.05)


def test_sounds_are_decoded_whole_and_in_step(opened: Any, results: Path) -> None:
    """Whatever the decoder does with the coder's padding, it does to all alike."""
    find(opened, "[data-clip=one]").click()
    wait(opened, "!!stemgmd.player")
    find(opened, ".transport .play").click()
    wait(opened, "stemgmd.player.playing")
    decoded = opened.execute_async_script(
        "const done = arguments[0], p = stemgmd.player;"
        "const sound = ([row, column]) => p.buffer(p.facts.rows[row].cells[column]);"
        "Promise.all([[0, 0], [1, 0], [1, 1], [2, 0]].map(sound))"
        ".then(all => done(all.map(b => Array.from(b.getChannelData(0).slice(0, 88200)))))"
    )
    best = "larsnet-small"  # systems stand in the order of the board
    delays = []
    for name, samples in zip(
        ("mixture", "reference/kick", "reference/snare", f"{best}/kick"), decoded, strict=True
    ):
        true = sf.read(results / AUDIO / "one" / f"{name}.flac", stop=88200)[0][:, 0]
        spectrum = np.fft.rfft(samples, 2**18) * np.conj(np.fft.rfft(true, 2**18))
        likeness = np.fft.irfft(spectrum) / np.linalg.norm(samples) / np.linalg.norm(true)
        delays.append(int(np.argmax(likeness)))
        assert likeness.max() > 0.9, name
    assert len(set(delays)) == 1
    assert delays[0] <= 2400


def test_nothing_leaves_the_disk_and_nothing_complains(opened: Any) -> None:
    find(opened, "[data-clip=two]").click()
    wait(opened, "!!stemgmd.player")
    severe = [entry for entry in opened.get_log("browser") if entry["level"] != "INFO"]
    assert not severe
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.endswith("clips/two.js") for url in urls)
    assert not [url for url in urls if not url.startswith(("file://", "data:", "blob:"))]


def test_hostile_names_are_shown_as_text(opened: Any) -> None:
    assert opened.title.startswith("Drum stem separation")
    assert opened.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    assert "<img src=x" in find(opened, "#board tr[data-system=sab-nmf] th").text
    assert "<img src=x" in find(opened, "[data-clip=one]").text


@pytest.mark.parametrize("width", [390, 1280])
def test_the_body_does_not_scroll_sideways(browser: Any, page: Path, width: int) -> None:
    with sized(browser, page, width):
        find(browser, "[data-clip=one]").click()
        wait(browser, "!!stemgmd.player")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        inner = "const b = document.querySelector('.scroll'); return b.scrollWidth > b.clientWidth"
        assert browser.execute_script(inner)  # the table scrolls inside its box instead


def test_dark_and_light_differ(browser: Any, page: Path) -> None:
    colors = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(page.as_uri())
        colors.append(browser.execute_script("return getComputedStyle(document.body).color"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert colors[0] != colors[1]


def test_the_page_loads_what_lies_beside_it_and_nothing_else(page: Path) -> None:
    text = page.read_text("utf-8")
    loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?!data:)([^\"]*)", text)
    assert len(loaded) == 5
    for address in loaded:
        part = (page.parent / address).read_text("utf-8")
        assert "@import" not in part
        assert "url(" not in part
    assert text.count("</script>") == 5  # data and four of code: no name ends them


def test_pages_below_another_share_its_assets(tmp_path: Path) -> None:
    results = read_results([write_results(tmp_path / "results", records(2))])
    for out in (tmp_path, tmp_path / "below"):
        write.write_report(results, out, audio=False)
    assert (tmp_path / "assets" / "page.js").is_file()
    assert not (tmp_path / "below" / "assets").exists()
    assert 'src="../assets/page.js"' in (tmp_path / "below" / "index.html").read_text("utf-8")


def test_embedded_data_reads_back() -> None:
    facts = {"name": HOSTILE, "x": float("-inf"), "y": float("nan"), "z": [1 / 3, 2, True, None]}
    text = embed(facts)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {
        "name": HOSTILE, "x": "-inf", "y": None, "z": [0.3333333, 2, True, None],
    }  # fmt: skip


def clip_facts(script: str) -> dict[str, Any]:
    return json.loads(script[script.index(", {") + 2 : script.rindex(")")])


def test_a_clip_holds_every_sound_once_and_silence_not_at_all(results: Path) -> None:
    ids = [name for name, *_ in SHAPES]
    (clip, _) = find_clips(results)
    script = clip_script(clip, ids)
    assert len(script) < MAX_BYTES
    facts = clip_facts(script)
    assert [row["id"] for row in facts["rows"]] == ["mixture", "reference", *ids]
    cells = {row["id"]: row["cells"] for row in facts["rows"][1:]}
    assert facts["rows"][0]["cells"] == [0]
    assert cells["mixture"] == [0] * 5  # the system that gives the mixture back
    assert cells["zero"] == [-1] * 5
    assert cells["reference"][STEMS.index("toms")] == -1
    packed = gzip.decompress(base64.b64decode(facts["audio"]))
    assert len(packed) == sum(facts["lengths"])
    assert len(facts["images"]) == len(facts["lengths"])
    audio, rate = sf.read(io.BytesIO(packed[: facts["lengths"][0]]))
    assert rate == SAMPLE_RATE
    assert audio.shape[1] == 2
    assert np.abs(audio).max() == pytest.approx(0.89, abs=0.1)
    picture = Image.open(io.BytesIO(base64.b64decode(facts["images"][0].partition(",")[2])))
    assert picture.size == (300, 64)


def test_a_clip_scored_into_two_folders_is_heard_with_the_systems_of_both(
    results: Path, tmp_path: Path
) -> None:
    first, second = find_clips(results)
    mine = replace(first, folders=(tmp_path,))
    shutil.copytree(first.folders[0] / "nmf", tmp_path / "mine")
    other = replace(second, folders=(tmp_path,), facts={"data": "another rendering"})
    ids = ["nmf", "mine"]
    (merged,) = merge_clips([first, second, mine, other], ids)  # the second has none of mine
    rows = clip_facts(clip_script(merged, ids))["rows"]
    assert [row["id"] for row in rows] == ["mixture", "reference", *ids]
    assert rows[2]["cells"] == rows[3]["cells"]
    assert merge_clips([first, second], ids) == [first, second]
    assert merge_clips([], ids) == []


def test_a_smaller_file_is_made_by_coarser_sound(results: Path) -> None:
    clip = find_clips(results)[1]
    full = clip_script(clip, ["nmf"])
    small = clip_script(clip, ["nmf"], max_bytes=len(full) - 20_000)
    assert len(small) <= len(full) - 20_000
    assert clip_facts(small)["kbps"] < clip_facts(full)["kbps"]


def test_mp3_files_of_one_length_have_one_delay() -> None:
    click = np.zeros((2, SAMPLE_RATE), dtype=np.float32)
    click[:, 20000] = 0.9
    noise = np.random.default_rng(0).normal(0, 0.02, click.shape).astype(np.float32)
    found = [sf.read(io.BytesIO(encode_mp3(x, 0.5)))[0][:, 0] for x in (click, click + noise)]
    peaks = [int(np.argmax(np.abs(x))) for x in found]
    assert peaks[0] == peaks[1]
    assert len(found[0]) == len(found[1])


@pytest.mark.parametrize("hz", [110.0, 1000.0, 8000.0])
def test_a_tone_is_bright_in_its_own_band(hz: float) -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    level = spectrogram_db(np.sin(2 * np.pi * hz * time).astype(np.float32)[None])
    band = int(np.argmax(level.mean(axis=1)))
    edges = np.geomspace(40, 18000, 65)
    assert edges[max(0, band - 1)] <= hz <= edges[band + 2]


def copy(results: Path, target: Path, change: Callable[[Path], None]) -> Path:
    """The results with one clip, and something wrong with it."""
    write_results(target, records(2))
    shutil.copytree(results / AUDIO / "two", target / AUDIO / "two")
    (target / AUDIO / "clips.json").write_text('[{"clip": "two"}]')
    change(target / AUDIO)
    return target


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "index": (lambda a: (a / "clips.json").write_text("{"), r"clips\.json is damaged"),
    "escape": (lambda a: (a / "clips.json").write_text('["../audio"]'), "is no folder beside it"),
    "missing": (lambda a: (a / "two" / "nmf" / "kick.flac").unlink(), "cannot be read"),
    "torn": (lambda a: (a / "two" / "mixture.flac").write_bytes(b"fLaC"), "cannot be read"),
    "short": (
        lambda a: sf.write(a / "two" / "nmf" / "kick.flac", np.zeros((9, 2)), SAMPLE_RATE),
        "has 9 samples, its mixture",
    ),
    "rate": (
        lambda a: sf.write(a / "two" / "mixture.flac", np.ones((9, 2)), 22050),
        "is not mono or stereo at 44100 Hz",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_clips_are_one_line_and_nothing_half_written(
    results: Path, tmp_path: Path, damage: str
) -> None:
    change, message = DAMAGE[damage]
    folder = copy(results, tmp_path / "run", change)
    with pytest.raises(UserError, match=message):
        run(str(folder))
    assert not list(folder.rglob("*.partial"))
    assert not (folder / "report" / "index.html").exists()
    assert run(str(folder), "--no-audio") == 0


def test_the_report_says_the_headline_and_can_be_written_again(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(results, tmp_path / "run", lambda audio: None)
    out = tmp_path / "out"
    assert run(str(folder), "--out", str(out), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["boards"]["unseen"]["systems"][0]["system"] == "larsnet-small"
    assert said["page"] == str(out / "index.html")
    stranger = out / "clips" / "mine.js"
    stranger.write_text("// not ours")
    assert (out / "clips" / "two.js").exists()
    assert run(str(folder), "--out", str(out), "--no-audio", "--systems", "nmf,nmfd") == 0
    assert sorted(p.name for p in (out / "clips").iterdir()) == ["mine.js"]
    assert "larsnet-small" not in (out / "leaderboard.csv").read_text()
    assert str(out / "index.html") in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_one_line(results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        run(str(results), "--no-audio", "--out", str(tmp_path / "file" / "report"))
