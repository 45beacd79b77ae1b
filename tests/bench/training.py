"""How long a network waits for data while it learns, from local files and from far away: `python -m tests.bench train`.

python -m tests.bench.training FILE.toml      # one training of a file, without what follows it; prints its telemetry
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from tests.bench.command import LANDWATER_BANDS, command, large_scene
from tests.bench.latency import delayed

_SIDE_PX = 4096
_STEPS = 12
_CROP_PX, _BATCH = 256, 8
_FILE = """
name = "bench"
out = "{out}"
[[scenes]]
scene = "{scene}"
labels = "{labels}"
scale = 0.0001
quantity = "toa_reflectance"
[labels]
classes = [{{ value = 0, name = "dark" }}, {{ value = 1, name = "bright" }}]
[split]
by = "block"
validation = 0
test = 0
[model]
architecture = "unet"
encoder = "resnet18"
bands = {bands}
crop_px = {crop}
[augment]
zoom = 1.3
gain = 0.1
noise = 0.01
mixed = 0.3
[schedule]
steps = {steps}
batch = {batch}
[compute]
readers = 8
cache = "{cache}"
"""


def train(folder: Path) -> list[dict[str, Any]]:
    """A U-Net on resnet18 that learns from a scene of 4096 px, six bands: the share of time that it waits for crops."""
    import boto3
    from botocore.config import Config

    from infra.s3_server import s3_server

    scene = large_scene(folder / "scene.tif", _SIDE_PX, LANDWATER_BANDS)
    labels = _labels(scene, folder / "labels.tif")
    rows = []
    with s3_server(["scenes"], folder=folder / "s3") as server:
        client = boto3.client(
            "s3", endpoint_url=server.endpoint, aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key, region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required"),
        )  # fmt: skip
        for path in (scene, labels):
            client.upload_file(str(path), "scenes", path.name)
        for cache in ("0", "512MiB"):
            row: dict[str, Any] = {"kept in memory": cache if cache != "0" else "nothing"}
            rows.append({"data": "local files"} | row | _measured(folder, str(scene), str(labels), cache, {}))
            for round_trip_ms in (0, 40):
                with delayed(server.endpoint, round_trip_ms) as endpoint:
                    env = server.env | {"AWS_ENDPOINT_URL": endpoint}
                    told = {"data": f"S3, round trip + {round_trip_ms} ms"} | row
                    rows.append(told | _measured(folder, "s3://scenes/scene.tif", "s3://scenes/labels.tif", cache, env))
    return rows


def _measured(folder: Path, scene: str, labels: str, cache: str, env: dict[str, str]) -> dict[str, Any]:
    number = len(list(folder.glob("*.toml")))
    file = folder / f"{number}.toml"
    file.write_text(
        _FILE.format(
            out=folder / f"model-{number}", scene=scene, labels=labels, bands=json.dumps(LANDWATER_BANDS), crop=_CROP_PX,
            steps=_STEPS, batch=_BATCH, cache=cache,
        )
    )  # fmt: skip
    told = command("tests.bench.training", str(file), env=env).printed
    return {
        "waiting %": round(100 * told["waited_s"] / told["elapsed_s"], 2),
        "s per step": round(told["elapsed_s"] / told["steps"], 2),
        "first batch s": round(told["first_s"], 2),
        "looking through all data s": round(told["index_s"], 1),
    }


def _labels(scene: Path, path: Path) -> Path:
    """What is bright in the first band, tile by tile."""
    with rasterio.open(scene) as dataset:
        profile = {"driver": "GTiff", "width": dataset.width, "height": dataset.height, "count": 1, "dtype": "uint8",
                   "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "crs": dataset.crs,
                   "transform": dataset.transform}  # fmt: skip
        with rasterio.open(path, "w", **profile) as out:
            for _, window in dataset.block_windows(1):
                out.write((dataset.read(1, window=window) > 2500).astype(np.uint8), 1, window=window)
    return path


def _telemetry(file: str) -> dict[str, float]:
    """Train and say how long it took and waited, from the end of the first step on."""
    import time

    from earthloom.jobs.learning.config import load_training
    from earthloom.jobs.learning.corpus import open_corpus
    from earthloom.jobs.learning.fitting import Progress
    from earthloom.jobs.learning.seeds import Training, train_seed
    from earthloom.jobs.learning.start import bands_of, first_weights
    from earthloom.jobs.learning.train import out_of, prepare
    from earthloom.models.device.resolve import resolve
    from earthloom.tiling.storage.settings import apply
    from earthloom.tiling.storage.store import open_store

    apply()
    config = load_training(file)
    first = first_weights(config.model.start)
    bands = bands_of(config, first)
    corpus = open_corpus(config, bands)
    begun = time.perf_counter()
    examples, card = prepare(config, corpus, first, bands)
    index_s = time.perf_counter() - begun
    device = resolve()
    settings = {"device": device.kind, "precision": device.precision, "threads": config.compute.threads}
    told: list[Progress] = []
    training = Training(
        config=config, card=card, first=first, examples=examples, store=open_store(out_of(config)), prefix="training",
        settings=settings,
    )  # fmt: skip
    train_seed(training, 0, told.append)
    return {
        "steps": told[-1].step - told[0].step, "elapsed_s": told[-1].elapsed_s - told[0].elapsed_s,
        "waited_s": told[-1].waited_s - told[0].waited_s, "first_s": told[0].waited_s, "index_s": index_s,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(_telemetry(sys.argv[1])))
