"""Checks a STAC object against its schemas, with files of this machine only: no network, whatever the object says.

The core is checked by the official STAC 1.1 schemas that pystac carries, extensions by the schemas beside this module (see
`schemas/README.md`). A tool of the tests: what a run publishes has one writer, which these schemas are held against here,
so that no run pays for them.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthloom.jobs.products.stac_item import EXTENSION_VERSIONS, EXTENSIONS, STAC_VERSION

if TYPE_CHECKING:
    from jsonschema import Draft7Validator
    from jsonschema.exceptions import ValidationError

_FOLDER = Path(__file__).parent / "schemas"
_SCHEMAS = {EXTENSIONS[name]: f"{name}-{version}" for name, version in EXTENSION_VERSIONS.items()}
_CORE = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}
_PLACE = {"required": ["bbox"], "properties": {"geometry": {"$ref": "https://geojson.org/schema/Geometry.json"}}}


def validate(stac_object: dict[str, Any]) -> None:
    """Check an item, collection or catalog against STAC 1.1 and every extension that it lists.

    Raises:
        ValueError: naming the object, the field and what is wrong with it; also for an extension that we have no
            schema of, and for a version or type other than STAC 1.1's.
    """
    where = f"STAC {stac_object.get('type', 'object')} {stac_object.get('id', '?')}"
    kind, version = stac_object.get("type"), stac_object.get("stac_version")
    if kind not in _CORE or version != STAC_VERSION:
        raise ValueError(
            f"{where}: type {kind!r} of version {version!r}; expected {', '.join(_CORE)} of version {STAC_VERSION}"
        )
    try:
        document = json.loads(json.dumps(stac_object, allow_nan=False))  # as a reader will see it: tuples become arrays
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} cannot be written as JSON: {error}") from error
    if kind == "Feature" and document.get("geometry") is not None:
        _check(
            where, "core", _core_validator("place"), document
        )  # the core schema's own words on it mislead: "not null"
    _check(where, "core", _core_validator(_CORE[kind]), document)
    for uri in document.get("stac_extensions", []):
        if uri not in _SCHEMAS:
            known = ", ".join(sorted(_SCHEMAS.values()))
            raise ValueError(f"{where}: stac_extensions lists {uri}, of which we have no schema; known: {known}")
        _check(where, _SCHEMAS[uri], _extension_validator(_SCHEMAS[uri]), document)


def _check(where: str, schema: str, validator: Draft7Validator, document: dict[str, Any]) -> None:
    from jsonschema.exceptions import best_match

    if error := best_match(validator.iter_errors(document)):
        raise ValueError(f"{where}: {_field(error)}: {_reason(error, schema)} (schema {schema})")


def _field(error: ValidationError) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return path.lstrip(".") or "the object"


def _reason(error: ValidationError, schema: str) -> str:
    if "propertyNames" in error.absolute_schema_path:
        return f"the extension has no field {error.instance!r} in this version or at this place"
    if schema != "core" and error.validator == "not":
        return "lists this extension but holds no field, or no asset, that it requires"
    text = str(error.message)
    return text if len(text) <= 200 else f"{text[:120]} … {text[-60:]}"


@cache
def _core_validator(name: str) -> Draft7Validator:
    from jsonschema import Draft7Validator
    from pystac.validation.local_validator import get_local_schema_cache
    from referencing import Registry, Resource

    schemas = get_local_schema_cache()
    registry: Registry[Any] = Registry().with_resources(  # no `retrieve`: an unknown reference fails, never a download
        [(uri, Resource.from_contents(schema)) for uri, schema in schemas.items()]
    )
    uri = f"https://schemas.stacspec.org/v{STAC_VERSION}/{name}-spec/json-schema/{name}.json"
    schema = _PLACE if name == "place" else schemas[uri]
    return Draft7Validator(schema, registry=registry, format_checker=_formats())


@cache
def _extension_validator(name: str) -> Draft7Validator:
    from jsonschema import Draft7Validator

    schema = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema, format_checker=_formats())


def _formats() -> Any:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    checker.checks("date-time", raises=ValueError)(_is_date_time)
    return checker


def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None
