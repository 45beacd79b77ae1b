"""What a user may say of scenes that their files do not say."""

from __future__ import annotations

from dataclasses import dataclass

from earthloom.jobs.intake.dates import utc
from earthloom.jobs.intake.sensors import sensor as sensor_preset
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.scene import QUANTITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """What the user says of scenes where files do not, for all scenes alike."""

    sensor: str | None = None
    """Name of a preset (`jobs.intake.sensors`)."""
    bands: tuple[tuple[str, int | str], ...] = ()
    """(name, band number from 1 or `<file>:<number>`)."""
    nodata: float | None = None
    """Stored value."""
    scale: float | None = None
    offset: float | None = None
    quantity: str | None = None
    """One of `tiling.scene.QUANTITIES`."""
    datetime: str | None = None
    """RFC 3339; used where neither STAC nor the file knows."""
    scene_id: str | None = None
    sun_elevation_deg: float | None = None


def check_options(options: SceneOptions) -> None:
    """Refuse options that no scene could make right.

    Raises:
        ConfigError: naming the option and its value.
    """
    if options.sensor is not None:
        sensor_preset(options.sensor)
    if options.quantity is not None and options.quantity not in QUANTITIES:
        raise ConfigError(f"--quantity {options.quantity!r} is none of {', '.join(QUANTITIES)}")
    if options.datetime is not None:
        utc(options.datetime)
    if options.scale == 0:
        raise ConfigError("--scale 0 would make every value the same; give the factor from stored to physical values")
