"""The peers' own environment: a throw-away venv beside the project's, with the versions that were compared.

Nothing of it is a dependency of the project. Delete the folder and it is made again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

CONSTRAINTS = ("torch==2.13.0", "torchvision==0.28.0")
"""As the project has them, so that all compute with the same kernels."""
PACKAGES = (
    "monai==1.6.1", "geoai-py==0.40.1", "terratorch==1.2.11", "opensr-utils==2.1.0", "rastervision-core==0.31.1",
    "rastervision-pytorch_learner==0.31.1", "rastervision-pytorch_backend==0.31.1",
    "segmentation-models-pytorch==0.6.0", "odc-geo==0.5.3", "rasterio", "rio-cogeo", "safetensors",
)  # fmt: skip


def folder() -> Path:
    """Where the venv is: EARTHLOOM_PEERS, else in the cache."""
    return Path(os.environ.get("EARTHLOOM_PEERS", "~/.cache/earthloom/peers-venv")).expanduser()


def python() -> Path:
    """The venv's interpreter, made at the first call: some minutes and 3 GB of disk.

    Raises:
        subprocess.CalledProcessError: if a package cannot be installed.
    """
    found = folder() / "bin" / "python"
    complete = folder() / "complete"
    wanted = "\n".join((*CONSTRAINTS, *PACKAGES))
    if complete.is_file() and complete.read_text() == wanted:
        return found
    print(f"making {folder()} for the peers; this takes minutes", file=sys.stderr)
    if not found.is_file():
        venv.create(folder(), with_pip=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(CONSTRAINTS))
        constraints.flush()
        subprocess.run([found, "-m", "pip", "install", "-q", "-c", constraints.name, *PACKAGES], check=True)
    complete.write_text(wanted)  # last: its presence says that the rest is there
    return found
