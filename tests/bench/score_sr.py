"""Super-resolution by Wald's protocol: scenes are made coarser, restored, and compared with what they were.

Wald, L., Ranchin, T., Mangolini, M. (1997): Fusion of satellite images of different spatial resolutions. PE&RS 63.
Coarser pixels are means of the finer ones that they cover. The baseline is cubic convolution with a = -1/2 (Keys 1981),
that of GDAL; the sharper one of OpenCV and torch, a = -3/4, is told too. Nothing was trained on these scenes, but the
softening in `models.networks.enhance.span` and the value scale were chosen on crops of them.

The sharp models are for pixels that were made coarser by cubic convolution, antialiased as photographs are: there their goal
is the network as it was published, and where pixels are means it is that of the softened ones. The baseline is the same
cubic enlargement for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch import Tensor
from torch.nn import functional as F

from earthloom.models.cards import weights
from earthloom.models.device.deterministic import steady
from earthloom.models.networks.registry import build
from earthloom.models.zoo import variants
from tests.bench.scores import Score
from tests.scenes import DATA

_SETS = (("Sentinel-2 ports", "ships_s2", 1e-4), ("NAIP wetlands", "timeseries_naip", 1 / 255))
_GOALS = {2: 2.5, 4: 1.2}
"""dB over the baseline."""
_AS_GOOD_DB = 0.02
"""The sharp models hold details to the range of the pixels around; the network alone does not."""
_CUBIC = "cubic"
Method = Callable[[Tensor], Tensor]


def scores() -> list[Score]:
    """PSNR, SSIM and the shift of band means of `sr-x2` and `sr-x4`, of each scene and the mean of each data set.

    Raises:
        FileNotFoundError: if a data set is absent.
        CardError: if the models are not in the cache.
    """
    sets = [(scale, *each) for scale in _GOALS for each in _SETS]
    return [score for each in sets for score in (*_set(*each), *_sharp(*each))]


def _set(scale: int, data: str, folder: str, gain: float) -> Iterator[Score]:
    name = f"sr-x{scale}"
    methods: dict[str, Method] = {
        name: _network(name),
        _CUBIC: _cubic(scale),
        "cubic, a = -3/4": lambda x: F.interpolate(x, scale_factor=scale, mode="bicubic"),
    }
    found: dict[str, list[tuple[float, float, float]]] = {method: [] for method in methods}
    for path in _scenes(folder):
        truth = _read(path, gain, scale)
        coarse = F.avg_pool2d(truth, scale)
        for method, restore in methods.items():
            made = restore(coarse)
            shift = (made - truth).mean(dim=(0, 2, 3)).abs().max().item()
            found[method].append((_psnr(made, truth), _ssim(made, truth), shift))
        yield from _rows(f"{data}, {path.stem}", name, {method: rows[-1] for method, rows in found.items()}, None)
    means = {method: tuple(np.mean(rows, axis=0).tolist()) for method, rows in found.items()}
    yield from _rows(f"{data}, mean of {len(found[name])}", name, means, _GOALS[scale])


def _sharp(scale: int, data: str, folder: str, gain: float) -> Iterator[Score]:
    """PSNR of each model in red, green and blue, where pixels were made coarser by cubic convolution and by means."""
    name = f"sr-x{scale}"
    methods: dict[str, Method] = {
        name: _network(name), f"{name}-sharp": _network(f"{name}-sharp"), "the network as published": _bare(name),
    }  # fmt: skip
    for way in ("cubic convolution", "means"):
        found: dict[str, list[float]] = {method: [] for method in (*methods, _CUBIC)}
        for path in _scenes(folder):
            truth = _read(path, gain, scale)[:, :3]
            coarse = (
                F.avg_pool2d(truth, scale)
                if way == "means"
                else F.interpolate(truth, scale_factor=1 / scale, mode="bicubic", antialias=True)
            )
            for method, restore in (methods | {_CUBIC: _cubic(scale)}).items():
                found[method].append(_psnr(restore(coarse), truth))
        value = {method: float(np.mean(rows)) for method, rows in found.items()}
        bare = value["the network as published"]
        goals = {("cubic convolution", f"{name}-sharp"): bare - _AS_GOOD_DB, ("means", name): bare}
        for method in methods:
            yield Score(
                task="sr", data=f"{len(found[name])} scenes of {data}, red green blue, coarser by {way}", method=method,
                metric="PSNR, dB", value=value[method], goal=goals.get((way, method)), baseline=value[_CUBIC],
            )  # fmt: skip


def _rows(data: str, name: str, result: dict[str, tuple[float, ...]], goal: float | None) -> Iterator[Score]:
    (psnr, ssim, shift), (cubic, cubic_ssim, _) = result[name], result[_CUBIC]
    sharper = result["cubic, a = -3/4"][0]
    for method, metric, value, wanted, baseline in (
        (name, "PSNR, dB", psnr, None, cubic),
        (name, "PSNR gain over cubic, dB", psnr - cubic, goal, None),
        ("cubic, a = -3/4", "PSNR gain over cubic, dB", sharper - cubic, None, None),
        (name, "SSIM", ssim, cubic_ssim if goal else None, cubic_ssim),
        (name, "largest shift of a band's mean (lower is better), share of the range", shift, None, None),
    ):
        yield Score(
            task="sr", data=data, method=method, metric=metric, value=value, goal=wanted, baseline=baseline
        )  # fmt: skip


def _cubic(scale: int) -> Method:
    return lambda x: F.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)  # a = -1/2


def _scenes(folder: str) -> list[Path]:
    paths = sorted(path for path in (DATA / folder).glob("*.tif") if not path.stem.endswith("_shipmask"))
    if not paths:
        raise FileNotFoundError(f"{DATA / folder} holds no scenes; point EARTHLOOM_DATA at the folder of real scenes")
    return paths


def _read(path: Path, gain: float, scale: int) -> Tensor:
    """(1, C, h, w): all bands, cut to whole coarse pixels."""
    with rasterio.open(path) as dataset:
        values = dataset.read().astype(np.float32) * np.float32(gain)
    height, width = (side // scale * scale for side in values.shape[1:])
    return torch.from_numpy(values[None, :, :height, :width].copy())


def _network(name: str, of: Callable[[Any], Method] = lambda module: module) -> Method:
    """One pass in fp32 over the whole scene, reflected at its borders as a run does."""
    ((card, folder),) = variants(name)
    assert card.weights, "it was trained"
    assert card.halo_px, "it was measured"
    halo, crop = card.halo_px, card.halo_px * card.scale
    path = weights.fetch(folder, card.weights)

    def restore(coarse: Tensor) -> Tensor:
        module = build(card.bind([f"band{i}" for i in range(coarse.shape[1])])).eval()
        weights.load_into(module, path, str(card.weights))
        with torch.inference_mode(), steady("cpu"):
            made = of(module)(F.pad(coarse, (halo,) * 4, mode="reflect"))
        return made[:, :, crop:-crop, crop:-crop]

    return restore


def _bare(name: str) -> Method:
    """The network alone on three bands, reflected at the borders like the others."""
    return _network(name, lambda module: module.photograph)


def _psnr(made: Tensor, truth: Tensor) -> float:
    """dB, of all bands together; the range is 1: reflectance, or the bytes' range."""
    return float(-10 * torch.log10((made - truth).double().square().mean()))


def _ssim(made: Tensor, truth: Tensor) -> float:
    """Mean over pixels and bands (Wang 2004, Gaussian of 11 px, sigma 1.5); the range is the scene's 1 to 99 percentile."""
    low, high = np.quantile(truth.numpy(), (0.01, 0.99))
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    taps = torch.exp(-(torch.arange(-5.0, 6.0) ** 2) / (2 * 1.5**2))
    window = (taps[:, None] * taps / taps.sum() ** 2)[None, None]

    def local(x: Tensor) -> Tensor:
        return F.conv2d(x.transpose(0, 1), window)

    a, b = local(made), local(truth)
    aa, bb, ab = local(made * made) - a * a, local(truth * truth) - b * b, local(made * truth) - a * b
    return float(((2 * a * b + c1) * (2 * ab + c2) / ((a * a + b * b + c1) * (aa + bb + c2))).mean())
