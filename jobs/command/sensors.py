"""`earthloom sensors`, beside the tables that it prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from earthloom.jobs.command.terminal import make_console, with_flags

if TYPE_CHECKING:
    from earthloom.jobs.intake.preset import Sensor, SensorBand


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on stdout")
def sensors(name: str | None, as_json: bool) -> None:
    """List the sensor presets; with NAME, show one in full."""
    from earthloom.jobs.intake.sensors import SENSORS, sensor

    chosen = [sensor(name)] if name else list(SENSORS.values())
    if as_json:
        click.echo(json.dumps([to_dict(preset) for preset in chosen], indent=2))
    elif name:
        show_sensor(chosen[0])
    else:
        show_sensors(chosen)


def to_dict(preset: Sensor) -> dict[str, Any]:
    """A preset as plain data."""
    return {
        "name": preset.name, "title": preset.title, "quantity": preset.quantity, "dtypes": list(preset.dtypes),
        "fill": preset.fill, "valid": list(preset.valid), "platforms": list(preset.platforms), "level": preset.level,
        "needs": ["sun_elevation"] if preset.wants_sun else [], "orders": [list(order) for order in preset.orders],
        "bands": [_band(band) for band in preset.bands], "assumes": list(preset.assumes), "source": preset.source,
    }  # fmt: skip


def show_sensors(presets: Sequence[Sensor]) -> None:
    """One line per preset, and what it assumes."""
    table = Table(show_lines=True)
    for column in ("preset", "values", "stored as", "no data", "assumes"):
        table.add_column(column)
    for preset in presets:
        table.add_row(
            preset.name, preset.quantity, " or ".join(preset.dtypes), _fill(preset),
            with_flags("\n".join((*preset.assumes, *_needs(preset)))),
        )  # fmt: skip
    make_console(stderr=False).print(table)


def show_sensor(preset: Sensor) -> None:
    """A preset in full."""
    console = make_console(stderr=False)
    table = Table(title=f"{preset.name}: {preset.title}", title_justify="left", show_header=False)
    rows: Mapping[str, str] = {
        "values": preset.quantity, "stored as": " or ".join(preset.dtypes), "no data": _fill(preset),
        "valid values": f"{preset.valid[0]:g} to {preset.valid[1]:g}", "satellites": ", ".join(preset.platforms),
        "assumes": "\n".join((*preset.assumes, *_needs(preset))),
        "order of bands in files that name none": "\n".join(", ".join(order) for order in preset.orders),
        "figures from": preset.source,
    }  # fmt: skip
    for row, value in rows.items():
        table.add_row(row, with_flags(value))
    console.print(table)
    bands = Table("source", "name", "also asked for as", "scale", "offset", "kind")
    for band in preset.bands:
        kind = "image" if band.reflects else "heat" if band.image else "mask" if band.categorical else "no image"
        scale, offset = ("by the sun", "") if band.radiance else (f"{band.scale:g}", f"{band.offset:g}")
        bands.add_row(band.source[0], band.name, ", ".join(band.also), scale, offset, kind)
    console.print(bands)


def _needs(preset: Sensor) -> tuple[str, ...]:
    return (
        "needs the sun's elevation: `sun_elevation=<degrees>`, or view:sun_elevation of a STAC item",
    ) * preset.wants_sun


def _fill(preset: Sensor) -> str:
    return "none" if preset.fill is None else f"{preset.fill:g}"


def _band(band: SensorBand) -> dict[str, Any]:
    return {
        "source": list(band.source), "name": band.name, "also": list(band.also), "scale": band.scale,
        "offset": band.offset, "radiance": list(band.radiance) if band.radiance else None,
        "categorical": band.categorical, "image": band.image,
    }  # fmt: skip
