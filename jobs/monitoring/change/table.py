"""An entry `[[product.change]]` of an AOI file: which changes a monitor keeps up to date. Opens nothing.

```toml
[[product.change]]
from = "1985"                 # a date or a period; a period is its composite, else the date nearest to its middle
to = "2020"
min_area_m2 = 10000           # no smaller polygon; without it nine pixels

[[product.change]]
every = "year"                # each year against the one before
```
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from earthloom.jobs.monitoring.composites.periods import Cadence, parse_period
from earthloom.tiling.errors import ConfigError


class ChangeTable(BaseModel):
    """An entry `[[product.change]]` of an AOI file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    before: Annotated[str | None, Field(alias="from")] = None
    after: Annotated[str | None, Field(alias="to")] = None
    every: Cadence | None = None
    min_area_m2: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None

    @field_validator("before", "after", mode="before")
    @classmethod
    def _period(cls, value: object) -> object:
        if value is None:
            return None
        try:
            return parse_period(str(value)).name
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.before is None) != (self.after is None) or (self.before is None) == (self.every is None):
            raise ValueError("a change has from and to, or every")
        return self
