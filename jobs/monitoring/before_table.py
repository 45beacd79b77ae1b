"""`before` of a product in an AOI file: with which composite each scene is compared. Opens nothing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator

from earthloom.jobs.monitoring.composites.periods import Cadence
from earthloom.jobs.monitoring.composites.rules import parse_rule
from earthloom.tiling.errors import ConfigError


class BeforeTable(BaseModel):
    """`before` of a product in an AOI file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str
    """Of the same area: `bands`, or `cloudmask-bands`."""
    every: Cadence = "year"
    rule: str = "best"

    @field_validator("rule")
    @classmethod
    def _known(cls, text: str) -> str:
        try:
            return str(parse_rule(text))
        except ConfigError as error:
            raise ValueError(str(error)) from None
