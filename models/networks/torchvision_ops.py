"""Lets a torchvision that was built for CUDA be imported beside a CPU build of torch. Knows nothing of models.

torchvision's Python code refers to two of its compiled operators as it is imported; where its library cannot be loaded
they do not exist and the import fails. Their schemas are enough, because no segmentation network calls them.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

_OPERATORS = ("nms", "qnms")
_kept: list[torch.library.Library] = []
"""A Library takes its definitions along when it is collected."""


def define_missing_ops() -> None:
    """Define the schemas that `import torchvision` needs, unless its own library brings them. Call before importing it.

    Does nothing where torchvision is absent, already imported, or whole.
    """
    torch_ops: Any = torch.ops  # Any: torch's registration functions carry no types
    libraries: Any = torch.library
    spec = importlib.util.find_spec("torchvision") if "torchvision" not in sys.modules else None
    if spec is None or _kept:
        return
    for folder in spec.submodule_search_locations or ():
        for library in (*Path(folder).glob("_C*.so"), *Path(folder).glob("_C*.pyd")):
            try:
                torch_ops.load_library(str(library))
            except OSError:  # built against another torch
                continue
    missing = [name for name in _OPERATORS if not hasattr(torch_ops.torchvision, name)]
    if missing:
        definitions = libraries.Library("torchvision", "DEF")
        for name in missing:
            definitions.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(definitions)
