"""One peer maps one scene, in a process of its own and in the peers' environment; writes OUT.json.

    VENV/bin/python -P tests/bench/peers/run_peer.py PEER NETWORK_FOLDER SCENE OUT BATCH

The calls are those of each peer's documentation. Imports and loading the network are counted apart from the call, and so
is what it takes to make COGs of classes and confidence from what the peer gives: an array or a raster of probabilities.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

N_CLASSES = 4
TILE_PX, OVERLAP_PX = 256, 64
_LIBRARIES: Any = torch.library  # Any: torch ships no types for it
_KEPT = _LIBRARIES.Library("torchvision", "DEF")
"""Schemas that torchvision's Python code wants to find as it is imported, where its library is for another torch."""


def cpu_s() -> float:
    """Processor time of this process and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def resident_bytes(field: str = "VmRSS") -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status says no {field}")


def network(folder: Path) -> torch.nn.Module:
    """The network of a folder: smp's if it says so, else the 1 x 1 convolution."""
    if (folder / "config.json").is_file():
        import segmentation_models_pytorch as smp

        loaded: torch.nn.Module = smp.from_pretrained(str(folder)).eval()
        return loaded.requires_grad_(False)
    from safetensors.torch import load_file

    module = torch.nn.Conv2d(3, N_CLASSES, 1)
    module.load_state_dict(load_file(folder / "model.safetensors"))
    return module.eval().requires_grad_(False)


class Probabilities(torch.nn.Module):
    """The network with a softmax behind it."""

    def __init__(self, inner: torch.nn.Module, gain: float = 1.0) -> None:
        super().__init__()
        self.inner, self.gain = inner, gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.inner(x * self.gain if self.gain != 1 else x).softmax(1)
        return answer


Ready = Callable[[], "np.ndarray[Any, Any] | Path"]
"""The call itself, after imports; gives probabilities (K, h, w), or the file that it wrote."""


def geoai(inner: torch.nn.Module, scene: Path, out: Path, batch: int) -> Ready:
    predict_geotiff = import_module("geoai.inference").predict_geotiff

    def call() -> Path:
        predict_geotiff(
            Probabilities(inner), str(scene), str(out), tile_size=TILE_PX, overlap=OVERLAP_PX, batch_size=batch,
            num_classes=N_CLASSES, blend_mode="spline", preprocess_fn=lambda a: a.astype("float32") / 255.0,
            device="cpu", verbose=False,
        )  # fmt: skip
        return out

    return call


def opensr(inner: torch.nn.Module, scene: Path, out: Path, batch: int) -> Ready:
    large_file_processing = import_module("opensr_utils").large_file_processing

    def call() -> Path:
        # it feeds stored values / 10000 and stores round(10000 * answer) as uint16
        large_file_processing(
            root=str(scene), model=Probabilities(inner, 10000 / 255.0), window_size=(TILE_PX, TILE_PX), factor=1,
            overlap=OVERLAP_PX, eliminate_border_px=24, device="cpu", batch_size=batch, num_workers=0,
            output_path=str(out), overwrite=True, output_units="normalized",
        ).run()  # fmt: skip
        return out

    return call


def terratorch(inner: torch.nn.Module, scene: Path, out: Path, batch: int) -> Ready:
    tiled_inference = import_module("terratorch.tasks.tiled_inference").tiled_inference

    def call() -> np.ndarray[Any, Any]:
        logits = tiled_inference(
            inner, _unit(scene), crop=TILE_PX, stride=TILE_PX - OVERLAP_PX, delta=8, batch_size=batch,
            padding="reflect",
        )  # fmt: skip
        return np.asarray(logits.softmax(1)[0])

    return call


def monai(inner: torch.nn.Module, scene: Path, out: Path, batch: int) -> Ready:
    inferers = import_module("monai.inferers")

    def call() -> np.ndarray[Any, Any]:
        inferer = inferers.SlidingWindowInferer(
            roi_size=TILE_PX, sw_batch_size=batch, overlap=OVERLAP_PX / TILE_PX, mode="gaussian",
            padding_mode="reflect", device="cpu",
        )  # fmt: skip
        return np.asarray(inferer(_unit(scene), inner).softmax(1)[0])

    return call


def rastervision(inner: torch.nn.Module, scene: Path, out: Path, batch: int) -> Ready:
    data, misc = import_module("rastervision.core.data"), import_module("rastervision.core.utils.misc")
    learning = import_module("rastervision.pytorch_learner")
    crop_px, stride_px = OVERLAP_PX // 2, TILE_PX - OVERLAP_PX

    def call() -> Path:
        classes = data.ClassConfig(names=list("abcd"), null_class="a")
        source = data.RasterioSource(str(scene), channel_order=[0, 1, 2])
        padding = misc.calculate_required_padding(
            extent_sz=source.extent.size, chip_sz=(TILE_PX, TILE_PX), stride=(stride_px, stride_px),
            pad_direction="both", crop_sz=crop_px,
        )  # fmt: skip
        dataset = learning.SemanticSegmentationSlidingWindowGeoDataset(
            scene=data.Scene(id="", raster_source=source), size=TILE_PX, stride=stride_px, out_size=TILE_PX, normalize=True,
            padding=padding, pad_direction="both",
        )  # fmt: skip
        config = learning.SemanticSegmentationLearnerConfig(
            data=learning.SemanticSegmentationGeoDataConfig(class_config=classes, num_workers=0),
            solver=learning.SolverConfig(batch_sz=batch),
        )
        with tempfile.TemporaryDirectory() as folder:
            learner = learning.SemanticSegmentationLearner(cfg=config, model=inner, output_dir=folder, training=False)
            answers = learner.predict_dataset(dataset, raw_out=True, numpy_out=True, progress_bar=False)
            labels = data.SemanticSegmentationSmoothLabels.from_predictions(
                dataset.windows, answers, extent=source.extent, num_classes=N_CLASSES, crop_sz=crop_px
            )
        labels.save(uri=str(out), crs_transformer=source.crs_transformer, class_config=classes)
        return out / "scores.tif"

    return call


PEERS = {
    "monai": monai, "terratorch": terratorch, "geoai": geoai, "opensr-utils": opensr, "raster-vision": rastervision,
}  # fmt: skip


def _unit(scene: Path) -> torch.Tensor:
    """(1, 3, h, w) fp32, 0 to 1: the whole scene, which is how these two take it."""
    with rasterio.open(scene) as dataset:
        return torch.from_numpy(dataset.read()).float().div_(255)[None]


def main(peer: str, folder: str, scene: str, out: str, batch: str) -> None:
    warnings.filterwarnings("ignore")
    for name in ("nms", "qnms"):
        _KEPT.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    call = PEERS[peer](network(Path(folder)), Path(scene), Path(out), int(batch))
    before_cpu_s, before_s, base = cpu_s(), time.perf_counter(), resident_bytes()
    with torch.inference_mode():
        made = call()
    spent: dict[str, Any] = {"cpu_s": cpu_s() - before_cpu_s, "wall_s": time.perf_counter() - before_s}
    spent |= {"cpu_all_s": cpu_s(), "base_bytes": base, "peak_bytes": resident_bytes("VmHWM")}
    before_cpu_s = cpu_s()
    classes, confidence = finish(made, Path(scene), Path(f"{out}.cog"))
    spent |= {"finish_cpu_s": cpu_s() - before_cpu_s, "wrote_file": isinstance(made, Path), "output": str(made)}
    if not isinstance(made, Path):
        np.savez(f"{out}.npz", classes=classes, confidence=confidence)
        spent["output"] = f"{out}.npz"
    Path(f"{out}.json").write_text(json.dumps(spent))


def finish(
    made: np.ndarray[Any, Any] | Path, scene: Path, folder: Path
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Make the two COGs of classes and confidence that Earthloom gives, by GDAL, and return their pixels."""
    if isinstance(made, Path):
        with rasterio.open(made) as dataset:
            scores: np.ndarray[Any, Any] = dataset.read()
    else:
        scores = made
    classes, confidence = scores.argmax(0).astype(np.uint8), scores.max(0)
    folder.mkdir(exist_ok=True)
    with rasterio.open(scene) as source:
        profile = {
            "driver": "COG", "width": source.width, "height": source.height, "count": 1, "dtype": "uint8",
            "crs": source.crs, "transform": source.transform, "nodata": 255, "compress": "deflate",
        }  # fmt: skip
    stored = np.clip(np.nan_to_num(confidence * (250 / (10000 if confidence.dtype == np.uint16 else 1))), 0, 250)
    for name, pixels, resampling in (("classes", classes, "mode"), ("confidence", stored.astype(np.uint8), "average")):
        with rasterio.open(folder / f"{name}.tif", "w", **profile, overview_resampling=resampling) as dataset:
            dataset.write(pixels, 1)
    return classes, confidence


if __name__ == "__main__":
    main(*sys.argv[1:])
