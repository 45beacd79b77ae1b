"""The wheel, installed beside strangers: a folder with its own `models` and `jobs` disturbs nothing, and is not touched."""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.scenes import landscape, write_scene

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jobs", "models", "tiling", "cluster")
BUILD = "import sys, hatchling.build as backend; print(getattr(backend, f'build_{sys.argv[1]}')(sys.argv[2]))"


def built(kind: str, folder: Path) -> Path:
    """The wheel that the checkout becomes, `wheel` or `editable`; nothing is fetched for it."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; install the `dev` extra")
    done = subprocess.run([sys.executable, "-c", BUILD, kind, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fresh environment with the wheel in it, which borrows the other packages of this one but not the checkout."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    made = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(made), "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, env=strangers_env())
    (packages,) = folder.glob("lib/python*/site-packages")
    # folders that a .pth file names are searched, but their own .pth files, one of which names the checkout, are not read
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return made


def strangers_env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A folder whose packages are called like the folders of the checkout, and say so when they are imported."""
    for name in PACKAGES:
        package = tmp_path / "work" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"open({str(tmp_path / 'work' / 'imported')!r}, 'a').write({name!r})\n")
    return tmp_path / "work"


def called(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=strangers_env(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_packages_inside_its_one_name_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {re.sub(r"-.*", "", name.split("/")[0]) for name in names} == {"earthloom"}
    for package in PACKAGES:
        sources = {path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        assert {f"earthloom/{path.relative_to(ROOT)}" for path in sources} <= names


def test_an_editable_install_copies_no_source(tmp_path: Path) -> None:
    with zipfile.ZipFile(built("editable", tmp_path)) as opened:
        names = [name for name in opened.namelist() if ".dist-info/" not in name]
        assert [opened.read(name).decode().strip() for name in names] == [str(ROOT)]


@pytest.mark.slow
def test_a_scene_is_mapped_from_a_folder_with_packages_of_the_same_names(python: Path, strange: Path) -> None:
    scene = write_scene(strange / "lake.tif", landscape(600, 300, 2), ("green", "swir16"))
    where = called(python, "-c", "import earthloom.models; print(earthloom.models.__file__)", folder=strange)
    assert Path(where.strip()).is_relative_to(python.parents[1])
    found = called(
        python.with_name("earthloom"), "run", scene, "--out", "out", "--model", "water-index", "--scale", "0.0001",
        "--quantity", "reflectance", "--shard", "512", "--block", "512", "--executor", "local", "--json", folder=strange,
    )  # fmt: skip
    assert json.loads(found)["scenes"]["lake"]["status"] == "published"
    report = json.loads(called(python, "-m", "earthloom", "verify", "out", "--json", folder=strange))
    assert (report["problems"], report["scenes"]) == ([], 1)
    assert not (strange / "imported").exists(), "a package that only has our folder's name was imported"
