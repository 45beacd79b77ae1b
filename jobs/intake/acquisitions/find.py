"""Which files below a folder are acquisitions as delivered: those that a metadata file names, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from re import Pattern

from earthloom.jobs.intake.acquisitions import landsat, planetscope, sentinel2
from earthloom.jobs.intake.acquisitions.delivery import Delivery
from earthloom.jobs.intake.stac import StacItem
from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.storage.objects import ObjectRef


@dataclass(frozen=True, slots=True)
class _Product:
    metadata: Pattern[str]
    """Names of its metadata files, the preferred ones first where they are sorted."""
    read: Callable[[Delivery], StacItem]
    prefix: Callable[[str], str]
    """The common prefix of an acquisition's files, from the key of any of its metadata files."""


_PRODUCTS = (
    _Product(landsat.METADATA, landsat.read, landsat.prefix),
    _Product(sentinel2.METADATA, sentinel2.read, sentinel2.prefix),
    _Product(planetscope.METADATA, planetscope.read, planetscope.prefix),
)


def is_metadata(name: str) -> bool:
    """Whether a file of this name describes an acquisition."""
    return _product(name) is not None


def describes(metadata: str, key: str) -> bool:
    """Whether a file is part of the acquisition of a metadata file, by both their keys."""
    product = _product(PurePosixPath(metadata).name)
    return product is not None and key.startswith(product.prefix(metadata))


def acquisitions_in(
    folder: ObjectRef, keys: Iterable[str] | None, only: str | None = None
) -> list[tuple[str, StacItem]]:
    """The acquisitions below a folder or prefix, in the order of their metadata files.

    One that cannot be read says so in its `problem`; it does not hide the others.

    Args:
        keys: keys of all files there; None where they cannot be listed.
        only: key of the one metadata file to heed.

    Returns:
        Of each the beginning of the keys of all files that belong to it, and what is said of it.
    """
    every = None if keys is None else frozenset(keys)
    found: dict[str, tuple[str, _Product]] = {}
    for key in [only] if only else sorted(every or ()):
        if product := _product(PurePosixPath(key).name):
            found.setdefault(product.prefix(key), (key, product))
    return [
        (prefix, _read(Delivery(folder=folder, key=key, keys=every), product))
        for prefix, (key, product) in found.items()
    ]


def _product(name: str) -> _Product | None:
    if name.startswith("."):  # as the files that macOS writes beside others
        return None
    return next((product for product in _PRODUCTS if product.metadata.search(name)), None)


def _read(delivery: Delivery, product: _Product) -> StacItem:
    try:
        item = product.read(delivery)
    except EarthloomError as error:
        return StacItem(
            id=PurePosixPath(product.prefix(delivery.key)).name.strip("_"), url=delivery.url, metadata=delivery.name,
            problem=str(error),
        )  # fmt: skip
    if item.assets:
        return item
    problem = item.lost[0].problem if item.lost else f"{delivery.name} names no file of an image; fetch it again"
    return replace(item, problem=problem)
