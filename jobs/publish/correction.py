"""Corrects what a published result says of its scene and no pixel depends on: the date.

The result says first what its item will be, with the sha256 of what it was before, then the item is replaced, then the
catalogue, then the result forgets what was. Each step is one conditional write that may be done again; where a run dies
between two of them, `earthloom verify` names the scene and the same command does the rest. No pixel, COG or Zarr is touched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.stac_item import dated
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import canonical, read_document
from earthloom.jobs.records.documents import merge
from earthloom.jobs.records.names import ITEM, RESULT
from earthloom.jobs.records.result import PublishedDate, SceneSummary
from earthloom.tiling.errors import EarthloomError, MissingObjectError, PublishError, StorageError
from earthloom.tiling.storage.store import Store

_AT_ONCE = 8
_STRENGTH = {"option": 3, "year": 3, "month": 3, "item": 2, "name": 2, "tag": 1, None: 0}
"""A weaker source never takes the place of a stronger one: a nightly run without `datetime` leaves the user's word alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a published result said of its date, and what it says now."""

    was: PublishedDate
    now: PublishedDate

    def to_dict(self) -> dict[str, Any]:
        """The correction as the record of the attempt has it."""
        return {
            "datetime": [self.was.datetime, self.now.datetime], "dated_by": [self.was.dated_by, self.now.dated_by],
        }  # fmt: skip

    def describe(self) -> str:
        """`the date is 2020-… by the user; it was 2019-… by TIFFTAG_DATETIME`."""
        return f"the date is {self.now.describe()}; it was {self.was.describe()}"


def needs_correction(plan: ScenePlan, summary: SceneSummary) -> bool:
    """Whether a published result may say another date than this plan, or an earlier correction of it was broken off.

    Costs no request. A result that does not say how its date is known is corrected by the user's word only.
    """
    if summary.correcting:
        return True
    scene, published = plan.scene, summary.date
    if scene.datetime is None or (published and published.datetime == scene.datetime):
        return False
    known_by = published.dated_by if published else "option"
    return _STRENGTH[scene.dated_by] >= _STRENGTH[known_by]


def kept_date(plan: ScenePlan, summary: SceneSummary) -> str | None:
    """In words, that a published date stays although this plan has another one, by a weaker source; None else."""
    date, scene = summary.date, plan.scene
    if not date or not date.datetime or scene.datetime in (None, date.datetime) or needs_correction(plan, summary):
        return None
    return (
        f"published with the date {date.describe()}, which stays: {scene.datetime} by {scene.dated_by} is the weaker word; "
        "`datetime` corrects it"
    )


def correct(store: Store, plan: ScenePlan) -> Correction | None:
    """Give a published result the date of this plan, in its result and its item; None if it has it and nothing is left to do.

    Afterwards the catalogue is to be rewritten for it (`catalog.link`, `catalog.tabulate`), then `finish` is called.

    Raises:
        PublishError: if the item is not as the result says, so that a correction would vouch for what others have changed.
        StorageError: if other writers win every time, or the result is removed meanwhile.
    """
    key = f"{plan.prefix}/{RESULT}"
    modified_s = head.modified_s if (head := store.head(key)) else 0.0
    made: list[Correction | None] = []

    def change(existing: bytes | None) -> bytes:
        document = _result(existing, plan)
        data = _read_item(store, plan)
        item, stored = _vouched(data, document, plan), asdict(StoredObject.of(data))
        was = _date(document, item)
        now = PublishedDate(datetime=plan.scene.datetime, dated_by=plan.scene.dated_by)
        unfinished = document.get("correcting")
        if now.datetime is None or was.datetime == now.datetime or not _stronger(now, document):
            now = was  # only what is left of an earlier correction
            if not unfinished:
                made.append(None)
                return canonical(document)
        before = PublishedDate.from_dict(unfinished["was"]) if unfinished else was
        items = [*(unfinished["items"] if unfinished else []), stored]
        corrected = canonical(_dated(item, plan, now))
        made.append(Correction(was=before, now=now))
        return canonical(
            document
            | {
                "datetime": now.datetime, "dated_by": now.dated_by, "committed_s": document.get("committed_s", modified_s),
                "files": document["files"] | {ITEM: asdict(StoredObject.of(corrected))},
                "correcting": {"was": before.to_dict(), "items": [one for n, one in enumerate(items) if one not in items[:n]]},
            }
        )  # fmt: skip

    merge(store, key, change)
    if made[-1] is None:
        return None

    def rewrite(existing: bytes | None) -> bytes:
        """What the result says by now, whoever has changed it last."""
        document = _result(store.get(key), plan)
        if existing is None:
            raise _removed(plan)
        item = _vouched(existing, document, plan)
        return canonical(_dated(item, plan, _date(document, item)))

    merge(store, f"{plan.prefix}/{ITEM}", rewrite)
    return made[-1]


def correct_all(store: Store, plans: Sequence[ScenePlan]) -> list[Correction | EarthloomError | None]:
    """Correct many results, several at a time, in order; an error stands in the place of the scene that it is of."""

    def attempt(plan: ScenePlan) -> Correction | EarthloomError | None:
        try:
            return correct(store, plan)
        except EarthloomError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE, "correct") as pool:
        return list(pool.map(attempt, plans))


def finish(store: Store, plan: ScenePlan, made: Correction) -> None:
    """Say that the catalogue knows of a correction; left to another driver that has made another one meanwhile.

    Raises:
        StorageError: if other writers win every time, or the result is removed meanwhile.
    """

    def change(existing: bytes | None) -> bytes:
        document = _result(existing, plan)
        if document.get("datetime") != made.now.datetime or "correcting" not in document:
            return canonical(document)
        return canonical({name: value for name, value in document.items() if name != "correcting"})

    merge(store, f"{plan.prefix}/{RESULT}", change)


def _stronger(now: PublishedDate, document: dict[str, Any]) -> bool:
    known_by = document.get("dated_by", "option")
    return _STRENGTH[now.dated_by] >= _STRENGTH[known_by]


def _read_item(store: Store, plan: ScenePlan) -> bytes:
    try:
        return store.get(f"{plan.prefix}/{ITEM}")
    except MissingObjectError as error:
        raise _removed(plan) from error


def _vouched(data: bytes, document: dict[str, Any], plan: ScenePlan) -> dict[str, Any]:
    """The item, whose date may be another one than the result says.

    Raises:
        PublishError: if it is not, but for its date, what the result vouches for.
    """
    meant, found = document["files"][ITEM], asdict(StoredObject.of(data))
    item: dict[str, Any] = {}
    with suppress(ValueError, KeyError, TypeError, AttributeError):  # no item at all
        item = json.loads(data)
        found = asdict(StoredObject.of(canonical(_dated(item, plan, _date(document, item)))))
    if found != meant:
        raise PublishError(
            f"{plan.scene.id}: its date cannot be corrected, as {plan.prefix}/{ITEM} was changed by another tool in more than "
            f"its date (sha256 {found['sha256'][:16]}…, published was {meant['sha256'][:16]}…); remove "
            f"{plan.prefix}/{RESULT} and run again"
        )
    return item


def _dated(item: dict[str, Any], plan: ScenePlan, date: PublishedDate) -> dict[str, Any]:
    return dated(item, plan.scene.id, date.datetime, date.dated_by)


def _date(document: dict[str, Any], item: dict[str, Any]) -> PublishedDate:
    """What a result says of its date; of one that says nothing, what its item says."""
    if "datetime" in document:
        return PublishedDate.from_dict(document)
    return PublishedDate(datetime=item["properties"]["datetime"], dated_by=None)


def _result(existing: bytes | None, plan: ScenePlan) -> dict[str, Any]:
    if existing is None:
        raise _removed(plan)
    return read_document(existing, f"{plan.prefix}/{RESULT}")


def _removed(plan: ScenePlan) -> StorageError:
    return StorageError(f"{plan.prefix} was removed while its date was being corrected; run again")
