"""The page where nobody has its libraries: it takes them from the CDN, if they are the bytes that it pins.

A stand-in answers in the CDN's name inside the browser, so that its policy and its check of digests are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.page import site
from earthloom.jobs.page.libraries import CDN, LIBRARIES, kept
from tests.apps.chromium import Shown, chromium
from tests.apps.published import served
from tests.maps import go, lake

pytestmark = pytest.mark.apps


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A page beside which there are no libraries."""
    if any(kept(library) is None for library in LIBRARIES):
        pytest.skip("the page's libraries are not in the cache: earthloom view OUT fetches them")
    monkeypatch.setattr(site, "kept", lambda _: None)
    assert go(lake(tmp_path, "lake", width=96, height=64), out=tmp_path / "out").exit_code == 0
    with served(str(tmp_path / "out")) as made:
        yield made


@contextmanager
def answered(url: str, answer: Callable[[bytes], bytes]) -> Iterator[Shown]:
    """The page, with a CDN that gives `answer` of each library's bytes."""
    data = {library.url: answer(kept(library) or b"") for library in LIBRARIES}

    def fulfil(route: Any) -> None:
        headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
        route.fulfill(status=200, headers=headers, body=data[route.request.url])

    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        shown = Shown(page)
        page.on("request", lambda request: shown.requests.append(request.url))
        page.route(f"{CDN}**", fulfil)
        page.goto(url)
        yield shown


def test_the_right_bytes_draw_the_map(url: str) -> None:
    with answered(url, lambda data: data) as shown:
        shown.wait_until("Number(document.body.dataset.drawn) > 0")
        asked = [one for one in shown.requests if one.startswith(CDN)]
        assert sorted(asked) == sorted(library.url for library in LIBRARIES[:2]), (
            "in the order in which the page finds out"
        )


def test_other_bytes_are_not_run_and_the_page_says_so(url: str) -> None:
    with answered(url, lambda data: data + b"\nwindow.hacked = 1") as shown:
        message = shown.page.locator("#message", has_text="gives the bytes that this page was made for")
        message.wait_for()
        assert "earthloom view OUT --write" in message.inner_text()
        assert shown.page.evaluate("window.hacked") is None
