"""Noise, stripes and haze are added to real scenes and taken away again, knowing nothing of how much was added.

Values are rounded to the scene's own dtype after noise is added, as a sensor's are, and again after it is removed. The
scenes are taken for the truth although they have some noise themselves, which bounds what can be gained where little is
added. Baselines: a 3 x 3 mean, the best of Gaussian blurs, and for noise Lee's filter (1980), all told the true amount.
Haze is added to each band by a share that falls with wavelength and grows smoothly over the scene, on top of what the
scene has already. A method is held to its own answer without that haze: the less is left of it, the nearer they are. The
baseline is one dark object for the whole scene (Chavez 1988).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import rasterio
import torch
from torch import Tensor
from torch.nn import functional as F

from earthloom.models.cards.card import ModelCard
from earthloom.models.device.deterministic import steady
from earthloom.models.networks.registry import build
from earthloom.models.networks.survey import Part
from earthloom.models.zoo.enhance import ENTRIES
from earthloom.tiling.window import Window
from tests.bench.scores import Score
from tests.scenes import DATA

_SIDE_PX = 512
_SCENES = (
    ("Landsat 7, Great Salt Lake", "scenes/landsat7_great_salt_lake_7band.tif", (1, 2, 3, 4, 5, 7), (500, 600), 255.0),
    ("Sentinel-2, Klang", "ships_s2/klang.tif", (1, 2, 3, 4, 5), (600, 100), 10000.0),
    ("Sentinel-2, Durban", "ships_s2/durban.tif", (1, 2, 3, 4, 5), (300, 500), 10000.0),
    ("NAIP wetlands", "timeseries_naip", (1, 2, 3, 4), (200, 100), 255.0),
)
_HAZY = (
    ("Landsat 7, Great Salt Lake", "scenes/landsat7_great_salt_lake_7band.tif", (1, 2, 3, 4, 5, 7), 255.0),
    ("Sentinel-2, Durban", "ships_s2/durban.tif", (1, 2, 3, 4, 5), 10000.0),
    ("Sentinel-2, Klang", "ships_s2/klang.tif", (1, 2, 3, 4, 5), 10000.0),
)
_HAZE = (0.08, 0.06, 0.045, 0.02, 0.005, 0.002)
"""At its thickest, as a share of the range, from blue to the short-wave infrared."""
_LEVELS = (0.005, 0.01, 0.02)
"""Standard deviation of noise, and of stripes, as a share of the range that PSNR refers to."""
_BLURS = (0.4, 0.5, 0.6, 0.8, 1.0, 1.5)


def scores() -> list[Score]:
    """PSNR gained by `denoise` and `destripe`, and what they change in scenes to which nothing was added.

    Raises:
        FileNotFoundError: if a scene is absent.
    """
    noisy = [score for scene in _SCENES for score in _scene(*scene)]
    return noisy + [score for scene in _HAZY for score in _hazy(*scene)]


def _scene(name: str, path: str, bands: tuple[int, ...], corner: tuple[int, int], peak: float) -> Iterator[Score]:
    truth = _read(path, bands, corner)
    for model in ("denoise", "destripe"):
        card = next(entry.cards[0] for entry in ENTRIES if entry.name == model)
        for level in _LEVELS:
            sigma = level * peak
            spoilt = (truth + sigma * _pattern(model, truth.shape)).round().clamp(0, peak)
            before = _psnr(spoilt, truth, peak)
            made = {model: _enhanced(card, spoilt)} | {
                method: filtered(spoilt) for method, filtered in _baselines(model, sigma, truth).items()
            }
            gained = {
                method: _psnr(image.round().clamp(0, peak), truth, peak) - before for method, image in made.items()
            }
            best = max(gain for method, gain in gained.items() if method != model)
            for method, gain in gained.items():
                yield Score(
                    task="denoise", data=f"{name}, {'noise' if model == 'denoise' else 'stripes'} {100 * level:g} %",
                    method=method, metric="PSNR gain, dB", value=gain, goal=best if method == model else None,
                    baseline=0.0,
                )  # fmt: skip
        yield Score(
            task="denoise", data=f"{name}, as it is", method=model,
            metric="PSNR of the result against the input, dB (what is changed where nothing was added)",
            value=_psnr(_enhanced(card, truth).round(), truth, peak),
        )  # fmt: skip


def _hazy(name: str, path: str, bands: tuple[int, ...], peak: float) -> Iterator[Score]:
    truth = _read(path, bands, (0, 0), side_px=1 << 16)
    height, width = truth.shape[1:]
    rows, cols = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    thick = torch.exp(-3 * ((rows + 0.4) ** 2 + (cols - 0.3) ** 2))
    haze = torch.tensor(_HAZE[: len(bands)]).reshape(-1, 1, 1) * peak * thick
    card = next(card for entry in ENTRIES if entry.name == "dehaze" for card in entry.cards if card.variant == "dn")
    hazy, clear = (truth + haze).round(), _enhanced(card, truth)
    even = _psnr(_even(hazy), _even(truth), peak)
    data, metric = f"{name}, haze up to 8 %", "PSNR against the result without that haze, dB"
    found = _psnr(_enhanced(card, hazy), clear, peak)
    yield Score(task="denoise", data=data, method="dehaze", metric=metric, value=found, goal=even, baseline=even)
    yield Score(
        task="denoise", data=f"{name}, as it is", method="dehaze", value=_psnr(clear, _even(truth), peak),
        metric="PSNR of the result against the rule for even haze, dB (what is changed where none was added)",
    )  # fmt: skip


def _even(image: Tensor) -> Tensor:
    """(C, h, w) less what the darkest 1/256 of each band has (Chavez 1988)."""
    dark = torch.tensor([float(np.quantile(band, 1 / 256)) for band in image.numpy()])
    return (image - dark.reshape(-1, 1, 1)).clamp(min=0)


def _baselines(model: str, sigma: float, truth: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    def best_blur(x: Tensor) -> Tensor:
        return min((_blur(x, width) for width in _BLURS), key=lambda image: float((image - truth).square().mean()))

    found: dict[str, Callable[[Tensor], Tensor]] = {"3 x 3 mean": lambda x: _mean(x, 1), "best Gaussian": best_blur}
    return found | ({"Lee 5 x 5": lambda x: _lee(x, sigma)} if model == "denoise" else {})


def _pattern(model: str, shape: torch.Size) -> Tensor:
    dice = torch.Generator().manual_seed(0)
    return torch.randn(shape if model == "denoise" else (shape[0], 1, shape[2]), generator=dice)


def _enhanced(card: ModelCard, image: Tensor) -> Tensor:
    """(C, h, w), in one pass, reflected at the borders as a run does."""
    bound = card.bind([f"band{k}" for k in range(len(image))])
    module: Any = build(bound).eval()
    halo_px = int(card.halo_px or 0)
    x = image - card.mean[0]
    scene = Window(0, 0, x.shape[2], x.shape[1])
    parts = [
        Part(window, x[(slice(None), *window.slices(scene))].numpy(), np.ones(window.shape, np.bool_))
        for window in module.windows(scene)
    ]
    with torch.inference_mode(), steady("cpu"):
        made: Tensor = module(F.pad(x[None], (halo_px,) * 4, mode="reflect"), module.look(scene, parts).context)
    return made[0, :, halo_px : halo_px + scene.height, halo_px : halo_px + scene.width] + card.mean[0]


def _mean(x: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(F.pad(x[None], (radius,) * 4, mode="reflect"), 2 * radius + 1, 1)[0]


def _lee(x: Tensor, sigma: float) -> Tensor:
    mean = _mean(x, 2)
    variance = (_mean(x * x, 2) - mean * mean).clamp(min=0)
    return mean + (1 - sigma**2 / variance.clamp(min=sigma**2)) * (x - mean)


def _blur(x: Tensor, width: float) -> Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-5.0, 6.0) / width) ** 2)
    taps /= taps.sum()
    rows = F.conv2d(F.pad(x[:, None], (5,) * 4, mode="reflect"), taps[None, None, :, None])
    return F.conv2d(rows, taps[None, None, None, :])[:, 0]


def _psnr(made: Tensor, truth: Tensor, peak: float) -> float:
    """dB, the mean over bands; 120 of what is the same."""
    error = (made - truth).double().square().mean(dim=(1, 2)).clamp(min=1e-12 * peak**2)
    return float((20 * np.log10(peak) - 10 * torch.log10(error)).mean())


def _read(path: str, bands: tuple[int, ...], corner: tuple[int, int], side_px: int = _SIDE_PX) -> Tensor:
    file = DATA / path
    if file.is_dir():
        file = sorted(file.glob("*.tif"))[0]
    if not file.exists():
        raise FileNotFoundError(f"{file} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    with rasterio.open(file) as dataset:
        values = dataset.read(bands)
    top, left = corner
    return torch.from_numpy(values[:, top : top + side_px, left : left + side_px].astype(np.float32))
