"""From what the user typed to scenes: finds files, opens and checks each, and gives it an id of its own.

One bad scene is refused and named; it does not stop the others. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

from earthloom.jobs.intake.band_numbers import NOTHING_SAID, BandNumbers, band_numbers
from earthloom.jobs.intake.bands import BandFile, NamedBand, name_bands
from earthloom.jobs.intake.dates import scene_date
from earthloom.jobs.intake.files import SceneFiles, keep_wanted, open_files
from earthloom.jobs.intake.grids import OffGridError, check_onto, common_grid, partly_covered
from earthloom.jobs.intake.inspectors import PRELOAD, n_processes
from earthloom.jobs.intake.masks import take_masks, take_palettes
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.plausible import implausible, judged, refuse_beyond_unit, refuse_negative_power
from earthloom.jobs.intake.preset import Sensor
from earthloom.jobs.intake.quality import as_classes, clear_by, with_quality
from earthloom.jobs.intake.recognise import Product, offer, preset_of, recognise, refuse_contradiction
from earthloom.jobs.intake.references import Part, SceneRequest, find, settle
from earthloom.jobs.intake.sensors import sensor as sensor_preset
from earthloom.jobs.intake.values import give_meaning
from earthloom.jobs.intake.wanted import Wanted
from earthloom.tiling.errors import ConfigError, EarthloomError, EngineError, SceneError, StorageError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.preflight import Header, Limits, inspect_apart
from earthloom.tiling.reading.sample import Sample, sample_apart
from earthloom.tiling.reading.sandbox import Cap, Disposables
from earthloom.tiling.reading.warp import data_as_alpha
from earthloom.tiling.resampling import resampling
from earthloom.tiling.scene import SCENE_ID, Asset, Band, Scene

_OPENERS = 8  # threads; pinning waits on the network
_LOOKED_AT = 4  # files, and bands of each, whose values are sampled; of a distant scene one file


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedScene:
    """A scene that passed all checks which need no model."""

    scene: Scene
    grids: tuple[Grid, ...]
    """Grid of each file, in the order of the scene's assets."""
    pixel_bytes: tuple[int, ...] = ()
    """Bytes of one pixel of each file, in all its bands."""
    notes: tuple[str, ...] = ()
    """Assumptions and warnings, to be shown to the user."""
    scale_known: bool = True
    """False when nothing says what the values mean; the scene's quantity is then `dn`."""
    offers: tuple[str, ...] = ()
    """Sensor presets that may describe values of unknown scale, the best fit first."""
    left_out: tuple[str, ...] = ()
    """What was not taken of the scene, or taken for something else, and why: it explains a band that is missed."""
    numbers: BandNumbers = NOTHING_SAID
    """Which bands are which, by what the files say: it completes a line that names missing bands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedScene:
    """A scene that cannot be used, and why."""

    id: str
    message: str
    kind: str
    """Class of the error."""
    identities: tuple[str, ...] = ()
    """What pins the bytes of its files (`Asset.identity`); empty where that is not known."""


def refused_scene(scene: Scene, error: EarthloomError) -> RefusedScene:
    """A scene that was opened and cannot be used."""
    identities = tuple(asset.identity for asset in scene.assets)
    return RefusedScene(id=scene.id, message=str(error), kind=type(error).__name__, identities=identities)


def expand(references: Sequence[str], alternate: str | None = None) -> list[SceneRequest]:
    """Find the scenes that references name: one request per scene, in order, each scene once.

    Args:
        references: each one a file (path, s3:// or https://), several files of one scene (`blue=B02.tif,green=B03.tif`),
            a glob (`*`, `?`, `[]`, `**` for folders of any depth; local or s3://), a folder or prefix (an existing folder,
            or ending in /: every acquisition as delivered and every other *.tif and *.tiff below it), the metadata file of an
            acquisition, a STAC file (*.json, *.geojson), or the address of a STAC API's search.
        alternate: name of the alternate address to take of the assets of STAC items.

    Raises:
        ConfigError: if a reference is malformed or names nothing.
        StorageError: if a prefix cannot be listed or a STAC file cannot be read.
    """
    found = settle([request for reference in references for request in find(reference.strip(), alternate)])
    if alternate is not None and not any(request.item for request in found):
        raise ConfigError(
            f"`alternate={alternate}` chooses among addresses of STAC assets, and no scene here is a STAC item"
        )
    return list({(request.reference, request.parts): request for request in found}.values())


def assign_ids(requests: Sequence[SceneRequest], scene_id: str | None = None) -> list[SceneRequest]:
    """Make ids unique within a run.

    Different files of one name get 8 hex digits of their reference appended, with a note. Two STAC items of one id are
    refused, as an item's id is its name in the outputs.

    Raises:
        ConfigError: if `scene_id` is given for several scenes, or cannot be a folder name.
    """
    if scene_id is not None:
        if len(requests) != 1:
            raise ConfigError(
                f"colliding scene ids: `scene_id={scene_id}` names one scene, but {len(requests)} were found; leave it "
                "out and each gets its own id"
            )
        if not SCENE_ID.match(scene_id):
            raise ConfigError(f"`scene_id={scene_id!r}` cannot be a folder name; use letters, digits, '-', '_' and '.'")
        return [replace(requests[0], id=scene_id)]
    every = Counter(request.id for request in requests)
    given = Counter(request.id for request in requests if request.item)
    final = []
    for request in requests:
        if every[request.id] == 1 or request.problem or (request.item and given[request.id] == 1):
            final.append(request)
        elif request.item:
            final.append(
                replace(request, problem=f"colliding scene ids: {given[request.id]} STAC items of this run are called "
                        f"{request.id}; run them one by one with `scene_id`")
            )  # fmt: skip
        else:
            digest = hashlib.sha256(request.reference.encode()).hexdigest()[:8]
            note = f"several scenes are called {request.id}; this one is {request.reference}"
            final.append(replace(request, id=f"{request.id[:119]}-{digest}", notes=(*request.notes, note)))
    return final


def open_all(
    requests: Sequence[SceneRequest],
    options: SceneOptions,
    limits: Limits | None = None,
    *,
    cap: Cap | None = None,
    onto: Grid | None = None,
    models: Wanted | None = None,
) -> list[OpenedScene | RefusedScene]:
    """Open and check every scene, in order; what is wrong with one is told in its place.

    Files are read in disposable processes, so that none can crash, stall or overfill this one.

    Args:
        requests: what `expand` found.
        options: what the user says of all of them.
        limits: limits of a header; default: `Limits()`.
        cap: on time and memory for each file; default: `Cap()`.
        onto: grid that every scene is read onto, whatever its CRS and pixel size; default: each scene's own.
        models: what the run's models ask for; of a STAC item, only that is opened. Default: everything.

    Raises:
        EngineError: if no process to check files in could be started.
    """
    one_date = options.datetime is not None and len(requests) > 1
    alike = (
        f"`datetime={options.datetime}` is taken for all {len(requests)} scenes; `date_pattern` reads it from each name"
    )
    n_files = sum(len(request.parts) for request in requests if not request.problem)

    def attempt(request: SceneRequest) -> OpenedScene | RefusedScene:
        try:
            scene = open_scene(request, options, inspectors, limits, onto, models=models)
            return replace(scene, notes=(*scene.notes, alike)) if one_date else scene
        except EngineError:
            raise
        except EarthloomError as error:
            identities = _identities(request)
            return RefusedScene(id=request.id, message=str(error), kind=type(error).__name__, identities=identities)

    size = n_processes(n_files)
    with ExitStack() as stack:
        inspectors = Disposables(size, cap, PRELOAD)
        if size:
            stack.enter_context(inspectors)
        with ThreadPoolExecutor(min(_OPENERS, max(1, len(requests)))) as pool:
            return list(pool.map(attempt, requests))


def open_scene(
    request: SceneRequest, options: SceneOptions, inspectors: Disposables, limits: Limits | None = None,
    onto: Grid | None = None, *, models: Wanted | None = None,
) -> OpenedScene:  # fmt: skip
    """Pin, open and check the files of a scene, and say what its bands are.

    Raises:
        SceneError: naming the scene, what is wrong, and the remedy.
        StorageError: if the storage failed.
    """
    try:
        return _Opener(request, options, inspectors, limits, onto, models).open()
    except SceneError as error:
        text = str(error)
        if text.startswith(f"{request.id}:"):
            raise
        kind = OffGridError if isinstance(error, OffGridError) else SceneError
        raise kind(f"{request.id}: {text}") from error.__cause__


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bands:
    """The files of a scene and what their bands are called."""

    opened: SceneFiles
    named: tuple[NamedBand, ...]
    numbers: BandNumbers
    left_out: tuple[str, ...]
    """What was not taken, or taken for something else, and why."""
    notes: tuple[str, ...]
    """These and all other notes on files and names."""


class _Opener:
    """Opens one scene; see `open_all` for the arguments."""

    def __init__(
        self, request: SceneRequest, options: SceneOptions, inspectors: Disposables, limits: Limits | None,
        onto: Grid | None, models: Wanted | None,
    ) -> None:  # fmt: skip
        self._request, self._options, self._inspectors, self._limits = request, options, inspectors, limits
        self._onto = onto
        self._models = with_quality(models) if options.mask and models else models

    def open(self) -> OpenedScene:
        """Open the files, name the bands, say what their values mean, and look at some of the values."""
        request, options, models, item = self._request, self._options, self._models, self._request.item
        if request.problem:
            raise SceneError(request.problem)
        products = recognise(names_of(request), item.facts if item else None)
        preset = sensor_preset(options.sensor) if options.sensor else None
        if preset:
            refuse_contradiction(preset, products)
        found = self._name(preset, products)
        opened, files = found.opened, found.opened.files
        grid, grid_notes = self._place(files)
        asked, every = (models.names, models.every) if models else (frozenset[str](), True)
        date = scene_date(item, [file.header for file in files], names_of(request), options)
        meaning = give_meaning(
            found.named, options, sensor=preset, item=item, acquired=date.day, products=products, wanted=asked
        )
        bands = tuple(
            replace(band, resampling=resampling(files[band.asset].header.grid, grid, categorical=band.categorical))
            for band in meaning.bands
        )
        quality = [clear_by(bands)] if options.mask else []
        scene = Scene(
            id=request.id, grid=grid, assets=opened.assets, bands=bands, quantity=meaning.quantity,
            datetime=date.datetime, dated_by=date.by, clear=tuple(clear for clear, _ in quality),
            source_item=item.url if item and not item.metadata else None, source_id=_source_id(request),
        )  # fmt: skip
        _refuse_data_as_alpha(scene, files)
        samples = _samples(opened, judged(bands, meaning.quantity, () if every else asked), self._inspectors)
        refuse_beyond_unit(samples, meaning.quantity)
        refuse_negative_power(samples, meaning.quantity)
        notes = (
            *request.notes, *date.notes, *found.notes, *meaning.notes, *(note for _, note in quality),
            *_fill_notes(files, bands), *grid_notes, *implausible(samples, meaning.quantity),
        )  # fmt: skip
        return OpenedScene(
            scene=scene, grids=tuple(file.header.grid for file in files),
            pixel_bytes=tuple(file.header.pixel_bytes for file in files), notes=notes, scale_known=meaning.scale_known,
            offers=() if meaning.scale_known else _offers(opened, products, self._inspectors),
            left_out=found.left_out, numbers=found.numbers,
        )  # fmt: skip

    def _name(self, preset: Sensor | None, products: Sequence[Product]) -> _Bands:
        """Open the files and name their bands; of a STAC item, keep only what the models ask for."""
        request, options, models = self._request, self._options, self._models
        dialect = preset_of(products)
        is_counted = any(":" not in str(where) for _, where in options.bands)  # over all files of the scene
        opened = open_files(request, None if is_counted else models, preset or dialect, self._read)
        named, doubts = name_bands(opened.files, options.bands, preset, dialect=dialect, models=models)
        has_all = len(opened.files) == len(request.parts)
        numbers = band_numbers(opened.files, named) if has_all else NOTHING_SAID
        named, mask_notes = take_masks(as_classes(named) if options.mask else named)
        if request.item and models and not is_counted:
            opened, named = keep_wanted(opened, named, models, one_crs=self._onto is None)
        named, palette_notes = take_palettes(named)
        left_out = (*opened.notes, *doubts)
        return _Bands(
            opened=opened, named=named, numbers=numbers, left_out=left_out,
            notes=(*left_out, *mask_notes, *palette_notes),
        )  # fmt: skip

    def _read(self, part: Part) -> tuple[Asset, Header]:
        """Pin a file and check its header, in a process that may crash."""
        asset = replace(pin(part.ref), driver=part.driver)
        return asset, inspect_apart(self._inspectors, asset, limits=self._limits)

    def _place(self, files: Sequence[BandFile]) -> tuple[Grid, tuple[str, ...]]:
        """The grid that the scene is read onto, and notes on what its files do not cover of it."""
        headers = [(file.stem, file.header) for file in files]
        if self._onto:
            return self._onto, check_onto(headers, self._onto)
        grid = common_grid(headers)
        return grid, partly_covered(headers, grid)


def _refuse_data_as_alpha(scene: Scene, files: Sequence[BandFile]) -> None:
    for band in scene.bands:
        if band.alpha == 0 and band.resampling:
            flagged = files[band.asset].header.colors.index("alpha") + 1
            raise SceneError(data_as_alpha(scene.assets[band.asset].ref.name, flagged))


def _fill_notes(files: Sequence[BandFile], bands: Sequence[Band]) -> list[str]:
    """What headers warn of, and fill that nobody declared, each with the name of its file if there are several."""
    return [
        doubt if len(files) == 1 else f"{file.stem}: {doubt}"
        for position, file in enumerate(files)
        for doubt in (*file.header.warnings, *_undeclared(file.header, [b for b in bands if b.asset == position]))
    ]


def _identities(request: SceneRequest) -> tuple[str, ...]:
    """What pins the files of a refused scene; nothing where that cannot be known, or only by a download."""
    if any(part.ref.scheme not in ("file", "s3") for part in request.parts):
        return ()
    try:
        return tuple(pin(part.ref).identity for part in request.parts)
    except EarthloomError:
        return ()


def _undeclared(header: Header, bands: Sequence[Band]) -> list[str]:
    """What looks like fill in a file and is not the nodata of each of its image bands."""
    image = [band for band in bands if not band.categorical]
    return [fill.text for fill in header.fill if any(band.nodata != fill.value for band in image)]


def _offers(opened: SceneFiles, products: Sequence[Product], inspectors: Disposables) -> tuple[str, ...]:
    """Presets that may describe the files, by what they say and by a look at the values of the first."""
    sample = _sample(inspectors, opened.assets[0], {1: None})[0]
    span = sample.span if sample else None
    return offer([(file.header, (file.key, file.stem)) for file in opened.files], products, span)


def _samples(opened: SceneFiles, bands: Sequence[Band], inspectors: Disposables) -> dict[Band, Sample]:
    """What some bands hold; of few files only, so that planning stays cheap."""
    found: dict[Band, Sample] = {}
    numbers = list(dict.fromkeys(band.asset for band in bands))
    most = _LOOKED_AT if all(opened.assets[number].ref.scheme == "file" for number in numbers) else 1
    for number in numbers[:most]:
        asset, here = opened.assets[number], [band for band in bands if band.asset == number][:_LOOKED_AT]
        samples = _sample(inspectors, asset, {band.index: band.nodata for band in here})
        found |= {band: sample for band, sample in zip(here, samples, strict=True) if sample}
    return found


def _sample(inspectors: Disposables, asset: Asset, bands: Mapping[int, float | None]) -> tuple[Sample | None, ...]:
    try:
        return sample_apart(inspectors, asset, bands)
    except (SceneError, StorageError):  # a tile that cannot be read is told when it is needed
        return (None,) * len(bands)


def _source_id(request: SceneRequest) -> str | None:
    """The item's own id, where the scene has another; always text that can be written."""
    if request.item is None or request.item.id == request.id:
        return None
    return request.item.id.encode(errors="backslashreplace").decode() or None


def names_of(request: SceneRequest) -> list[str]:
    """What may say which product a scene is: the id of its item, the names of its files and of their folders."""
    folders = (part.ref.key.rpartition("/")[0].rpartition("/")[2] for part in request.parts)
    return [*([request.item.id] if request.item else []), *(part.ref.stem for part in request.parts), *folders]
