"""Header checks in a disposable process: whatever a file does to its reader, the process that asked goes on.

Knows nothing of what is checked.
"""

from __future__ import annotations

import os

from earthloom.tiling.reading import identity
from earthloom.tiling.reading.preflight import Header, Limits, inspect
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.scene import Asset


def inspect_apart(pool: Disposables, asset: Asset, *, limits: Limits | None = None) -> Header:
    """The same as `tiling.reading.preflight.inspect`, in a child of `pool`.

    Raises:
        SceneError: as `inspect` does, and if the file crashed, stalled or overfilled its reader.
        StorageError: if the storage failed.
    """
    memory = identity.memory_of(asset) if asset.ref.scheme == "file" else None
    return pool.call(asset.ref.name, _inspect, asset, limits, memory)


def _inspect(asset: Asset, limits: Limits | None, memory: identity.Memory | None) -> Header:
    os.environ |= {"GDAL_CACHEMAX": "64", "GDAL_NUM_THREADS": "1"}  # MiB; threads would decode that many tiles at once
    identity.remember(memory)
    return inspect(asset, limits=limits)
