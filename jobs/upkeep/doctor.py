"""Is this machine ready? Each check says what was found and, if that is wrong, the remedy. Changes nothing that stays."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from earthloom.tiling.errors import EarthloomError, StorageError
from earthloom.tiling.reading.sound import SIDE_PX, WATER_COLS, sound_tiff
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_conditional_writes
from earthloom.tiling.storage.store import open_store

_FLOORS = {"ray": (2, 56), "torch": (2, 10), "rasterio": (1, 4), "zarr": (3, 1), "obstore": (0, 12)}
_SCENE_S = 300
_REINSTALL = (
    "rasterio, GDAL or torch of this installation are at fault, not your files: install Earthloom into a fresh environment, "
    "and look whether PROJ_*, GDAL_* or LD_LIBRARY_PATH of another program are set"
)
_SHARED_MEMORY_BYTES = 256 * 2**20
_WORKER_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One check."""

    ok: bool
    subject: str
    found: str
    remedy: str = ""


def diagnose(out: str | None = None) -> list[Finding]:
    """Run every check; `out` is a folder or s3:// prefix to test writing to."""
    checks: list[Callable[[], Finding]] = [_python, *(_package(name, floor) for name, floor in _FLOORS.items())]
    checks += [_cores, _device, _ray, _shared_memory, _models, _endpoint, _scene]
    return _run(checks, out)


def check_machine(out: str | None = None) -> list[Finding]:
    """The checks of a machine that others send work to: what it has, and whether it may write to `out`."""
    packages = [_package(name, floor) for name, floor in _FLOORS.items()]
    return _run([*packages, _cores, _memory, _device, _shared_memory, _models, _endpoint], out)


def _run(checks: list[Callable[[], Finding]], out: str | None) -> list[Finding]:
    if out is not None:
        checks = [*checks, lambda: _output(out)]
    findings = []
    for check in checks:
        try:
            findings.append(check())
        except EarthloomError as error:
            findings.append(
                Finding(False, getattr(check, "__name__", "output").strip("_"), str(error), "see the message")
            )
    return findings


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding(ok, "Python", platform.python_version(), "install Python 3.11 or newer")


def _package(name: str, floor: tuple[int, int]) -> Callable[[], Finding]:
    def check() -> Finding:
        wanted = ".".join(map(str, floor))
        try:
            found = version(name)
        except PackageNotFoundError:
            return Finding(False, name, "not installed", f"pip install '{name}>={wanted}'")
        numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2])
        return Finding(
            numbers >= floor, name, found, f"pip install '{name}>={wanted}': older releases have known holes"
        )

    return check


def _cores() -> Finding:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    ok = free > 2**30
    return Finding(ok, "machine", f"{len(os.sched_getaffinity(0))} cores, {free / 2**30:.0f} GiB of scratch space",
                   "publishing spools overviews of large scenes there: free some space, or point TMPDIR elsewhere")  # fmt: skip


def _memory() -> Finding:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free_bytes = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return Finding(free_bytes > _WORKER_BYTES, "memory", f"{free_bytes / 2**30:.1f} GiB free",
                   "a worker may take 4 GiB (`memory_per_worker`): end what else runs there")  # fmt: skip


def _device() -> Finding:
    from earthloom.models.device.resolve import resolve

    device = resolve("auto", "auto")
    return Finding(True, "device", f"{device.device_class}, {device.precision} by default")


def _ray() -> Finding:
    mode = os.environ.get("RAY_AUTH_MODE", "")
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        return Finding(True, "Ray", "embedded (no RAY_ADDRESS)")
    ok = mode == "token" or address in ("auto", "local")
    return Finding(ok, "Ray", f"cluster at {address}, RAY_AUTH_MODE={mode or 'not set'}",
                   "an open cluster runs anybody's code: start it with RAY_AUTH_MODE=token, and set it here")  # fmt: skip


def _shared_memory() -> Finding:
    free = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0  # noqa: PTH112
    return Finding(free >= _SHARED_MEMORY_BYTES, "shared memory", f"{free / 2**20:.0f} MiB free in /dev/shm",
                   "Ray wants 256 MiB; in a container start it with --shm-size=1g")  # fmt: skip


def _models() -> Finding:
    from earthloom.models.zoo import catalogue

    missing = sorted({card.name for card, ready in catalogue() if not ready})
    if not missing:
        return Finding(True, "models", "all fetched")
    fetch = f"`earthloom models add {' '.join(missing)}` fetches them"
    return Finding(True, "models", f"not fetched yet, needed only if used: {', '.join(missing)}; {fetch}")


def _endpoint() -> Finding:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    keys = [
        name for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE") if os.environ.get(name)
    ]
    found = f"{endpoint or 'AWS'}, credentials from {keys[0] if keys else 'the instance, if any'}"
    if not endpoint:
        return Finding(True, "S3", f"{found} (not contacted; `out` s3://… tests a bucket)")
    url = urlsplit(endpoint)
    try:
        socket.create_connection((url.hostname or "", url.port or (443 if url.scheme == "https" else 80)), 5).close()
    except OSError as error:
        return Finding(False, "S3", f"{found}: {error}", "is the server running, and AWS_ENDPOINT_URL its address?")
    return Finding(True, "S3", f"{found}, reachable")


def _scene() -> Finding:
    """A scene of our own goes the whole way, by the command itself: whatever kills it, this process goes on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.tif"
        path.write_bytes(sound_tiff())
        command = [sys.executable, "-P", "-m", "earthloom", "run", str(path), "--model", "water-index", "--scale", "0.0001",
                   "--quantity", "boa_reflectance", "--out", f"{folder}/maps", "--executor", "local", "--json"]  # fmt: skip
        env = os.environ | {"PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}  # noqa: PTH109
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_SCENE_S)
        except subprocess.TimeoutExpired:
            return Finding(False, "scene", f"a scene of our own was not mapped within {_SCENE_S} s", _REINSTALL)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name if -done.returncode in set(signal.Signals) else -done.returncode
        return Finding(False, "scene", f"mapping a scene of our own killed its process ({name})", _REINSTALL)
    try:
        scene = json.loads(done.stdout)["scenes"]["sound"]
        error, shares = scene["error"], {one["name"]: one["percent"] for one in scene.get("class_areas", ())}
    except (ValueError, KeyError, TypeError):
        error, shares = None, {}
    if done.returncode:
        cause = error or (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        return Finding(False, "scene", f"a scene of our own was not mapped: {cause}", _REINSTALL)
    expected = 100 * WATER_COLS / SIDE_PX
    if abs(shares.get("water", 0) - expected) > 0.1:
        found = f"of a scene of our own {shares.get('water', 0)} % became water, which has {expected} %"
        return Finding(False, "scene", found, _REINSTALL)
    return Finding(True, "scene", "one of our own was checked, mapped and published, and its water is where it was put")


def _output(out: str) -> Finding:
    store = open_store(ObjectRef.parse(out))
    try:
        probe_conditional_writes(store)
    except StorageError as error:
        return Finding(False, "output", str(error), "a run is refused there as long as this is so")
    return Finding(True, "output", f"{store.ref.url} is writable and conditional writes hold")
