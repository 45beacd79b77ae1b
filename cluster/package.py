"""Our own code as a folder that can be sent to a cluster, as a wheel would hold it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_NOT_CODE = shutil.ignore_patterns("__pycache__")


@contextmanager
def sent_package() -> Iterator[Path]:
    """The package `earthloom` as a wheel would hold it, to be sent to a cluster's workers."""
    spec = find_spec("earthloom")  # not imported: the public face leads to rooms that stand on this one
    assert spec is not None, "this module is part of it"
    here = Path(str(spec.origin)).resolve().parent
    if (here / "jobs").is_dir():  # installed
        yield here
        return
    with tempfile.TemporaryDirectory(prefix="earthloom-") as folder:  # a checkout: the parts lie beside each other
        whole = shutil.copytree(here, Path(folder, here.name), ignore=_NOT_CODE)
        for name in ("jobs", "tiling", "models", "cluster"):
            shutil.copytree(here.parent / name, whole / name, ignore=_NOT_CODE)
        yield whole
