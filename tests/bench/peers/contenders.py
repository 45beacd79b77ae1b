"""How each contender is started, and what it took. Knows nothing of how maps are judged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.command import ROOT
from tests.bench.peers import venv
from tests.bench.peers.material import BANDS, CLASSES, make_scene
from tests.bench.peers.usage import Usage, measure

PEERS = ("monai", "terratorch", "opensr-utils", "geoai", "raster-vision")
_OPTIONS = ("--quantity", "unit", "--bands", ",".join(f"{name}={band}" for band, name in enumerate(BANDS, start=1)))
OURS = {
    "earthloom fp32": ("--precision", "fp32"),
    "earthloom": (),
    "earthloom fp32, on Ray": ("--precision", "fp32", "--executor", "ray"),
}
"""Rows of Earthloom and the options that make them; without any it is as a user gets it, which is without Ray for all of
these scenes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one contender took for one scene."""

    cpu_s: float
    """For the scene: without imports, loading the network and, for Earthloom, starting Ray."""
    cpu_all_s: float
    """Of the whole command."""
    finish_cpu_s: float | None
    """To make COGs of classes and confidence from what the peer gives; None where they are there."""
    wall_s: float
    """Of the whole command."""
    grown_bytes: int
    """Peak memory above what it holds before the scene."""
    output: Path
    confidence: Path | None
    """The second raster, where `output` holds classes alone."""
    wrote_file: bool


def run_peer(peer: str, network: Path, scene: Path, out: Path, batch: int) -> Spent:
    """Run a peer in its environment.

    Raises:
        RuntimeError: with the end of its log, if it fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    target = out / "map" if peer == "raster-vision" else out / "map.tif"
    script = Path(__file__).with_name("run_peer.py")
    command: list[str | Path] = [venv.python(), "-P", script, peer, network, scene, target, str(batch)]
    usage = measure(command, cwd=out, log=out / "log")
    found = json.loads(Path(f"{target}.json").read_text())
    return Spent(
        cpu_s=found["cpu_s"], cpu_all_s=found["cpu_all_s"], finish_cpu_s=found["finish_cpu_s"], wall_s=usage.wall_s,
        grown_bytes=found["peak_bytes"] - found["base_bytes"], output=Path(found["output"]), confidence=None,
        wrote_file=found["wrote_file"],
    )  # fmt: skip


class Earthloom:
    """One row of `OURS` with one model folder; its fixed cost is that of a scene that holds nothing, measured first."""

    def __init__(self, options: Sequence[str], model: Path, folder: Path, runs: int) -> None:
        self._options, self._model, self._folder = options, model, folder
        empty = make_scene(folder / "empty.tif", 64)
        every = [self._run(empty, folder / "out-empty")[0] for _ in range(runs)]
        self._fixed = min(every, key=lambda usage: usage.cpu_s)

    def run(self, scene: Path, out: Path) -> Spent:
        """`python -m earthloom run`: COGs, Zarr and STAC item, published and checked."""
        usage, found = self._run(scene, out)
        (result,) = found["scenes"].values()
        rasters = [Path(path) for name, path in result["files"].items() if name.endswith(".tif")]
        (confidence,) = (path for path in rasters if path.stem.endswith("-confidence"))
        (classes,) = (path for path in rasters if path != confidence)
        return Spent(
            cpu_s=usage.cpu_s - self._fixed.cpu_s, cpu_all_s=usage.cpu_s, finish_cpu_s=None, wall_s=usage.wall_s,
            grown_bytes=usage.peak_bytes - self._fixed.peak_bytes, output=classes, confidence=confidence,
            wrote_file=True,
        )  # fmt: skip

    def _run(self, scene: Path, out: Path) -> tuple[Usage, dict[str, Any]]:
        shutil.rmtree(out, ignore_errors=True)  # a published scene would cost nothing
        found = self._folder / "told.json"
        command: list[str | Path] = [
            sys.executable, "-m", "earthloom", "run", scene, "--model", self._model, "--out", out, *_OPTIONS, "--json",
            *self._options,
        ]  # fmt: skip
        usage = measure(command, cwd=ROOT, log=self._folder / "log", out=found)
        return usage, json.loads(found.read_text())


def import_unet(network: Path, scene: Path, to: Path) -> Path:
    """A model folder from smp's, the way a user makes one; the halo is measured on the scene."""
    _earthloom("models", "import", network, *_import_options(), "--to", to)
    _earthloom("models", "measure", to, scene, *_OPTIONS)
    return to


def import_pointwise(network: Path, scene: Path, to: Path) -> Path:
    """A model folder from the ONNX graph of a 1 x 1 convolution, which needs no context."""
    _earthloom(
        "models", "import", network / "pointwise.onnx", *_import_options(), "--stride", "1", "--halo", "0", "--to", to
    )
    _earthloom("models", "measure", to, scene, *_OPTIONS)
    return to


def _import_options() -> tuple[str, ...]:
    return ("--bands", ",".join(BANDS), "--quantity", "unit", "--classes", ",".join(CLASSES))


def _earthloom(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "earthloom", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
