"""Names of a result's objects, below its prefix, and of what a class map consists of."""

from __future__ import annotations

DATA = "data.zarr"
RESULT = "result.json"
QUICKLOOK = "quicklook.png"
ITEM = "item.json"
SURVEY = "survey.json"
"""What networks want to know of the whole scene: read by its blocks, and no part of the result."""

CLASSES, CONFIDENCE = "classes", "confidence"
"""Layers of a class map, and the assets that hold them."""
CARRIED = "models"
"""Folder of OUT with weights that machines of a cluster lacked, by sha256."""
