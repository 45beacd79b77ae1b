"""Copies our own code into a folder that can be sent to a cluster: what a wheel would hold, but for weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_NOT_CODE = shutil.ignore_patterns("__pycache__", "*.safetensors")
"""Weights go by their sha256 (`jobs.execution.carrying`): those of models that a run does not name need not travel."""


@contextmanager
def sent_package() -> Iterator[Path]:
    """The package `earthloom` without the weights that a wheel holds, to be sent to a cluster's workers."""
    spec = find_spec("earthloom")  # not imported: the public face leads to rooms that stand on this one
    assert spec is not None, "this module is part of it"
    here = Path(str(spec.origin)).resolve().parent
    with tempfile.TemporaryDirectory(prefix="earthloom-") as folder:
        whole = shutil.copytree(here, Path(folder, here.name), ignore=_NOT_CODE)
        if not (here / "jobs").is_dir():  # a checkout: the parts lie beside each other
            for name in ("jobs", "tiling", "models", "cluster"):
                shutil.copytree(here.parent / name, whole / name, ignore=_NOT_CODE)
        yield whole
