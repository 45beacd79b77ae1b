"""A run's page: whole, small, safe against what scenes are called, and readable in the light and in the dark."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from earthloom.jobs.report.page import page
from tests.jobs.report.views import STATES, view
from tests.maps import go, lake

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e&\ud800\x00"


class Tags(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_of_2000_scenes_is_below_300_kb_however_long_their_names_and_reasons_are() -> None:
    plain = page(view([f"S2B_MSIL2A_20260701T100029_{number}" for number in range(2000)]))
    assert len(plain.encode()) < 300_000
    worst = page(view([f"{number}{HOSTILE * 3}"[:128] for number in range(2000)], why=HOSTILE * 60))
    assert len(worst.encode()) < 300_000
    assert re.search(r"and [\d,]+ more reasons", worst), "what does not fit is counted"
    assert len(re.findall(r"and [\d,]+ more</p>", worst)) == 2, "results, and notes"
    assert plain.count('class="trouble') == 666


def test_ids_messages_and_places_are_text_and_never_markup() -> None:
    names = [f"{HOSTILE}{number}" for number in range(12)]
    text = page(view(names, why=HOSTILE, out=f"s3://maps/{HOSTILE}", product=HOSTILE, stopped=HOSTILE))
    seen = Tags(text)
    assert not {"script", "img", "iframe", "object", "link", "base", "form"} & {tag for tag, _ in seen.tags}
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in seen.text, "people can read what it is called"
    text.encode()  # a lone surrogate would not


def test_page_needs_nothing_beside_it_and_its_links_stay_below_out() -> None:
    hrefs = [attributes["href"] for tag, attributes in Tags(page(view(["a", "b", "c/../../x"]))).tags if tag == "a"]
    assert hrefs
    below = ("../../scenes/", "../../catalog.json", "../../index.html", "attempts/")
    assert all(href and href.startswith(below) for href in hrefs)
    assert "http" not in page(view(["a"], out="maps")).replace('http-equiv="refresh"', "")
    assert "url(" not in page(view(["a"]))


def test_page_is_loaded_again_only_while_the_run_lives() -> None:
    assert 'http-equiv="refresh"' in page(view(["a"]))
    for state in ("done", "failed", "stopped"):
        assert "http-equiv" not in page(view(["a"], state=state))


def test_one_reason_is_told_once_with_its_remedy_as_a_flag() -> None:
    scenes = view([f"s{number}" for number in range(24)]).scenes
    for name, one in scenes.items():
        if one.status == "failed":
            one.error = f"block {name[-1]}_0 after 2 attempts: {name}: damaged; give `sensor=<preset>`"
    text = Tags(page(view(["a"], scenes=scenes, results={}))).text
    assert text.count("damaged; give --sensor <preset>") == 1


def test_page_of_a_real_run_has_its_verdict_and_links_that_lead_to_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = go(lake(tmp_path, width=300, height=200), out=out, price_per_hour=36.0)
    assert result.page
    where = Path(result.page)
    assert where == out / "runs" / result.run_id / "index.html"
    seen = Tags(where.read_text())
    assert str(result.counts) in seen.text
    assert str(result.counts) == "1 published (1 new), 0 refused, 0 failed"
    assert "km²" in seen.text
    assert "cost" in seen.text
    links = [str(attributes["href"]) for tag, attributes in seen.tags if tag == "a"]
    assert len(links) >= 4
    assert all((where.parent / unquote(link)).resolve().is_file() for link in links)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.uint8]]:
    """The page in headless Chromium, in both colour schemes, as (rows, columns, 3)."""
    if CHROMIUM is None:
        pytest.skip("no `chromium` program: `apt-get install chromium` to look at pages in a browser")
    folder = tmp_path_factory.mktemp("page")
    file = folder / "index.html"
    file.write_text(page(view([f"S2B_MSIL2A_20260701T100029_{n}" for n in range(300)], state="failed")))
    found = {}
    for scheme, setting in (("light", "1"), ("dark", "0")):
        shot = folder / f"{scheme}.png"
        subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / scheme}",
             f"--blink-settings=preferredColorScheme={setting}", "--window-size=1100,900", f"--screenshot={shot}",
             file.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        found[scheme] = np.asarray(Image.open(shot).convert("RGB"))
    return found


@pytest.mark.slow
def test_page_is_drawn_light_and_dark(shots: dict[str, NDArray[np.uint8]]) -> None:
    assert (shots["light"][2, 2] > 240).all()
    assert (shots["dark"][2, 2] < 60).all()
    for name, shot in shots.items():
        colors = {tuple(int(value) for value in color) for color in shot.reshape(-1, 3)[::7]}
        assert len(colors) > len(STATES) + 10, f"{name}: nothing is drawn"
    light, dark = (shots[name].mean() for name in ("light", "dark"))
    assert light > 2 * dark


@pytest.mark.slow
def test_every_state_has_a_colour_of_its_own_in_both(shots: dict[str, NDArray[np.uint8]]) -> None:
    palettes = {
        "light": {"done": "2e8b57", "new": "1f6fb4", "running": "d9a400", "waiting": "c3cbd3", "failed": "c53030"},
        "dark": {"done": "4cc38a", "new": "6cb2ee", "running": "f0c040", "waiting": "46525e", "failed": "ff7b72"},
    }
    for scheme, colors in palettes.items():
        for state, color in colors.items():
            wanted = np.frombuffer(bytes.fromhex(color), np.uint8)
            assert (shots[scheme] == wanted).all(axis=2).sum() > 500, f"{state} is not to be seen, {scheme}"
