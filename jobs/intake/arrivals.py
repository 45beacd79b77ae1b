"""What has come since the last look: the scenes that a reference names now, each with a version that changes when it does.

A file's version is its ETag in object storage, and its size and time of writing in a folder; an item's is what the item
says of itself. So a scene that was replaced is told from one that was there before, and a file that is still being
copied is left for the next look. Opens no raster and writes nothing.
"""

from __future__ import annotations

import hashlib
import os.path
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock

from earthloom.jobs.intake.dates import utc
from earthloom.jobs.intake.name_dates import agreed, date_by_rule, pattern_reader
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.intake.scenes import expand, names_of
from earthloom.jobs.intake.search import Search, is_search
from earthloom.tiling.errors import ConfigError, NoSceneError
from earthloom.tiling.storage.objects import Head, ObjectRef
from earthloom.tiling.storage.store import open_store

_FEW = 4
"""Files of one reference that are asked for one by one; more are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A scene that a reference names now."""

    request: SceneRequest
    version: str
    of_files: bool
    """Whether the version is that of its files, which an item's is not: they may come after it."""
    taken: datetime | None
    """When it was taken, as far as its item or its names say; None where only its header may know."""
    modified_s: float
    """POSIX time of the last write to one of its files, where they were listed; else 0."""

    @property
    def place(self) -> str:
        """16 hex digits that stand for its reference."""
        return _short(self.request.reference)

    @property
    def name(self) -> str:
        """33 letters that stand for this version of it; `place` is before the dash."""
        return f"{self.place}-{_short(self.version)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Days of acquisition, ends included; None: open."""

    first: datetime | None = None
    last: datetime | None = None

    def __bool__(self) -> bool:
        return self.first is not None or self.last is not None

    def __contains__(self, moment: datetime) -> bool:
        return (self.first is None or self.first <= moment) and (self.last is None or moment <= self.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the references saw."""

    arrivals: tuple[Arrival, ...]
    coming: int = 0
    """Scenes left for the next look because one of their files was written to a moment ago."""
    undated: int = 0
    """Scenes left out of a span of days because neither item nor names say when they were taken."""


def look(
    references: Sequence[str], options: SceneOptions, *, span: Span, since: datetime | None, back: timedelta,
    settle_s: float,
) -> Look:  # fmt: skip
    """All scenes that references name now, each once.

    Args:
        references: as `expand` takes them.
        options: options, of which `alternate` and `date_pattern` matter.
        span: only scenes taken in it.
        since: of a search, only items written since then, or taken less than `back` before it; None: all.
        back: how far behind the present scenes are expected to come late, where an API cannot say what it has written since.
        settle_s: a file that was written to within so many seconds may still grow.

    Raises:
        ConfigError: if a reference is malformed.
        StorageError: if one cannot be listed, or an API does not answer.
    """
    found: dict[str, Arrival] = {}
    for reference in references:
        for text in _narrowed(reference.strip(), span, since, back):
            for arrival in _of(text, options):
                found.setdefault(arrival.name, arrival)
    now_s = time.time()
    settled = [one for one in found.values() if not 0 <= now_s - one.modified_s < settle_s]
    inside = [one for one in settled if not span or (one.taken is not None and one.taken in span)]
    undated = sum(one.taken is None for one in settled) if span else 0
    return Look(arrivals=tuple(inside), coming=len(found) - len(settled), undated=undated)


def _narrowed(text: str, span: Span, since: datetime | None, back: timedelta) -> Iterator[str]:
    if not is_search(text):
        yield text
        return
    asked = Search.parse(text).between(span.first, span.last)
    if since is None or span:
        yield str(asked)
        return
    yield str(asked.between(since - back, None))  # items need not say when they were written
    if asked.can_be_filtered():
        yield str(asked.changed_since(since))


def _of(text: str, options: SceneOptions) -> list[Arrival]:
    try:
        requests = expand([text], options.alternate)
    except NoSceneError:
        return []
    refs = [part.ref for request in requests if _by_files(request) for part in request.parts]
    heads = _heads(refs)
    return [_arrival(request, heads, options) for request in requests]


def _by_files(request: SceneRequest) -> bool:
    """Whether its files say more of a change than its item, which only acquisitions as delivered and plain files are."""
    return request.item is None or bool(request.item.metadata)


def _arrival(request: SceneRequest, heads: Mapping[str, Head], options: SceneOptions) -> Arrival:
    taken = _taken(request, options)
    if not _by_files(request) and request.item:
        return Arrival(request=request, version=request.item.version, of_files=False, taken=taken, modified_s=0.0)
    mine = [(part.ref.url, heads[part.ref.url]) for part in request.parts if part.ref.url in heads]
    said = [f"{url} {head.etag or f'{head.size} {head.modified_s}'}" for url, head in mine]
    version = "\n".join(said) or request.problem or "missing"
    modified_s = max((head.modified_s for _, head in mine), default=0.0)
    return Arrival(request=request, version=version, of_files=True, taken=taken, modified_s=modified_s)


def _taken(request: SceneRequest, options: SceneOptions) -> datetime | None:
    texts = [options.datetime, request.item.datetime if request.item else None]
    if options.date_pattern:
        named, _ = agreed(names_of(request), pattern_reader(options.date_pattern))
        texts.insert(1, named.moment.isoformat() if named else None)
    by_rule, _ = agreed(names_of(request), date_by_rule)
    for text in (*texts, by_rule.moment.isoformat() if by_rule else None):
        try:
            if text is not None:
                return datetime.fromisoformat(utc(text)[0])
        except ConfigError:
            continue  # an item whose date is none; the next in line may know
    return None


def _heads(refs: Sequence[ObjectRef]) -> dict[str, Head]:
    """What storage says of files, by URL; by one listing where they are many. Web servers cannot be listed."""
    found: dict[str, Head] = {}
    together: dict[tuple[str, str], list[ObjectRef]] = {}
    for ref in refs:
        together.setdefault((ref.scheme, ref.bucket), []).append(ref)
    for (scheme, bucket), some in together.items():
        folder = os.path.commonpath([ref.key.rpartition("/")[0] for ref in some]) if len(some) > _FEW else ""
        if len(some) > _FEW and scheme in ("file", "s3") and (folder or scheme == "s3"):
            base = ObjectRef(scheme, bucket, folder)
            wanted = {ref.url for ref in some}
            listed = ((f"{base.url.rstrip('/')}/{head.key}", head) for head in open_store(base).list())
            found |= {url: head for url, head in listed if url in wanted}
        else:
            asked = ((ref.url, open_store(ref).head()) for ref in some)
            found |= {url: head for url, head in asked if head is not None}
    return found


def span_of(first: date | None, last: date | None) -> Span:
    """From the beginning of a day to the end of another one, in UTC.

    Raises:
        ConfigError: if the second is before the first.
    """
    if first and last and last < first:
        raise ConfigError(f"the first day, {first}, is after the last one, {last}")
    return Span(
        first=datetime.combine(first, clock.min, UTC) if first else None,
        last=datetime.combine(last, clock.max, UTC) if last else None,
    )


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
