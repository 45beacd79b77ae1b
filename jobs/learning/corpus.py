"""The scenes of a training with their labels, opened and checked by the same rules as those of a run. Reads no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from earthloom.jobs.intake.inspectors import n_processes
from earthloom.jobs.intake.pairs import pair
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, assign_ids, expand, open_all
from earthloom.jobs.intake.wanted import Wanted
from earthloom.jobs.learning.boxes import box_source, picture_of
from earthloom.jobs.learning.config import SceneTable, TrainConfig
from earthloom.jobs.learning.folders import Mosaic, check_apart, make_mosaic
from earthloom.jobs.learning.labels import LabelOptions, LabelSource, RasterLabels, label_source
from earthloom.models.cards.card import BEFORE
from earthloom.tiling.background import Background
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.scene import Asset, Band, Scene

_OPENERS = 8  # threads; labels are pinned over the network
_NAMED = 5
_BAND = ("index", "scale", "offset", "nodata", "nodata_in")  # what the pixels of a band mean


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScene:
    """A scene, the bands that the network sees of it, and what is known of its pixels."""

    scene: Scene
    bands: tuple[Band, ...]
    labels: LabelSource
    labels_reference: str

    @property
    def content(self) -> dict[str, object]:
        """Its bytes, by digests, and their meaning, as plain data; addresses of files are not in it."""
        place = {asset: number for number, asset in enumerate(self._assets)}
        return {
            "id": self.scene.id,
            "files": [asset.identity for asset in self._assets],
            "labels": self.labels.identity,
            "quantity": self.scene.quantity,
            "bands": [
                [band.name, place[self.scene.assets[band.asset]], *(getattr(band, name) for name in _BAND)]
                for band in self.bands
            ],
            "clear": [[clear.band.name, clear.bits, list(clear.values)] for clear in self.scene.clear],
            "grid": [self.scene.grid.crs, *self.scene.grid.transform, self.scene.grid.width, self.scene.grid.height],
        }

    @property
    def reference(self) -> dict[str, object]:
        """Addresses of its files, with their digests, for people who want to find them again."""
        return {
            "id": self.scene.id,
            "item": self.scene.source_item,
            "datetime": self.scene.datetime,
            "files": [{"url": asset.ref.url, "identity": asset.identity} for asset in self._assets],
            "labels": {"url": self.labels_reference, "identity": self.labels.identity},
        }

    @property
    def _assets(self) -> list[Asset]:
        used = dict.fromkeys(band.asset for band in (*self.bands, *(clear.band for clear in self.scene.clear)))
        return [self.scene.assets[number] for number in used]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """All that is learned from and judged by."""

    scenes: tuple[LabelledScene, ...]
    notes: tuple[tuple[str, str], ...]
    """Assumptions and warnings: (scene id, text)."""

    @property
    def quantity(self) -> str:
        """Quantity of all scenes' values."""
        return self.scenes[0].scene.quantity


def open_corpus(config: TrainConfig, bands: Sequence[str]) -> Corpus:
    """Open every scene and its labels.

    Args:
        bands: common names in the order of the network's channels.

    Raises:
        SceneError: naming all scenes that cannot be used: without them something else would be learned.
        ConfigError: if a reference names nothing, or the values of two scenes mean different things.
        StorageError: if the storage failed.
    """
    mosaics = _laid_out(config)
    opened = _opened(config.scenes or _tables_of(config, mosaics), bands)
    sources = _labels_of(config, opened)
    scenes = tuple(
        LabelledScene(
            scene=each.scene,
            bands=each.scene.select(tuple(bands)),
            labels=labels,
            labels_reference=_reference(table, each),
        )
        for (table, each), labels in zip(opened, sources, strict=True)
    )
    notes = [(mosaic.name, note) for mosaic in mosaics for note in mosaic.notes]
    notes += [
        (each.scene.id, each.labels.note)
        for each in scenes
        if isinstance(each.labels, RasterLabels) and each.labels.note
    ]
    notes += [(each.scene.id, note) for _, each in opened for note in each.notes]
    return Corpus(scenes=scenes, notes=tuple(dict.fromkeys(notes)))


def _opened(tables: Sequence[SceneTable], bands: Sequence[str]) -> list[tuple[SceneTable, OpenedScene]]:
    """Every scene with the table that names it; with `before`, the pair of both dates."""
    wanted = Wanted(models=((frozenset(band.removeprefix(BEFORE) for band in bands),),))
    opened: list[tuple[SceneTable, OpenedScene]] = []
    refused: list[RefusedScene] = []
    for table in tables:
        requests = assign_ids(expand([table.scene], table.alternate), table.scene_id)
        for result in open_all(requests, table.options, models=wanted):
            if isinstance(result, RefusedScene):
                refused.append(result)
            else:
                opened.append((table, _with_earlier(table, result, wanted)))
    if refused:
        shown = "; ".join(scene.message for scene in refused[:_NAMED])
        raise SceneError(f"{len(refused)} scenes cannot be used{' (the first)' * (len(refused) > _NAMED)}: {shown}")
    _check_ids([each.scene for _, each in opened])
    _check_values([each for _, each in opened])
    return opened


def _reference(table: SceneTable, opened: OpenedScene) -> str:
    return table.labels.replace("{id}", opened.scene.id)


def _labels_of(config: TrainConfig, opened: Sequence[tuple[SceneTable, OpenedScene]]) -> list[LabelSource]:
    """The labels of each scene; all files are read at once."""
    options = config.labels if config.scenes else _by_value(config.labels)
    threads = Background(_OPENERS, "labels")
    with ExitStack() as stack:
        inspectors = Disposables(n_processes(len(opened)))  # none is started where all labels are vectors
        stack.push(inspectors.__exit__)
        coming = [
            threads.submit(_source, _reference(table, each), config, options, each, inspectors)
            for table, each in opened
        ]
        for future in coming:
            future.exception()  # the processes stay until the last file has been read
    sources = []
    for (table, each), future in zip(opened, coming, strict=True):
        try:
            sources.append(future.result())
        except SceneError as error:
            raise SceneError(f"{each.scene.id}: labels {_reference(table, each)}: {error}") from error
    return sources


def _source(
    reference: str, config: TrainConfig, options: LabelOptions, opened: OpenedScene, inspectors: Disposables
) -> LabelSource:
    if config.objects is not None:
        return box_source(reference, options, opened.scene.id, picture_of(opened.scene, opened.grids))
    return label_source(reference, options, inspectors)


def _laid_out(config: TrainConfig) -> list[Mosaic]:
    """The folders of chips, each laid out as a scene with labels."""
    mosaics = [
        make_mosaic(
            table.folder, config.labels, name=table.name, core_px=config.chips.core_px, gsd_m=table.gsd_m, number=number,
            named=frozenset(place for _, place in table.bands if isinstance(place, int)),
        )
        for number, table in enumerate(config.folders)
        if config.chips is not None  # without it, there are none
    ]  # fmt: skip
    check_apart(mosaics)
    return mosaics


def _tables_of(config: TrainConfig, mosaics: Sequence[Mosaic]) -> tuple[SceneTable, ...]:
    return tuple(
        SceneTable(
            **table.options.model_dump() | {"scene": str(made.scene), "labels": str(made.labels), "scene_id": made.name}
        )
        for table, made in zip(config.folders, mosaics, strict=True)
    )


def _by_value(options: LabelOptions) -> LabelOptions:
    """The classes as the labels of laid-out chips hold them."""
    return LabelOptions(classes=tuple(each.model_copy(update={"stored": ()}) for each in options.classes))


def _with_earlier(table: SceneTable, later: OpenedScene, wanted: Wanted) -> OpenedScene:
    if table.before is None:
        return later
    requests = expand([table.before.replace("{id}", later.scene.id)], table.alternate)
    if len(requests) != 1:
        raise ConfigError(f"{later.scene.id}: `before` {table.before} names {len(requests)} scenes; one is meant")
    own = table.options.model_copy(update={"scene_id": None, "datetime": None})
    (earlier,) = open_all(requests, own, models=wanted)
    if isinstance(earlier, RefusedScene):
        raise SceneError(f"{later.scene.id}: its earlier scene cannot be used: {earlier.message}")
    return pair(later, earlier)


def _check_ids(scenes: Sequence[Scene]) -> None:
    ids = [scene.id for scene in scenes]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise ConfigError(
            f"several scenes are called {', '.join(twice[:_NAMED])}; a split names scenes by their ids: set `scene_id` in "
            "their tables"
        )


def _check_values(opened: Sequence[OpenedScene]) -> None:
    for each in opened:
        if not each.scale_known:
            offers = f"; presets that fit: {', '.join(each.offers[:_NAMED])}" if each.offers else ""
            raise SceneError(
                f"{each.scene.id}: nothing says what its values mean; set `sensor`, or `scale` and `quantity` "
                f"(quantity dn for raw numbers){offers}"
            )
    first = opened[0].scene
    for each in opened:
        if each.scene.quantity != first.quantity:
            raise ConfigError(
                f"the values of {first.id} are {first.quantity} and those of {each.scene.id} are {each.scene.quantity}; "
                "a network learns one quantity: use products of one level"
            )
