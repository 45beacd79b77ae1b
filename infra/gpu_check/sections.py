"""The sections of a check: which there are, in which order and for how long, each in a process of its own.

Knows nothing of what they find but that it is rows.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthloom.tiling.heap import ONE_ARENA
from earthloom.tiling.storage.atomic import written_aside

ROOT = Path(__file__).resolve().parents[2]

Row = dict[str, Any]
Write = Callable[[Row], None]

_SHM = Path("/dev/shm")
_WAIT_S = 45.0
"""For what is prepared; a section makes for itself what is not."""
_LEAST_S = 8.0
"""A section is not begun for less."""
_LATE = "left out: no time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large everything is."""

    scene_px: int
    """Side of the scene that every network maps."""
    large_px: int
    """Side of a scene that `landwater` maps besides."""
    core_px: int
    """Of chips."""
    identity_px: int
    """Side of the scene of which every cut is compared."""
    identity_core_px: int
    repeats: int
    compiled_chips: int
    """In a pass of the compiled network."""
    compiler: str
    """Backend of torch.compile for the pass that runs are compared with."""
    matrix_px: int
    copied_bytes: int
    vit: str
    """Name of the large transformer, as timm has it."""


FULL = Size(
    scene_px=8192, large_px=20000, core_px=1024, identity_px=2048, identity_core_px=512, repeats=3,
    compiled_chips=8, compiler="inductor", matrix_px=8192, copied_bytes=1 << 28, vit="vit_large_patch16_dinov3",
)  # fmt: skip
REHEARSAL = Size(
    scene_px=256, large_px=384, core_px=128, identity_px=128, identity_core_px=64, repeats=1, compiled_chips=1,
    compiler="eager", matrix_px=256, copied_bytes=1 << 20, vit="vit_small_patch16_dinov3",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a section is given."""

    device: str
    """`cuda` or `cpu`."""
    size: Size
    work: Path
    """Folder in memory; `networks/<name>` and `scene-<side>.tif` lie there (`infra.gpu_check.prepare`)."""
    subject: str
    """What follows the colon of the section's name."""
    out: Path
    """Folder for files that go along with the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of the check."""

    name: str
    """`<module>` or `<module>:<subject>`; the module of this package has a function `rows(task, write)`."""
    limit_s: float


# `objects` is measured by the block: a whole run of it writes tables by pyogrio, which is too large to travel.
_TIMED = ("landwater", "unet-resnet50", "unet-resnet18", "dpt-vit-s", "span-x2", "unet-efficientnet-b4")
SECTIONS = (
    Section(name="tests", limit_s=120),
    Section(name="limits", limit_s=30),
    Section(name="identity", limit_s=100),
    Section(name="large", limit_s=80),
    Section(name="speed:landwater", limit_s=75),
    Section(name="variants:landwater", limit_s=60),
    *(Section(name=f"speed:{network}", limit_s=60) for network in _TIMED[1:4]),
    Section(name="trace:landwater", limit_s=40),
    Section(name="variants:dpt-vit-s", limit_s=40),
    *(Section(name=f"speed:{network}", limit_s=60) for network in _TIMED[4:]),
    Section(name="speed:landwater-large", limit_s=90),
    Section(name="variants:objects", limit_s=40),
    Section(name="variants:unet-resnet50", limit_s=40),
    Section(name="autotune:landwater", limit_s=120),
)
"""The most important first."""

_UNTIMED = ("tests", "limits", "identity", "large")
"""While these run, another process makes scenes and compiles: `limits` waits for nothing that it slows by much."""


def measure(folder: Path, device: str, deadline: float, only: Sequence[str] = ()) -> int:
    """Run all sections and write `gpu.json` after each; 0 if none failed or was cut off.

    Args:
        folder: for gpu.json, trace.json.gz and the logs.
        device: `cuda` or `cpu`.
        deadline: in seconds since 1970; what has not begun by then is listed as left out.
        only: names of sections; all if empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [section for section in SECTIONS if not only or section.name in only]
    found: dict[str, Any] = {
        "device": device,
        "is_measurement": device == "cuda",
        "machine": _machine(),
        "sections": {},
    }
    where = _SHM if _SHM.is_dir() and os.access(_SHM, os.W_OK) else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="earthloom-gpu-", dir=where) as made:
        work = Path(made)
        with _beside(device, work, folder) as prepared:
            for section in chosen:
                left_s = deadline - time.time()
                if section.name not in _UNTIMED:
                    most_s = _WAIT_S if device == "cuda" else left_s
                    prepared(max(0.0, min(most_s, left_s / 3)))
                found["sections"][section.name] = _run(section, device, work, folder, deadline)
                _save(folder / "gpu.json", found)
                print(_line(section.name, found["sections"][section.name]))
    found["prepared"] = _rows(folder / "prepare.jsonl")
    _save(folder / "gpu.json", found)
    ended = [each["ended"] for each in found["sections"].values()]
    print(f"{ended.count('done')} of {len(ended)} sections done; {folder / 'gpu.json'}")
    if late := [name for name, each in found["sections"].items() if each["ended"] == _LATE]:
        print(f"for those that are left out, another time: --only {' '.join(late)}")
    return int(any(end != "done" for end in ended))


def run_section(name: str, device: str, work: Path, rows: Path) -> None:
    """In this process; each row is appended to `rows` when it is known."""
    module, _, subject = name.partition(":")
    size = FULL if device == "cuda" else REHEARSAL
    task = Task(device=device, size=size, work=work, subject=subject, out=rows.parent)

    def write(row: Row) -> None:
        with rows.open("a") as file:
            file.write(json.dumps(row) + "\n")

    importlib.import_module(f"infra.gpu_check.{module}").rows(task, write)


def _run(section: Section, device: str, work: Path, folder: Path, deadline: float) -> dict[str, Any]:
    limit_s = min(section.limit_s if device == "cuda" else 600.0, deadline - time.time())
    if limit_s < _LEAST_S:
        return {"ended": _LATE, "seconds": 0.0, "rows": []}
    stem = section.name.replace(":", "-")
    begun = time.monotonic()
    process = _start(section.name, device, work, folder / f"{stem}.jsonl", folder / "log")
    try:
        status = process.wait(limit_s)
        ended = "done" if status == 0 else f"failed with {status}: {_last_words(folder / 'log')}"
    except subprocess.TimeoutExpired:
        ended = f"cut off after {limit_s:.0f} s"
    finally:
        _end(process)
    return {"ended": ended, "seconds": round(time.monotonic() - begun, 1), "rows": _rows(folder / f"{stem}.jsonl")}


def _start(name: str, device: str, work: Path, rows: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "infra.gpu_check", "section", name, "--device", device, "--work", str(work),
               "--rows", str(rows)]  # fmt: skip
    cache = {"EARTHLOOM_CACHE": str(work / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
    rows.unlink(missing_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | ONE_ARENA | cache, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


@contextmanager
def _beside(device: str, work: Path, folder: Path) -> Iterator[Callable[[float], None]]:
    """A process that prepares what timed sections need; the function waits for it so many seconds, and then ends it."""
    process = _start("prepare", device, work, folder / "prepare.jsonl", folder / "prepare.log")

    def prepared(most_s: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(most_s)
        _end(process)

    try:
        yield prepared
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started: its compilers are of its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _rows(path: Path) -> list[Row]:
    """Those that are whole: the last line of a process that was killed may not be."""
    found = []
    with suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        path.unlink()
    return found


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def _save(path: Path, found: dict[str, Any]) -> None:
    with written_aside(path, json.dumps(found, indent=1).encode()) as aside:
        aside.replace(path)


def _line(name: str, result: dict[str, Any]) -> str:
    return f"{name:24} {result['seconds']:6.1f} s  {len(result['rows']):3} rows  {result['ended'][:160]}"


def _machine() -> dict[str, Any]:
    from importlib.metadata import version

    memory = next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    return {
        "cores": len(os.sched_getaffinity(0)), "memory_gib": round(int(memory) / 2**20, 1),
        "shm_free_gib": round(shutil.disk_usage(_SHM).free / 2**30, 1) if _SHM.is_dir() else 0.0,
        "python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy", "rasterio", "zarr")},
    }  # fmt: skip
