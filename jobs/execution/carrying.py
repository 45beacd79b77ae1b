"""Weights that a machine of a cluster may lack: put beside the results, by sha256, where every machine can read.

`OUT/models/<sha256>/` holds a card folder's files as they are. It is written once, may be removed when no run is at work,
and is written again when it is wanted.
"""

from __future__ import annotations

from dataclasses import replace

from earthloom.jobs.execution.worker import PlannedModel, WorkerSetup
from earthloom.jobs.records.names import CARRIED
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE
from earthloom.tiling.errors import CardError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store


def carry_all(setup: WorkerSetup) -> WorkerSetup:
    """The same setup, with weights of local folders in OUT for the workers that do not have those folders.

    Raises:
        StorageError: if OUT cannot be written.
    """
    return replace(setup, models=tuple(_carried(setup.out, model) for model in setup.models))


def carry(out: ObjectRef, card: ModelCard, folder: ObjectRef) -> ObjectRef:
    """The folder in OUT that holds a local card folder; its files are written unless they are there.

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
        if file.is_file() and store.head(file.name) is None:
            store.put(file.name, file.read_bytes())
    return target


def _carried(out: ObjectRef, model: PlannedModel) -> PlannedModel:
    if not model.card.weights or model.folder.scheme != "file":
        return model
    return replace(model, spare=carry(out, model.card, model.folder))
