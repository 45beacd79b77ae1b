"""Pairs: a scene whose bands come from two dates on one grid. The earlier one's bands are called `before_<name>`.

A pair is a scene like any other: its grid, id and date are the later scene's, its assets are those of both, so that
the key of its result covers both, and the reader warps the earlier bands onto the grid. Reads no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from earthloom.jobs.intake.earlier import Earlier, EarlierScenes
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.intake.wanted import Wanted
from earthloom.models.cards.card import BEFORE, ModelCard
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.footprint import describe_extent, share_covered
from earthloom.tiling.grid import Grid
from earthloom.tiling.resampling import resampling
from earthloom.tiling.scene import Band

_WHOLE = 0.995  # a share that rounds to 100 %
_ALIKE = 1.5  # ratio of pixel sizes from which it is worth a word


def open_pairs(
    opened: Sequence[OpenedScene | RefusedScene], before: Sequence[str], options: SceneOptions,
    cards: Sequence[ModelCard], onto: Grid | None = None, models: Wanted | None = None,
) -> list[OpenedScene | RefusedScene]:  # fmt: skip
    """Add the bands of one earlier scene to every opened scene; what is wrong with one pair is told in its place.

    Args:
        opened: from `jobs.intake.scenes.open_all`.
        before: references of the earlier scene, or of several, of any form that a scene may have; of several each scene
            takes the latest that was taken before it and shows its ground (`jobs.intake.earlier`). None of them: there is no
            earlier scene.
        options: as for the scenes. What they say of bands and values holds for both dates; id and date do not. An earlier
            scene that is an item of Earthloom says itself what its bands and values are, and options say nothing of it.
        cards: variants of the run's models. Where none of them looks at an earlier scene, it is not opened.
        onto: the grid that the opened scenes were read onto; the earlier one is too.
        models: what they ask for.

    Raises:
        ConfigError: if a model compares two dates in all its variants and there is one only, or `before` names nothing.
    """
    one_date = {card.name for card in cards if not _compares(card)}
    if not before:
        if needing := [card.name for card in cards if card.name not in one_date]:
            raise ConfigError(
                f"{needing[0]} compares two dates, and only one was given; name the earlier scene: `before=<scene>`"
            )
        return list(opened)
    if not any(_compares(card) for card in cards):
        note = f"`before` is not used: {', '.join(sorted(one_date))} looks at one date"
        return [_noted(scene, note) for scene in opened]
    earlier = _open_earlier(before, options, onto, models)
    several = EarlierScenes(earlier) if len(earlier) > 1 else None

    def attempt(later: OpenedScene | RefusedScene) -> OpenedScene | RefusedScene:
        if isinstance(later, RefusedScene):
            return later
        try:
            found = several.latest_before(later) if several else earlier[0]
            if isinstance(found.opened, RefusedScene):
                raise SceneError(f"{later.scene.id}: its earlier scene cannot be used: {found.opened.message}")
            made = pair(later, found.opened)
        except SceneError as error:
            identities = tuple(asset.identity for asset in later.scene.assets)
            return RefusedScene(id=later.scene.id, message=str(error), kind=type(error).__name__, identities=identities)
        if options.sun_elevation is None:
            return made
        return _noted(made, f"`sun_elevation={options.sun_elevation:g}` is taken for both dates")

    return [attempt(later) for later in opened]


def _open_earlier(
    before: Sequence[str], options: SceneOptions, onto: Grid | None, models: Wanted | None
) -> list[Earlier]:
    """Everything that `before` names, in order; items of Earthloom by what they say themselves."""
    requests = expand(before, options.alternate)
    said = options.model_copy(update={"scene_id": None, "datetime": None})
    found: dict[int, OpenedScene | RefusedScene] = {}
    for ours, own in ((False, said), (True, SceneOptions(alternate=options.alternate))):
        places = [n for n, one in enumerate(requests) if (one.item is not None and one.item.ours) is ours]
        some = open_all([requests[n] for n in places], own, onto=onto, models=models) if places else []
        found |= dict(zip(places, some, strict=True))
    return [Earlier(found[n], one.item.end if one.item else None) for n, one in enumerate(requests)]


def pair(after: OpenedScene, before: OpenedScene) -> OpenedScene:
    """One scene from two: the later one with the earlier one's bands beside its own.

    Raises:
        SceneError: if both are one acquisition, come in the wrong order, lie on different ground, or their values mean
            different things; the message names both.
    """
    later, earlier = after.scene, before.scene
    if {asset.identity for asset in later.assets} & {asset.identity for asset in earlier.assets}:
        raise SceneError(
            f"{later.id}: `before` names the same bytes ({earlier.assets[0].ref.url}), so nothing can have changed; give "
            "an earlier acquisition"
        )
    notes = _order(after, before)
    if later.quantity != earlier.quantity:
        raise SceneError(
            f"{later.id}: its values are {later.quantity} but those of {earlier.id} before it are {earlier.quantity}; "
            "compare products of one level, or say what both are: `sensor=<preset>`, or `scale` with `quantity`"
        )
    notes += _ground(after, before)
    offset = len(later.assets)

    def beside(band: Band) -> Band:
        on_grid = resampling(before.grids[band.asset], later.grid, categorical=band.categorical)
        return replace(band, name=f"{BEFORE}{band.name}", asset=band.asset + offset, resampling=on_grid)

    scene = replace(
        later, assets=later.assets + earlier.assets, bands=later.bands + tuple(beside(band) for band in earlier.bands),
        clear=later.clear + tuple(replace(clear, band=beside(clear.band)) for clear in earlier.clear),
    )  # fmt: skip
    inherited = tuple(f"before ({earlier.id}): {note}" for note in before.notes if note not in after.notes)
    return OpenedScene(
        scene=scene, grids=after.grids + before.grids, pixel_bytes=after.pixel_bytes + before.pixel_bytes,
        notes=(*after.notes, *inherited, *notes),
        scale_known=after.scale_known and before.scale_known, offers=after.offers,
        left_out=(*after.left_out, *before.left_out), numbers=after.numbers.in_common(before.numbers),
    )  # fmt: skip


def _compares(card: ModelCard) -> bool:
    return any(band.startswith(BEFORE) for band in card.bands)


def _order(after: OpenedScene, before: OpenedScene) -> list[str]:
    later, earlier = after.scene, before.scene
    if later.datetime is None or earlier.datetime is None:
        unknown = " and ".join(scene.id for scene in (earlier, later) if scene.datetime is None)
        return [f"the date of {unknown} is unknown, so nothing checks that {earlier.id} is the earlier of the two"]
    taken, taken_before = datetime.fromisoformat(later.datetime), datetime.fromisoformat(earlier.datetime)
    if taken_before >= taken and "tag" in (later.dated_by, earlier.dated_by) and later.dated_by != earlier.dated_by:
        tagged, known = (earlier, later) if earlier.dated_by == "tag" else (later, earlier)
        return [
            f"TIFFTAG_DATETIME {tagged.datetime} of {tagged.id} would put {earlier.id} after {later.id}; it is taken for "
            f"the date of the file, as {known.id} is known to be of {known.datetime} and `before` names {earlier.id}"
        ]
    by_tag = "tag" in (later.dated_by, earlier.dated_by)
    doubt = f". If TIFFTAG_DATETIME is when a file was written, say when {later.id} was taken: `datetime`"
    if taken_before > taken:
        raise SceneError(
            f"{later.id} was taken on {later.datetime}, before {earlier.id} on {earlier.datetime}, which `before` names: "
            f"swap them{doubt if by_tag else ''}"
        )
    if taken_before == taken:
        raise SceneError(
            f"{later.id} and {earlier.id}, which `before` names, were both taken on {later.datetime}; give an earlier "
            f"acquisition{doubt if by_tag else ''}"
        )
    return []


def _ground(after: OpenedScene, before: OpenedScene) -> list[str]:
    later, earlier = after.scene, before.scene
    share = share_covered(later.grid, earlier.grid)
    if share == 0:
        raise SceneError(
            f"{later.id} covers {describe_extent(later.grid)} and {earlier.id}, which `before` names, "
            f"{describe_extent(earlier.grid)}: they do not overlap; give an earlier scene of the same ground"
        )
    notes = []
    if share < _WHOLE:
        notes.append(f"{earlier.id} covers {100 * share:.3g} % of {later.id}; the rest becomes nodata")
    gsd_m, before_m = later.grid.gsd_m(), earlier.grid.gsd_m()
    if not 1 / _ALIKE < before_m / gsd_m < _ALIKE:
        notes.append(
            f"pixels of {earlier.id} are {before_m:.3g} m and are resampled to the {gsd_m:.3g} m of {later.id}"
        )
    return notes


def _noted(scene: OpenedScene | RefusedScene, note: str) -> OpenedScene | RefusedScene:
    return scene if isinstance(scene, RefusedScene) else replace(scene, notes=(*scene.notes, note))
