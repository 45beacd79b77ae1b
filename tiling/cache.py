"""The folder in which this machine keeps what it has fetched or found out: models, web files, hashes, batch sizes.

Everything in it can be fetched or found out again, so it may be deleted at any time.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Absolute path of the cache: the environment variable EARTHLOOM_CACHE, else `~/.cache/earthloom`."""
    return Path(os.environ.get("EARTHLOOM_CACHE") or "~/.cache/earthloom").expanduser().absolute()
