"""A headless Chromium for tests: pages that are opened, what they complained of, and the colours that they show.

Debian's Chromium, driven by Playwright, drawing in software. Where either is missing, tests are skipped.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

_DRAWING = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
PATIENCE_MS = 120_000
"""Of a hang: drawing in software on a busy machine takes seconds."""


@dataclass(slots=True)
class Shown:
    """A page that is open."""

    page: Any
    """Of Playwright."""
    complaints: list[str] = field(default_factory=list)
    """Errors of scripts and of the console, what the page's policy has blocked among them."""
    requests: list[str] = field(default_factory=list)

    def wait_until(self, expression: str) -> None:
        """Until this JavaScript is true; asked from outside, as the page's policy lets nothing be evaluated inside."""
        for _ in range(PATIENCE_MS // 100):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(100)
        pytest.fail(f"{expression} has not come true in {PATIENCE_MS / 1000:.0f} s")

    def pixels(self) -> NDArray[np.uint8]:
        """What the window shows when it has come to rest, (rows, columns, 3)."""
        before = b""
        for _ in range(PATIENCE_MS // 400):
            if (seen := self.page.screenshot()) == before:
                return np.asarray(Image.open(io.BytesIO(seen)).convert("RGB"))
            before = seen
            self.page.wait_for_timeout(400)
        pytest.fail(f"the page has not come to rest in {PATIENCE_MS / 1000:.0f} s")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, or skip."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("no Playwright here: pip install 'earthloom[apps]'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *_DRAWING])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, url: str, *, width: int = 1200, height: int = 800, **options: Any) -> Iterator[Shown]:
    """A page in a window of its own, closed at the end."""
    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    shown = Shown(page)
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    page.on("console", lambda said: shown.complaints.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: shown.requests.append(request.url))
    try:
        page.goto(url)
        yield shown
    finally:
        page.close()
