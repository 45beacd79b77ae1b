from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from earthloom.jobs.config import EngineOptions, check
from earthloom.jobs.planning.resources import Share, here, share
from earthloom.tiling.errors import EngineError


def shared(*nodes: Mapping[str, float], on_gpu: bool = False, **options: Any) -> Share:
    return share(check(EngineOptions, options), on_gpu=on_gpu, nodes=nodes)


def cores(*counts: float) -> list[dict[str, float]]:
    return [{"CPU": count} for count in counts]


@pytest.mark.parametrize(
    ("nodes", "workers", "threads"),
    [
        (cores(2), 1, 2), (cores(16), 4, 4), (cores(10), 2, 5), (cores(2, 2), 2, 2), (cores(2, 4, 4, 4), 3, 4),
        (cores(6, 6), 2, 6), (cores(0, 3), 1, 3), (cores(0.5), 1, 1),
    ],
)  # fmt: skip
def test_a_worker_has_four_cores_or_all_of_a_node_and_never_spans_two(
    nodes: list[dict[str, float]], workers: int, threads: int
) -> None:
    assert shared(*nodes) == Share(workers=workers, threads=threads)


def test_as_many_workers_as_asked_for_have_what_the_nodes_can_give_each() -> None:
    assert shared(*cores(4, 4, 4, 4), workers=3) == Share(workers=3, threads=4)
    assert shared(*cores(16), workers=16) == Share(workers=16, threads=1)
    assert shared(*cores(2), workers=5) == Share(workers=5, threads=1)


def test_a_worker_for_each_gpu_has_its_share_of_the_cores_beside_it() -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    assert shared(*nodes, on_gpu=True) == Share(workers=2, threads=8, gpus=1.0)
    assert shared({"CPU": 16.0, "GPU": 1.0}, on_gpu=True, workers=2) == Share(workers=2, threads=8, gpus=0.5)
    with pytest.raises(EngineError, match="Ray counts no GPU"):
        shared(*cores(8), on_gpu=True)


def test_without_ray_there_is_one_worker_with_all_cores_of_this_machine() -> None:
    made = shared(*here(), executor="local", workers=3)
    assert (made.workers, made.threads) == (1, int(here()[0]["CPU"]))


def test_memory_is_what_the_workers_of_the_fullest_node_have_each() -> None:
    nodes = [{"CPU": 8.0, "memory": 40e9}, {"CPU": 4.0, "memory": 16e9}, {"CPU": 2.0, "memory": 1e9}]
    assert shared(*nodes) == Share(workers=3, threads=4, memory_bytes=16 * 10**9)
    assert shared({"CPU": 8.0, "memory": 30e9}, workers=1) == Share(workers=1, threads=8, memory_bytes=30 * 10**9)
    (node,) = here()
    assert 0 < node["memory"] < 2**50


def test_where_nodes_may_come_workers_wait_for_them_instead_of_being_made_smaller() -> None:
    def elastic(*nodes: Mapping[str, float], on_gpu: bool = False, **options: Any) -> Share:
        return share(check(EngineOptions, options), on_gpu=on_gpu, nodes=nodes, elastic=True)

    assert elastic(*cores(8)) == Share(workers=None, threads=4)
    assert elastic(*cores(8), workers=6) == Share(workers=6, threads=4)
    assert elastic(*cores(8), workers=1) == Share(workers=1, threads=8)
    gpu = {"CPU": 8.0, "GPU": 1.0}
    assert elastic(gpu, on_gpu=True, workers=3) == Share(workers=3, threads=8, gpus=1.0)
    assert elastic(gpu, on_gpu=True, workers="auto") == Share(workers=None, threads=8, gpus=1.0)
