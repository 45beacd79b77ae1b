"""`before` of a product in an AOI file: with which composite each scene is compared. Opens nothing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from earthloom.jobs.monitoring.composites.periods import Cadence
from earthloom.jobs.monitoring.composites.rules import RuleText


class BeforeTable(BaseModel):
    """`before` of a product in an AOI file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str
    """Product of the same area: `bands`, or `cloudmask-bands`."""
    every: Cadence = "year"
    rule: RuleText = "best"
