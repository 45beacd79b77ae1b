"""Files that are the bands of one acquisition by their names, though no metadata file says what they hold, and archives.

Neither is read: what they are would be a guess. Each is refused with the command that says it. Opens nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from earthloom.jobs.intake.common_names import COMMON_NAMES
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.recognise import preset_of, recognise
from earthloom.jobs.intake.sensors import SENSORS

ARCHIVE = re.compile(r"(?i)\.(zip|tar|tar\.gz|tgz)$")

_SOURCES = {source for one in SENSORS.values() for band in one.bands for source in band.source}
_TOKENS = "|".join(sorted((*_SOURCES, *(name.upper() for name in COMMON_NAMES)), key=lambda text: (-len(text), text)))
_BAND = re.compile(rf"(?<![A-Za-z0-9])({_TOKENS})(?![A-Za-z0-9])", re.IGNORECASE)
_RESOLUTION = re.compile(r"_[1-9]\d{0,2}m$")
_CELL = r"[A-Za-z][0-9]{1,2}"
"""How cells of a grid of tiles are called, B1 and B2 among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """Files of one acquisition, of which nothing but their names tells."""

    name: str
    """What their names share."""
    keys: tuple[str, ...]
    bands: tuple[tuple[str, str], ...]
    """(common name, key) of the bands of the image."""
    sensor: str | None
    """The preset that their names fit best, where they are names of a sensor's bands."""

    def problem(self, shown: str, metadata: str | None) -> str:
        """Why they are no scenes, and the command that makes them one.

        Args:
            shown: folder or prefix as the user wrote it, empty or ending in /.
            metadata: the file that describes them, where there is one.
        """
        start = f"{len(self.keys)} files called {self.name}… are bands of one acquisition by their names"
        if metadata:
            return f"{start}, which {PurePosixPath(metadata).name} describes: give that, earthloom run {shlex.quote(metadata)}"
        reference = shlex.quote(",".join(f"{name}={shown}{key}" for name, key in self.bands))
        sensor = f" `sensor={self.sensor}`" if self.sensor else ""
        return (
            f"{start}, and no metadata file (MTL.json, MTL.txt, MTL.xml) beside them says what they hold; name them as one "
            f"scene: earthloom run {reference}{sensor}. If each is a scene of its own, run them one by one"
        )


def loose_bands(keys: Sequence[str]) -> list[Loose]:
    """The groups of TIFFs that are bands of one acquisition by their names, in order."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for key in keys:
        path = PurePosixPath(key)
        stem = _RESOLUTION.sub("", path.stem)
        if matches := list(_BAND.finditer(stem)):
            last = matches[-1]
            rest = f"{stem[: last.start()]}*{stem[last.end() :]}"
            groups.setdefault((str(path.parent), rest), {})[key] = last[1].upper()
    found = []
    for (folder, rest), tokens in groups.items():
        before, _, after = rest.partition("*")
        cell = re.compile(f"{re.escape(before)}{_CELL}{re.escape(after)}")
        like = [
            key for key in keys if str(PurePosixPath(key).parent) == folder and cell.fullmatch(PurePosixPath(key).stem)
        ]
        if set(like) - set(tokens):  # tiles A1, A2, B1, B2
            continue
        sensor, bands = _named(rest, tokens)
        if len(bands) > 1:
            name = before.rstrip("_-. ") or PurePosixPath(folder).name or "scene"
            found.append(Loose(name=name, keys=tuple(tokens), bands=bands, sensor=sensor.name if sensor else None))
    return found


def archive_problem(key: str, shown: str) -> str:
    """Why an archive is no scene, and the command that unpacks it.

    Args:
        shown: the archive as the user would write it.
    """
    name = PurePosixPath(key).name
    stem = ARCHIVE.sub("", name)
    start = f"{name} is an archive: {'fetch it and unpack it there' if '://' in shown else 'unpack it'}"
    if name.lower().endswith(".zip"):
        folder = f"{stem.removesuffix('.SAFE')}.SAFE" if stem.startswith("S2") else stem
        unpack = f"unzip -q {shlex.quote(name)}" + ("" if stem.startswith("S2") else f" -d {shlex.quote(stem)}")
    else:
        folder = stem
        unpack = f"mkdir {shlex.quote(stem)} && tar -xf {shlex.quote(name)} -C {shlex.quote(stem)}"
    return (
        f"{start}, as blocks are read from many places of its files at once: {unpack}; then give the folder: earthloom run "
        f"{shlex.quote(folder)}/"
    )


def _named(rest: str, tokens: dict[str, str]) -> tuple[Sensor | None, tuple[tuple[str, str], ...]]:
    """The preset that knows most of the bands, and the image bands by their common names."""
    by_name = preset_of(recognise([rest.replace("*", "")]))
    presets = [by_name] if by_name else sorted(SENSORS.values(), key=lambda one: -_known(one, tokens))
    best = presets[0] if _known(presets[0], tokens) > 1 else None
    bands: dict[str, str] = {}
    for key, token in tokens.items():
        band = best.find(token) if best else None
        if band and band.reflects:
            bands.setdefault(band.name, key)
        elif band is None and token.lower() in COMMON_NAMES:
            bands.setdefault(token.lower(), key)
    return best, tuple(bands.items())


def _known(sensor: Sensor, tokens: dict[str, str]) -> int:
    sources = {source for band in sensor.bands for source in band.source}
    return sum(token in sources for token in tokens.values())
