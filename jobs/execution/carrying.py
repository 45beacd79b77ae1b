"""Weights that a machine of a cluster may lack: put beside the results, by sha256, where every machine can read.

`OUT/models/<sha256>/` holds a card folder's files as they are. It may be removed when no run is at work, and is written again
when it is wanted: `earthloom gc` does that with what was not written to for long.
"""

from __future__ import annotations

import time
from dataclasses import replace

from earthloom.jobs.execution.worker import PlannedModel, WorkerSetup
from earthloom.jobs.records.names import CARRIED
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE
from earthloom.tiling.errors import CardError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

_FRESH_S = 1800.0
"""Files that were written within it are left as they are. It is less than the hour that `earthloom gc` leaves alone at least,
so that what a submitted job waits for is not removed before it begins."""


def carry_all(setup: WorkerSetup) -> WorkerSetup:
    """The setup with weights of local folders put into OUT, for the workers that do not have those folders.

    Raises:
        StorageError: if OUT cannot be written.
    """
    return replace(setup, models=tuple(_carried(setup.out, model) for model in setup.models))


def carry(out: ObjectRef, card: ModelCard, folder: ObjectRef) -> ObjectRef:
    """The folder in OUT that holds a local card folder; its files are written unless that was done a moment ago.

    Raises:
        CardError: if the folder does not hold the weights that the card names.
        StorageError: if OUT cannot be written.
    """
    assert card.weights, "without weights there is nothing to carry"
    target = out / CARRIED / card.weights
    path = weights.find(folder.path)
    if path is None or weights.sha256_of(path) != card.weights:
        raise CardError(f"{folder.url} does not hold the weights {card.weights} of {card.label}")
    store = open_store(target)
    for file in (folder.path / FILE, path):  # the weights come last: where they are, the card is
        if not file.is_file():
            continue
        head = store.head(file.name)
        if head is None or head.modified_s < time.time() - _FRESH_S:
            store.put(file.name, file.read_bytes())
    return target


def _carried(out: ObjectRef, model: PlannedModel) -> PlannedModel:
    if not model.card.weights or model.folder.scheme != "file":
        return model
    return replace(model, spare=carry(out, model.card, model.folder))
