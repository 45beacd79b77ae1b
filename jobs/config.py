"""What a run is asked to do: one checked value, from the command line, a TOML file or Python.

Each field is an option of the command line (`memory_per_worker` is `--memory-per-worker`) and a key of the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from earthloom.tiling.errors import ConfigError

_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_MAX_BYTES = 1 << 20
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


def parse_bands(value: object) -> object:
    """`red=3,nir=4` (band numbers from 1 in the file; `name=2:1` is band 1 of the scene's second file)."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",")]
    if not all(name.strip() and number.strip() for name, _, number in pairs):
        raise ValueError(f"{value!r} is not of the form red=3,nir=4")
    return {name.strip(): number.strip() for name, _, number in pairs}


def parse_names(value: object) -> object:
    """One name, or a list of them."""
    return (value,) if isinstance(value, str) else value


class RunConfig(BaseModel):
    """Everything that a run needs to know.

    Raises:
        pydantic.ValidationError: on an unknown key or a value of the wrong form; `load` makes it a ConfigError.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenes: Annotated[tuple[str, ...], Field(min_length=1, description="paths, URLs, globs, prefixes or STAC items")]
    model: Annotated[
        tuple[str, ...], BeforeValidator(parse_names), Field(min_length=1, description="name of a model, or its folder "
        "(local or s3://); given several times: stages of a chain; a+b: the mean of two")]  # fmt: skip
    out: Annotated[str, Field(description="folder or s3:// prefix for all outputs")]

    before: Annotated[
        str | None, Field(description="one earlier scene, any reference; its bands join every scene as before_<name>")
    ] = None
    sensor: Annotated[str | None, Field(description="sensor preset: names, scales and order of the bands")] = None
    bands: Annotated[dict[str, str] | None, BeforeValidator(parse_bands),
                     Field(description="band names by number in the file: red=3,nir=4")] = None  # fmt: skip
    scale: Annotated[
        float | None, Field(allow_inf_nan=False, description="physical value = stored * scale + offset")
    ] = None
    offset: Annotated[float | None, Field(allow_inf_nan=False, description="see --scale")] = None
    quantity: Annotated[
        Literal["toa_reflectance", "boa_reflectance", "reflectance", "unit", "dn"] | None,
        Field(description="what the scaled values are"),
    ] = None
    sun_elevation: Annotated[float | None, Field(gt=0, le=90, description="degrees; for presets that need it")] = None
    nodata: Annotated[
        float | None, Field(description="stored value that means no data, where the file does not say")
    ] = None
    datetime: Annotated[str | None, Field(description="acquisition time, RFC 3339, where the file does not say")] = None
    scene_id: Annotated[str | None, Field(description="id of the scene, when there is one")] = None

    block: Annotated[int, Field(gt=0, description="side of a block in pixels, a multiple of the shard")] = 2048
    shard: Annotated[
        int, Field(gt=0, multiple_of=512, description="side of a Zarr shard in pixels, a multiple of 512")
    ] = 2048
    core: Annotated[int | None, Field(gt=0, description="side of a chip's core in pixels, in place of the card's")] = (
        None
    )
    overlap: Annotated[Literal["exact", "blend"] | None, Field(description="in place of what the card says")] = None
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Field(description="of the model's arithmetic")] = (
        "auto"
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where models run")] = "auto"
    batch: Annotated[int | None, Field(gt=0, description="chips per forward pass; never changes a pixel")] = None

    keep: Annotated[
        tuple[str, ...], BeforeValidator(parse_names), Field(description="also publish the image that this stage makes")
    ] = ()
    mask_clouds: Annotated[bool, Field(description="no data where cloudmask sees clouds or their shadows")] = False
    flips: Annotated[bool, Field(description="mean over four mirror images of each chip; four times the work")] = False

    compile: Annotated[
        bool,
        Field(
            description="networks as compiled programs: faster after a minute, rounded otherwise; needs a C++ compiler"
        ),
    ] = False

    executor: Annotated[Literal["ray", "local"], Field(description="Ray actors, or threads of this process")] = "ray"
    address: Annotated[str | None, Field(description="of a Ray cluster; none: Ray inside this command")] = None
    workers: Annotated[int | None, Field(gt=0, description="actors; default: one per GPU, or per 4 cores")] = None
    memory_per_worker: Annotated[int, BeforeValidator(parse_bytes), Field(gt=0, description="plan limit")] = 4 * 2**30
    max_runtime: Annotated[
        float | None,
        BeforeValidator(parse_seconds),
        Field(gt=0, allow_inf_nan=False, description="stop at the first block that ends after this long: 90s, 45m, 6h"),
    ] = None
    max_failures: Annotated[int | None, Field(ge=0, description="stop when more scenes than this have failed")] = None
    profile: Annotated[bool, Field(description="also write a trace of where the time went")] = False
    price_per_hour: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="of everything that the run occupies; its report then says what area costs",
        ),
    ] = None
    allow_failures: Annotated[bool, Field(description="commit the run although scenes failed")] = False


def load(options: Mapping[str, Any], config_file: Path | None = None) -> RunConfig:
    """Options over the keys of a TOML file over defaults.

    Raises:
        ConfigError: naming each wrong key, its value and what is expected.
    """
    values: dict[str, Any] = {}
    if config_file is not None:
        try:
            if not config_file.is_file() and config_file.exists():
                raise ConfigError(f"{config_file} is not a regular file")  # reading a pipe or a device might never end
            with config_file.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise ConfigError(f"{config_file} is larger than the {_MAX_BYTES} bytes that a config file may have")
            values = tomllib.loads(data.decode())
        except OSError as error:
            raise ConfigError(f"cannot read {config_file}: {error.strerror}") from error
        except RecursionError:
            raise ConfigError(f"{config_file} is nested too deeply; a config file is a flat list of options") from None
        except ValueError as error:
            raise ConfigError(f"{config_file} is not TOML: {error}") from error
    values |= {key: value for key, value in options.items() if value is not None and value != ()}
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_told(e) for e in error.errors())) from None


def _told(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part)[:40] for part in error["loc"])
    if error["type"] == "extra_forbidden":  # its value may be a credential that found its way here
        return f"{where}: there is no such option; earthloom run --help lists them"
    if error["type"] == "missing":
        return "name at least one scene" if where == "scenes" else f"--{where} is missing"
    return f"{where}: {error['msg']}, got {str(error['input'])[:80]!r}"
