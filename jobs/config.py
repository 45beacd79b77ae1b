"""What a run is asked to do: one checked value, from the command line, a TOML file or Python.

Each field is an option and a key of the file, and so is each field of a model inside of it: the file is one flat list, in
which `sensor` of `SceneOptions` stands beside `block`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from earthloom.jobs.intake.options import SceneOptions
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.suggest import did_you_mean

M = TypeVar("M", bound=BaseModel)

_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_MAX_BYTES = 1 << 20
_NO_SUCH_OPTION = "there is no option {!r}{}; `help` lists them"
_INPUT = "Input should "
"""How pydantic begins to say what a value must be."""
_SECONDS = {"": 1, "S": 1, "M": 60, "H": 3600, "D": 86400}


def parse_bytes(value: object) -> object:
    """`4GiB`, `500MB` or a number of bytes."""
    return _with_unit(value, _UNITS, "4GiB, 500MB")


def parse_seconds(value: object) -> object:
    """`90`, `90s`, `45m`, `6h` or `7d`."""
    return _with_unit(value, _SECONDS, "90s, 45m, 6h, 7d")


def _with_unit(value: object, units: Mapping[str, int], examples: str) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if not match or match[2].upper() not in units:
        raise ValueError(f"{value!r} is not a size such as {examples}")
    try:
        return int(float(match[1]) * units[match[2].upper()])
    except OverflowError:
        raise ValueError(f"{value[:20]}… is more than a number can hold") from None


def parse_workers(value: object) -> object:
    """A number, or `auto`."""
    return None if value == "auto" else value


def parse_names(value: object) -> object:
    """One name, or a list of them."""
    return (value,) if isinstance(value, str) else value


def parse_notify(value: object) -> object:
    """An address, or `env:NAME` for the one that the environment holds; a refusal does not repeat it, for it is a secret."""
    if not isinstance(value, str):
        return value
    if value.startswith("env:"):
        name, value = value[4:], os.environ.get(value[4:], "")
        if not value:
            raise ValueError(f"the environment has no {name}")
    if not re.match(r"https?://[^/\s]+\S*\Z", value):
        raise ValueError("an address begins with https:// or http://; env:NAME takes it from the environment")
    return value


class EngineOptions(BaseModel):
    """Who computes: workers on Ray, or threads of this process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Annotated[
        Literal["auto", "ray", "local"],
        Field(
            description="ray: Ray actors; local: threads of this process; auto: local if starting Ray would not pay off"
        ),
    ] = "auto"
    address: Annotated[
        str | None, Field(description="address of a Ray cluster; without it, Ray starts inside this command")
    ] = None
    workers: Annotated[
        Annotated[int, Field(gt=0)] | None, BeforeValidator(parse_workers),
        Field(description="number of workers; auto: one per GPU or per 4 cores, as many as there is work for"),
    ] = None  # fmt: skip
    max_workers: Annotated[int, Field(gt=0, description="most workers that auto asks for")] = 32
    wait_for_workers: Annotated[
        float, BeforeValidator(parse_seconds),
        Field(gt=0, allow_inf_nan=False, description="give up if a cluster has had no worker ready for this long: 10m, 1h"),
    ] = 600.0  # fmt: skip
    memory_per_worker: Annotated[
        int, BeforeValidator(parse_bytes), Field(gt=0, description="memory limit of a worker, for planning")
    ] = 4 * 2**30


class ReportOptions(BaseModel):
    """What a command says of itself, to whom, and what it may cost. Nothing here changes a result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow_failures: Annotated[
        Literal["known", "any"] | None,
        Field(
            description="known: scenes that an earlier run refused, with the same bytes and reason, do not count as failures; "
            "any: commit the run even if scenes failed"
        ),
    ] = None
    price_per_hour: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="price per hour of everything that the run occupies; the report then states the cost per area",
        ),
    ] = None
    max_cost: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="refuse a run that would cost more, and stop one that has; needs `price_per_hour`",
        ),
    ] = None
    notify: Annotated[
        SecretStr | None, BeforeValidator(parse_notify),
        Field(description="webhook for Slack's JSON, or env:NAME; notified of new failures, recovery and new results"),
    ] = None  # fmt: skip
    metrics_file: Annotated[
        Path | None,
        Field(description="also write Prometheus metrics to this file, for the textfile collector: earthloom.prom"),
    ] = None
    if_running: Annotated[
        Literal["skip", "join"] | None,
        Field(
            description="if the same command is at work elsewhere: skip exits at once, join waits and maps what is left; "
            "by default both compute"
        ),
    ] = None

    @model_validator(mode="after")
    def _price_is_known(self) -> Self:
        if self.max_cost is not None and self.price_per_hour is None:
            raise ValueError("`max_cost` needs `price_per_hour`, which says what an hour of this run costs")
        return self


class RunConfig(BaseModel):
    """Everything that a run needs to know.

    Raises:
        pydantic.ValidationError: on an unknown key or a value of the wrong form; `load` makes it a ConfigError.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenes: Annotated[
        tuple[str, ...], BeforeValidator(parse_names),
        Field(min_length=1, description="paths, URLs, globs, prefixes or STAC items"),
    ]  # fmt: skip
    model: Annotated[
        tuple[str, ...], BeforeValidator(parse_names), Field(min_length=1, description="name of a model, or its folder "
        "(local or s3://); repeat it for a chain; a+b averages two models; a@class masks with a class of a")]  # fmt: skip
    out: Annotated[str, Field(description="folder or s3:// prefix for all outputs")]

    before: Annotated[
        tuple[str, ...], BeforeValidator(parse_names),
        Field(description="earlier scene, any reference; its bands are called before_<name>. Of several, each scene uses "
        "the latest before it")] = ()  # fmt: skip
    permanent_water: Annotated[
        str | None,
        Field(
            description="permanent water, as polygons or as a raster that is not 0 there; the models flood and flood-sar "
            "then need no earlier scene"
        ),
    ] = None
    onto: Annotated[
        str | None, Field(description="resample every scene to this grid: EPSG:32633,10m,x0,y0,x1,y1 or an AOI.geojson")
    ] = None
    footprints: Annotated[
        str | None,
        Field(
            description="polygons (GeoPackage, FlatGeobuf, GeoJSON, GeoParquet) that a chip classifier labels one by one"
        ),
    ] = None
    footprints_layer: Annotated[str | None, Field(description="layer of `footprints`, if the file has several")] = None
    scene: Annotated[SceneOptions, Field(description="What the files do not say")] = SceneOptions()

    block: Annotated[int, Field(gt=0, description="side of a block in pixels, a multiple of the shard")] = 2048
    shard: Annotated[
        int, Field(gt=0, multiple_of=512, description="side of a Zarr shard in pixels, a multiple of 512")
    ] = 2048
    core: Annotated[int | None, Field(gt=0, description="side of a chip's core in pixels, instead of the card's")] = (
        None
    )
    overlap: Annotated[
        Literal["exact", "blend"] | None, Field(description="how chips are combined, instead of the card's way")
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], Field(description="precision of the model's arithmetic")
    ] = "auto"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where models run")] = "auto"
    device_class: Annotated[
        str | None,
        Field(description="on a cluster with nodes of different kinds, use those of this class, as named by plan"),
    ] = None
    batch: Annotated[int | None, Field(gt=0, description="chips per forward pass; never changes a pixel")] = None

    keep: Annotated[
        tuple[str, ...],
        BeforeValidator(parse_names),
        Field(description="also publish the image of this stage of a chain"),
    ] = ()
    mask_clouds: Annotated[
        bool, Field(description="make clouds and their shadows nodata, as found by the model cloudmask")
    ] = False
    flips: Annotated[bool, Field(description="average four mirror images of each chip; four times the work")] = False

    compile: Annotated[
        bool, Field(description="compile networks: faster after a minute, other rounding; needs a C++ compiler")
    ] = False

    engine: Annotated[EngineOptions, Field(description="Where to compute")] = EngineOptions()
    max_runtime: Annotated[
        float | None,
        BeforeValidator(parse_seconds),
        Field(gt=0, allow_inf_nan=False, description="stop at the first block that ends after this long: 90s, 45m, 6h"),
    ] = None
    max_failures: Annotated[int | None, Field(ge=0, description="stop when more scenes than this have failed")] = None
    profile: Annotated[bool, Field(description="also write a trace of where the time went, for Perfetto")] = False
    report: Annotated[ReportOptions, Field(description="Reports, costs and notifications")] = ReportOptions()


def load(options: Mapping[str, Any], config_file: Path | None = None) -> RunConfig:
    """Options over the keys of a TOML file over defaults.

    Raises:
        ConfigError: naming each wrong key, its value and what is expected.
    """
    return load_as(RunConfig, options, config_file)


def load_as(model: type[M], options: Mapping[str, Any], config_file: Path | None = None) -> M:
    """Read the options of another command than `run`, as `load` does.

    Raises:
        ConfigError: as `load` does.
    """
    values = {} if config_file is None else read_toml(config_file)
    return check(model, values | {key: value for key, value in options.items() if value not in (None, ())})


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a TOML file of ours.

    Raises:
        ConfigError: if it cannot be read, is too large, or is no TOML.
    """
    try:
        if not path.is_file() and path.exists():
            raise ConfigError(f"{path} is not a regular file")  # reading a pipe or a device might never end
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than the {_MAX_BYTES} bytes that a config file may have")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply; a config file is a list of options") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def check(model: type[M], values: Mapping[str, Any]) -> M:
    """A model from its options by name. Those of the models inside of it stand beside its own; None is not given, and a path is
    its text.

    Raises:
        ConfigError: naming each wrong option, its value and what is expected.
    """
    inner = inner_models(model)
    given = {name: _text_of_paths(value) for name, value in values.items() if value is not None}
    if refused := sorted(inner.keys() & given.keys()):
        raise ConfigError(_NO_SUCH_OPTION.format(refused[0], ""))
    for name, kind in inner.items():
        given[name] = {option: given.pop(option) for option in kind.model_fields if option in given}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(problem, model, inner) for problem in error.errors())) from None


def _text_of_paths(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_text_of_paths, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def inner_models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of a model that are models themselves."""
    fields = ((name, field.annotation) for name, field in model.model_fields.items())
    return {name: kind for name, kind in fields if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _describe(problem: Mapping[str, Any], model: type[BaseModel], inner: Mapping[str, type[BaseModel]]) -> str:
    place = problem["loc"][1:] if problem["loc"][0] in inner else problem["loc"]
    name = str(place[0])[:40] if place else ""
    where = f"`{name}`" if name else ""
    missing = "name at least one scene" if name == "scenes" else f"`{name}` is missing"
    known = {field for kind in (model, *inner.values()) for field in kind.model_fields} - inner.keys()
    return describe_problem(
        problem, where, unknown=lambda: _NO_SUCH_OPTION.format(name, did_you_mean(name, known)), missing=missing
    )


def describe_problem(problem: Mapping[str, Any], where: str, *, unknown: Callable[[], str], missing: str) -> str:
    """One entry of `pydantic.ValidationError.errors()` for people.

    Args:
        where: what to call the place; empty for the whole.
        unknown: what to say of a name that is none of the model's.
        missing: what to say of a value that is not given.
    """
    match problem["type"]:
        case "extra_forbidden":  # its value may be a credential that found its way here
            return unknown()
        case "missing":
            return missing
        case "value_error":  # of a parser, whose sentence has the value
            return f"{where}: {problem['ctx']['error']}" if where else str(problem["ctx"]["error"])
    got = f"got {str(problem['input'])[:80]!r}"
    if problem["msg"].startswith(_INPUT):
        return f"{where or 'it'} must {problem['msg'].removeprefix(_INPUT)}, {got}"
    return f"{where}: {problem['msg']}, {got}"


def keys_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Keys of the table at a place of a file that `model` reads."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
