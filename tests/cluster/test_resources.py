from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.cluster.resources import WorkerResources, choose_workers, fitting
from earthloom.tiling.errors import ConfigError, EngineError

GIB = 1024**3
SMALL = {"CPU": 2.0, "memory": 8.0 * GIB}
BIG = {"CPU": 16.0, "memory": 64.0 * GIB, "GPU": 2.0}


def test_options_are_what_ray_takes_and_memory_only_when_planned() -> None:
    assert WorkerResources(cpus=2, gpus=0.5).actor_options() == {"num_cpus": 2, "num_gpus": 0.5}
    assert WorkerResources(memory_bytes=5).actor_options() == {"num_cpus": 1.0, "num_gpus": 0.0, "memory": 5}


@pytest.mark.parametrize(
    ("need", "nodes", "count"),
    [
        (WorkerResources(cpus=1), [SMALL, BIG], 18),
        (WorkerResources(cpus=3), [SMALL, BIG], 5),  # not across nodes: 18 cores would be 6
        (WorkerResources(cpus=1, gpus=0.5), [SMALL, BIG], 4),
        (WorkerResources(cpus=1, gpus=1), [SMALL], 0),
        (WorkerResources(cpus=1, memory_bytes=6 * GIB), [SMALL, BIG], 11),
        (WorkerResources(cpus=0.1), [{"CPU": 0.3}], 3),  # 0.3 / 0.1 is 2.9999999999999996
        (WorkerResources(cpus=1), [], 0),
    ],
)
def test_workers_that_fit(need: WorkerResources, nodes: list[dict[str, float]], count: int) -> None:
    assert fitting(need, nodes) == count


@given(cpus=st.integers(1, 9), gpus=st.sampled_from([0, 0.25, 0.5, 1, 2]), node=st.integers(0, 64))
@settings(deadline=None)
def test_what_fits_never_needs_more_than_the_node_has(cpus: int, gpus: float, node: int) -> None:
    capacity = {"CPU": float(node), "GPU": 3.0}
    count = fitting(WorkerResources(cpus=cpus, gpus=gpus), [capacity])
    assert count * cpus <= node
    assert count * gpus <= 3
    assert (count + 1) * cpus > node or (count + 1) * gpus > 3


def test_all_that_fit_are_started_unless_fewer_are_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    need = WorkerResources(cpus=1)
    assert choose_workers(None, need, [SMALL]) == 2
    assert choose_workers(1, need, [SMALL]) == 1
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert choose_workers(9, need, [SMALL]) == 2
    assert "9 workers were asked for and 2 fit" in caplog.text


@pytest.mark.parametrize(
    ("need", "message"),
    [
        (WorkerResources(gpus=1), r"needs 1 GPUs and the largest of the cluster's 1 node has 0 GPUs; .*`device=cpu`"),
        (WorkerResources(cpus=4), r"needs 4 CPUs and the largest of the cluster's 1 node has 2 CPUs; "),
        (WorkerResources(cpus=4, gpus=1), "needs 1 GPUs .*; start a node with GPUs"),
        (
            WorkerResources(memory_bytes=9 * GIB),
            r"needs 9216 MiB of memory .* 8192 MiB of memory; .*`memory_per_worker`",
        ),
    ],
)
def test_what_is_missing_is_named_with_both_amounts_and_a_remedy(need: WorkerResources, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        choose_workers(None, need, [SMALL])


def test_amounts_that_exist_only_on_different_nodes_do_not_fit() -> None:
    with pytest.raises(EngineError, match="no single one of the cluster's 2 nodes"):
        choose_workers(None, WorkerResources(cpus=4, gpus=1), [{"CPU": 8}, {"CPU": 2, "GPU": 1}])


@pytest.mark.parametrize("wrong", [{"cpus": -1}, {"gpus": 1.5}, {"memory_bytes": -1}])
def test_amounts_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        WorkerResources(**wrong)  # type: ignore[arg-type]  # wrong on purpose
