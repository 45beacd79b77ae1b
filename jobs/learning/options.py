"""Options of evaluate, explain and distil. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from earthloom.jobs.config import RunConfig, parse_names
from earthloom.tiling.errors import ConfigError


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


def parse_numbers(value: object) -> object:
    """`2500,10000` as rising positive numbers."""
    if not isinstance(value, str):
        return value
    numbers = [float(part) for part in value.split(",") if part.strip()]
    if sorted(set(numbers)) != numbers or min(numbers, default=1) <= 0:
        raise ValueError(f"{value!r} is no list of rising positive numbers")
    return tuple(numbers)


def spellings(text: str) -> tuple[int | float | str, ...]:
    """The values in a file that a text may stand for: the text and, if it spells one, a number."""
    for number in (int, float):
        try:
            return number(text), text
        except ValueError:
            continue
    return (text,)


Pairs = Annotated[tuple[tuple[str, str], ...], BeforeValidator(parse_pairs)]


class EvaluateConfig(RunConfig):
    """An evaluation: a run, and the labels of its scenes."""

    labels: Annotated[
        tuple[str, ...], BeforeValidator(parse_names),
        Field(min_length=1, description="labels, GeoTIFF or vectors: one file for all scenes, one for each in their order, "
              "or a name with {id} for the scene's id")]  # fmt: skip
    label_classes: Annotated[Pairs, Field(description="classes of the label values: 0=land,255=water")] = ()
    match: Annotated[
        Pairs,
        Field(description="matches classes of the model with classes of the labels, - for none: snow=land,cloud=-"),
    ] = ()
    class_column: Annotated[str | None, Field(description="column of vector labels that holds the class")] = None
    label_ignore: Annotated[
        tuple[str, ...], BeforeValidator(parse_names), Field(description="label value that means unknown")
    ] = ()
    background: Annotated[str | None, Field(description="class of pixels without a feature, for vector labels")] = None
    label_band: Annotated[int | None, Field(ge=1, description="band of the label raster")] = None
    label_layer: Annotated[str | None, Field(description="layer of the vector labels")] = None
    cover: Annotated[
        float, Field(gt=0, le=1, description="for chip classifiers: smallest share of a chip that its class must cover")
    ] = 0.5
    regions: Annotated[str | None, Field(description="polygons whose scores are also reported separately")] = None
    region_column: Annotated[str | None, Field(description="column with the names of the regions")] = None
    worst: Annotated[int, Field(ge=0, le=100, description="number of places with the most errors to show")] = 6
    sizes: Annotated[
        tuple[float, ...], BeforeValidator(parse_numbers),
        Field(description="for detectors: areas in m2 that separate size classes; default: terciles of the annotated objects")
    ] = ()  # fmt: skip
    bootstrap: Annotated[int, Field(ge=0, le=100_000, description="bootstrap resamples for intervals; 0 for none")] = (
        1000
    )

    @property
    def stored_by_class(self) -> dict[str, list[int | float | str]]:
        """The stored values of each class of `label_classes`, by its name."""
        stored: dict[str, list[int | float | str]] = {}
        for value, name in self.label_classes:
            stored.setdefault(name, []).extend(spellings(value))
        return stored

    @property
    def ignored(self) -> tuple[int | float | str, ...]:
        """The stored values that mean unknown."""
        return tuple(each for value in self.label_ignore for each in spellings(value))


def label_references(labels: Sequence[str], scene_ids: Sequence[str]) -> dict[str, str]:
    """Which file holds the labels of each scene.

    Raises:
        ConfigError: if there are neither one, nor as many as scenes.
    """
    if len(labels) == 1:
        return {scene_id: labels[0].replace("{id}", scene_id) for scene_id in scene_ids}
    if len(labels) != len(scene_ids):
        raise ConfigError(
            f"{len(labels)} files of labels for {len(scene_ids)} scenes ({', '.join(scene_ids[:8])}): give one for all, one "
            "for each in the same order, or a name with {id}"
        )
    return dict(zip(scene_ids, labels, strict=True))


class ExplainConfig(RunConfig):
    """An explanation: a model on scenes."""

    what: Annotated[
        tuple[Literal["entropy", "spread", "occlusion", "gradients"], ...], BeforeValidator(parse_names),
        Field(min_length=1, description="entropy, spread: certainty; occlusion, gradients: contribution of each band"),
    ] = ("entropy", "spread", "occlusion")  # fmt: skip
    of_class: Annotated[
        str | None, Field(description="class whose probability is explained; default: the mapped class")
    ] = None
    steps: Annotated[int, Field(ge=1, le=1000, description="number of passes for gradients; more are more precise")] = (
        16
    )


class DistilConfig(RunConfig):
    """A distillation: a model, on scenes that need no labels."""

    name: Annotated[str | None, Field(description="name of the student  [default: the model's, with -student]")] = None
    student: Annotated[
        str, Field(description="architecture of the student: lite-unet, or one of smp: unet, fpn, …")
    ] = "lite-unet"
    encoder: Annotated[
        str | None, Field(description="encoder of an architecture of smp: resnet18, efficientnet-b0, …")
    ] = None
    arguments: Annotated[str, Field(description="further arguments of the architecture, as JSON")] = "{}"
    start: Annotated[
        str, Field(description="initial weights: nothing, a model's name or folder, or a file of ImageNet, timm or smp")
    ] = "nothing"
    steps: Annotated[int, Field(gt=0, description="number of training steps")] = 1000
    chips: Annotated[int, Field(gt=0, description="crops per training step")] = 8
    crop: Annotated[int, Field(gt=0, description="side of a crop in pixels")] = 256
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False, description="highest learning rate")] = 2e-3
    temperature: Annotated[float, Field(gt=0, le=100, description="above 1, unlikely classes count more")] = 2.0
    seed: Annotated[int, Field(ge=0, lt=2**22, description="seed of weights and crops")] = 0
    replace: Annotated[bool, Field(description="overwrite the model of another training in OUT")] = False
