"""What a watch remembers below OUT: which scenes are done, which are bad and why, and how far it has looked.

    watches/<key>/about.json              what is watched, and by which model and options
    watches/<key>/done/<scene>.json       one document for each version of a scene that is published
    watches/<key>/bad/<scene>.json        one for each that is not, with the reason and when it is tried again
    watches/<key>/seen.json               since when a search has to be asked again
    watches/<key>/lease.json              who watches (`jobs.records.lease`)

One document for each scene, so that a look costs one listing, whatever the number of scenes, and two writers never meet.
The processed set decides what is mapped; how far was looked only saves questions. Knows nothing of how scenes are mapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from earthloom.jobs.intake.arrivals import Arrival
from earthloom.jobs.records.canonical import FORMAT, canonical, digest, read_document
from earthloom.jobs.records.documents import claim, commit, merge
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.store import Store

FIRST_PAUSE = timedelta(minutes=10)
LAST_PAUSE = timedelta(days=1)
TRIES = 8
"""Tries of a scene that failed in passing, or whose item may have been there before its files: after 10, 20, 40 minutes …
and at most a day; then not again until it changes."""
_AT_ONCE = 16
_LASTING = ("SceneError", "OffGridError", "ConfigError", "CardError", "TilingError", "NoSceneError")
"""Errors of the scene itself, which only another version of its files can cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A scene that could not be published."""

    reference: str
    id: str
    kind: str
    """Class of the error."""
    reason: str
    tries: int
    last: str
    """When it was tried last, RFC 3339."""
    again: str | None
    """When it is tried again; None: when it changes, or when it is asked for."""

    def is_due(self, moment: datetime) -> bool:
        if self.again is None:
            return False
        by_a_wrong_clock = datetime.fromisoformat(self.last) > moment
        return by_a_wrong_clock or datetime.fromisoformat(self.again) <= moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What storage says of a watch."""

    done: frozenset[str]
    """Names of arrivals (`Arrival.name`)."""
    bad: Mapping[str, Bad]
    """Bad arrivals by name."""
    since: datetime | None
    """Everything that was written before is done, or bad for good."""
    newest: datetime | None
    """When the newest scene that is done was taken."""

    def is_changed(self, arrival: Arrival) -> bool:
        """Whether another version of the scene is known."""
        return any(name.partition("-")[0] == arrival.place for name in (*self.done, *self.bad))


class Notebook:
    """The documents of one watch.

    Args:
        store: store of OUT.
        about: what is watched, as plain data; another watch is another notebook.
    """

    def __init__(self, store: Store, about: Mapping[str, Any]) -> None:
        self._store, self.about = store, about
        self.prefix = f"watches/{digest(about)[:16]}"
        self._bad: dict[str, tuple[float, Bad]] = {}

    def open(self) -> None:
        """Say what is watched.

        Raises:
            StorageError, PublishError: see `jobs.records.documents.commit`.
        """
        commit(self._store, f"{self.prefix}/about.json", {"format": FORMAT, **self.about})

    def read(self) -> Remembered:
        """Everything that is remembered now; one listing, and the documents of bad scenes that are not known yet."""
        done, bad = set[str](), dict[str, float]()
        for head in self._store.list(self.prefix):
            folder, _, file = head.key.removeprefix(f"{self.prefix}/").partition("/")
            if folder == "done":
                done.add(file.removesuffix(".json"))
            elif folder == "bad":
                bad[file.removesuffix(".json")] = head.modified_s
        new = [name for name, modified_s in bad.items() if self._bad.get(name, (None,))[0] != modified_s]
        with ThreadPoolExecutor(_AT_ONCE, "bad") as pool:
            self._bad |= {
                name: (bad[name], one) for name, one in zip(new, pool.map(self._read_bad, new), strict=True) if one
            }
        self._bad = {name: held for name, held in self._bad.items() if name in bad and name not in done}
        seen = self._seen()
        return Remembered(
            done=frozenset(done), bad={name: one for name, (_, one) in self._bad.items()}, since=_since(seen),
            newest=_moment(seen, "newest"),
        )  # fmt: skip

    def note_done(self, arrival: Arrival, scene_id: str, prefix: str, taken: datetime | None) -> bool:
        """Remember a scene as published; False if another watcher has.

        Args:
            prefix: prefix of its result below OUT.
            taken: as the published result says.
        """
        document = {
            "format": FORMAT, "reference": arrival.request.reference, "id": scene_id, "prefix": prefix,
            "datetime": _text(taken), "done": _text(datetime.now(UTC)),
        }  # fmt: skip
        won = claim(self._store, f"{self.prefix}/done/{arrival.name}.json", document).won
        for name in [name for name in self._bad if name.partition("-")[0] == arrival.place]:
            self._store.delete(f"{self.prefix}/bad/{name}.json")
            del self._bad[name]
        return won

    def note_bad(self, arrival: Arrival, scene_id: str, kind: str, reason: str) -> Bad:
        """Remember why a scene could not be published, and when it is tried again."""
        moment = datetime.now(UTC)
        before = self._bad[arrival.name][1].tries if arrival.name in self._bad else 0
        pause = min(FIRST_PAUSE * 2**before, LAST_PAUSE)
        ends = (kind in _LASTING and arrival.of_files) or before + 1 >= TRIES
        bad = Bad(
            reference=arrival.request.reference, id=scene_id, kind=kind, reason=reason, tries=before + 1,
            last=_text(moment) or "", again=None if ends else _text(moment + pause),
        )  # fmt: skip
        self._store.put(f"{self.prefix}/bad/{arrival.name}.json", canonical({"format": FORMAT, **asdict(bad)}))
        return bad

    def note_seen(self, since: datetime | None, newest: datetime | None) -> None:
        """Remember how far was looked; neither date ever goes back, but from a future that a wrong clock has seen.

        Args:
            since: everything that was written before is done, or bad for good.
            newest: when the newest scene was taken that is done.
        """

        def changed(existing: bytes | None) -> bytes:
            held = read_document(existing, "seen.json") if existing else {}
            ends = {"since": (since, _since(held)), "newest": (newest, _moment(held, "newest"))}
            later = {name: max(filter(None, both), default=None) for name, both in ends.items()}
            return canonical({"format": FORMAT, **{name: _text(end) for name, end in later.items()}})

        merge(self._store, f"{self.prefix}/seen.json", changed)

    def _seen(self) -> Mapping[str, Any]:
        try:
            return read_document(self._store.get(f"{self.prefix}/seen.json"), f"{self.prefix}/seen.json")
        except MissingObjectError:
            return {}

    def _read_bad(self, name: str) -> Bad | None:
        key = f"{self.prefix}/bad/{name}.json"
        try:
            document = read_document(self._store.get(key), key)
        except MissingObjectError:  # it is done meanwhile
            return None
        return Bad(**{field: document[field] for field in Bad.__dataclass_fields__})


def _since(seen: Mapping[str, Any]) -> datetime | None:
    """None also of a moment that has not come: a clock that stood in the future would hide all that is written until then."""
    since = _moment(seen, "since")
    return since if since and since <= datetime.now(UTC) else None


def _moment(document: Mapping[str, Any], name: str) -> datetime | None:
    text = document.get(name)
    return datetime.fromisoformat(text) if text else None


def _text(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None
