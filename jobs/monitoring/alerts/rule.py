"""The rule of an alert: the change that is looked for, and when it counts. Values only; opens nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from earthloom.jobs.config import parse_names
from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.tiling.errors import ConfigError

MOST_OBSERVATIONS = 255
"""Largest `confirmations` and `closing`: the state of a pixel counts them in one byte."""

MOST_COUNTED = 65_535
"""Largest `settling`, which is counted in two bytes."""

NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"
"""Form of a rule's name, which is part of a path."""

Direction = Literal["fall", "rise"]
"""The side to which a monitor's flags point: below or above what is expected."""

Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]


class AlertTable(BaseModel):
    """`[[product.alert]]` of an AOI file: a change between classes, or what a monitor over time flags.

    Raises:
        pydantic.ValidationError: on an unknown key, a value of the wrong form, or keys that exclude each other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=NAME, description="of the rule: letters, digits and -")]
    before: Annotated[Names, Field(alias="from", description="classes that a pixel was seen in before")] = ()
    after: Annotated[Names, Field(alias="to", description="classes that it is seen in now")] = ()
    ignore: Annotated[Names, Field(description="classes that say as little as no data: clouds, shadows")] = ()
    monitor: Annotated[str | None, Field(description="name of a [[product.monitor]], in place of classes")] = None
    direction: Annotated[Direction | None, Field(description="of the monitor's flags; none: both")] = None
    confirmations: Annotated[
        int, Field(ge=1, le=MOST_OBSERVATIONS, description="observations in a row that confirm a pixel's change")
    ] = 2
    closing: Annotated[
        int, Field(ge=0, le=MOST_OBSERVATIONS, description="observations in a row that end it; 0: it never ends")
    ] = 2
    settling: Annotated[
        int, Field(ge=0, le=MOST_COUNTED, description="observations after which a change has become the rule; 0: never")
    ] = 0
    min_area_m2: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="least area with which an alert begins, on the ground")
    ] = 0.0
    valid_days: Annotated[
        int, Field(ge=1, le=36_525, description="days after the last date until the STAC item says 'expires'")
    ] = 32

    @model_validator(mode="after")
    def _one_source(self) -> AlertTable:
        if self.monitor is None and not (self.before and self.after):
            raise ValueError("an alert needs classes 'from' and 'to', or the name of a 'monitor'")
        if self.monitor is not None and (self.before or self.after or self.ignore):
            raise ValueError("an alert is of classes ('from', 'to', 'ignore') or of a 'monitor', not of both")
        if self.monitor is None and self.direction is not None:
            raise ValueError("'direction' is of the flags of a 'monitor', and this alert is of classes")
        return self

    def rule(self, before: str, after: str) -> Rule:
        """The rule, for a change that is called so."""
        return Rule(
            name=self.name, before=before, after=after, confirmations=self.confirmations, closing=self.closing,
            settling=self.settling, min_area_m2=self.min_area_m2, valid_days=self.valid_days,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A change and when it counts.

    Raises:
        ConfigError: if the name cannot be part of a path, or a number is out of its range.
    """

    name: str
    before: str
    """The state before the change, as a column of the alerts shows it: `land`, or `land+forest`."""
    after: str
    confirmations: int = 2
    """Observations of the change in a row after which a pixel is confirmed."""
    closing: int = 2
    """Observations in a row without it after which a confirmed pixel is over; 0: it never is."""
    settling: int = 0
    """Observations of the change after which a pixel is settled, and may change back; 0: it never is."""
    min_area_m2: float = 0.0
    """True area on the ground with which an alert begins; once begun it may shrink below."""
    valid_days: int = 32
    """After the last date, until the STAC item says that the alerts expire: two passes of Landsat."""

    def __post_init__(self) -> None:
        if not re.match(NAME, self.name):
            raise ConfigError(f"alert {self.name!r}: a name consists of small letters, digits and -")
        if not 1 <= self.confirmations <= MOST_OBSERVATIONS or not 0 <= self.closing <= MOST_OBSERVATIONS:
            raise ConfigError(
                f"alert {self.name}: {self.confirmations} confirmations and {self.closing} closing observations; from 1 "
                f"and from 0 to {MOST_OBSERVATIONS} are possible"
            )
        if self.settling and not self.confirmations <= self.settling <= MOST_COUNTED:
            raise ConfigError(
                f"alert {self.name}: a change that settles after {self.settling} observations is never confirmed by "
                f"{self.confirmations}; settling is 0, or from {self.confirmations} to {MOST_COUNTED}"
            )

    def identity(self) -> Mapping[str, Any]:
        """All of it that can change an alert: what an alert's id and the key are made from."""
        return {
            "name": self.name, "before": self.before, "after": self.after, "confirmations": self.confirmations,
            "closing": self.closing, "settling": self.settling, "min_area_m2": self.min_area_m2,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The classes of a change, by their values in the class map."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    ignore: tuple[int, ...] = ()


def change_of(table: AlertTable, classes: Sequence[ClassInfo]) -> Change:
    """The class names of a table as values of a product with these classes.

    Raises:
        ConfigError: if the product has no class of a name, or a class stands in two lists.
    """
    values = {entry.name: entry.value for entry in classes}
    lists = {"from": table.before, "to": table.after, "ignore": table.ignore}
    where: dict[str, str] = {}
    for key, names in lists.items():
        for name in names:
            if name not in values:
                raise ConfigError(
                    f"alert {table.name}: {key} names the class {name!r}; the product has {', '.join(values) or 'no classes'}"
                )
            if name in where:
                raise ConfigError(
                    f"alert {table.name}: the class {name!r} stands in {where[name]} and in {key}; it can say one thing only"
                )
            where[name] = key
    before, after, ignore = (tuple(sorted(values[name] for name in names)) for names in lists.values())
    return Change(before=before, after=after, ignore=ignore)
