"""What `earthloom watch` is asked to do beside the file that says what is watched."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from earthloom.jobs.config import EngineOptions, parse_seconds


class WatchConfig(BaseModel):
    """Everything that a command needs to know beside the file.

    Raises:
        pydantic.ValidationError: on an unknown key or a value of the wrong form; `jobs.config.check` makes it a ConfigError.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    out: Annotated[
        str | None, Field(description="folder or s3:// prefix for all outputs, if the file does not say")
    ] = None
    once: Annotated[bool, Field(description="look once, map what is new, and exit: for cron")] = False
    interval: Annotated[
        float,
        BeforeValidator(parse_seconds),
        Field(gt=0, allow_inf_nan=False, description="time between two looks: 90s, 10m, 6h"),
    ] = 600.0
    first: Annotated[
        datetime.date | None, Field(description="map only scenes taken on this day or later: 2020-01-01")
    ] = None
    last: Annotated[datetime.date | None, Field(description="map only scenes taken on this day or earlier")] = None
    back: Annotated[
        float, BeforeValidator(parse_seconds),
        Field(ge=0, allow_inf_nan=False, description="how late the scenes of a STAC search may arrive: 30d"),
    ] = 30 * 86400.0  # fmt: skip
    settle: Annotated[
        float, BeforeValidator(parse_seconds),
        Field(ge=0, allow_inf_nan=False, description="leave files written to within this time for the next look"),
    ] = 60.0  # fmt: skip
    at_once: Annotated[int, Field(gt=0, description="scenes per run")] = 100
    retry: Annotated[bool, Field(description="retry every bad scene now, including those that were given up")] = False
    engine: Annotated[EngineOptions, Field(description="Where to compute, if the file does not say")] = EngineOptions()
