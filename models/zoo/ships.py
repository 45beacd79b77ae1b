"""`ships`: a small detector of ships on Sentinel-2, trained by `infra.recipes.ships`."""

from __future__ import annotations

from earthloom.models.cards.card import ModelCard, ModelClass, ObjectRule
from earthloom.models.cards.file import canonical

SHIPS = ModelCard(
    name="ships",
    title="Ships on Sentinel-2, from blue, green, red, near and short-wave infrared",
    description=(
        "Finds ships of about 50 m and more at anchor, under way and at the quay, each as a box along rows and columns. "
        "Trained on four ports (Busan, Casablanca, Gdynia, Klang), 106 ships; scores are of two others, Durban and Port "
        "Hedland, 54 ships. Made by: python -m infra.recipes.ships --data DIR --out FOLDER"
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
