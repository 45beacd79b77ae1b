"""Pansharpening by Wald's protocol: bands are made coarser, sharpened again, and compared with what they were.

Wald, L., Ranchin, T., Mangolini, M. (1997): Fusion of satellite images of different spatial resolutions. PE&RS 63. The
panchromatic band is a weighted mean of the bands (green, red, near infrared, as that of Landsat 7 sees them); the true
one of a scene would bring its own noise and spectral response. Bands are made coarser in two ways: by means of the
pixels that are covered, and by a Gaussian that leaves 0.3 at the Nyquist frequency, as sensors do (Aiazzi et al. 2006,
MTF-tailored multiscale fusion, PE&RS 72). Sentinel-2 scenes are halved first, as their short-wave infrared has 20 m.

Baselines are the two cubic convolutions in use (Keys 1981): a = -1/2 (GDAL) and the sharper a = -3/4 (OpenCV, torch).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch import Tensor
from torch.nn import functional as F

from earthloom.models.cards.card import ModelCard
from earthloom.models.device.deterministic import steady
from earthloom.models.networks.registry import build
from earthloom.models.networks.survey import survey
from earthloom.models.zoo.enhance import ENTRIES
from tests.bench.scores import Score
from tests.scenes import DATA

_LANDSAT = "scenes/landsat7_great_salt_lake_7band.tif"
_PAN = (0.0, 0.25, 0.35, 0.4)
"""Shares of blue, green, red and near infrared; the bands beyond have none."""
_MTF = 0.3
_WINDOW_PX = 8
_CUBIC = "cubic, a = -3/4"


def scores() -> list[Score]:
    """ERGAS, SAM and Q of each method, the mean over the scenes, and the least margin over either baseline in any scene.

    Raises:
        FileNotFoundError: if a scene is absent.
    """
    truths = {path.stem: _read(path) for path in _scenes()}
    return [
        score
        for ratio, names in ((2, ("pansharpen", "pansharpen-brovey")), (4, ("pansharpen-4x",)))
        for way, coarser in (("means", _mean_of), ("MTF 0.3", _as_sensors_do))
        for score in _compare(truths, ratio, names, way, coarser)
    ]


def _compare(
    truths: dict[str, Tensor], ratio: int, names: tuple[str, ...], way: str, coarser: Callable[[Tensor, int], Tensor]
) -> Iterator[Score]:
    cards = {name: next(entry.cards[0] for entry in ENTRIES if entry.name == name) for name in names}
    found: dict[str, list[tuple[float, float, float]]] = {}
    for whole in truths.values():
        height, width = (side // ratio * ratio for side in whole.shape[1:])
        truth = whole[:, :height, :width]
        shares = torch.tensor(_PAN + (0.0,) * (len(truth) - len(_PAN))).reshape(-1, 1, 1)
        coarse = coarser(truth, ratio)
        bilinear = F.interpolate(coarse[None], scale_factor=ratio, mode="bilinear")[0]
        seen = torch.cat([(truth * shares).sum(dim=0, keepdim=True), bilinear])
        made = {name: _sharpened(card, seen) for name, card in cards.items()} | {
            "cubic, a = -1/2": F.interpolate(coarse[None], scale_factor=ratio, mode="bicubic", antialias=True)[0],
            _CUBIC: F.interpolate(coarse[None], scale_factor=ratio, mode="bicubic")[0],
        }
        for method, image in made.items():
            found.setdefault(method, []).append(_quality(image, truth, ratio))
    result = {method: np.array(rows) for method, rows in found.items()}
    baselines = np.stack([rows for method, rows in result.items() if method not in cards])
    best = np.stack([baselines[..., 0].min(0), baselines[..., 1].min(0), baselines[..., 2].max(0)], axis=1)
    data = f"{len(truths)} scenes, x{ratio}, coarser by {way}"
    metrics = (("ERGAS (lower is better)", -1), ("SAM, degrees (lower is better)", -1), ("Q (higher is better)", 1))
    for column, (metric, sign) in enumerate(metrics):
        for method, rows in result.items():
            yield Score(
                task="pansharpen", data=data, method=method, metric=metric, value=float(rows[:, column].mean()),
                baseline=float(result[_CUBIC][:, column].mean()),
            )  # fmt: skip
            if method in cards:
                margin = float((sign * (rows - best)[:, column]).min())
                yield Score(
                    task="pansharpen", data=data, method=method, value=margin, goal=0.0,
                    metric=f"{metric.split(' (')[0]}: least margin over both cubics in any scene",
                )  # fmt: skip


def _sharpened(card: ModelCard, seen: Tensor) -> Tensor:
    """(C, h, w) from the panchromatic band and the others (1 + C, h, w), in one pass over the scene."""
    bound = card.bind(["pan", *(f"band{k}" for k in range(1, len(seen)))])
    module: Any = build(bound).eval()  # torch does not say that every enhancement has a `context`
    halo_px = int(card.halo_px or 0)
    x = seen - card.mean[0]
    result = survey([(x.numpy(), np.ones(x.shape[1:], np.bool_))])
    with torch.inference_mode(), steady("cpu"):
        made: Tensor = module(F.pad(x[None], (halo_px,) * 4, mode="reflect"), module.context(result))
    return made[0, :, halo_px:-halo_px, halo_px:-halo_px] + card.mean[0]


def _quality(made: Tensor, truth: Tensor, ratio: int) -> tuple[float, float, float]:
    """ERGAS (Wald 2000), mean spectral angle in degrees (Kruse 1993), mean Q over windows and bands (Wang & Bovik 2002)."""
    a, b = made.double(), truth.double()
    relative = (a - b).square().mean(dim=(1, 2)) / b.mean(dim=(1, 2)).square()
    cosine = (a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0)).clamp(min=1e-12)
    angle = torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).mean()
    bands = [_q(x, y) for x, y in zip(a, b, strict=True)]
    return float(100 / ratio * relative.mean().sqrt()), float(angle), float(np.mean(bands))


def _q(a: Tensor, b: Tensor) -> float:
    def local(x: Tensor) -> Tensor:
        return F.avg_pool2d(x[None, None], _WINDOW_PX, 1)[0, 0]

    mean_a, mean_b = local(a), local(b)
    spread = local(a * a) - mean_a**2 + local(b * b) - mean_b**2
    alike = 4 * (local(a * b) - mean_a * mean_b) * mean_a * mean_b
    scale = spread * (mean_a**2 + mean_b**2)
    varied = scale > 1e-9 * scale.max()
    return float((alike[varied] / scale[varied]).mean())


def _mean_of(x: Tensor, ratio: int) -> Tensor:
    return F.avg_pool2d(x[None], ratio)[0]


def _as_sensors_do(x: Tensor, ratio: int) -> Tensor:
    sigma = ratio * math.sqrt(-2 * math.log(_MTF)) / math.pi
    reach = 3 * ratio
    steps = torch.arange(-reach, reach) + 0.5  # centred between two pixels, as the coarse pixel is
    taps = torch.exp(-0.5 * (steps / sigma) ** 2)
    taps /= taps.sum()
    margin = reach - ratio // 2
    framed = F.pad(x[None], (margin,) * 4, mode="reflect").transpose(0, 1)
    rows = F.conv2d(framed, taps[None, None, :, None], stride=(ratio, 1))
    return F.conv2d(rows, taps[None, None, None, :], stride=(1, ratio))[:, 0]


def _scenes() -> list[Path]:
    ports = sorted(path for path in (DATA / "ships_s2").glob("*.tif") if not path.stem.endswith("_shipmask"))
    found = [DATA / _LANDSAT, *ports]
    if not ports or not found[0].is_file():
        raise FileNotFoundError(
            f"{DATA} lacks {_LANDSAT} or ships_s2; point EARTHLOOM_DATA at the folder of real scenes"
        )
    return found


def _read(path: Path) -> Tensor:
    """(C, h, w) of stored values: reflective bands, blue first."""
    with rasterio.open(path) as dataset:
        values = torch.from_numpy(dataset.read().astype(np.float32))
    return values[[0, 1, 2, 3, 4, 6]] if len(values) == 7 else _mean_of(values, 2)
