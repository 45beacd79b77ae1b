"""The request of `earthloom monitor`: one checked value, from the command line or Python."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from earthloom.jobs.config import EngineOptions, ReportOptions, RunConfig, check, parse_names

if TYPE_CHECKING:
    from earthloom.jobs.monitoring.aoi_file import ProductTable


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


def run_config(table: ProductTable, config: MonitorConfig, budget: float | None = None) -> RunConfig:
    """The run of a product's scenes by the ordinary driver; the command around it waits for others, and tells people.

    Args:
        budget: what is left of the cost that is allowed; None for no limit.

    Raises:
        ConfigError: naming each wrong option.
    """
    given = {name: getattr(config.engine, name) for name in EngineOptions.model_fields}
    report = {name: getattr(config.report, name) for name in ReportOptions.model_fields}
    report |= {"max_cost": budget, "notify": None, "if_running": None}
    given |= {name: value for name, value in report.items() if value is not None}
    own = {"scenes": table.scenes or ("-",), "model": table.model, "out": config.out}
    return check(RunConfig, {**table.options, **given, **own})
