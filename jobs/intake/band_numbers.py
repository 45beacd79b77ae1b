"""Which bands of a scene's files are which, as far as the files say so, by the numbers that `bands` takes. Opens nothing.

For a user who has named no sensor: the description of a band names it in all sensors alike (`nir`), or in those that know
most of the file's descriptions (`B8` and `B12`: Sentinel-2), or the file marks it as red, green or blue. Where these sensors
disagree, as they do on `B4` alone, nothing is said; a place in the file says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earthloom.jobs.intake.bands import BandFile, NamedBand
from earthloom.jobs.intake.common_names import COMMON_NAMES
from earthloom.jobs.intake.preset import Sensor, SensorBand
from earthloom.jobs.intake.sensors import SENSORS

_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class BandNumbers:
    """What the files of a scene say of their bands."""

    count: int = 0
    """Bands of all files together; 0 where not all files were opened."""
    by_name: tuple[tuple[str, int], ...] = ()
    """(common name, number from 1 over all files), each name once."""

    def in_common(self, other: BandNumbers) -> BandNumbers:
        """What holds for both dates of a pair: `bands` is applied to both."""
        shared = tuple(pair for pair in self.by_name if pair in other.by_name)
        return BandNumbers(self.count if self.count == other.count else 0, shared)


NOTHING_SAID = BandNumbers()


def band_numbers(files: Sequence[BandFile], named: Sequence[NamedBand]) -> BandNumbers:
    """Number the bands of all files of a scene that say which they are.

    Args:
        files: all of them, in the order in which `bands` counts.
        named: their bands by the names that they have in the scene; one with a common name is that band.
    """
    starts = [sum(file.header.count for file in files[:place]) for place in range(len(files))]
    taken = {starts[band.asset] + band.index: band.name for band in named if band.by_hand or band.name in COMMON_NAMES}
    texts: list[str] = []
    colours: list[str] = []
    for file in files:
        for index, description in enumerate(file.header.descriptions, 1):
            alone = file.stem if len(files) > 1 and index == file.lone else ""
            texts.append((description or alone).strip())
        colours += file.header.colors
    known = [{text: band for text in texts if (band := _called(sensor, text))} for sensor in SENSORS.values()]
    most = max(map(len, known))
    sensors = [bands for bands in known if most and len(bands) == most]
    claims: dict[str, list[int]] = {}
    for number, (text, colour) in enumerate(zip(texts, colours, strict=True), 1):
        for name in (taken[number],) if number in taken else _names(text, colour, sensors):
            claims.setdefault(name, []).append(number)
    given = {name: [number] for number, name in taken.items()}  # stronger than what else claims the name
    sure = tuple((name, found[0]) for name, found in (claims | given).items() if len(found) == 1)
    return BandNumbers(len(texts), sure)


def _called(sensor: Sensor, text: str) -> SensorBand | None:
    """The image band whose name in the sensor's files is exactly `text`. Landsat's files never write a 0 before a number."""
    text = text.upper()
    return next(
        (
            band for band in sensor.bands
            if band.reflects and (text == band.source[0] or (text in band.source and not text.startswith("B0")))
        ),
        None,
    )  # fmt: skip


def _names(text: str, colour: str, sensors: Sequence[dict[str, SensorBand]]) -> tuple[str, ...]:
    """The common names of one band; none where nothing says, or sensors disagree."""
    if text.lower() in COMMON_NAMES:
        return (text.lower(),)
    found = {bands[text].name: bands[text] for bands in sensors if text in bands}
    if len(found) == 1:
        ((name, band),) = found.items()
        return name, *band.also
    return (colour,) if colour in _COLOURS and not found else ()
