"""What a user may say of learning and of judging what was learned. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from earthloom.jobs.config import RunConfig, parse_names


def parse_pairs(value: object) -> object:
    """`0=land,255=water`, or a mapping of these, as (left, right) pairs of text."""
    if isinstance(value, Mapping):
        return tuple((str(left), str(right)) for left, right in value.items())
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",")]
    if not all(left.strip() and right.strip() for left, _, right in pairs):
        raise ValueError(f"{value!r} is not of the form 0=land,1=water")
    return tuple((left.strip(), right.strip()) for left, _, right in pairs)


Pairs = Annotated[tuple[tuple[str, str], ...], BeforeValidator(parse_pairs)]


class EvaluateConfig(RunConfig):
    """What is evaluated: a run, and the labels of its scenes."""

    labels: Annotated[
        tuple[str, ...], BeforeValidator(parse_names),
        Field(min_length=1, description="labels, GeoTIFF or vectors: one file for all scenes, one for each in their order, "
              "or a name with {id} for the scene's id")]  # fmt: skip
    label_classes: Annotated[Pairs, Field(description="classes of the labels: 0=land,255=water")] = ()
    match: Annotated[
        Pairs, Field(description="class of the model to class of the labels, - for none: snow=land,cloud=-")
    ] = ()
    class_column: Annotated[str | None, Field(description="column of vector labels that holds the class")] = None
    label_ignore: Annotated[
        tuple[str, ...], BeforeValidator(parse_names), Field(description="value of the labels that means unknown")
    ] = ()
    background: Annotated[str | None, Field(description="class where vector labels have no feature")] = None
    label_band: Annotated[int | None, Field(ge=1, description="band of the label raster")] = None
    label_layer: Annotated[str | None, Field(description="layer of the vector labels")] = None
    cover: Annotated[
        float, Field(gt=0, le=1, description="where chips are labelled: least share of a chip that its label covers")
    ] = 0.5
    regions: Annotated[str | None, Field(description="polygons whose scores are also told one by one")] = None
    region_column: Annotated[str | None, Field(description="column with their names")] = None
    worst: Annotated[int, Field(ge=0, le=100, description="places with most errors to show")] = 6
    bootstrap: Annotated[int, Field(ge=0, le=100_000, description="resamples for intervals; 0 for none")] = 1000


class ExplainConfig(RunConfig):
    """What is explained: a model on scenes."""

    what: Annotated[
        tuple[Literal["entropy", "spread", "occlusion", "gradients"], ...], BeforeValidator(parse_names),
        Field(min_length=1, description="entropy and spread: how sure it is; occlusion and gradients: what each band adds"),
    ] = ("entropy", "spread", "occlusion")  # fmt: skip
    of_class: Annotated[
        str | None, Field(description="class whose probability is explained; default: the one that is mapped")
    ] = None
    steps: Annotated[int, Field(ge=1, le=1000, description="passes of gradients; more are more precise")] = 16
