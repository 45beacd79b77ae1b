"""Which machines of a cluster a run takes, and what `doctor` says of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

import earthloom.jobs.execution.nodes as taking
from earthloom.cluster.executor import WorkerFactory
from earthloom.cluster.nodes import Node
from earthloom.cluster.outcome import Fault
from earthloom.cluster.places import Size
from earthloom.cluster.resources import WorkerResources
from earthloom.cluster.session import Session
from earthloom.jobs.config import EngineOptions, load
from earthloom.jobs.execution.nodes import Answer, Fit, Kind, Wanted, _check_driver, _chosen, fit_worker, kind_here
from earthloom.jobs.monitoring.pool import Pool
from earthloom.jobs.planning.resources import Share
from earthloom.jobs.upkeep.doctor import Finding
from earthloom.jobs.upkeep.nodes import Checked, _told, diagnose_nodes
from earthloom.models.device.resolve import Device
from earthloom.tiling.errors import EngineError, NodeError, StorageError
from earthloom.tiling.software import environment
from earthloom.tiling.storage.objects import ObjectRef
from tests.cluster.workers import square

SOFTWARE = tuple(sorted(environment().items()))
LEAST = WorkerResources(cpus=1)


def kind(device_class: str, **software: str) -> Kind:
    device = Device(kind="cpu", precision="fp32", device_class=device_class)
    return Kind(device, tuple(sorted({**environment(), **software}.items())))


def node(name: str, cpus: float) -> Node:
    return Node(id=name, name=name, resources={"CPU": cpus})


def test_the_kind_with_most_room_is_taken_unless_one_is_asked_for() -> None:
    kinds = {kind("cpu-amx"): [node("a", 8)], kind("cpu-avx2"): [node("b", 4), node("c", 6)]}
    assert _chosen(kinds, None, LEAST).device.device_class == "cpu-avx2"
    assert _chosen(kinds, "cpu-amx", LEAST).device.device_class == "cpu-amx"
    with pytest.raises(EngineError, match=r"no node computes as `device_class=cpu-avx512`; .* as cpu-amx, cpu-avx2"):
        _chosen(kinds, "cpu-avx512", LEAST)


def test_kinds_that_differ_say_in_what() -> None:
    assert kind("cpu-amx").unlike(kind("cpu-amx")) == ""
    said = kind("cpu-amx").unlike(kind("cpu-avx2", zarr="3.0.0"))
    assert said.startswith("computes as cpu-avx2 in fp32, not as cpu-amx in fp32 and has zarr 3.0.0, not ")


def test_a_worker_is_made_on_a_machine_of_its_kind_that_can_write_and_on_no_other(tmp_path: Path) -> None:
    wanted, out = Wanted("cpu", "auto"), ObjectRef.parse(str(tmp_path / "out"))
    factory = WorkerFactory(square)
    assert fit_worker(Fit(factory, kind_here(wanted), wanted, out))(3) == 9
    assert not list(tmp_path.glob("out/**/.probe*"))
    with pytest.raises(NodeError, match="not as another in fp32"):
        fit_worker(Fit(factory, kind("another"), wanted, out))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        fit_worker(Fit(factory, kind_here(wanted), wanted, ObjectRef.parse(str(tmp_path / "file" / "out"))))


@pytest.mark.parametrize(("address", "probes"), [("head:6379", True), (None, False)])
def test_a_worker_of_monitoring_on_another_machine_is_made_only_where_it_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, probes: bool
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "file").touch()
    out = ObjectRef.parse(str(tmp_path / "file" / "out"))
    factory = Pool(EngineOptions(address=address), out)._crew(Share(workers=1, threads=1)).factory
    with pytest.raises(StorageError, match="cannot write") if probes else nullcontext():
        factory()


def test_gpus_of_the_first_node_that_an_autoscaler_starts_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[Node] = []
    asked: list[tuple[Wanted, bool]] = []

    def comes(_least: WorkerResources, _size: Size) -> None:
        there.append(Node(id="new", name="new", resources={"CPU": 8, "GPU": 1}))

    def answers(_function: object, wanted: Wanted, nodes: Sequence[Node], *, gpu: bool) -> dict[str, Answer]:
        asked.append((wanted, gpu))
        return {each.id: Answer(kind_here(Wanted("cpu", "auto")), 1e9) for each in nodes}

    monkeypatch.setattr(taking, "living", lambda: tuple(there))
    monkeypatch.setattr(taking, "_await_one", comes)
    monkeypatch.setattr(taking, "on_each", answers)
    taking.take_nodes(load({"scenes": ("a.tif",), "model": "water-index", "out": "out"}), Size(elastic=True))
    assert asked == [(Wanted("auto", "auto"), True)]


def test_plans_are_not_made_with_another_torch_than_that_which_computes() -> None:
    _check_driver(kind("cpu-amx", rasterio="1.0"))
    with pytest.raises(EngineError, match=r"nodes have 1\.13\.1, .* `earthloom submit`"):
        _check_driver(kind("cpu-amx", torch="1.13.1"))


def test_a_machine_whose_versions_differ_from_most_is_told_of() -> None:
    fine = Finding(True, "machine", "2 cores")
    usual = dict(SOFTWARE)
    versions, rest = _told(Checked((fine,), usual | {"gdal": "3.0"}), usual)
    assert (versions.ok, versions.found) == (False, f"gdal 3.0 (others {usual['gdal']})")
    assert rest is fine
    assert _told(Checked((fine,), usual), usual)[0].ok


def test_a_machine_that_lacks_a_package_is_told_to_get_it() -> None:
    (finding,) = _told(Fault(kind="ModuleNotFoundError", message="No module named 'rasterio'"), dict(SOFTWARE))
    assert (finding.ok, finding.found) == (False, "No module named 'rasterio'")
    assert finding.remedy.startswith("install it there")


def test_every_node_is_checked_where_it_is(ray_session: Session, tmp_path: Path) -> None:
    ((name, findings),) = diagnose_nodes(ray_session.address, str(tmp_path / "out")).items()
    found = {finding.subject: finding for finding in findings}
    assert "(" in name
    assert found["versions"].ok
    assert found["output"].ok
    assert {"machine", "memory", "device", "models", "S3"} <= found.keys()
    (tmp_path / "file").touch()
    ((_, findings),) = diagnose_nodes(ray_session.address, str(tmp_path / "file")).items()
    assert not next(finding for finding in findings if finding.subject == "output").ok
