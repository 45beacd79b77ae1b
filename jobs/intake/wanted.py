"""Which files of a STAC item a run needs, from what its models ask for. Opens nothing.

An item of a catalogue holds twenty or more files: bands, masks, angles, pictures. One that no model asks for is not
opened, so that it cannot refuse the scene by being absent, or on another grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from earthloom.jobs.intake.common_names import COMMON_NAMES, STAND_INS, is_no_image
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.models.cards.card import BEFORE, PERMANENT_WATER, ModelCard

_ALL = "*"
_OF_NO_SCENE = {_ALL, PERMANENT_WATER}
THERMAL = "lwir"
"""Start of the names of thermal bands, which models of all bands do not take."""


class Need(Enum):
    """How much a run needs a file."""

    MUST = "must"
    """A scene without it is refused."""
    MAY = "may"
    """Nobody knows before it is opened, or another variant of a model may want it: its loss is noted."""
    NOT = "not"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The bands that the models of a run ask for, by their names in a scene of one date."""

    models: tuple[tuple[frozenset[str], ...], ...]
    """For each model the bands of each of its variants, the best first."""
    every: bool = False
    """True when a model takes all bands of an image."""

    @classmethod
    def by(cls, models: Iterable[Sequence[ModelCard]]) -> Wanted:
        """What models ask for, each given by its variants."""
        cards = [tuple(variants) for variants in models]
        names = [
            tuple(frozenset(name.removeprefix(BEFORE) for name in card.bands) - _OF_NO_SCENE for card in variants)
            for variants in cards
        ]
        every = any(name.removeprefix(BEFORE) == _ALL for variants in cards for card in variants for name in card.bands)
        return cls(models=tuple(names), every=every)

    @property
    def names(self) -> frozenset[str]:
        """Names of the bands that any variant of any model asks for."""
        return frozenset().union(*(variant for model in self.models for variant in model))

    def surely(self, there: frozenset[str]) -> frozenset[str]:
        """Those of the bands `there` that, of each model, the best variant takes for which they suffice."""
        found: set[str] = set()
        for variants in self.models:
            for variant in variants:
                answers = [_answer(name, there) for name in variant]
                if None not in answers:
                    found |= {name for name in answers if name is not None}
                    break
        return frozenset(found)


def stand_in(name: str, there: frozenset[str]) -> str | None:
    """The one band that may answer for `name`, which is not there; None where there is none, or more than one."""
    found = [other for other in STAND_INS.get(name, ()) if other in there]
    return found[0] if len(found) == 1 else None


def needs(assets: Sequence[tuple[str, str, tuple[StacBand, ...]]], wanted: Wanted, sensor: Sensor | None) -> list[Need]:
    """How much the run needs each file of an item.

    Args:
        assets: key, stem of the file, and what the item says of its bands.
        sensor: preset by which bands are named beside the item's own words.
    """
    names = [_names(key, stem, bands, sensor) for key, stem, bands in assets]
    there: frozenset[str] = frozenset().union(*(known or () for known in names))
    must = wanted.surely(there)
    may = wanted.names | {other for name in wanted.names - there for other in STAND_INS.get(name, ())}

    def need(key: str, known: frozenset[str] | None, listed: frozenset[str]) -> Need:
        if known is None:
            unlikely = is_no_image(key) and key.lower() not in wanted.names
            return Need.NOT if unlikely else Need.MUST if wanted.every and not there else Need.MAY
        if known & must or (wanted.every and any(is_image(name) for name in known)):
            return Need.MUST
        return Need.MAY if known & may or listed & may else Need.NOT

    return [
        need(key, known, frozenset(band.common_name or "" for band in bands))
        for (key, _, bands), known in zip(assets, names, strict=True)
    ]


def is_image(name: str) -> bool:
    """Whether a band of this common name is one that models of all bands take."""
    return name in COMMON_NAMES and not name.startswith(THERMAL)


def _answer(name: str, there: frozenset[str]) -> str | None:
    return name if name in there else stand_in(name, there)


def _names(key: str, stem: str, bands: tuple[StacBand, ...], sensor: Sensor | None) -> frozenset[str] | None:
    """Names that the bands of a file will have, as far as its item tells before it is opened; None if it does not."""
    listed = pick(bands, key, stem) or bands or (StacBand(),)
    found: set[str] = set()
    for band in listed:
        texts = [band.name, *((key, stem) if len(listed) == 1 else ())]
        known = next((one for text in texts if text and sensor and (one := sensor.find(text))), None)
        name = band.common_name or (known.name if known else None) or common_key(key, len(listed))
        if name is None:
            return None
        found |= {name, *(known.also if known else ()), *((known.name,) if known else ())}
    return frozenset(found)


def common_key(key: str, n_bands: int) -> str | None:
    """The common name that the key of a file of one band is."""
    return key.lower() if n_bands == 1 and key.lower() in COMMON_NAMES else None


def pick(bands: tuple[StacBand, ...], key: str, stem: str) -> tuple[StacBand, ...]:
    """Pick the band that a file's key or name speaks of, where an item lists a whole sensor beside a file of one band.

    Nothing where none or more than one is spoken of.
    """
    if len(bands) < 2:
        return bands

    def spoken_of(text: str) -> list[StacBand]:
        words = text.lower().replace("-", "_").replace(".", "_").split("_")
        same = [band for band in bands if text.lower() in ((band.name or "").lower(), band.common_name or "")]
        tails = [band for band in bands if band.name and words[-len(parts := band.name.lower().split("_")) :] == parts]
        inside = [band for band in bands if band.name and band.name.lower() in words]
        return next((found for found in (same, tails, inside) if found), [])

    for text in (key, stem):
        if len(found := spoken_of(text)) == 1:
            return (found[0],)
    return ()
