"""The configuration of a training: one checked value, from a TOML file or Python. docs/training.md lists its tables.

Paths in a file are relative to the file's folder, so that it means the same wherever the command is called. Opens nothing
but that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from earthloom.jobs.config import describe_problem, keys_at, parse_bytes, parse_names, read_toml
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.learning.labels import LabelOptions
from earthloom.jobs.learning.training_file import relative_to
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.suggest import did_you_mean

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _OfScenes(SceneOptions):
    @property
    def options(self) -> SceneOptions:
        """Its options of scenes, without the rest."""
        return SceneOptions.model_validate({name: getattr(self, name) for name in SceneOptions.model_fields})


class SceneTable(_OfScenes):
    """[[scenes]]: scenes by the words of `earthloom run`, and their labels."""

    scene: Annotated[str, Field(description="any reference that 'run' takes; a glob or folder gives several scenes")]
    labels: Annotated[str, Field(description="raster or vectors; {id} in it stands for the id of each scene")]
    before: Annotated[str | None, Field(description="an earlier scene, whose bands are called before_<name>")] = None


class FolderTable(_OfScenes):
    """[[folders]]: chips in folders named after their class, with no place on Earth; they are one scene of its own name."""

    folder: Annotated[str, Field(description="local; holds a folder for each class, with JPEG, PNG or TIFF files")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", description="name used by the split: train, test, …")]
    gsd_m: Annotated[float, Field(gt=0, allow_inf_nan=False, description="size of their pixels, in metres")]


class ChipTable(_Table):
    """[chips]: one label for each chip, and not for each pixel."""

    core_px: Annotated[Positive, Field(description="side of the labelled ground, in pixels")]
    context_px: Annotated[int, Field(ge=0, description="what the network sees around it, per side")] = 0
    cover: Annotated[float, Field(gt=0, le=1, description="smallest share of the core that its class must cover")] = 0.5
    least_valid: Annotated[
        float, Field(gt=0, le=1, description="share of the core with data, below which it stays undecided")
    ] = 0.5


class SplitTable(_Table):
    """[split]: which pixels are trained on, which choose the weights, and which judge them."""

    by: Annotated[
        Literal["scene", "block", "region"],
        Field(description="scene: whole scenes; block: squares of each scene's grid; region: polygons of a file"),
    ] = "scene"
    validation: Annotated[Share | Names, Field(description="share, or names of scenes or regions; 0 for none")] = 0.15
    test: Annotated[Share | Names, Field(description="see 'validation'")] = 0.15
    train: Annotated[Names, Field(description="names of regions; of scenes, all that are not named elsewhere")] = ()
    block_px: Annotated[Positive, Field(description="side of a square, in pixels of the scene")] = 1024
    gap_px: Annotated[
        int,
        Field(ge=0, description="pixels this close to a training pixel are not used for testing; at least the halo"),
    ] = 0
    regions: Annotated[str | None, Field(description="file of polygons, of any CRS")] = None
    column: Annotated[str, Field(description="column of that file with the names of the regions")] = "name"

    @model_validator(mode="after")
    def _of_one_kind(self) -> SplitTable:
        named = [name for name in ("validation", "test") if isinstance(getattr(self, name), tuple)]
        if (self.by == "region") != (self.regions is not None):
            raise ValueError("'by=region' and 'regions=FILE' belong together")
        if self.by == "region" and (len(named) < 2 or not self.train):
            raise ValueError("of regions all parts are named: train, validation and test (an empty list for none)")
        if self.by == "block" and named:
            raise ValueError(f"blocks have no names; give {named[0]} as a share, or split by region")
        if self.by != "region" and self.train:
            raise ValueError("'train' names regions; by scene or block, what is named nowhere is trained on")
        if sum(share for share in (self.validation, self.test) if isinstance(share, float)) >= 1:
            raise ValueError("validation and test leave nothing to train on")
        return self


class ModelTable(_Table):
    """[model]: the network, its bands and its first weights."""

    architecture: Annotated[
        str | None,
        Field(
            description="lite-unet, ukis-unet, galileo, one of segmentation-models-pytorch: unet, dpt; classifier for [chips]"
        ),
    ] = None
    encoder: Annotated[
        str | None,
        Field(description="for smp: resnet18, efficientnet-b0, tu-<name of timm>; for a classifier: <name of timm>"),
    ] = None
    arguments: Annotated[dict[str, Any], Field(description="further arguments of the network")] = {}
    bands: Annotated[
        Names, Field(description="common names in the order of the channels; those of 'start''s card")
    ] = ()
    start: Annotated[
        str, Field(description="initial weights: nothing, a model's name or folder, or a file of ImageNet, timm or smp")
    ] = "nothing"
    mean: Annotated[tuple[float, ...] | None, Field(description="of each band; measured on the training part")] = None
    std: Annotated[tuple[float, ...] | None, Field(description="see `mean`")] = None
    crop_px: Annotated[Positive, Field(description="side of a training crop, in pixels")] = 256
    stored: Annotated[Literal["fp32", "fp16"], Field(description="precision of the weights file")] = "fp32"


class ObjectsTable(_Table):
    """[objects]: boxes are learned, not classes of pixels (`models.cards.card.ObjectRule`)."""

    radius_px: Annotated[int, Field(gt=0, description="a centre is the most likely pixel within this many")] = 3
    threshold: Annotated[float, Field(gt=0, lt=1, description="smallest score of a published object")] = 0.3
    merge_iou: Annotated[float, Field(gt=0, le=1, description="of two boxes that overlap more, the likelier stays")] = (
        0.3
    )
    size_px: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="typical side of a box, in pixels of the scene")
    ] = 16.0


class LossTable(_Table):
    """[loss]: a sum; each term is multiplied by its number."""

    cross_entropy: NotNegative = 1.0
    dice: NotNegative = 1.0
    focal: NotNegative = 0.0
    lovasz: NotNegative = 0.0
    gamma: Annotated[NotNegative, Field(description="exponent of the focal loss")] = 2.0
    smoothing: Annotated[float, Field(ge=0, lt=1, description="label smoothing in cross-entropy")] = 0.0
    class_weights: Annotated[
        Literal["none", "data"] | tuple[float, ...],
        Field(
            description="for cross-entropy and focal loss; data: the median class's share of pixels over the class's own"
        ),
    ] = "none"


class TeacherTable(_Table):
    """[teacher]: a model whose probabilities are learned beside the labels, as `earthloom distil` does."""

    model: Annotated[str, Field(description="name or folder of a segmentation model with the same classes")]
    temperature: Annotated[float, Field(gt=0, le=100, description="above 1, unlikely classes count more")] = 2.0
    weight: Annotated[NotNegative, Field(description="weight of this term; those of [loss] concern the labels")] = 1.0


class AugmentTable(_Table):
    """[augment]: how far a crop may be changed (`models.training.augment.Variety`)."""

    zoom: Annotated[float, Field(ge=1, le=8)] = 1.0
    gain: NotNegative = 0.0
    tint: NotNegative = 0.0
    offset: NotNegative = 0.0
    haze: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gamma: NotNegative = 0.0
    noise: NotNegative = 0.0
    blur: Share = 0.0
    ceiling: NotNegative = 0.0
    mixed: Share = 0.0


class ScheduleTable(_Table):
    """[schedule]: how long and how fast (`models.training.schedule.Schedule`), and when to look at the validation part."""

    steps: Positive
    batch: Positive = 8
    accumulate: Positive = 1
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2e-3
    pretrained_rate: NotNegative = 0.5
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    freeze_steps: Annotated[int, Field(ge=0)] = 0
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.1
    decay: NotNegative = 0.02
    memory_steps: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 60.0
    stay: Annotated[float, Field(ge=0, lt=1, description="share of the first weights in those that are kept")] = 0.0
    precision: Annotated[Literal["auto", "bf16", "fp32"], Field(description="auto: bf16 where it is native")] = "auto"
    balance: Annotated[
        Share, Field(description="0: crops are drawn where labels are; 1: equally often for each class, however rare")
    ] = 0.5
    validate_steps: Annotated[
        Positive | None, Field(description="steps between two validations; a twentieth of all")
    ] = None
    patience: Annotated[Positive | None, Field(description="stop after this many validations without improvement")] = (
        None
    )
    metric: Annotated[
        str, Field(description="iou: mean over classes; iou_water: that of one class. Detectors always use AP50")
    ] = "iou"


class ComputeTable(_Table):
    """[compute]: what changes no result but on other machines."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[Positive | None, Field(description="threads of the CPU's arithmetic; all cores")] = None
    readers: Annotated[Positive, Field(description="threads that read and prepare crops")] = 4
    ahead: Annotated[Positive, Field(description="batches prepared in advance")] = 2
    cache: Annotated[int, BeforeValidator(parse_bytes), Field(ge=0, description="memory for decoded pixels")] = (
        512 << 20
    )
    checkpoint_s: Annotated[float, Field(ge=0, description="seconds between two checkpoints")] = 60.0
    window_px: Annotated[Positive, Field(description="side of the part of a scene on which the halo is measured")] = (
        1024
    )


class TrackingTable(_Table):
    """[tracking]: where it is followed, beside the TensorBoard log in OUT."""

    wandb: Annotated[
        str | None, Field(description="project of Weights & Biases; offline unless WANDB_MODE says otherwise")
    ] = None
    mlflow: Annotated[str | None, Field(description="experiment of MLflow, at MLFLOW_TRACKING_URI")] = None


class RangeTable(_Table):
    """Numbers that `tune` may choose from; whole ones where both ends are."""

    low: int | float
    high: int | float
    log: Annotated[bool, Field(description="as likely from 0.001 to 0.01 as from 0.01 to 0.1")] = False

    @model_validator(mode="after")
    def _rising(self) -> RangeTable:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"a range rises from low to high, above 0 where it is logarithmic; got {self.low} to {self.high}"
            )
        return self


class TuneTable(_Table):
    """[tune]: what `earthloom tune` tries (`jobs.learning.tune`)."""

    space: Annotated[
        dict[str, RangeTable | tuple[Any, ...]],
        Field(description="by key of this file, schedule.rate: a list of values, or low, high and log"),
    ]
    reduction: Annotated[int, Field(ge=2, description="one in this many trials of a rung continues to the next")] = 3
    least_steps: Annotated[Positive | None, Field(description="steps of the lowest rung; a ninth of all steps")] = None


class CardTable(_Table):
    """[card]: what the model's card says to people."""

    title: str = ""
    description: str = ""
    license: str = "other"
    citation: str = ""
    version: str = "1.0.0"


class TrainConfig(_Table):
    """Everything that a training needs to know.

    Raises:
        pydantic.ValidationError: on an unknown key or a value of the wrong form; `load_training` makes it a ConfigError.
    """

    name: Annotated[str, Field(description="name of the model")]
    out: Annotated[
        str, Field(description="folder or s3:// prefix for the card folder that 'run' takes, and its provenance")
    ]
    seed: Annotated[int, Field(ge=0, lt=2**22)] = 0
    seeds: Annotated[
        Positive, Field(description="number of trainings with different seeds; mean and spread are reported")
    ] = 1
    scenes: tuple[SceneTable, ...] = ()
    folders: Annotated[tuple[FolderTable, ...], Field(description="chips without a location, instead of scenes")] = ()
    labels: LabelOptions
    chips: Annotated[ChipTable | None, Field(description="for labels of whole chips")] = None
    split: SplitTable = SplitTable()
    model: ModelTable = ModelTable()
    objects: Annotated[ObjectsTable | None, Field(description="for a detector")] = None
    loss: LossTable = LossTable()
    teacher: TeacherTable | None = None
    augment: AugmentTable = AugmentTable()
    schedule: ScheduleTable
    compute: ComputeTable = ComputeTable()
    tracking: TrackingTable = TrackingTable()
    card: CardTable = CardTable()
    tune: Annotated[TuneTable | None, Field(description="for `earthloom tune` alone")] = None

    @model_validator(mode="after")
    def _agreeing(self) -> TrainConfig:
        if bool(self.scenes) == bool(self.folders):
            raise ValueError("give [[scenes]], or [[folders]] of chips, and not both")
        values = sorted(each.value for each in self.labels.classes)
        if values != list(range(len(values))):
            raise ValueError(
                f"classes are numbered 0, 1, 2, …, and these {', '.join(map(str, values))}: count 'value' from 0, and give "
                "what the files hold as 'stored': { value = 0, name = …, stored = 1 }"
            )
        if self.folders and self.chips is None:
            raise ValueError("[[folders]] of chips want the table [chips]: each has one label")
        if self.folders and self.chips and self.chips.context_px:
            raise ValueError("nothing is known of what lies around a chip in a folder: leave out 'context_px'")
        if twice := sorted({each.name for each in self.folders if [f.name for f in self.folders].count(each.name) > 1}):
            raise ValueError(f"several [[folders]] are called {twice[0]}")
        if self.chips and "crop_px" in self.model.model_fields_set:
            raise ValueError("the side of a crop follows from [chips], 'core_px' and 'context_px': leave out 'crop_px'")
        if self.objects is not None:
            if self.folders or self.chips is not None:
                raise ValueError("a detector learns boxes on scenes; leave out [chips] and [[folders]]")
            if self.loss != LossTable() or self.teacher is not None:
                raise ValueError("objects have a loss of their own; leave out [loss] and [teacher]")
            if self.augment.mixed:
                raise ValueError("'augment.mixed' would cut objects in two; leave it out")
        return self

    def plain(self, *, exclude_none: bool = False) -> dict[str, Any]:
        """Plain values that `check_training` takes back: of chips without the side of a crop, which they decide."""
        derived = {"model": {"crop_px"}} if self.chips else None
        return self.model_dump(mode="json", exclude=derived, exclude_none=exclude_none)

    @property
    def n_labels(self) -> int:
        """Values that a pixel's label may have: a class; of objects also none."""
        return len(self.labels.classes) + (self.objects is not None)


def keys_in_file() -> dict[str, str]:
    """The names in a training's file of the options that messages name: `label_ignore` is the key 'labels.ignore'."""
    same = {name: name for name in (*SceneTable.model_fields, *ModelTable.model_fields, *ComputeTable.model_fields)}
    labels = {name: f"labels.{name}" for name in LabelOptions.model_fields}
    return same | labels | {f"label_{name}": key for name, key in labels.items()}


def load_training(source: str | Path | Mapping[str, Any], **changes: Any) -> TrainConfig:
    """Read a training's file, or check a mapping with the same keys, whose paths are relative to the working directory.

    Args:
        changes: keys of the top level that are to differ: `out`, `seed`, `name`. None changes nothing.

    Raises:
        ConfigError: naming each wrong key, its value and what is expected.
    """
    changed = {key: value for key, value in changes.items() if value is not None}
    if isinstance(source, Mapping):
        return check_training(dict(source) | changed)
    path = Path(source)
    return check_training(relative_to(path.resolve().parent, read_toml(path)) | changed)


def check_training(values: Mapping[str, Any]) -> TrainConfig:
    """A training from plain values.

    Raises:
        ConfigError: naming each wrong key, its value and what is expected.
    """
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(problem) for problem in error.errors())) from None


def _describe(problem: Mapping[str, Any]) -> str:
    place = problem["loc"]
    where = ".".join(
        str(part)[:40] for part in place if not str(part).startswith(("float", "tuple", "literal", "func"))
    )

    def unknown() -> str:
        known = keys_at(TrainConfig, place[:-1])
        return f"{where}: there is no such key{did_you_mean(str(place[-1]), known)}; there are {', '.join(known)}"

    return describe_problem(problem, where, unknown=unknown, missing=f"`{where}` is missing")
