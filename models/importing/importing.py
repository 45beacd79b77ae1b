"""Makes a card folder of a user's own network: takes its file in, tries it once, and writes the card.

`models.importing.formats` knows the kinds of files. Measures nothing; `models.measuring.measure` does, where a
network can be looked into.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import write_card
from earthloom.models.importing.formats import take
from earthloom.models.importing.options import ImportOptions
from earthloom.tiling.cache import cache_folder
from earthloom.tiling.errors import CardError, StorageError


def import_model(
    source: Path, options: ImportOptions, to: Path | None = None, *,
    completed: Callable[[ModelCard, Path], ModelCard] | None = None,
) -> tuple[ModelCard, Path]:  # fmt: skip
    """Write a card folder for a user's network.

    Args:
        source: a folder of `save_pretrained`, or a .safetensors, .pt, .pth, .onnx, .pt2 or .ts file.
        options: what it does not say.
        to: the folder to write, which must be new or empty; in the cache, under the model's name, when None.
        completed: what a card of known chips becomes, given its weights file: the card with its memory measured.

    Returns:
        The card and its folder. `halo_px` is None where it is to be measured.

    Raises:
        CardError: if the file is not what it should be, contradicts what was said of it, or must not be trusted.
        StorageError: if the folder cannot be written.
    """
    if not source.exists():
        raise CardError(f"{source} does not exist")
    try:
        with tempfile.TemporaryDirectory(prefix=".earthloom-", dir=_parent(to)) as made:
            card = take(Path(made), source, options)
            with _trusting(options.trust_code):
                path = _try_once(card, Path(made))
                if completed and card.halo_px is not None:
                    card = completed(card, path)
            folder = to or cache_folder() / "models" / card.label
            write_card(Path(made), card)
            _move(Path(made), folder)
    except OSError as error:
        raise StorageError(
            f"cannot write the model's folder: {error.strerror or error}; choose another `to`"
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


def _try_once(card: ModelCard, folder: Path) -> Path:
    """Run one chip of noise, so that what does not fit is seen now and not by the first worker; the weights file."""
    import torch

    from earthloom.models.inference.answers import answer_of
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
    accepted = answer_of(card).shapes(chip.shape)
    if tuple(answer.shape) not in accepted:
        raise CardError(
            f"{card.label}: a chip of {tuple(chip.shape)} gives {tuple(answer.shape)}, but {len(card.gives)} classes need "
            f"{accepted[0]}; correct `bands`, `classes` or `layout`, or have the network keep the size of its input"
        )
    if not bool(torch.isfinite(answer).all()):
        raise CardError(f"{card.label}: a chip of noise gives NaN or infinite values; its weights are damaged")
    return path


def _parent(to: Path | None) -> Path:
    parent = to.absolute().parent if to else cache_folder() / "models"
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _move(made: Path, folder: Path) -> None:
    """Into its place at once: a reader sees no half a model."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CardError(f"{folder} is there already and holds something; choose another `to` or `name`, or remove it")
    if folder.exists():
        folder.rmdir()
    made.chmod(0o755)
    for file in made.iterdir():
        file.chmod(0o644)
    made.rename(folder)
    made.mkdir()  # the temporary folder's owner removes it
