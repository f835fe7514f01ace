"""The page beside the stems, in Chromium: in step, mute, solo, and nothing asked for elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from small_larsnets import bursts

from larsnet.separation import player
from larsnet.separation.player import write_player

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
NAME = "</script><b>drums & more"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    paths = {name: tmp_path / f"{name}.wav" for name in ("mixture", "kick", "snare")}
    for seed, path in enumerate(paths.values()):
        soundfile.write(path, 0.1 * bursts(48_000 * 2, seed=seed).T, 48_000)
    write_player(tmp_path / "player.html", NAME, paths.pop("mixture"), paths)
    return tmp_path / "player.html"


@pytest.fixture
def opened(page: Path) -> Iterator[Any]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium with its driver here (Debian: chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def test_stems_play_in_step_with_mute_and_solo(opened: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(condition: str) -> None:
        WebDriverWait(opened, 15, 0.05).until(
            lambda b: b.execute_script(f"return {condition}"), condition
        )

    def press(label: str) -> None:
        opened.find_element("css selector", f"[aria-label='{label}']").click()

    levels = "[...stemgmd.player.voices].map(([s, v]) => [s, Math.round(v.gain.gain.value)]).sort()"
    assert opened.title == NAME
    opened.find_element("id", "play").click()
    wait("stemgmd.player.position > 0.2")
    wait(f"JSON.stringify({levels}) == '[[1,1],[2,1]]'")
    press("Mute kick")
    wait(f"JSON.stringify({levels}) == '[[1,0],[2,1]]'")
    press("Solo mixture")
    wait(f"JSON.stringify({levels}) == '[[0,1],[1,0],[2,0]]'")
    press("Solo mixture")
    wait(f"JSON.stringify({levels}) == '[[0,0],[1,0],[2,1]]'")
    assert abs(opened.execute_script("return stemgmd.player.seconds") - 2) < 0.1
    assert not opened.get_log("browser")


def test_a_long_recording_is_cut_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path
) -> None:
    whole = page.stat().st_size
    monkeypatch.setattr(player, "MAX_SEC", 1)
    kick = tmp_path / "kick.wav"
    write_player(page, "drums", kick, {"kick": kick, "snare": kick})
    assert page.stat().st_size < 0.7 * whole
    assert '"seconds": 1.0' in page.read_text("utf-8")
    assert "The first" in page.read_text("utf-8")
