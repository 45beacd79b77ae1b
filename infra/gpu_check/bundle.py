"""The packages that a bare machine lacks, unpacked and packed again as one archive that travels with the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from infra.gpu_check.sections import ROOT

FOLDER = ROOT / "build" / "gpu_check"
ARCHIVE = FOLDER / "site.tar.xz"
MOST_BYTES = 64 * 2**20
"""Of the archive and of all files that git tracks: what such machines accept."""

_WHEELS = Path(__file__).with_name("wheels.txt")
_GLIBC = ("2_28", "2_27", "2_24", "2_17")
_PLATFORMS = [f"manylinux_{version}_x86_64" for version in _GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64"]


def pack() -> int:
    """Write the archive, whatever Python and processor this machine has; bytes of all that travels.

    Raises:
        RuntimeError: a package is not to be had, or it is all too large.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as made:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-compile",
             "--python-version", "3.12", "--implementation", "cp", "--target", made,
             *(f"--platform={platform}" for platform in _PLATFORMS), "--requirement", str(_WHEELS)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"pip cannot bring what {_WHEELS.name} names:\n{done.stderr[-2000:]}")
        with tarfile.open(ARCHIVE, "w:xz", preset=6) as archive:  # 33 MB, where the wheels are 54
            archive.add(made, arcname=".")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    size = ARCHIVE.stat().st_size + sum((ROOT / name.decode()).stat().st_size for name in tracked if name)
    if size > MOST_BYTES:
        raise RuntimeError(
            f"archive and tracked files are {size / 2**20:.1f} MiB; at most {MOST_BYTES >> 20} may travel"
        )
    return size
