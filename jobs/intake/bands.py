"""What the bands of a scene are called: by the user, the STAC item, a sensor preset, or the file. Opens nothing.

Where two of them speak, the first in that order wins; where two bands claim one name, the stronger source wins, then
the finer pixels, then the order of the files. Knows nothing of what values mean.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from earthloom.jobs.intake.common_names import COMMON_NAMES, is_mask, is_no_image, kin
from earthloom.jobs.intake.preset import Sensor, SensorBand
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.jobs.intake.wanted import Wanted, common_key, pick, stand_in
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.reading.preflight import Header
from earthloom.tiling.suggest import did_you_mean

_SHOWN = 6  # names in a note
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class BandFile:
    """One opened file of a scene."""

    header: Header
    stem: str
    name: str = ""
    """Band name that the user wrote before `=`."""
    key: str = ""
    """Name of the asset in its STAC item."""
    stac_bands: tuple[StacBand, ...] = ()
    """What the item says of its bands, in order; empty when it says nothing."""

    @property
    def lone(self) -> int | None:
        """Number of its only band apart from alpha, of which the file's names speak; None where there are several."""
        own = [index for index, color in enumerate(self.header.colors, 1) if color != "alpha"]
        return 1 if self.header.count == 1 else own[0] if len(own) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBand:
    """A band of a file, its name in the scene, and all that is said about it."""

    name: str
    file: BandFile
    asset: int
    """Position of its file in the scene."""
    index: int
    """Band number in the file, from 1."""
    own: str
    """The file's own name for it."""
    preset: SensorBand | None = None
    by_place: bool = False
    """True when the preset knows it only by its place in a file that names no bands."""
    categorical: bool = False
    """True for masks and classes, which are never averaged."""
    image: bool = True
    """False for what no camera saw; a model that takes all bands does not get it."""
    by_hand: bool = False
    """True when the user named it."""
    alpha: int | None = None
    """Number of the band that is its file's mask (`tiling.scene.Band.alpha`), once `jobs.intake.masks` has told."""

    @property
    def stac(self) -> StacBand:
        """What the STAC item says of it."""
        return self.file.stac_bands[self.index - 1] if self.index <= len(self.file.stac_bands) else StacBand()

    @property
    def dtype(self) -> str:
        return self.file.header.dtypes[self.index - 1]


def name_bands(
    files: Sequence[BandFile],
    wanted: Sequence[tuple[str, int | str]],
    sensor: Sensor | None,
    *,
    dialect: Sensor | None = None,
    models: Wanted | None = None,
) -> tuple[tuple[NamedBand, ...], tuple[str, ...]]:
    """Give every band of a scene a name of its own; masks and states of the air are told from image bands.

    Args:
        files: files of the scene, in order.
        wanted: (name, place) from `bands`: a band number from 1, counted over all files, or `<file>:<number>` with the
            file's STAC key, stem or number from 1.
        sensor: preset, when the user named one.
        dialect: preset of the product that the files say they are; it lends names, not the meaning of values.
        models: what the run's models ask for: one band may answer for another that the scene lacks.

    Returns:
        The bands, without those that are neither image nor mask, and notes on what was taken for what.

    Raises:
        ConfigError: if `wanted` is malformed.
        SceneError: if `wanted`, the preset or the STAC item does not fit the files.
    """
    files, notes = _aligned(files)
    for file in files:
        if file.name and file.lone is None:
            raise SceneError(
                f"{file.name}={file.stem} names one band, but the file has {file.header.count}; "
                f"number them: `bands={file.name}=<number>`"
            )
    claims = _claims(files, _explicit(files, wanted), sensor, dialect)
    named = _settle(claims)
    if models:
        notes += _ties(claims, models)
    notes += [doubt for band in named if (doubt := _against_description(band))]
    if models:
        named, borrowed = _stood_in(named, models)
        notes += [*borrowed, *_misspelt(named, models)]
    asked = models.names if models else frozenset[str]()
    kept = tuple(band for band in named if band.image or band.categorical or band.name in asked)
    if kept and len(kept) < len(named):
        out = ", ".join(band.name for band in named if band not in kept)
        notes.append(f"taken for no band of the image: {out}; `bands` takes one by name")
    return kept or named, tuple(notes)


def _claims(
    files: Sequence[BandFile], explicit: Mapping[tuple[int, int], str], sensor: Sensor | None, dialect: Sensor | None
) -> list[tuple[int, NamedBand]]:
    """Every band with the name that its strongest source gives it, and the rank of that source; names may repeat."""
    named_by_item = any(band.common_name for file in files for band in file.stac_bands)
    claims = []
    for asset, file in enumerate(files):
        by_place = _in_preset_order(files, file, sensor)
        for index in range(1, file.header.count + 1):
            band = NamedBand(name="", file=file, asset=asset, index=index, own=_own(file, index, alone=len(files) == 1))
            by_hand = explicit.get((asset, index))
            by_text = _find(sensor or dialect, band)
            placed = by_place[index - 1] if by_place and not by_text else None
            preset = by_text or placed
            rank, name = _claim(band, by_hand, preset)
            if sensor and not preset:
                preset = sensor.by_name(name)
            band = replace(band, name=name, preset=preset, by_place=placed is not None, by_hand=by_hand is not None)
            claims.append((rank, _judged(band, named_by_item=named_by_item)))
    return claims


def _in_preset_order(files: Sequence[BandFile], file: BandFile, sensor: Sensor | None) -> tuple[SensorBand, ...] | None:
    """The preset's bands in the order of a scene's only file, if nothing names that file's bands; else None."""
    is_nameless = len(files) == 1 and not any(file.header.descriptions) and not file.stac_bands
    return sensor.in_order(file.header.count) if sensor and is_nameless else None


def _misspelt(named: Sequence[NamedBand], models: Wanted) -> list[str]:
    """Notes on bands that nobody asks for and whose name is close to one that a model misses."""
    missing = models.names - {band.name for band in named}
    strangers = (
        band.name
        for band in named
        if band.name not in COMMON_NAMES and band.name not in models.names and not band.categorical
    )
    return [f"no model asks for a band {name}{near}" for name in strangers if (near := did_you_mean(name, missing))]


def _aligned(files: Sequence[BandFile]) -> tuple[list[BandFile], list[str]]:
    """Files with what their item says of exactly their own bands: some items list a whole sensor beside each file."""
    found, notes = [], []
    for file in files:
        listed = file.stac_bands
        if len(listed) > file.header.count:
            listed = pick(listed, file.key, file.stem) if file.lone == 1 else _by_description(file)
            if not listed:
                notes.append(
                    f"the STAC item says that {file.stem} has {len(file.stac_bands)} bands, but the file has "
                    f"{file.header.count}, and nothing tells which: what the item says of them is not used"
                )
        found.append(replace(file, stac_bands=listed))
    return found, notes


def _by_description(file: BandFile) -> tuple[StacBand, ...]:
    """What an item says of each band, by the names that the file gives them; nothing unless it names all of them."""
    by_name = {band.name.lower(): band for band in file.stac_bands if band.name}
    found = [by_name.get((text or "").lower()) for text in file.header.descriptions]
    return tuple(band for band in found if band) if all(found) else ()


def _judged(band: NamedBand, *, named_by_item: bool) -> NamedBand:
    """The band with what it is: part of the image, a mask, or neither.

    By the user's word, the preset, the item, or the name that its provider gave it. In an item that calls bands by common
    names, one without is none of the image.
    """
    stac, preset = band.stac, band.preset
    categorical = stac.categorical or bool(preset and preset.categorical)
    if band.by_hand or (stac.common_name and not preset):
        return replace(band, categorical=categorical, image=not categorical)
    if preset:
        return replace(band, categorical=categorical, image=preset.image and not categorical)
    texts = [band.own, *((band.file.key,) if band.index == band.file.lone else ())]
    categorical = categorical or any(is_mask(text) for text in texts)
    unnamed = named_by_item and bool(band.file.key) and band.name not in COMMON_NAMES
    image = not (categorical or unnamed or any(is_no_image(text) for text in texts))
    return replace(band, categorical=categorical, image=image)


def _stood_in(named: tuple[NamedBand, ...], models: Wanted) -> tuple[tuple[NamedBand, ...], list[str]]:
    """Let a band answer for one that a model asks for and the scene lacks, if it is the same by another name or the only
    narrow one within it."""
    notes = []
    names = {band.name for band in named}
    for name in sorted(models.names - names):
        same = [band.name for band in named if band.preset and name in (band.preset.name, *band.preset.also)]
        other = same[0] if len(same) == 1 else stand_in(name, frozenset(names))
        if other is None or other in models.names:
            continue
        named = tuple(replace(band, name=name) if band.name == other else band for band in named)
        names = names - {other} | {name}
        notes.append(f"{other} is taken for {name}, which the scene does not have under that name")
    return named, notes


def _own(file: BandFile, index: int, *, alone: bool) -> str:
    """The file's own name for a band."""
    stated = file.stac_bands[index - 1].name if index <= len(file.stac_bands) else None
    if name := stated or file.header.descriptions[index - 1]:
        return name
    return (file.key or file.stem) if index == file.lone and not alone else f"band{index}"


def _find(sensor: Sensor | None, band: NamedBand) -> SensorBand | None:
    """The preset's band that the STAC name, the description or, in a file of one band, the file's name speaks of."""
    if sensor is None:
        return None
    file = band.file
    said = [band.stac.name, file.header.descriptions[band.index - 1]]
    said += [file.key, file.stem] if band.index == file.lone else []
    return next((found for text in said if text and (found := sensor.find(text))), None)


def _claim(band: NamedBand, explicit: str | None, known: SensorBand | None) -> tuple[int, str]:
    """(rank of the source, name), the strongest source first."""
    description = (band.file.header.descriptions[band.index - 1] or "").lower()
    common = band.stac.common_name
    if common == "rededge" and known and known.name.startswith("rededge"):
        common = known.name  # the item says the family, the preset which of it
    sources = (
        explicit,
        common,
        known.name if known else None,
        common_key(band.file.key, 1 if band.index == band.file.lone else band.file.header.count),
        description if description in COMMON_NAMES else None,
        band.own,
    )
    return next((rank, name) for rank, name in enumerate(sources) if name)


def _against_description(band: NamedBand) -> str | None:
    """Where the user or the item calls a band one colour, and the file another one: numbers that were counted wrong."""
    said = (band.file.header.descriptions[band.index - 1] or "").lower()
    by = "`bands`" if band.by_hand else "the STAC item" if band.stac.common_name == band.name else None
    if by is None or said not in COMMON_NAMES or band.name not in COMMON_NAMES or kin(said) == kin(band.name):
        return None
    return f"band {band.index} of {band.file.stem} is {band.name} by {by}, and {said} by its description in the file"


def _settle(claims: Sequence[tuple[int, NamedBand]]) -> tuple[NamedBand, ...]:
    """Make names unique: a band that loses its claim falls back on the file's own name."""
    taken: dict[str, int] = {}
    for position in sorted(range(len(claims)), key=lambda position: _strength(claims, position)):
        band = claims[position][1]
        fallbacks = (band.name, band.own, f"{band.own}_{band.asset + 1}_{band.index}")
        free = next((name for name in fallbacks if name not in taken), None)
        if free is None:
            raise SceneError(f"band names repeat: {band.name}; name the bands by `bands`")
        taken[free] = position
    names = {position: name for name, position in taken.items()}
    return tuple(replace(band, name=names[position]) for position, (_, band) in enumerate(claims))


def _strength(claims: Sequence[tuple[int, NamedBand]], position: int) -> tuple[int, float, int]:
    """What comes first of several that claim one name: the stronger source, the finer pixels, the earlier place."""
    rank, band = claims[position]
    transform = band.file.header.grid.transform
    return rank, abs(transform[0] * transform[4]), position


def _ties(claims: Sequence[tuple[int, NamedBand]], models: Wanted) -> list[str]:
    """Where several bands claim a name alike: of two hundred narrow bands, ten are red by their wavelength."""
    groups: dict[str, list[int]] = {}
    for position, (_, band) in enumerate(claims):
        if band.name in models.names:
            groups.setdefault(band.name, []).append(position)
    notes = []
    for name, positions in groups.items():
        best = min(_strength(claims, position)[:2] for position in positions)
        equal = [position for position in positions if _strength(claims, position)[:2] == best]
        if len(equal) > 1:
            owns = [claims[position][1].own for position in equal]
            more = f" and {len(owns) - _SHOWN} more" if len(owns) > _SHOWN else ""
            notes.append(
                f"{len(owns)} bands are {name} alike ({', '.join(owns[:_SHOWN])}{more}): {owns[0]} is taken; `bands` takes "
                "another"
            )
    return notes


def _explicit(files: Sequence[BandFile], wanted: Sequence[tuple[str, int | str]]) -> Mapping[tuple[int, int], str]:
    """(asset, index) -> name, as the user said: `bands`, then `name=file`."""
    places = [(asset, index) for asset, file in enumerate(files) for index in range(1, file.header.count + 1)]
    named: dict[tuple[int, int], str] = {}
    for name, where in wanted:
        said = f"`bands={name}={where}`"
        file_text, colon, number_text = str(where).strip().rpartition(":")
        if not _NAME.match(name):
            raise ConfigError(f"{said}: {name!r} is not a band name; write something like red=3,nir=4")
        if not re.fullmatch(r"[0-9]{1,6}", number_text):
            raise ConfigError(f"{said}: give a band number from 1, or <file>:<number>")
        number = int(number_text)
        if colon:
            asset = _which(files, file_text, said)
            place = (asset, number) if (asset, number) in places else None
        else:
            place = places[number - 1] if 1 <= number <= len(places) else None
        if place is None:
            counts = ", ".join(f"{file.stem} with {file.header.count} bands" for file in files)
            raise SceneError(f"{said}: there is no such band; the scene has {counts}")
        if place in named:
            raise ConfigError(f"`bands` gives one band two names: {named[place]} and {name}")
        named[place] = name
    for asset, file in enumerate(files):
        if file.name:
            named.setdefault((asset, file.lone or 1), file.name)
    if repeated := [name for name, times in Counter(named.values()).items() if times > 1]:
        raise SceneError(f"two bands are both given the name {repeated[0]}; each needs its own")
    return named


def _which(files: Sequence[BandFile], text: str, said: str) -> int:
    for asset, file in enumerate(files):
        if text in (file.key, file.stem, file.name):
            return asset
    if re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= len(files):
        return int(text) - 1
    known = ", ".join(file.key or file.stem for file in files)
    raise SceneError(f"{said}: the scene has no file {text!r}; it has {known} (or 1 to {len(files)})")
