"""Names of a result's objects, below its prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


DATA = "data.zarr"


RESULT = "result.json"


QUICKLOOK = "quicklook.png"


ITEM = "item.json"
