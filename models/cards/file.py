"""A card on disk: `card.json`, a STAC 1.1 item with the MLM extension, beside the weights (`models.cards.weights.NAMES`).

What STAC and MLM can say is said in their words; the rest of the card is under `earthloom:*`. Reading gives back the
equal card or an error. Knows nothing of torch, and reads no tensor.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard, rule_fields
from earthloom.tiling.errors import CardError, ConfigError, MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FILE = "card.json"
RECORD = "record.json"
"""How the weights were learned, where that is known; the card names its sha256."""

_MAX_BYTES = 1 << 20
_MULTIHASH = "1220"
"""Prefix of a sha256 multihash: code 0x12, 0x20 bytes."""
_EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.2/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/version/v1.2.0/schema.json",
    "https://stac-extensions.github.io/scientific/v1.0.0/schema.json",
)
_ALIKE = ("title", "description", "license", "version")
"""Fields of the card that STAC has under the same names."""
_OWN = (
    "variant", "quantities", "gsd_m", "activation", "masks", "outputs", "output_dtype", "scale", "needs_survey",
    "stride_px", "support_px", "halo_px", "core_px", "overlap", "memory", "flop_per_px", "memory_per_band",
    "flop_per_band", "scores",
)  # fmt: skip
"""Fields of the card that have no word in STAC or MLM."""
_OPTIONAL = ("masks", "outputs", "output_dtype", "scale", "needs_survey", "memory_per_band", "flop_per_band")
"""Fields among them that a segmentation may leave out."""
_FORMATS = {
    weights.FILE: ("PyTorch", "application/vnd.safetensors", "safetensors.torch.save_file"),
    weights.ONNX_FILE: ("ONNX", "application/onnx", "onnx"),
    weights.TORCHSCRIPT_FILE: ("PyTorch", "application/octet-stream", "torch.jit.save"),
}
"""By the weights' file, in the words of MLM: framework, media type, artifact type."""
_OUTPUTS = {"class-map": "classes", "labels": "labels", "footprints": "labels", "objects": "objects", "image": "image"}
"""Name of the output in the words of people, by kind."""
_WORLD = [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]


def load_card(folder: ObjectRef) -> ModelCard:
    """Read the card of a folder, local or in object storage.

    Raises:
        CardError: if there is none, or it is not a card; a folder that smp wrote says how to get one.
        StorageError: if the storage fails.
    """
    try:
        data = open_store(folder).get(FILE)
    except MissingObjectError as error:
        _no_card(folder, error)
    if len(data) > _MAX_BYTES:
        raise CardError(f"{folder.url}/{FILE} has {len(data)} bytes; a card has at most {_MAX_BYTES}")
    try:
        return from_item(json.loads(data))
    except CardError as error:
        raise CardError(f"{folder.url}/{FILE}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CardError(
            f"{folder.url}/{FILE} is not JSON: {error}; it was damaged: fetch, import or train again"
        ) from error


def write_card(folder: Path, card: ModelCard) -> None:
    """Put `card.json` into a local folder, atomically, beside the weights that are there.

    Raises:
        CardError: if the folder's weights are not those of the card.
    """
    path = weights.find(folder)
    if card.weights is not None:
        found = weights.sha256_of(path) if path else None
        if found != card.weights:
            raise CardError(f"{folder}: the card names weights {card.weights} but the folder holds {found or 'none'}")
    n_parameters = _count(path) if path and card.weights else 0
    item = to_item(card, weights_name=path.name if path else weights.FILE, n_parameters=n_parameters)
    open_store(ObjectRef.parse(str(folder))).put(FILE, json.dumps(item, indent=2).encode() + b"\n")


def to_item(card: ModelCard, *, weights_name: str, n_parameters: int) -> dict[str, Any]:
    """The STAC item of a card: plain JSON values, always the same for the same card."""
    chip_px = card.core_px + 2 * (card.halo_px or 0)
    framework, media_type, artifact = _FORMATS.get(weights_name, _FORMATS[weights.FILE])
    properties: dict[str, Any] = {name: getattr(card, name) for name in _ALIKE} | {
        "datetime": None,
        "start_datetime": "1957-10-04T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "mlm:name": card.name,
        "mlm:architecture": card.architecture,
        "mlm:tasks": [card.task],
        "mlm:framework": framework,
        "mlm:total_parameters": n_parameters,
        "mlm:input": [_input(card, chip_px)],
        "mlm:output": [_output(card, chip_px)],
    }
    if card.kwargs:  # the schema wants it absent rather than empty
        properties["mlm:hyperparameters"] = card.kwargs
    if card.citation:
        properties["sci:citation"] = card.citation
    properties |= {f"earthloom:{name}": getattr(card, name) for name in _OWN}
    properties |= {f"earthloom:{name}": dict(getattr(card, name)) for name in ("memory", "scores")}
    for name, rule in (("objects", card.objects), ("labels", card.labels)):
        if rule:
            properties[f"earthloom:{name}"] = rule_fields(rule)
    assets: dict[str, Any] = {}
    if card.weights is not None:
        assets["weights"] = {
            "href": f"./{weights_name}", "type": media_type, "title": "Weights",
            "roles": ["mlm:model", "mlm:weights", "data"], "mlm:artifact_type": artifact,
            "file:checksum": _MULTIHASH + card.weights,
        }  # fmt: skip
    if card.record is not None:
        assets["record"] = {
            "href": f"./{RECORD}", "type": "application/json", "title": "How it was trained: data, split, seeds, scores",
            "roles": ["metadata"], "file:checksum": _MULTIHASH + card.record,
        }  # fmt: skip
    item = {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": list(_EXTENSIONS), "id": card.label,
        "geometry": {"type": "Polygon", "coordinates": _WORLD}, "bbox": [-180, -90, 180, 90], "properties": properties,
        "links": [], "assets": assets,
    }  # fmt: skip
    if from_item(item) != card:  # a card that would come back changed is not written
        raise CardError(
            f"model card {card.label} cannot be written without loss; arguments must be canonical JSON (sorted keys, no "
            f"spaces), colours #rrggbb in lower case, memory and scores without repeated names: {card}"
        )
    return item


def _input(card: ModelCard, chip_px: int) -> dict[str, Any]:
    scaling = zip(card.mean, card.std, strict=True)
    return {
        "name": "bands",
        "description": f"(value - mean) / std of {card.quantities[0]}; 0 where there is no data",
        "bands": [{"name": band} for band in card.bands],
        "input": _structure(len(card.bands), chip_px, "bands"),
        "value_scaling": [{"type": "z-score", "mean": mean, "stddev": std} for mean, std in scaling],
    }


def _output(card: ModelCard, chip_px: int) -> dict[str, Any]:
    n_channels, side_px = card.sizes.get("classes", len(card.outputs)), 1 if card.labels else chip_px * card.scale
    output: dict[str, Any] = {
        "name": _OUTPUTS[card.kind],
        "tasks": [card.task],
        "result": _structure(n_channels, side_px, "class" if card.classes else "channel"),
    }
    if card.classes:
        output["classification:classes"] = [
            {"value": c.value, "name": c.name, "color_hint": c.color[1:].upper()}
            | ({"description": c.description} if c.description else {})
            for c in card.classes
        ]
    return output


def from_item(item: Any) -> ModelCard:
    """The card of a STAC item.

    Raises:
        CardError: naming the first field that is missing or of the wrong kind.
    """
    try:
        properties = item["properties"]
        (taken,), (given,) = properties["mlm:input"], properties["mlm:output"]
        if any(scaling["type"] != "z-score" for scaling in taken["value_scaling"]):
            raise CardError("value_scaling of the bands must be z-score, one for each band")
        arguments = properties.get("mlm:hyperparameters", {})
        if not isinstance(arguments, dict):
            raise CardError("mlm:hyperparameters must be an object: the architecture's arguments")
        asset, record = item["assets"].get("weights"), item["assets"].get("record")
        own = [name for name in _OWN if name not in _OPTIONAL or f"earthloom:{name}" in properties]
        alike = {name: properties[name] for name in _ALIKE}
        fields = (
            alike
            | {name: properties[f"earthloom:{name}"] for name in own}
            | {
                "name": properties["mlm:name"],
                "citation": properties.get("sci:citation", ""),
                "task": properties["mlm:tasks"][0],
                "architecture": properties["mlm:architecture"],
                "arguments": canonical(arguments),
                "bands": [band["name"] for band in taken["bands"]],
                "mean": [scaling["mean"] for scaling in taken["value_scaling"]],
                "std": [scaling["stddev"] for scaling in taken["value_scaling"]],
                "classes": [
                    {name: c[name] for name in ("value", "name")}
                    | {"color": f"#{c['color_hint'].lower()}", "description": c.get("description", "")}
                    for c in given.get("classification:classes", [])
                ],
                "objects": properties.get("earthloom:objects"),
                "labels": properties.get("earthloom:labels"),
                "memory": sorted(properties["earthloom:memory"].items()),
                "scores": sorted(properties["earthloom:scores"].items()),
                "weights": _digest(asset["file:checksum"]) if asset is not None else None,
                "record": _digest(record["file:checksum"]) if record is not None else None,
            }
        )
        encoded = json.dumps(fields, allow_nan=False)
    except KeyError as error:
        raise CardError(f"{error.args[0]!r} is missing; write the card with earthloom models measure") from error
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise CardError(f"not the item of a model card: {error}") from error
    from pydantic import ValidationError

    try:
        return _adapter().validate_json(encoded, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CardError(f"{where}: {first['msg']}, got {str(first['input'])[:80]!r}") from error


def canonical(arguments: dict[str, Any]) -> str:
    """JSON with sorted keys and no spaces, so that equal arguments are equal strings."""
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"), allow_nan=False)


@cache
def _adapter() -> TypeAdapter[ModelCard]:
    from pydantic import TypeAdapter

    return TypeAdapter(ModelCard)


def _structure(channels: int, chip_px: int, channel: str) -> dict[str, Any]:
    """An array (N, C, H, W) in the words of MLM, which keeps the dimension `bands` for those that are listed beside it."""
    order = ["batch", channel, "height", "width"]
    return {"shape": [-1, channels, chip_px, chip_px], "dim_order": order, "data_type": "float32"}


def _digest(checksum: str) -> str:
    if not re.fullmatch(rf"{_MULTIHASH}[0-9a-f]{{64}}", checksum):
        raise CardError(f"file:checksum must be a sha256 multihash (1220 and 64 hex), got {checksum!r}")
    return checksum[len(_MULTIHASH) :]


def _count(path: Path) -> int:
    """Parameters in a weights file; 0 for a program, of which nobody knows."""
    if path.name == weights.ONNX_FILE:
        from earthloom.models.cards.onnx_graph import count_parameters

        return count_parameters(path.read_bytes())
    if path.name == weights.TORCHSCRIPT_FILE:
        return 0
    return sum(math.prod(tensor["shape"]) for tensor in weights.read_header(path).values())


def _no_card(folder: ObjectRef, cause: Exception) -> NoReturn:
    try:
        from_smp = open_store(folder).head("config.json") is not None
    except ConfigError:
        from_smp = False
    if from_smp:
        raise CardError(
            f"{folder.url} was written by save_pretrained and has no {FILE}, which says bands, values, classes and halo: "
            f"earthloom models measure {folder.url} SCENE measures the model and writes it, given its `bands`"
        ) from cause
    raise CardError(f"{folder.url} holds no {FILE}: give a folder that has one, or the name of a zoo model") from cause
