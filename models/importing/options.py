"""The options of an import: what the file of a network cannot say of it. Opens nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from earthloom.tiling.quantity import Quantity


def parse_words(value: object) -> object:
    """`blue,green,red` as a tuple of different words."""
    if not isinstance(value, str):
        return value
    words = tuple(word.strip() for word in value.split(","))
    if not all(words) or len(set(words)) < len(words):
        raise ValueError(f"{value!r} is not a list of different names with commas between them")
    return words


def parse_numbers(value: object) -> object:
    """`0.1,0.2` as a tuple of numbers."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(float(word) for word in value.split(","))
    except ValueError:
        raise ValueError(f"{value!r} is not a list of numbers with commas between them") from None


def parse_range(value: object) -> object:
    """`10` or `8,60` as (least, most)."""
    numbers = parse_numbers(value)
    return numbers * 2 if isinstance(numbers, tuple) and len(numbers) == 1 else numbers


def _a_range_of_distances(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1]:
        raise ValueError(f"{value} is neither a distance in metres nor a range of them, 10 or 8,60")
    return value


class ImportOptions(BaseModel):
    """Facts about a network that its file does not hold.

    Raises:
        pydantic.ValidationError: for an unknown name or a value of the wrong form.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str | None, Field(description="name of the model  [default: the file's]")] = None
    bands: Annotated[
        tuple[str, ...], BeforeValidator(parse_words),
        Field(description="common names in the order of the network's channels: blue,green,red,nir"),
    ]  # fmt: skip
    quantity: Annotated[
        tuple[Quantity, ...], BeforeValidator(parse_words),
        Field(min_length=1, description="what the values mean, best first: boa_reflectance,reflectance"),
    ]  # fmt: skip
    classes: Annotated[
        tuple[str, ...], BeforeValidator(parse_words), Field(description="names of the classes from 0: land,water")
    ]
    mean: Annotated[
        tuple[float, ...] | None, BeforeValidator(parse_numbers),
        Field(description="mean of each band in that quantity, as in training  [default: 0]"),
    ] = None  # fmt: skip
    std: Annotated[
        tuple[float, ...] | None,
        BeforeValidator(parse_numbers),
        Field(description="standard deviation, likewise  [default: 1]"),
    ] = None
    gsd: Annotated[
        tuple[float, float], BeforeValidator(parse_range), AfterValidator(_a_range_of_distances),
        Field(description="metres per pixel at which it works: 10 or 8,60"),
    ] = (0.1, 1000.0)  # fmt: skip
    stride: Annotated[
        int | None,
        Field(ge=1, le=1024, description="total stride in pixels: 32 for five halvings, 1 for none; smp knows its own"),
    ] = None
    halo: Annotated[
        int | None,
        Field(ge=0, le=4096, description="context per side that makes tiles exact, in pixels; without it, the halo is measured "
              "or chips are blended"),
    ] = None  # fmt: skip
    activation: Annotated[
        Literal["softmax", "none"], Field(description="none: the network already outputs probabilities")
    ] = "softmax"  # fmt: skip
    layout: Annotated[Literal["nchw", "nhwc"], Field(description="order of the axes of an ONNX graph")] = "nchw"
    architecture: Annotated[str | None, Field(description="network that a state dict belongs to: smp")] = None
    arguments: Annotated[
        str, Field(description="arguments of that network as JSON; for an ONNX graph: squash (docs/import.md)")
    ] = "{}"
    trust_code: Annotated[
        str | None,
        Field(
            description="sha256 of this program (TorchScript, .pt2), which is then run: give it only if you trust the source"
        ),
    ] = None
