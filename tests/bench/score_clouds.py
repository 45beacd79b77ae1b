"""Clouds in one Sentinel-2 scene of level 1C by `cloudmask`, against a published threshold test on green and red.

The reference is the mask of another program (s2cloudless), looked over by nobody: it says whether they agree, not who is
right. The scene has no place, so the networks see it in one pass and not through the tiler.

The test is that of Braaten, J. D., Cohen, W. B., Yang, Z. (2015), Automated cloud and cloud shadow identification in
Landsat MSS imagery for temperate ecosystems. Remote Sensing of Environment 169, 128-138: cloud is what is brighter in
green than 0.39, or brighter than 0.175 and no redder than green.
"""

from __future__ import annotations

import warnings

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.networks.registry import build
from earthloom.models.zoo import variants
from earthloom.tiling.storage.objects import ObjectRef
from tests.bench.scores import Score
from tests.scenes import DATA

_FOLDER = DATA / "clouds_s2"
_FILES = {"blue": 2, "green": 3, "red": 4, "nir": 8, "swir16": 12, "swir22": 13}
"""Numbers of the bands in the file."""
_SURELY, _PERHAPS = 0.39, 0.175  # reflectance in green


def scores() -> list[Score]:
    """IoU of cloud with the other program's mask.

    Raises:
        FileNotFoundError: naming the folder that is absent.
        CardError: if the weights of cloudmask are not in the cache.
    """
    if not _FOLDER.is_dir():
        raise FileNotFoundError(f"{_FOLDER} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    with warnings.catch_warnings(), rasterio.open(_FOLDER / "s2_l1c_13band.tif") as dataset:
        warnings.simplefilter("ignore")
        scene = {name: dataset.read(number).astype(np.float32) * np.float32(1e-4) for name, number in _FILES.items()}
    with Image.open(_FOLDER / "s2cloudless_mask_auto.png") as mask:
        theirs = np.asarray(mask.convert("L")) > 127
    bright, not_redder = scene["green"] > _PERHAPS, scene["green"] > scene["red"]
    baseline = _iou((scene["green"] > _SURELY) | (bright & not_redder), theirs)
    of_level_1c = [(card, folder) for card, folder in variants("cloudmask") if "toa_reflectance" in card.quantities]
    return [
        Score(
            task="clouds", data="one Sentinel-2 scene of level 1C, mask by s2cloudless", method=card.label,
            metric="IoU of cloud", value=_iou(_clouds(card, folder, scene), theirs), baseline=baseline,
        )
        for card, folder in of_level_1c
    ]  # fmt: skip


def _clouds(card: ModelCard, folder: ObjectRef, scene: dict[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """(H, W), in one pass over the scene, which is mirrored to a multiple of the stride."""
    network = build(card).eval()
    weights.load_into(network, folder.path / weights.FILE, card.weights or "")
    bands = np.stack([scene[name] for name in card.bands])
    height, width = bands.shape[1:]
    more = [(0, 0), (0, -height % card.stride_px), (0, -width % card.stride_px)]
    mean, std = (torch.tensor(values)[:, None, None] for values in (card.mean, card.std))
    with torch.inference_mode():
        found = network(((torch.from_numpy(np.pad(bands, more, mode="reflect")) - mean) / std)[None]).argmax(dim=1)[0]
    clouds = [entry.value for entry in card.classes if "cloud" in entry.name]
    return np.isin(found.numpy()[:height, :width], clouds)


def _iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((found & truth).sum() / (found | truth).sum())
