"""What `earthloom monitor` is asked to do: one checked value, from the command line or Python."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from earthloom.jobs.config import EngineOptions, ReportOptions, parse_names


class MonitorConfig(BaseModel):
    """Everything that a command needs to know beside the AOI files.

    Raises:
        pydantic.ValidationError: on an unknown key or a value of the wrong form; `jobs.config.check` makes it a ConfigError.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: Annotated[
        tuple[str, ...], BeforeValidator(parse_names), Field(min_length=1, description="AOI files: what to watch, and where")
    ]  # fmt: skip
    out: Annotated[str, Field(description="folder or s3:// prefix for all outputs")]
    until: Annotated[
        datetime.date | None,
        Field(description="use only scenes up to this day: 2020-12-31; the results are kept separately"),
    ] = None  # fmt: skip
    engine: Annotated[EngineOptions, Field(description="Where to compute")] = EngineOptions()
    report: Annotated[ReportOptions, Field(description="Reports, costs and notifications")] = ReportOptions()
