"""What a user may say of scenes that their files do not say, by the same words in every command. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    model_validator,
)

from earthloom.jobs.intake.dates import utc
from earthloom.jobs.intake.name_dates import pattern_reader
from earthloom.jobs.intake.sensors import sensor as sensor_preset
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.quantity import NodataIn, Quantity


def parse_bands(value: object) -> object:
    """`red=3,nir=4`, or a mapping of these, as (name, place) pairs."""
    if isinstance(value, Mapping):
        return tuple(value.items())
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",")]
    if not all(name.strip() and place.strip() for name, _, place in pairs):
        raise ValueError(f"{value!r} is not of the form red=3,nir=4")
    return tuple((name.strip(), place.strip()) for name, _, place in pairs)


def _known_sensor(name: str | None) -> str | None:
    if name is not None:
        sensor_preset(name)
    return name


def _a_date(text: str | None) -> str | None:
    if text is not None:
        utc(text)
    return text


def _a_factor(scale: float | None) -> float | None:
    if scale == 0:
        raise ConfigError("`scale=0` would make every value the same; give the factor from stored to physical values")
    return scale


class SceneOptions(BaseModel):
    """What the user says of scenes where their files do not, for all scenes alike.

    Raises:
        ConfigError: for an unknown sensor, a date or a pattern that is none, or a scale of 0.
        pydantic.ValidationError: for an unknown name or a value of the wrong form.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alternate: Annotated[
        str | None, Field(description="use the alternate address of this name for STAC assets: s3, https")
    ] = None
    sensor: Annotated[
        str | None,
        AfterValidator(_known_sensor),
        Field(description="sensor preset: names, scales and order of the bands; see `earthloom sensors`"),
    ] = None
    bands: Annotated[tuple[tuple[str, StrictInt | StrictStr], ...], BeforeValidator(parse_bands),
                     Field(description="numbers of the bands in the file, by name: red=3,nir=4")] = ()  # fmt: skip
    """(name, band number from 1 over all files, or `<file>:<number>`)."""
    scale: Annotated[
        float | None, Field(allow_inf_nan=False, description="physical value = stored * scale + offset"),
        AfterValidator(_a_factor),
    ] = None  # fmt: skip
    offset: Annotated[float | None, Field(allow_inf_nan=False, description="see `scale`")] = None
    quantity: Annotated[Quantity | None, Field(description="what the scaled values mean")] = None
    sun_elevation: Annotated[float | None, Field(gt=0, le=90, description="in degrees, for presets that need it")] = (
        None
    )
    nodata: Annotated[float | None, Field(description="stored value that means no data")] = None
    nodata_in: Annotated[
        NodataIn | None,
        Field(description="any: nodata where any band holds it; all: only where all bands of a file do (8-bit colour)"),
    ] = None
    mask: Annotated[
        Literal["qa"] | None,
        Field(
            description="qa: make clouds and their shadows nodata, by the scene's quality band (QA_PIXEL, SCL, UDM2)"
        ),
    ] = None
    datetime: Annotated[
        str | None, AfterValidator(_a_date),
        Field(description="acquisition time of all scenes, RFC 3339; overrules files and items"),
    ] = None  # fmt: skip
    date_pattern: Annotated[
        str | None, Field(description="reads the date of each scene from its name: %Y%m%d, scene_%Y-%m-%d, *_%Y%j")
    ] = None
    assumed_day: Annotated[
        str | None,
        Field(
            description="day to assume where names give only a year or month: 07-01 with `date_pattern=%Y`, 15 with %Y%m"
        ),
    ] = None
    scene_id: Annotated[str | None, Field(description="id of the scene, if there is only one scene")] = None

    @model_validator(mode="after")
    def _a_pattern(self) -> Self:
        if self.date_pattern is not None:
            pattern_reader(self.date_pattern, self.assumed_day)
        elif self.assumed_day is not None:
            raise ConfigError(
                "`assumed_day` completes what `date_pattern` reads from names; give that too, as in `date_pattern=%Y`"
            )
        return self
