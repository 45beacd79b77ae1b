"""A first card for a folder that smp's `save_pretrained` wrote. Builds no network and measures nothing.

Such a folder says which network it is and nothing of what goes in or comes out: that has to be said.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard, ModelClass, shade
from earthloom.models.cards.file import canonical
from earthloom.models.networks.smp_stride import smp_stride
from earthloom.tiling.errors import CardError

_CONFIG = "config.json"
_DROPPED = ("encoder_weights", "activation", "aux_params")


def card_from_smp(
    folder: Path, *, bands: tuple[str, ...], quantity: str, mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None, classes: tuple[str, ...] | None = None,
    gsd_m: tuple[float, float] = (0.1, 1000.0), name: str | None = None,
) -> ModelCard:  # fmt: skip
    """Derive a card whose tiling is not measured yet (`halo_px` None).

    Args:
        folder: holds `config.json` and `model.safetensors`.
        bands: common names in the order of the network's channels.
        quantity: what the values mean, one of `tiling.quantity.QUANTITIES`.
        mean, std: of each band in that quantity, as in training; 0 and 1 when None (the quantity itself goes in).
        classes: names from 0; `class_0` … when None. A network with one output channel has two classes.
        gsd_m: ground sampling distances at which it works.
        name: name of the model; the folder's when None.

    Raises:
        CardError: if the folder is not smp's, or contradicts what was said of it.
    """
    config = _read_config(folder)
    if config.get("aux_params"):
        raise CardError(f"{folder}: the network has a second, classifying head; save it without aux_params")
    arguments = {key: value for key, value in config.items() if not key.startswith("_") and key not in _DROPPED}
    arguments["arch"] = config["_model_class"].lower()
    channels, outputs = arguments.get("in_channels", 3), arguments.get("classes", 1)
    if channels != len(bands):
        raise CardError(f"{folder}: the network takes {channels} channels but {len(bands)} bands were named: {bands}")
    n_classes = 2 if outputs == 1 else outputs
    names = classes or tuple(f"class_{value}" for value in range(n_classes))
    if len(names) != n_classes:
        raise CardError(f"{folder}: the network tells {n_classes} classes apart but {len(names)} were named: {names}")
    path = folder / weights.SMP_FILE
    if not path.is_file():
        raise CardError(f"{folder} holds no {weights.SMP_FILE}; save_pretrained writes one unless it is asked not to")
    return ModelCard(
        name=name or folder.resolve().name.lower(),
        title=f"{config['_model_class']} on {arguments.get('encoder_name', 'its encoder')}", architecture="smp",
        arguments=canonical(arguments), bands=bands, quantities=(quantity,), mean=mean or (0.0,) * len(bands),
        std=std or (1.0,) * len(bands), gsd_m=gsd_m,
        classes=tuple(ModelClass(value=v, name=n, color=shade(v, n_classes)) for v, n in enumerate(names)),
        stride_px=smp_stride(arguments["arch"], arguments), weights=weights.sha256_of(path),
    )  # fmt: skip


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
        if not isinstance(config["_model_class"], str):
            raise TypeError("_model_class is not a name")
        return dict(config)
    except OSError as error:
        raise CardError(f"cannot read {folder / _CONFIG}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CardError(f"{folder / _CONFIG} was not written by smp's save_pretrained: {error!r}") from error
