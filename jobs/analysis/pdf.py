"""A page as PDF, printed by the Chromium or Chrome that this machine has; the page's own style says how it looks on paper.

Knows nothing of what is on the page.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from earthloom.tiling.errors import ConfigError

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome-headless-shell",
    "microsoft-edge",
)  # fmt: skip
"""Programs that print by `--print-to-pdf`, in the order in which they are looked for on PATH."""
_PATIENCE_S = 180  # of a hang; a page takes a second or two
_QUIET = (
    "--headless", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run",
    "--no-pdf-header-footer",
)  # fmt: skip


def find_browser() -> str:
    """The path of the first of BROWSERS that this machine has.

    Raises:
        ConfigError: if it has none.
    """
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise ConfigError(
            "a PDF is printed by Chromium or Chrome, and neither is on PATH; install one (Debian: apt-get install "
            "chromium), or write the page as .html and print it from any browser"
        )
    return found


def print_pdf(page: str, browser: str) -> bytes:
    """The page as a PDF file.

    Args:
        page: HTML that needs nothing beside it.
        browser: of `find_browser`.

    Raises:
        ConfigError: if it printed nothing; with the last of what it said.
    """
    with TemporaryDirectory(prefix="earthloom-", ignore_cleanup_errors=True) as folder:
        source, made = Path(folder, "page.html"), Path(folder, "page.pdf")
        source.write_text(page, encoding="utf-8")
        # The sandbox refuses root, as whom containers run things; the page is ours and holds no script.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        try:
            done = subprocess.run(
                [
                    browser, *_QUIET, *sandbox, f"--user-data-dir={folder}/profile", f"--print-to-pdf={made}",
                    source.as_uri(),
                ],
                capture_output=True, text=True, errors="replace", check=False, timeout=_PATIENCE_S,
            )  # fmt: skip
            said = done.stderr.strip()[-300:] or "it said nothing"
        except subprocess.TimeoutExpired:
            said = f"it had not ended after {_PATIENCE_S} s"
        pdf = made.read_bytes() if made.exists() else b""
    if not pdf.startswith(b"%PDF-"):
        raise ConfigError(
            f"{browser} has printed no PDF: {said}; write the page as .html and print it from any browser"
        )
    return pdf
