"""The two comparisons: a network as people use one, and one that costs nothing, which leaves the frameworks' own work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from earthloom.models.cards.file import load_card, write_card
from earthloom.tiling.rounding import round_up
from earthloom.tiling.storage.objects import ObjectRef
from tests.bench.command import ROOT
from tests.bench.peers import judge
from tests.bench.peers.contenders import OURS, PEERS, Earthloom, Spent, import_pointwise, import_unet, run_peer
from tests.bench.peers.material import make_pointwise, make_scene, make_unet

_MIB = 2**20
_SIZES = (2048, 4096, 8192)
_FIRST_PX = 2048
"""Side of the scene that the network is made and measured on."""
_WHOLE_PX = 4096
"""The largest scene of which one forward pass fits into memory."""
_PART_PX = 1024
_CONFIDENCE_SCALE = 250.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What the contenders of one comparison are given."""

    folder: Path
    network: Path
    model: Path
    """The same network as Earthloom's model folder."""
    halo_px: int
    reach_px: int
    """Beyond which nothing has an influence; at least the halo."""
    batch: int
    runs: int
    """Of scenes of seconds, and of the empty one: fixed costs, which are taken off, vary by tenths of a second."""

    def spent(self, name: str, scene: Path, runs: int) -> Spent:
        """The cheapest of the runs: what else the machine does only adds."""
        out = self.folder / f"{name.replace(' ', '-')}-{scene.stem}"
        if name in OURS:
            ours = self._ours(name)
            every = (ours.run(scene, out) for _ in range(runs))
        else:
            every = (run_peer(name, self.network, scene, out, self.batch) for _ in range(runs))
        return min(every, key=lambda spent: spent.cpu_s)

    def _ours(self, name: str) -> Earthloom:
        place = self.folder / name.replace(" ", "-")
        place.mkdir(exist_ok=True)
        return Earthloom(OURS[name], self.model, place, self.runs)


def peers(
    folder: Path, sizes: Sequence[int] = _SIZES, only: Collection[str] = (), runs: int = 3
) -> list[dict[str, Any]]:
    """A U-Net on resnet18: seconds, memory and pixels against one forward pass over the whole scene.

    Args:
        sizes: sides of the scenes in pixels.
        only: contenders, `earthloom` for all its rows; all when empty. Above 4096² px only the peer that took the fewest CPU
            seconds of the size before runs beside ours, and those that are named: the others take minutes each.
        runs: of a scene of at most 2048² px, of which the cheapest counts; of a larger one there is one.
    """
    first = make_scene(folder / f"scene-{_FIRST_PX}.tif", _FIRST_PX)
    network = make_unet(folder / "unet", first)
    model = import_unet(network, first, folder / "model")
    card = load_card(ObjectRef.parse(str(model)))
    assert card.support_px is not None, "a plain U-Net has one"
    # random weights reach farther than trained ones: the halo measured for them leaves just what `exact` tolerates
    halo_px = round_up(card.support_px, card.stride_px)
    write_card(model, replace(card, halo_px=halo_px))
    case = _Case(folder=folder, network=network, model=model, halo_px=halo_px, reach_px=halo_px, batch=4, runs=runs)
    return _compare(case, tuple(OURS), sizes, only)


def overhead(
    folder: Path, sizes: Sequence[int] = _SIZES, only: Collection[str] = (), runs: int = 3
) -> list[dict[str, Any]]:
    """A 1 x 1 convolution: what the frameworks themselves take, and whether it grows with the scene.

    Args as for `peers`.
    """
    network = make_pointwise(folder / "pointwise")
    model = import_pointwise(network, make_scene(folder / f"scene-{_FIRST_PX}.tif", _FIRST_PX), folder / "model")
    case = _Case(folder=folder, network=network, model=model, halo_px=0, reach_px=0, batch=8, runs=runs)
    ours = [name for name in OURS if "fp32" in name]  # an ONNX graph computes in fp32 whatever is asked for
    return _compare(case, ours, sizes, only)


def _compare(case: _Case, ours: Sequence[str], sizes: Sequence[int], only: Collection[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    wanted = [name for name in (*ours, *PEERS) if not only or name in only or (name in ours and "earthloom" in only)]
    cpu_s: dict[str, float] = {}
    """Of the peers, at the size before."""
    for side_px in sizes:
        scene = case.folder / f"scene-{side_px}.tif"
        if not scene.is_file():
            make_scene(scene, side_px)
        truth = _reference(case, scene, side_px)
        fresh: dict[str, float] = {}
        for name in wanted:
            row, best = _row(name, side_px), min(cpu_s, key=cpu_s.__getitem__, default=name)
            if side_px > _WHOLE_PX and name in PEERS and name != best and name not in only:
                row["CPU s"] = f"not run: {best} took less"
            else:
                try:
                    spent = case.spent(name, scene, case.runs if side_px <= _FIRST_PX else 1)
                    if name in PEERS:
                        fresh[name] = spent.cpu_s
                    row |= _told(spent, scene, truth, side_px)
                except RuntimeError as error:  # one that fails is told, and the others go on
                    row["CPU s"] = f"failed: {str(error).strip().splitlines()[-1][:80]}"
            rows.append(row)
            print(json.dumps(row, ensure_ascii=False), file=sys.stderr, flush=True)
        cpu_s = fresh
    return rows


def _row(name: str, side_px: int) -> dict[str, Any]:
    columns = (
        "CPU s", "CPU s with start", "CPU s to COG", "wall s", "Mpx per CPU s", "Mpx per CPU s to COG",
        "memory grows MiB", "flips %", "flips % inside", "ring error", "leaked px", "uncovered px", "COG", "grid kept",
    )  # fmt: skip
    return {"contender": name, "scene": f"{side_px}²"} | dict.fromkeys(columns, "")


def _told(spent: Spent, scene: Path, truth: Path, side_px: int) -> dict[str, Any]:
    verdict = judge.compare(_parts(spent, scene, truth), (side_px, side_px))
    return {
        "CPU s": f"{spent.cpu_s:.2f}", "CPU s with start": f"{spent.cpu_all_s:.2f}",
        "CPU s to COG": "there" if spent.finish_cpu_s is None else f"{spent.finish_cpu_s:.2f}",
        "wall s": f"{spent.wall_s:.1f}", "Mpx per CPU s": f"{side_px**2 / 1e6 / spent.cpu_s:.2f}",
        "Mpx per CPU s to COG": f"{side_px**2 / 1e6 / (spent.cpu_s + (spent.finish_cpu_s or 0)):.2f}",
        "memory grows MiB": f"{spent.grown_bytes / _MIB:.0f}", "flips %": f"{100 * verdict.flips:.4f}",
        "flips % inside": f"{100 * verdict.flips_inside:.4f}", "ring error": f"{verdict.ring_error:.4f}",
        "leaked px": f"{verdict.leaked_px} of {verdict.nodata_px}", "uncovered px": verdict.uncovered_px,
        "COG": "yes" if spent.wrote_file and judge.is_cog(spent.output) else "no" if spent.wrote_file else "no file",
        "grid kept": ("yes" if judge.keeps_grid(spent.output, scene) else "no") if spent.wrote_file else "no file",
    }  # fmt: skip


def _reference(case: _Case, scene: Path, side_px: int) -> Path:
    """One pass in a process of its own; parts of a scene that is too large for it, three of them at its border."""
    last, middle = side_px - _PART_PX, side_px // 2 - _PART_PX // 2
    places = ((0, 0), (0, last), (middle, middle), (last, middle))
    parts = [f"{row},{col},{_PART_PX}" for row, col in places] if side_px > _WHOLE_PX else []
    out = case.folder / f"reference-{side_px}.npz"
    context = (str(case.halo_px), str(case.reach_px))
    module = "tests.bench.peers.reference"
    subprocess.run([sys.executable, "-m", module, case.network, scene, out, *context, *parts], cwd=ROOT, check=True)
    return out


def _parts(spent: Spent, scene: Path, truth: Path) -> Iterator[tuple[Window, judge.Map, judge.Map, NDArray[np.bool_]]]:
    with np.load(truth) as found:
        windows = [Window(col, row, side, side) for row, col, side in found["windows"].tolist()]
        for number, window in enumerate(windows):
            wanted = judge.Map(found[f"classes_{number}"], found[f"confidence_{number}"])
            with rasterio.open(scene) as source:
                valid = (source.read(window=window) != source.nodata).all(0)
            yield window, _made(spent, window), wanted, valid


def _made(spent: Spent, window: Window) -> judge.Map:
    rows, cols = window.toslices()
    if spent.output.suffix == ".npz":
        with np.load(spent.output) as found:
            return judge.Map(found["classes"][rows, cols], found["confidence"][rows, cols])
    with rasterio.open(spent.output) as made:
        if spent.confidence is None:
            return judge.from_probabilities(made.read(window=window), made.nodata)
        with rasterio.open(spent.confidence) as trust:
            return judge.from_classes(made.read(1, window=window), trust.read(1, window=window), _CONFIDENCE_SCALE)
