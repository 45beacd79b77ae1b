"""The files of a scene, opened: all that the user named, and of a STAC item those that the run needs.

Knows nothing of how a file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from earthloom.jobs.intake.bands import BandFile, NamedBand
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.references import Part, SceneRequest
from earthloom.jobs.intake.stac_assets import elsewhere
from earthloom.jobs.intake.wanted import THERMAL, Need, Wanted, needs
from earthloom.tiling.errors import EarthloomError, EngineError, SceneError, StorageError
from earthloom.tiling.reading.preflight import Header
from earthloom.tiling.scene import Asset

_SHOWN = 12  # names in a note


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFiles:
    """What was opened of a scene, file by file."""

    assets: tuple[Asset, ...]
    files: tuple[BandFile, ...]
    needs: tuple[Need, ...]
    notes: tuple[str, ...] = ()
    """Which files of the item were not opened, and why."""


def open_files(
    request: SceneRequest, models: Wanted | None, namer: Sensor | None, read: Callable[[Part], tuple[Asset, Header]]
) -> SceneFiles:
    """Open what a run needs of a scene.

    Args:
        request: the scene's files, and its STAC item if it has one.
        models: what the run's models ask for; None opens everything.
        namer: preset by which files are told apart before they are opened.
        read: pins and checks one file.

    Raises:
        SceneError, StorageError: for a file that the run cannot do without, naming its alternates.
    """
    lost = request.item.lost if request.item else ()
    if request.item is None or models is None:
        wanted_here = [Need.MUST] * (len(request.parts) + len(lost))
    else:
        parts = [(part.key, part.ref.stem, part.stac_bands) for part in request.parts]
        wanted_here = needs([*parts, *((one.key, one.key, one.bands) for one in lost)], models, namer)
    notes = []
    for absent, need in zip(lost, wanted_here[len(request.parts) :], strict=True):
        if need is Need.MUST:
            raise SceneError(f"{absent.key}: {absent.problem}")
        if need is Need.MAY:
            notes.append(f"{absent.key} was left out: {absent.problem}")
    assets, files, kept = [], [], []
    for part, need in zip(request.parts, wanted_here, strict=False):
        if need is Need.NOT:
            continue
        try:
            asset, header = read(part)
        except EngineError:
            raise
        except EarthloomError as error:
            if need is Need.MUST or error.transient:
                raise _with_alternates(error, part) from error
            notes.append(f"{part.key} was left out: {error}")
            continue
        assets.append(asset)
        files.append(
            BandFile(header=header, stem=part.ref.stem, name=part.name, key=part.key, stac_bands=part.stac_bands)
        )
        kept.append(need)
    if not files:
        raise SceneError("; ".join(notes) or "none of its files holds a band that a model asks for")
    if unread := [part.key for part, need in zip(request.parts, wanted_here, strict=False) if need is Need.NOT]:
        more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
        notes.append(f"not read, as no model of this run asks for them: {', '.join(unread[:_SHOWN])}{more}")
    return SceneFiles(assets=tuple(assets), files=tuple(files), needs=tuple(kept), notes=tuple(notes))


def keep_wanted(
    opened: SceneFiles, named: Sequence[NamedBand], models: Wanted, *, one_crs: bool
) -> tuple[SceneFiles, tuple[NamedBand, ...]]:
    """Keep the files of a STAC item with bands that a model asks for, and those bands. They alone make the scene's grid.

    Where all must share a CRS (`one_crs`), a file that only may be wanted and lies in another one is left out.
    """
    kept = [band for band in named if _is_wanted(band, models)] or list(named)
    sure = {opened.files[band.asset].header.grid.crs for band in kept if opened.needs[band.asset] is Need.MUST}
    strange = {band.asset for band in kept if one_crs and sure and opened.files[band.asset].header.grid.crs not in sure}
    strange -= {place for place in strange if opened.needs[place] is Need.MUST}
    places = sorted({band.asset for band in kept} - strange)
    notes = tuple(
        f"{opened.files[place].key} was left out: its CRS is {opened.files[place].header.grid.crs[:40]}, that of the "
        f"others {', '.join(sorted(sure))[:80]}"
        for place in sorted(strange)
    )
    return SceneFiles(
        assets=tuple(opened.assets[place] for place in places), files=tuple(opened.files[place] for place in places),
        needs=tuple(opened.needs[place] for place in places), notes=(*opened.notes, *notes),
    ), tuple(replace(band, asset=places.index(band.asset)) for band in kept if band.asset in places)  # fmt: skip


def _is_wanted(band: NamedBand, models: Wanted) -> bool:
    in_image = band.image and not band.categorical and not band.name.startswith(THERMAL)
    return band.by_hand or band.name in models.names or (models.every and in_image)


def _with_alternates(error: EarthloomError, part: Part) -> EarthloomError:
    text = f"{error}{elsewhere(part.alternates)}"
    if isinstance(error, StorageError):
        return StorageError(text, transient=error.transient)
    return type(error)(text)
