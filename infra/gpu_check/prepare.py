"""What timed sections need and need not wait for: scenes, networks, and programs in the compiler's cache."""

from __future__ import annotations

import shutil

import torch

from infra.gpu_check.limits import chips_for, compiled_pass
from infra.gpu_check.networks import NETWORKS, folder_of, predictor_of
from infra.gpu_check.sections import Task, Write
from tests.bench.command import LANDWATER_BANDS, large_scene


def rows(task: Task, write: Write) -> None:
    """A row for each thing that is made, in the order in which it is wanted."""
    task.work.joinpath("networks").mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        write({"network": folder_of(task, name).name})
    for side_px in (task.size.scene_px, task.size.large_px):
        scene = task.work / f"scene-{side_px}.tif"
        if shutil.disk_usage(task.work).free > 3 * side_px**2 * 2 * len(LANDWATER_BANDS):  # scene and outputs
            large_scene(scene.with_suffix(".part"), side_px, LANDWATER_BANDS).rename(scene)
            write({"scene": scene.name, "bytes": scene.stat().st_size})
        if side_px == task.size.scene_px:
            for name in NETWORKS:
                predictor = predictor_of(task, name)
                with torch.inference_mode():
                    compiled_pass(task, predictor)(chips_for(task, predictor))
                write({"compiled": name})
