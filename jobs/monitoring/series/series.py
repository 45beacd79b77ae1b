"""Areas over time: one row for each class of each date or period, as a table and as a plot.

A pure function of what steps and composites say of themselves; reads no pixel and no file.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from earthloom.tiling.counting import ClassArea

if TYPE_CHECKING:
    import pandas as pd

DATE = "date"
"""Cadence of a row that stands for one date of the cube."""

COLUMNS = (
    "cadence", "period", "start", "end", "value", "class", "area_m2", "percent", "px", "confidence", "valid_m2", "nodata_px",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The areas of one date, or of one period's composite."""

    cadence: str
    """`date`, or of the composite: `dekad`, `month`, `season`, `year`."""
    period: str
    """`2020-07-01`, or of the composite: `2020`, `2020-07`."""
    start: datetime.date
    end: datetime.date
    """Its last day."""
    areas: tuple[ClassArea, ...]
    """One per class (`jobs.products.statistics.class_areas`)."""
    nodata_px: int


def series_table(moments: Sequence[Moment]) -> pd.DataFrame:
    """One row per class of each moment: by cadence, dates first, then time, then class.

    Columns: `cadence`, `period`, `start` and `end` (dates), `value` and `class`, `area_m2`, `percent` of what is known at
    that moment, `px`, `confidence` (mean over the class's pixels, 0 to 1; missing for a class that is not there),
    `valid_m2` (the area of all classes together: what that moment knows of the area) and `nodata_px`.
    """
    import pandas as pd

    ordered = sorted(moments, key=lambda moment: (moment.cadence != DATE, moment.cadence, moment.start, moment.period))
    rows = [
        (
            moment.cadence, moment.period, moment.start, moment.end, area["value"], area["name"], area["area_m2"],
            area["percent"], area["pixels"], area.get("mean_confidence"), valid_m2, moment.nodata_px,
        )
        for moment in ordered
        for valid_m2 in [round(sum(area["area_m2"] for area in moment.areas), 3)]
        for area in moment.areas
    ]  # fmt: skip
    types = {"value": "uint8", "area_m2": "float64", "percent": "float64", "px": "int64", "confidence": "float64",
             "valid_m2": "float64", "nodata_px": "int64"}  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(types)


def table_parquet(table: pd.DataFrame) -> bytes:
    """A table as a Parquet file; dates are dates. The same table gives the same bytes with one version of pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None), buffer)
    return buffer.getvalue()


def table_csv(table: pd.DataFrame) -> bytes:
    """A table as CSV: UTF-8, dates in ISO, a missing value is empty."""
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()
