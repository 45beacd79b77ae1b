"""`earthloom models measure`: run the measurements of `models.measuring.measure` on part of a real scene and write the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import RefusedScene, assign_ids, expand, open_all
from earthloom.jobs.intake.wanted import Wanted
from earthloom.jobs.planning.chain import optical
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE, write_card
from earthloom.models.cards.weights import fetch
from earthloom.models.device.resolve import resolve
from earthloom.models.importing.smp_folder import card_from_smp
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring.measure import Measurement, measure
from earthloom.models.zoo import ZOO, folder_of, variants
from earthloom.tiling.errors import CardError, ConfigError, SceneError
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.scene import Scene
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.window import Window


def measure_model(name: str, reference: str, *, window_px: int, options: SceneOptions) -> list[ModelCard]:
    """Measure every variant of a model that the scene has bands for, and write the cards.

    Args:
        name: a zoo model, a card's folder, or a folder that smp's `save_pretrained` wrote; must be local, to be written.
        reference: one scene.
        window_px: side of the part to measure on, around the scene's centre.
        options: what its files do not say; the order of `bands` is the order of an smp network's channels.

    Raises:
        CardError: if the model is not there, or the scene has bands for none of its variants.
        SceneError: if the scene cannot be read.
    """
    apply()
    scene = _open(reference, options, None if _is_smp(name) else Wanted.by([[card for card, _ in variants(name)]]))
    measured, strange = [], ""
    for card, folder in _cards(name, tuple(band for band, _ in options.bands), scene):
        names = optical(scene)
        if not {band.name for band in scene.bands} >= set(card.bands) - {"*"}:
            continue
        if scene.quantity not in card.quantities:
            strange = f"{card.label} wants {' or '.join(card.quantities)}, the scene has {scene.quantity}"
            continue
        found = _measure(card.bind(names), folder, scene, window_px)
        n_wild = len(found.bands) - len(card.bands) + 1 if "*" in card.bands else 0
        measured.append(
            replace(
                card, support_px=found.support_px, halo_px=found.halo_px, overlap=found.overlap,
                memory=tuple((name, size - n_wild * card.memory_per_band) for name, size in found.memory),
                flop_per_px=(found.flop_per_px or 0.0) - n_wild * card.flop_per_band,
            )
        )  # fmt: skip
        write_card(folder, measured[-1])
    if not measured and strange:
        raise SceneError(f"{scene.id}: {strange}; say what its values are by `sensor`, or `scale` and `quantity`")
    if not measured:
        raise CardError(
            f"{scene.id} has {', '.join(band.name for band in scene.bands)}: no variant of {name} can use them"
        )
    return measured


def _open(reference: str, options: SceneOptions, models: Wanted | None) -> Scene:
    opened = open_all(assign_ids(expand([reference], options.alternate), options.scene_id), options, models=models)
    if len(opened) != 1:
        raise ConfigError(f"{reference} is {len(opened)} scenes; a model is measured on one")
    if isinstance(opened[0], RefusedScene):
        raise SceneError(opened[0].message)
    return opened[0].scene


def _cards(name: str, bands: tuple[str, ...], scene: Scene) -> list[tuple[ModelCard, Path]]:
    if _is_smp(name):
        if not bands:
            raise CardError(
                f"{name} does not say its bands; name them in the order of its channels: `bands=red=1,green=2`"
            )
        return [(card_from_smp(Path(name), bands=bands, quantity=scene.quantity), Path(name))]
    return [(card, folder_of(card) if name in ZOO else ref.path) for card, ref in variants(name)]


def _is_smp(name: str) -> bool:
    """Whether it is a folder that smp's `save_pretrained` wrote, without a card."""
    folder = Path(name)
    return name not in ZOO and (folder / "config.json").is_file() and not (folder / FILE).is_file()


def _measure(card: ModelCard, folder: Path, scene: Scene, window_px: int) -> ModelCard:
    grid = scene.grid
    side = min(window_px, grid.width, grid.height)
    part = Window((grid.width - side) // 2, (grid.height - side) // 2, side, side)
    path = fetch(ObjectRef.parse(str(folder)), card.weights) if card.weights else None
    return measure_on(card, path, scene, part).card


def measure_on(card: ModelCard, weights_path: Path | None, scene: Scene, part: Window) -> Measurement:
    """Measure a card on a part of a scene, which is taken for a scene of its own.

    Args:
        card: bound to the scene's bands.
        weights_path: path of its weights; None for a card without.
        part: inside the scene.

    Raises:
        CardError: if the card's stride is wrong, or the part too small or without data.
        SceneError: if the scene cannot be read.
    """
    bands = scene.select(card.bands)
    pixels = read_pixels(scene, bands, part, halo_px=0)
    stack = Stack(
        window=Window(0, 0, part.width, part.height), names=card.bands, values=pixels.values, valid=pixels.valid,
        gain=np.array([band.scale for band in bands], np.float32),
        bias=np.array([band.offset for band in bands], np.float32),
    )  # fmt: skip
    return measure(card, weights_path, resolve(), stack)
