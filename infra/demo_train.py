"""`make demo-train`: a small U-Net learns to find water in blue, green and red, is judged, explained, and maps the scene.

The scene is that of `make demo` (USGS, public domain). The labels are no ground truth: they are what the water index MNDWI
says, a formula of green and the shortwave infrared. The network never sees the infrared, so it cannot learn the formula and
has to learn what water looks like. Whole squares of the scene are held back, farther from the others than the network looks.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from earthloom.jobs.command import main
from earthloom.jobs.command.demo_scene import demo_scene

OUT = Path("demo-output") / "training"
SENSOR = ("--sensor", "landsat7-etm-dn", "--sun-elevation", "60")
FILE = """# Water around the Great Salt Lake, from blue, green and red: earthloom train water.toml
name = "water-rgb"
out = "model"

[[scenes]]
scene = "{scene}"
labels = "{labels}"
sensor = "landsat7-etm-dn"
sun_elevation = 60

[labels]
classes = [
  {{ value = 0, name = "land", color = "#b59f6b" }},
  {{ value = 1, name = "water", color = "#1f78b4" }},
]

[split]
by = "block"                # squares of 384 px; no pixel is judged that lies nearer to a trained one than the halo
block_px = 384

[model]
architecture = "ukis-unet"
arguments = {{ base = 8 }}
bands = ["blue", "green", "red"]
crop_px = 128

[augment]
zoom = 1.2
gain = 0.1
offset = 0.01

[schedule]
steps = 120
batch = 8
rate = 5e-3
validate_steps = 30

[card]
title = "Water in blue, green and red, as MNDWI sees it"
description = "Learned from what the index MNDWI says of one Landsat 7 scene; a demonstration, and no ground truth."
license = "Apache-2.0"
citation = "Landsat 7 image courtesy of the U.S. Geological Survey, public domain."
"""


def step(*arguments: str) -> None:
    """Run a command of earthloom in this process, showing it first."""
    print(f"\n$ earthloom {' '.join(arguments)}", flush=True)
    try:
        main(arguments)
    except SystemExit as stop:
        if stop.code:
            raise


def run() -> None:
    begun = time.monotonic()
    scene = str(demo_scene())
    local = ("--executor", "local")
    step("run", scene, "--model", "water-index", "--out", str(OUT / "labels"), *SENSOR, *local)
    (labels,) = (OUT / "labels").glob("scenes/*/*/water-index.tif")
    file = OUT / "water.toml"
    file.write_text(FILE.format(scene=scene, labels=labels.resolve()))
    step("train", str(file))
    model, maps = str(OUT / "model"), str(OUT / "maps")
    words = ("--labels", str(labels), "--label-classes", "0=land,1=water")
    step("evaluate", model, "--scenes", scene, "--out", maps, *words, *SENSOR, *local)
    step("explain", model, scene, "--what", "entropy", "--out", maps, *SENSOR, *local)
    step("run", scene, "--model", model, "--out", maps, *SENSOR, *local)
    print(f"\n{time.monotonic() - begun:.0f} s; the model is {model}, its curves: tensorboard --logdir {model}")


if __name__ == "__main__":
    run()
    sys.exit(0)
