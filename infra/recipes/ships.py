"""`python -m infra.recipes.ships --data DIR --out FOLDER`: train the detector of ships, judge it on ports held back by name.

The bytes that come out depend on the machine's kind and on --threads, beside this recipe.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch

from earthloom.jobs.learning.detection_scores import Boxes, Compared, average_precision, counted
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard, ModelClass, ObjectRule
from earthloom.models.cards.file import canonical, write_card
from earthloom.models.device.resolve import Device
from earthloom.models.inference.boxes import corners, merge, scores
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring.measure import framed
from earthloom.models.networks import registry
from earthloom.models.training.augment import Variety
from earthloom.models.training.detection import BoxCrops, ObjectLoss, Pictured, set_prior
from earthloom.models.training.export import save_half
from earthloom.models.training.fit import fit
from earthloom.models.training.schedule import Schedule
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import EarthloomError, MissingObjectError
from earthloom.tiling.window import Window

SHIPS = ModelCard(
    name="ships",
    title="Ships on Sentinel-2, from blue, green, red, near and short-wave infrared",
    description=(
        "Looks for ships of about 50 m and more, each as a box along rows and columns. Trained on four ports (Busan, "
        "Casablanca, Gdynia, Klang), 106 ships; scores are of two others, Durban and Port Hedland, 54 ships. "
        "Made by: python -m infra.recipes.ships --data DIR --out FOLDER"
    ),
    license="MIT",
    citation="Ports and boxes: sen2ships (MIT licence). Contains modified Copernicus Sentinel data.",
    task="object-detection",
    architecture="smp",
    arguments=canonical(
        {"arch": "unet", "encoder_name": "tu-resnet18", "encoder_depth": 3, "decoder_channels": [64, 32, 16]}
    ),
    bands=("blue", "green", "red", "nir", "swir16"),
    quantities=("boa_reflectance",),
    mean=(0.08, 0.09, 0.09, 0.15, 0.13),
    std=(0.07, 0.07, 0.08, 0.13, 0.13),
    gsd_m=(7.0, 14.0),
    classes=(ModelClass(value=0, name="ship", color="#ff5a1f"),),
    objects=ObjectRule(radius_px=3, threshold=0.3, merge_iou=0.3, size_px=16.0),
    activation="sigmoid",
    stride_px=8,
    support_px=71,
    halo_px=80,
    core_px=1024,
)
"""Without weights: what the recipe makes is not good enough to be part of the zoo."""

TRAINED_ON = ("busan", "casablanca", "gdynia", "klang")
HELD_BACK = ("durban", "hedland")
_GAIN = 1e-4
"""Reflectance of a stored value."""
_PIXEL_M2 = 100.0
_SCHEDULE = Schedule(steps=600, batch=6, rate=3e-3, precision="fp32")
_VARIETY = Variety(zoom=1.35, gain=0.25, tint=0.1, offset=0.015, noise=0.004, blur=0.15)
_SIDE_PX = 96
_CHIP_CORE_PX = 512
_LOGGED_EVERY = 20

_log = logging.getLogger(__name__)


def read_port(data: Path, name: str) -> Pictured:
    """A port's five bands and the boxes of its ships."""
    path = data / "ships_s2" / f"{name}.tif"
    if not path.exists():
        raise MissingObjectError(f"{path} is not there; --data names the folder that holds {path.parent.name}")
    with rasterio.open(path) as dataset:
        values = dataset.read()
    ships = json.loads(path.with_name(f"{name}_ships.json").read_bytes())["ships"]
    boxes = np.array([ship["bbox_xywh_px"] for ship in ships], np.float64).reshape(-1, 4)
    return Pictured(values, boxes, np.zeros(len(boxes), np.int64))


def train(card: ModelCard, data: Path, folder: Path) -> ModelCard:
    """Train, then write `weights.safetensors` and `card.json` into a folder; the scores are those of the written file."""
    assert card.objects is not None
    torch.manual_seed(_SCHEDULE.seed)
    module = registry.build(card)
    head = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    set_prior(head, len(card.classes))
    crops = BoxCrops(
        pictures=[read_port(data, name) for name in TRAINED_ON], gain=_GAIN, mean=card.mean, std=card.std, n_classes=1,
        side_px=_SIDE_PX, variety=_VARIETY, seed=_SCHEDULE.seed,
    )  # fmt: skip
    losses: list[float] = []

    def log_step(step: int, loss: float) -> None:
        losses.append(loss)
        if (step + 1) % _LOGGED_EVERY == 0:
            _log.info("step %d of %d, loss %.3f", step + 1, _SCHEDULE.steps, float(np.mean(losses[-_LOGGED_EVERY:])))

    trained = fit(module, crops.batch, _SCHEDULE, loss=ObjectLoss(size_px=card.objects.size_px), on_step=log_step)
    folder.mkdir(parents=True, exist_ok=True)
    card = replace(card, weights=save_half(trained, folder / weights.FILE), scores=())
    card = replace(card, scores=judge(card, folder, data))
    write_card(folder, card)
    return card


def judge(card: ModelCard, folder: Path, data: Path) -> tuple[tuple[str, float], ...]:
    """Scores on the ports that were held back, at the card's threshold, in fp32 on a CPU."""
    assert card.objects is not None
    cpu = Device(kind="cpu", precision="fp32", device_class="cpu-default")
    predictor = Predictor(card, folder / weights.FILE, cpu, 1)
    pictures = [compare(predictor, read_port(data, name)) for name in HELD_BACK]
    at_half = counted(pictures, 0, least_score=card.objects.threshold)
    loose = counted(pictures, 0, least_score=card.objects.threshold, iou=0.3)
    found = average_precision(pictures, 0)
    made = {
        "ap50": found[0], "ap50_95": found.mean(), "precision_iou50": at_half.precision, "recall_iou50": at_half.recall,
        "precision_iou30": loose.precision, "recall_iou30": loose.recall,
    }  # fmt: skip
    return tuple((name, round(float(value), 4)) for name, value in sorted(made.items()))


def compare(predictor: Predictor, port: Pictured) -> Compared:
    """What the network finds on a port, tile by tile, and what is true."""
    card = predictor.card
    assert card.objects is not None
    assert card.halo_px is not None
    height, width = port.values.shape[1:]
    scene, n_bands = Window(0, 0, width, height), len(card.bands)
    stack = Stack(
        window=scene, names=card.bands, values=port.values, valid=np.ones(scene.shape, np.bool_),
        gain=np.full(n_bands, _GAIN, np.float32), bias=np.zeros(n_bands, np.float32),
    )  # fmt: skip
    chips = ChipGrid(scene=scene, core_px=_CHIP_CORE_PX, halo_px=card.halo_px, stride_px=card.stride_px)
    made = predict_block(predictor, chips, scene, framed(stack, chips.extent, card.halo_px)).made
    found = merge(made.found, card.objects.merge_iou)
    edges = corners(found)
    true = np.concatenate([port.boxes[:, :2], port.boxes[:, :2] + port.boxes[:, 2:]], axis=1)
    return (
        Boxes(edges=edges, classes=found["class"].astype(np.int64), areas=_areas(edges), scores=scores(found)),
        Boxes(edges=true, classes=port.classes, areas=_areas(true)),
    )


def _areas(edges: np.ndarray) -> np.ndarray:
    return np.asarray(np.prod(edges[:, 2:] - edges[:, :2], axis=1) * _PIXEL_M2)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.recipes.ships", description="Train the detector of ships.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ships_s2")
    parser.add_argument("--out", type=Path, required=True, help="folder for card.json and weights.safetensors")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(options.threads)
    try:
        card = train(SHIPS, options.data, options.out)
    except EarthloomError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: sha256 {card.weights}")
    for name, value in card.scores:
        print(f"held back: {name} {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
