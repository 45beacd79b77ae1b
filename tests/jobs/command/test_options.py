"""Options of commands come from pydantic models, those of inner models beside the others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

import earthloom
from earthloom.jobs.command import cli
from earthloom.jobs.command.models import models_measure
from earthloom.jobs.command.options import RunCommand, SectionedCommand, options_of
from earthloom.jobs.command.run import plan, run
from earthloom.jobs.config import EngineOptions, ReportOptions, RunConfig, check, load, parse_bytes, parse_names
from earthloom.jobs.intake.options import SceneOptions
from earthloom.models import zoo
from earthloom.tiling.errors import ConfigError
from tests.scenes import landscape, write_scene

GIVEN = {"scenes": ["a.tif"], "model": "water-index", "out": "out"}


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    gain: Annotated[float | None, Field(description="of the inner one; see `size`")] = None


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    names: Annotated[tuple[str, ...], BeforeValidator(parse_names), Field(description="several")]
    size: Annotated[int, BeforeValidator(parse_bytes), Field(gt=0, description="of memory")] = 2 * 2**30
    count: Annotated[int, Field(description="a number")] = 3
    mode: Annotated[Literal["a", "b"], Field(description="one of two")] = "a"
    quick: Annotated[bool, Field(description="a flag")] = False
    inner: Annotated[Inner, Field(description="About the inner one")] = Inner()
    secret: str = ""


@click.command(cls=SectionedCommand)
@options_of(Outer, but=("secret",), short={"names": "-n"})
def command(**options: Any) -> None:
    click.echo(check(Outer, options).model_dump_json())


def invoked(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    return dict(json.loads(result.output))


def test_a_path_is_as_good_as_its_text_for_every_option() -> None:
    texts = {
        "before": "early.tif",
        "onto": "aoi.geojson",
        "footprints": "b.gpkg",
        "out": "maps",
        "metrics_file": "a.prom",
    }
    several = {"scenes": ["a.tif", "b.tif"], "model": ["damage/model"]}
    paths = {name: Path(text) for name, text in texts.items()}
    lists = {name: [Path(text) for text in names] for name, names in several.items()}
    assert load(paths | lists) == load(texts | several)


def test_a_scene_and_a_model_may_be_paths(tmp_path: Path) -> None:
    lake = write_scene(tmp_path / "a.tif", landscape(64, 64, 2), ("green", "swir16"))
    options = {"scale": 1e-4, "quantity": "reflectance"}
    ((_, folder),) = zoo.variants("buildings")
    for scenes, model in ((lake, "water-index"), (tmp_path, ["water-index"]), ([lake], folder.path)):
        made = earthloom.plan(scenes, model=model, out=tmp_path / "out", **options)
        assert [*(one.id for one in made.refused), *(one.scene.id for one in made.scenes)] == ["a"]


def test_options_become_the_model_that_they_came_from() -> None:
    arguments = ("-n", "x", "--names", "y", "--size", "1MiB", "--mode", "b", "--quick", "--gain", "0.5", "--count", "4")
    assert invoked(*arguments) == {
        "names": ["x", "y"], "size": 2**20, "count": 4, "mode": "b", "quick": True, "inner": {"gain": 0.5}, "secret": "",
    }  # fmt: skip
    assert invoked("-n", "x")["inner"] == {"gain": None}


def test_none_says_nothing_of_scenes() -> None:
    names = [name for name, field in SceneOptions.model_fields.items() if field.default is None]
    assert len(names) > 8
    assert SceneOptions.model_validate(dict.fromkeys(names)) == SceneOptions()


def test_help_shows_sections_defaults_and_flags() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    own, inner = text.split("About the inner one:")
    assert "[default: 2GiB]" in own
    assert "--secret" not in own
    assert "--gain" in inner
    assert "see --size" in inner


def test_plan_run_and_measure_take_the_same_options_of_scenes() -> None:
    for one in (plan, run, models_measure):
        assert set(SceneOptions.model_fields) <= {parameter.name for parameter in one.params}


def test_every_field_of_a_run_is_an_option_or_an_argument_of_it() -> None:
    names = {parameter.name for parameter in run.params}
    assert set(RunConfig.model_fields) - {"scene", "engine", "report"} <= names
    assert EngineOptions.model_fields.keys() | ReportOptions.model_fields.keys() <= names
    assert not {"scene", "engine", "report"} & names


@pytest.mark.parametrize("bands", ["red=3,nir=2:1", {"red": "3", "nir": "2:1"}])
def test_options_of_scenes_stand_beside_the_others(bands: object) -> None:
    config = load({**GIVEN, "bands": bands, "scale": 0.5, "block": 512})
    assert config.scene == SceneOptions(bands=(("red", "3"), ("nir", "2:1")), scale=0.5)
    assert config.block == 512


def test_a_config_file_is_one_flat_list(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('scale = 0.5\nquantity = "toa_reflectance"\n[bands]\nred = 3\n')
    assert load(GIVEN, file).scene == SceneOptions(scale=0.5, quantity="toa_reflectance", bands=(("red", 3),))
    file.write_text("[scene]\nscale = 0.5\n")
    with pytest.raises(ConfigError, match="there is no option 'scene'; `help`"):
        load(GIVEN, file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "x"}, "^`scale` must be .*number"),
        ({"sun_elevation": 91}, "^`sun_elevation` must be less than or equal to 90, got '91'"),
        ({"bands": "green"}, "^`bands`: 'green' is not of the form red=3,nir=4$"),
        ({"bands": {"red": True}}, "^`bands` must .*got .True"),
        ({"sensor": "spot5"}, "no sensor preset 'spot5'"),
        ({"datetime": "soon"}, "'soon' is not a date"),
        ({"scale": 0}, "^`scale=0` would make every value the same"),
        ({"sensors": "spot5"}, r"^there is no option 'sensors' \(did you mean 'sensor'\?\); `help` lists them$"),
        ({"shard": 500}, "^`shard` must be a multiple of 512, got '500'$"),
        ({"model": None}, "^`model` is missing$"),
    ],
)
def test_a_wrong_option_is_named_without_the_model_that_holds_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load({key: value for key, value in {**GIVEN, **options}.items() if value is not None})


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["models", "import", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom earthloom.jobs.command import main\ntry:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "heavy = ('numpy', 'torch', 'rasterio', 'ray', 'onnx', 'pyproj', 'shapely', 'obstore')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_run_imports_only_what_it_uses(tmp_path: Path) -> None:
    """Half of the time in which a small scene is mapped is imports: a library that comes back here costs every run."""
    program = (
        "import sys\nfrom earthloom.jobs.config import load\nfrom earthloom.jobs.execution.driver import run\n"
        "def there(_=None): print([name for name in sys.argv[1].split(',') if name in sys.modules])\n"
        "there()\n"
        "result = run(load({'scenes': sys.argv[2], 'model': 'water-index', 'out': sys.argv[3], 'scale': 1e-4,"
        "'quantity': 'toa_reflectance', 'executor': 'local'}), on_plan=there)\n"
        "there()\nsys.exit(result.exit_code)"
    )
    scene = write_scene(tmp_path / "lake.tif", landscape(300, 300, 2), ("green", "swir16"))
    never = "ray,scipy,sklearn,matplotlib,xarray,rioxarray,dask,pystac_client,onnx,onnxruntime,timm," \
        "segmentation_models_pytorch,torchvision,torch._dynamo,torch._inductor,sympy,aiohttp,s3fs"  # fmt: skip
    not_for_planning = "rasterio,zarr,pandas,geopandas,pyarrow,stac_geoparquet,shapely,fsspec"
    done = subprocess.run(
        [sys.executable, "-c", program, f"{never},{not_for_planning}", str(scene), str(tmp_path / "out")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported, planned, ended = done.stdout.splitlines()
    assert (imported, planned) == ("[]", "[]")
    assert not set(never.split(",")) & set(re.findall(r"[\w.]+", ended))


def test_every_command_has_a_help() -> None:
    for name in cli.commands:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def test_help_of_run_begins_with_the_five_options_that_most_runs_need() -> None:
    text = CliRunner().invoke(run, ["--help"]).output
    headings = [line[:-1] for line in text.splitlines() if line and line[0] != " " and line.endswith(":")]
    assert headings[0] == "What most runs need"
    first = text.split("What most runs need:")[1].split("\n\n")[0]
    assert re.findall(r"^  (?:-\w, )?(--[\w-]+)", first, re.MULTILINE) == [
        "--model", "--out", "--sensor", "--executor", "--address",
    ]  # fmt: skip
    shown = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
    assert sorted(shown) == sorted(
        {max(p.opts, key=len) for p in run.params if isinstance(p, click.Option)} | {"--help"}
    )
    assert all(name in shown for names in RunCommand.headings.values() for name in names)


def test_every_command_stands_under_a_heading_once() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    assert "More:" not in text
    assert [len(re.findall(rf"^  {name} ", text, re.MULTILINE)) for name in cli.commands] == [1] * len(cli.commands)


def test_shells_complete_commands_and_options() -> None:
    env = {"_EARTHLOOM_COMPLETE": "bash_complete", "COMP_WORDS": "earthloom run --mas", "COMP_CWORD": "2"}
    found = CliRunner().invoke(cli, prog_name="earthloom", env=env, standalone_mode=True).output
    assert {"plain,--mask", "plain,--mask-clouds"} <= set(found.split())
