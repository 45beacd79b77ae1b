"""Several Arrow tables in one object: how the working state of alerts is stored. Knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import PublishError


def pack(tables: Sequence[Any]) -> bytes:
    """One Arrow stream after another, compressed by zstd; equal tables give equal bytes."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    for table in tables:
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
    return bytes(sink.getvalue())


def unpack(data: bytes, n_tables: int, where: str) -> list[Any]:
    """Inverse of `pack`.

    Raises:
        PublishError: if the bytes are not that many tables.
    """
    import pyarrow as pa

    source = pa.BufferReader(data)
    try:
        return [pa.ipc.open_stream(source).read_all() for _ in range(n_tables)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PublishError(
            f"{where} is damaged ({type(error).__name__}: {error}); remove the folder 'state' beside it and run again: it is "
            "made from the cube"
        ) from error


def table_of(columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Any:
    """A table of numpy arrays of one length."""
    import pyarrow as pa

    return pa.table({name: pa.array(values) for name, values in columns.items()}, metadata=dict(metadata or {}))


def arrays_of(table: Any) -> dict[str, NDArray[Any]]:
    """The columns of a table of numbers as numpy arrays, which may be changed."""
    return {name: np.array(table.column(name).to_numpy()) for name in table.column_names}
