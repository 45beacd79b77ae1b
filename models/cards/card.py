"""What a model is and needs: one frozen value, checked as it is built. Knows nothing of weights files or torch.

On disk a card is `card.json`, a STAC item with the MLM extension, beside `weights.safetensors` (`models.cards.file`).
"""

from __future__ import annotations

import colorsys
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Any

from earthloom.tiling.errors import CardError

BEFORE = "before_"
"""Bands of the earlier scene of a pair carry this prefix."""
PERMANENT_WATER = "permanent_water"
"""The band of a map of where water always is: 0 on land, any other number on water."""

PROGRAMS = ("onnx", "torchscript")
"""Architectures whose file says what is computed, beside the weights."""
BOX_CHANNELS = 4
"""Channels that follow the classes of a network that finds objects: width, height, offset of the centre in columns, rows."""

_LABEL = re.compile(r"^[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,99}\Z")
_COLOR = re.compile(r"^#[0-9a-f]{6}\Z")
_OWN_DTYPES = ("int16", "float32")
_SHA256 = re.compile(r"^[0-9a-f]{64}\Z")
_LARGEST_RADIUS_PX = 64
_ACTIVATIONS = ("softmax", "none", "sigmoid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClass:
    """One class of a map, or of objects."""

    value: int
    name: str
    color: str
    """`#rrggbb`"""
    description: str = ""


def shade(place: int, count: int) -> str:
    """`#rrggbb` of one of `count` classes that nobody gave a colour: hues as far apart as may be."""
    red, green, blue = colorsys.hsv_to_rgb(place / count, 0.65, 0.9)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRule:
    """How a network's answer becomes objects (`models.inference.objects`).

    Raises:
        CardError: if a number is out of its range.
    """

    radius_px: int = 3
    """A centre is where the heat is largest among all pixels within so many rows and columns."""
    threshold: float = 0.3
    """Least score of an object, from 0 to 1."""
    merge_iou: float = 0.3
    """If two boxes of one class have a larger intersection over union, the one with the lower score is left out."""
    size_px: float = 16.0
    """Pixels that 1 means in the channels of width and height."""

    def __post_init__(self) -> None:
        if not 1 <= self.radius_px <= _LARGEST_RADIUS_PX:
            raise CardError(f"objects: radius_px is from 1 to {_LARGEST_RADIUS_PX}, got {self.radius_px}")
        if not 0 < self.threshold < 1 or not 0 < self.merge_iou <= 1:
            raise CardError(
                f"objects: threshold is between 0 and 1 and merge_iou at most 1, got {self.threshold} and {self.merge_iou}"
            )
        if not 0 < self.size_px < math.inf:
            raise CardError(f"objects: size_px is positive and finite, got {self.size_px}")

    @property
    def near_px(self) -> int:
        """Half of the usual side, rounded up: how far from its centre an object may be told where it lies. A ship on water is
        none itself, but its sides are washed by some."""
        return min(math.ceil(self.size_px / 2), _LARGEST_RADIUS_PX)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """When a chip gets a label (`models.inference.labels`).

    Raises:
        CardError: if the share is none.
    """

    least_valid: float = 0.5
    """Share of the pixels of a chip's core that have data, below which it is left undecided. Of a core that reaches past
    the scene, what lies beyond has none."""
    footprints: bool = False
    """Whether chips lie around given polygons, and not on the scene's grid: a run says so of a card that labels chips."""

    def __post_init__(self) -> None:
        if not 0 < self.least_valid <= 1:
            raise CardError(f"labels: least_valid is above 0 and at most 1, got {self.least_valid}")

    def least_px(self, core_px: int) -> int:
        """`least_valid` of a core, in pixels."""
        return math.ceil(self.least_valid * core_px**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model: what it takes, what it gives, and the tiling that makes its map seamless.

    Raises:
        CardError: if the halo or core contradicts the stride, or lengths do not agree.
    """

    name: str
    """Name of the product line, `landwater`; several variants may share it."""
    variant: str = ""
    """`6b`, `4b`: chosen per scene by the bands it has."""
    version: str = "1.0.0"
    title: str = ""
    description: str = ""
    license: str = "other"
    citation: str = ""
    task: str = "semantic-segmentation"

    architecture: str
    """Name in the registry of architectures (`models.networks.registry`)."""
    arguments: str = "{}"
    """Its keyword arguments, as canonical JSON so that the card stays hashable."""
    bands: tuple[str, ...]
    """Common names in channel order. `*`, last, stands for all other optical bands of a scene until `bind`."""
    quantities: tuple[str, ...]
    """Accepted meanings of the values (`tiling.quantity.QUANTITIES`), the one it was trained on first."""
    mean: tuple[float, ...]
    """Mean of each channel, in that quantity: the model sees (value - mean) / std."""
    std: tuple[float, ...]
    gsd_m: tuple[float, float]
    """Smallest and largest ground sampling distance at which it is known to work."""
    classes: tuple[ModelClass, ...] = ()
    """Classes of a segmentation, of labels or of objects; a model that makes an image has `outputs` instead."""
    objects: ObjectRule | None = None
    """How objects are found, for a model that finds objects of its classes."""
    labels: LabelRule | None = None
    """How chips are labelled, for a model that gives each a class; `core_px` is the ground that a label is about."""
    activation: str = "softmax"
    """Turns the output channels into per-class probabilities: `softmax`, or `none` when they already are; of objects, which
    do not exclude each other, `sigmoid`."""
    masks: tuple[int, ...] = ()
    """Classes whose pixels become nodata where the model is one stage of several."""
    outputs: tuple[str, ...] = ()
    """Bands of the image that is made, each one of `bands` unless they are the model's own (`output_dtype`); `*` stands for
    what it stands for there."""
    output_dtype: str = ""
    """Empty: the image has the scene's dtype and scale. `uint8`: the network's 0 to 1 is stored as 1 to 255. `int16` and
    `float32`: its bands are the model's own, and the network gives physical values; `int16` holds them in steps of 0.0001."""
    scale: int = 1
    """Output pixels per input pixel and side; divides 512."""
    needs_survey: bool = False
    """The network also takes numbers of the whole scene (`models.networks.survey`)."""

    stride_px: int
    """Total stride: pooling grids repeat every so many pixels."""
    support_px: int | None = None
    """Radius beyond which the input provably has no influence; None when unbounded or not measured."""
    halo_px: int | None = None
    """Context per side that makes the tiled map equal the whole-scene one; None until measured."""
    core_px: int = 1024
    """Side of a chip's core, S."""
    overlap: str = "exact"
    """`exact` crops chips to their cores; `blend` cross-fades them (models with global context)."""

    weights: str | None = None
    """sha256 of the weights file; None for a model that has none."""
    memory: tuple[tuple[str, float], ...] = ()
    """Peak bytes per chip pixel by precision, measured (`fp32`, `bf16`): ((precision, bytes), ...)."""
    flop_per_px: float | None = None
    """Floating-point operations per chip pixel, counted."""
    memory_per_band: float = 0.0
    """What each band that `*` stands for adds to `memory`; 0 once bound."""
    flop_per_band: float = 0.0
    """What it adds to `flop_per_px`."""
    scores: tuple[tuple[str, float], ...] = ()
    record: str | None = None
    """sha256 of `record.json` beside the card, which says how the weights were learned; None where nobody wrote it."""

    def __post_init__(self) -> None:
        problems = self._tiling_problems, self._answer_problems, self._rule_problems, self._value_problems
        if problem := next(chain.from_iterable(find() for find in problems), None):
            raise CardError(f"model card {self.label}: {problem}")

    def _tiling_problems(self) -> Iterator[str]:
        if not _LABEL.match(self.label):
            yield "name and variant become folder names: lower-case letters, digits, . _ - only"
        if self.stride_px < 1:
            yield f"the stride is at least 1, got {self.stride_px}"
        for name in ("core_px", "halo_px"):
            value = getattr(self, name)
            if value is not None and (value % self.stride_px or value < 0):
                yield (
                    f"{name} {value} is not a multiple of the stride {self.stride_px}; pooling grids would shift between chips"
                )
        if self.overlap not in ("exact", "blend"):
            yield f"overlap is 'exact' or 'blend', got {self.overlap!r}"

    def _answer_problems(self) -> Iterator[str]:
        """Problems of what the network takes and gives."""
        if bool(self.classes) == bool(self.outputs):
            yield "a model gives either classes or the bands of an image, and not both"
        if len(self.classes) > 255 or [c.value for c in self.classes] != list(range(len(self.classes))):
            yield "classes must be numbered 0, 1, 2, … (at most 255: 255 is nodata)"
        if unknown := set(self.masks) - {c.value for c in self.classes}:
            yield f"masks {sorted(unknown)} are none of its classes"
        if self.output_dtype not in ("", "uint8", *_OWN_DTYPES):
            yield f"output_dtype is '', 'uint8', 'int16' or 'float32', got {self.output_dtype!r}"
        if self.makes_own_bands and (taken := set(self.outputs) & set(self.bands)):
            yield f"makes bands of its own, so {sorted(taken)} cannot be among those that it takes"
        if strange := set() if self.output_dtype else set(self.outputs) - set(self.bands):
            yield f"makes bands {sorted(strange)} that it does not take: their scale is unknown"
        if "*" in self.bands[:-1]:
            yield f"* stands for all other bands and so comes last, got {', '.join(self.bands)}"
        if self.scale < 1 or 512 % self.scale or (self.classes and self.scale != 1):
            yield f"scale divides 512, and is 1 for a segmentation; got {self.scale}"
        if self.makes_own_bands and self.scale != 1:
            yield f"bands of its own lie beside those that it takes, so scale is 1; got {self.scale}"
        if self.outputs and self.overlap != "exact":
            yield f"images are made by exact tiles only, got overlap {self.overlap!r}"

    def _rule_problems(self) -> Iterator[str]:
        """Problems of how objects and labels are found."""
        found = f"got {len(self.classes)} classes"
        how = f"masks {list(self.masks)} and overlap {self.overlap!r}"
        if self.objects and (not self.classes or self.masks or self.overlap != "exact"):
            yield f"objects have classes, mask nothing and are found by exact tiles only; {found}, {how}"
        if self.objects and self.halo_px is not None and self.halo_px < self.objects.radius_px:
            yield (
                f"halo_px {self.halo_px} is less than radius_px {self.objects.radius_px}: which pixel is a centre would depend "
                "on the chip"
            )
        if self.labels and (not self.classes or self.objects or self.masks or self.overlap != "exact"):
            yield (
                f"labels have classes, are no objects, mask nothing and are given to each chip by itself; {found}, objects "
                f"{self.objects}, {how}"
            )
        if self.activation not in _ACTIVATIONS or (self.activation == "sigmoid") != (self.objects is not None):
            yield f"activation is 'sigmoid' of objects, else 'softmax' or 'none', got {self.activation!r}"

    def _value_problems(self) -> Iterator[str]:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != len(self.bands):
                yield f"{len(self.bands)} bands but {len(getattr(self, name))} values of {name}"
        if not all(math.isfinite(value) for value in self.mean) or not all(0 < value < math.inf for value in self.std):
            yield f"mean must be finite and std positive, got {self.mean} and {self.std}"
        if wrong := [c.color for c in self.classes if not _COLOR.match(c.color)]:
            yield f"colours are #rrggbb in lower case, got {', '.join(wrong)}"
        for name in ("weights", "record"):
            if (value := getattr(self, name)) is not None and not _SHA256.match(value):
                yield f"{name} is a sha256 in lower-case hex, got {value!r}"

    @property
    def label(self) -> str:
        """Name with variant, for humans: `landwater-6b`."""
        return f"{self.name}-{self.variant}" if self.variant else self.name

    @property
    def kind(self) -> str:
        """What the network says: `class-map`, `labels`, `footprints`, `objects` or `image` (`models.inference.answers`)."""
        if not self.classes:
            return "image"
        if self.labels:
            return "footprints" if self.labels.footprints else "labels"
        return "objects" if self.objects else "class-map"

    @property
    def makes_own_bands(self) -> bool:
        """Whether its image is of other bands than the scene has, as an index is."""
        return self.output_dtype in _OWN_DTYPES

    @property
    def gives(self) -> tuple[str, ...]:
        """What each channel of the answer stands for: the names of the classes, or of the image's bands."""
        return tuple(entry.name for entry in self.classes) or self.outputs

    @property
    def makes(self) -> str:
        """What comes out, for people: `land, water`, `objects: ship`, `labels: port, sea`, `image of red, green, scale 2`."""
        names = ", ".join(self.gives)
        if self.objects or self.labels:
            return f"{self.kind}: {names}"
        return names if self.classes else f"image of {names}, scale {self.scale}"

    @property
    def sizes(self) -> dict[str, int]:
        """Arguments of the network that follow from the kind of its answer: `classes`, or a `scale` beyond 1."""
        if self.classes:
            return {"classes": len(self.classes) + (BOX_CHANNELS if self.objects else 0)}
        return {"scale": self.scale} if self.scale > 1 else {}

    @property
    def kwargs(self) -> dict[str, Any]:
        return dict(json.loads(self.arguments))

    def bind(self, names: Sequence[str]) -> ModelCard:
        """This card for a scene with the bands `names`: `*` is replaced by all that are not named themselves.

        Raises:
            CardError: if nothing is left for `*` to stand for.
        """
        if "*" not in self.bands:
            return self
        others = tuple(name for name in names if name not in self.bands)
        if not others:
            raise CardError(f"{self.label}: takes {', '.join(self.bands)}, but the scene has {', '.join(names)} only")
        mean, std = self.mean[-1:] * len(others), self.std[-1:] * len(others)
        return replace(
            self, bands=self.bands[:-1] + others, mean=self.mean[:-1] + mean, std=self.std[:-1] + std,
            outputs=tuple(name for output in self.outputs for name in (others if output == "*" else (output,))),
            memory=tuple((precision, size + len(others) * self.memory_per_band) for precision, size in self.memory),
            flop_per_px=None if self.flop_per_px is None else self.flop_per_px + len(others) * self.flop_per_band,
            memory_per_band=0.0,
            flop_per_band=0.0,
        )  # fmt: skip

    def bytes_per_chip_px(self, precision: str) -> float | None:
        return dict(self.memory).get(precision)

    def digest(self) -> str:
        """sha256 of everything that can change a pixel or its meaning; measurements and prose are left out."""
        facts = {f.name: value for f in fields(self) if f.name not in _PROSE for value in [getattr(self, f.name)]}
        facts["classes"] = [asdict(c) | {"description": ""} for c in self.classes]
        for name in ("objects", "labels"):
            rule = facts.pop(name)  # digests of other cards are older than these
            if rule is not None:
                facts[name] = rule_fields(rule)
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def rule_fields(rule: ObjectRule | LabelRule) -> dict[str, Any]:
    """A rule as plain data; cards are older than `footprints`, which stands there only where it is so."""
    return {name: value for name, value in asdict(rule).items() if (name, value) != ("footprints", False)}


_PROSE = frozenset((
    "title", "description", "license", "citation", "memory", "flop_per_px", "memory_per_band", "flop_per_band", "scores",
    "record", "support_px", "gsd_m", "core_px", "halo_px", "overlap",
))  # fmt: skip  # tiling is in the scene key as it was resolved, so an option that overrides the card counts too
