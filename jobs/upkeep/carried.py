"""Weights below `OUT/models/<sha256>/`, which nodes of a cluster lacked: which may go, and whether they are as their names say.

No result needs them. Knows nothing of who put them there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from earthloom.jobs.records.canonical import digest_of_parts
from earthloom.jobs.records.names import CARRIED
from earthloom.jobs.upkeep.rubbish import Rubbish, Search
from earthloom.models.cards.file import FILE
from earthloom.tiling.storage.objects import Head
from earthloom.tiling.storage.store import Store

WEIGHTS = "weights"
"""Kind of such rubbish."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def unused_weights(search: Search) -> Iterator[Rubbish]:
    """Folders that nobody has written to since `search.still_s`. A run that wants one writes it again as it begins, so the
    caller must know that none is at work."""
    for sha256, heads in _folders(search.store):
        written_s = max(head.modified_s for head in heads)
        if written_s <= search.still_s:
            yield Rubbish(
                kind=WEIGHTS, place=f"{CARRIED}/{sha256}", objects=len(heads), size_bytes=sum(head.size for head in heads),
                age_s=search.now_s - written_s, why="no run is at work; the next one that wants it writes it again",
            )  # fmt: skip


def check_weights(store: Store) -> Iterator[tuple[Head, bool]]:
    """Each file of weights, and whether its bytes are those that its folder is named after.

    Raises:
        StorageError: if one cannot be read.
    """
    for sha256, heads in _folders(store):
        for head in heads:
            if not head.key.endswith(f"/{FILE}"):
                yield head, digest_of_parts(store.parts(head.key)) == sha256


def _folders(store: Store) -> Iterator[tuple[str, list[Head]]]:
    heads = sorted(store.list(CARRIED), key=lambda head: head.key)
    for sha256, found in groupby(heads, key=lambda head: head.key.split("/")[1]):
        if _SHA256.match(sha256):  # a folder of models may be somebody's own
            yield sha256, list(found)
