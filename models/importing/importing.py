"""A user's own network becomes a card folder: taken in, tried once, and written with all that its file cannot say.

`models.importing.formats` knows the kinds of files. Measures nothing; `models.measuring.measure` does, where a
network can be looked into.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import write_card
from earthloom.models.importing.formats import ANY_GSD_M, Told, take
from earthloom.tiling.errors import CardError, ConfigError, StorageError
from earthloom.tiling.scene import QUANTITIES


def told_by(options: Mapping[str, Any]) -> Told:
    """The command's options as values; lists are words or numbers with commas between them.

    Raises:
        ConfigError: naming the option that is no such list.
    """
    gsd = _numbers("gsd", options.get("gsd"))
    if gsd is not None and not (len(gsd) in (1, 2) and 0 < gsd[0] <= gsd[-1]):
        raise ConfigError(f"--gsd is one distance in metres or a range, 10 or 8,60; got {options['gsd']!r}")
    return Told(
        bands=_words("bands", options["bands"]), quantities=_words("quantity", options["quantity"]),
        classes=_words("classes", options["classes"]), mean=_numbers("mean", options.get("mean")),
        std=_numbers("std", options.get("std")), gsd_m=(gsd[0], gsd[-1]) if gsd else ANY_GSD_M,
        stride_px=options.get("stride"), halo_px=options.get("halo"), layout=options.get("layout") or "nchw",
        activation=options.get("activation") or "softmax", architecture=options.get("architecture"),
        arguments=options.get("arguments") or "{}", trust_code=options.get("trust_code"), name=options.get("name"),
    )  # fmt: skip


def _words(option: str, text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if not all(words) or len(set(words)) < len(words):
        raise ConfigError(f"--{option} is a list of different names with commas between them, got {text!r}")
    return words


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--{option} is a list of numbers with commas between them, got {text!r}") from error


def import_model(source: Path, told: Told, to: Path | None = None) -> tuple[ModelCard, Path]:
    """Write a card folder for a user's network.

    Args:
        source: a folder of `save_pretrained`, or a .safetensors, .pt, .pth, .onnx, .pt2 or .ts file.
        told: what it does not say.
        to: the folder to write, which must be new or empty; in the cache, under the model's name, when None.

    Returns:
        The card and its folder. `halo_px` is None where it is to be measured.

    Raises:
        CardError: if the file is not what it should be, contradicts what was told, or must not be trusted.
        StorageError: if the folder cannot be written.
    """
    if unknown := sorted(set(told.quantities) - set(QUANTITIES)):
        raise CardError(f"--quantity {', '.join(unknown)}: a band's values are one of {', '.join(QUANTITIES)}")
    if not source.exists():
        raise CardError(f"{source} does not exist")
    try:
        with tempfile.TemporaryDirectory(prefix=".earthloom-", dir=_parent(to)) as made:
            card = take(Path(made), source, told)
            with _trusting(told.trust_code):
                _try_once(card, Path(made))
            folder = to or weights.cache_dir() / "models" / card.label
            write_card(Path(made), card)
            _move(Path(made), folder)
    except OSError as error:
        raise StorageError(
            f"cannot write the model's folder: {error.strerror or error}; choose another --to"
        ) from error
    return card, folder


@contextmanager
def _trusting(sha256: str | None) -> Iterator[None]:
    """Lets the program that was vouched for run in this process, for its trial."""
    from earthloom.models.networks.torchscript_net import TRUST, trusted

    if sha256 is None:
        yield
        return
    before = os.environ.get(TRUST)
    os.environ[TRUST] = ",".join(sorted(trusted() | {sha256.lower()}))
    try:
        yield
    finally:
        if before is None:
            del os.environ[TRUST]
        else:
            os.environ[TRUST] = before


def _try_once(card: ModelCard, folder: Path) -> None:
    """Run one chip of noise, so that what does not fit is seen now and not by the first worker."""
    import torch

    from earthloom.models.networks.registry import build

    path = weights.find(folder)
    assert path is not None, "every import has weights"
    assert card.weights is not None, "every import has weights"
    module = build(card)
    weights.load_network(module, path, card.weights)
    side = 4 * card.stride_px if card.halo_px is None else card.core_px + 2 * card.halo_px
    chip = torch.randn(1, len(card.bands), side, side, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            answer = module.eval()(chip)
    except CardError:
        raise
    except Exception as error:  # a network fails in as many ways as there are networks
        raise CardError(f"{card.label}: fails on a chip of {tuple(chip.shape)}: {str(error)[-300:]}") from error
    count = len(card.classes)
    accepted = [(1, k, side, side) for k in ((count, 1) if count == 2 else (count,))]
    if tuple(answer.shape) not in accepted:
        raise CardError(
            f"{card.label}: a chip of {tuple(chip.shape)} gives {tuple(answer.shape)}, but {count} classes need "
            f"{accepted[0]}; correct --bands, --classes or --layout, or have the network keep the size of its input"
        )
    if not bool(torch.isfinite(answer).all()):
        raise CardError(f"{card.label}: a chip of noise gives NaN or infinite values; its weights are damaged")


def _parent(to: Path | None) -> Path:
    parent = to.absolute().parent if to else weights.cache_dir() / "models"
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _move(made: Path, folder: Path) -> None:
    """Into its place at once: a reader sees no half a model."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CardError(f"{folder} is there already and holds something; choose another --to or --name, or remove it")
    if folder.exists():
        folder.rmdir()
    made.chmod(0o755)
    for file in made.iterdir():
        file.chmod(0o644)
    made.rename(folder)
    made.mkdir()  # the temporary folder's owner removes it
