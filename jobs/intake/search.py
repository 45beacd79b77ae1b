"""Scenes by a search of a STAC API: the address of its GET search, as the specification has it, is a reference.

    https://earth-search.aws.element84.com/v1/search?collections=sentinel-2-l2a&bbox=5,45,6,46&datetime=2026-01-01/..

Asks through the gate to the API's own host, and follows its links to further pages nowhere else. What comes back is checked
like any STAC document of the network. The parameters are those of STAC API 1.0.0, Item Search, and of its extensions
Filter (CQL2 text) and Query (https://api.stacspec.org/v1.0.0/item-search). Opens no raster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from earthloom.jobs.intake.dates import utc
from earthloom.jobs.intake.stac import MAX_DOCUMENTS, MAX_JSON_BYTES, StacItem, item_of, with_note_of_more
from earthloom.jobs.intake.stac_assets import mapping, sequence
from earthloom.tiling.errors import ConfigError, EarthloomError, NoSceneError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.remote import answer
from earthloom.tiling.suggest import did_you_mean

_SEARCH = re.compile(r"^https?://[^?#\s]+/search\?\S+$", re.IGNORECASE)
_PARAMETERS = (
    "collections", "ids", "bbox", "intersects", "datetime", "limit", "query", "filter", "filter-lang", "sortby",
)  # fmt: skip
_PAGE = "100"
_FILTERS = ("item-search#filter", "/conf/cql2-text")
"""Endings of the conformance classes without which `updated` cannot be asked for."""


def is_search(text: str) -> bool:
    """Whether a reference is a search of a STAC API."""
    return _SEARCH.match(text) is not None


@dataclass(frozen=True, slots=True)
class Search:
    """The address of a search, in its parts."""

    ref: ObjectRef
    """Address of the search itself, without its query."""
    parameters: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the address of a search.

        Raises:
            ConfigError: if its host is not one that is asked, or a parameter is none of STAC's.
        """
        address, _, query = text.partition("?")
        ref = ObjectRef.parse(address)
        parameters = tuple(parse_qsl(query, keep_blank_values=True))
        for name, _ in parameters:  # its value may be a credential that found its way here
            if name not in _PARAMETERS:
                raise ConfigError(
                    f"{ref.url}: a search has no parameter {name[:40]!r}{did_you_mean(name, _PARAMETERS)}; it has "
                    f"{', '.join(_PARAMETERS)}"
                )
        given = dict(parameters)
        if len(given) < len(parameters):
            raise ConfigError(f"{ref.url}: a parameter of this search is given twice; several collections are one, a,b")
        if "datetime" in given:
            _interval(given["datetime"])
        return cls(ref, parameters)

    def __str__(self) -> str:
        return f"{self.ref.url}?{urlencode(self.parameters, safe=',/:')}"

    def between(self, first: datetime | None, last: datetime | None) -> Self:
        """The part of this search whose scenes were taken in an interval, ends included; None: open."""
        given = dict(self.parameters)
        mine = _interval(given["datetime"]) if "datetime" in given else (None, None)
        starts = [moment for moment in (mine[0], first) if moment]
        ends = [moment for moment in (mine[1], last) if moment]
        if not starts and not ends:
            return self
        span = f"{_text(max(starts)) if starts else '..'}/{_text(min(ends)) if ends else '..'}"
        return self._with({"datetime": span})

    def changed_since(self, moment: datetime) -> Self:
        """The part of this search whose items the API has written since a moment of its own clock."""
        condition = f"updated >= TIMESTAMP('{_text(moment)}')"
        own = dict(self.parameters).get("filter")
        return self._with({"filter": f"({own}) AND {condition}" if own else condition, "filter-lang": "cql2-text"})

    def can_be_filtered(self) -> bool:
        """Whether `changed_since` may be asked of this API: its landing page says so, and no other filter is in the way.

        Raises:
            StorageError, ConfigError: if the landing page cannot be read.
        """
        given = dict(self.parameters)
        if given.get("filter-lang", "cql2-text") != "cql2-text":
            return False
        base = ObjectRef(self.ref.scheme, self.ref.bucket, self.ref.key.rpartition("search")[0].rstrip("/"))
        said = [str(one) for one in sequence(_json(answer(base, "", MAX_JSON_BYTES), base).get("conformsTo"))]
        return all(any(one.endswith(ending) for one in said) for ending in _FILTERS)

    def _with(self, changes: Mapping[str, str]) -> Self:
        return type(self)(self.ref, tuple({**dict(self.parameters), **changes}.items()))


def search(text: str, alternate: str | None = None) -> list[StacItem]:
    """All items that a search finds, in the order of the API.

    Args:
        text: address of the search.
        alternate: as `read_items` takes it.

    Raises:
        ConfigError: if the address or an answer is not as STAC has it, or more than 10,000 items are found.
        StorageError: if the API does not answer.
    """
    asked = Search.parse(text)
    items: dict[tuple[str, str], StacItem] = {}
    for page in _pages(asked):
        for feature in map(mapping, sequence(page.get("features"))):
            item = item_of(feature, _self_of(feature, asked.ref), None, alternate)
            items.setdefault((item.url, item.id), item)  # pages of a growing collection overlap
        if len(items) > MAX_DOCUMENTS:
            raise ConfigError(
                f"{asked.ref.url}: this search finds more than {MAX_DOCUMENTS} items; ask for less time or ground at once"
            )
    if not items:
        raise NoSceneError(f"{asked}: this search finds no item; check its collections, ground and time")
    return with_note_of_more(
        list(items.values()), page, f"{asked.ref.url} gave", "its pages end early: ask for less at once"
    )


def _pages(asked: Search) -> Iterator[Mapping[str, Any]]:
    ref, query = asked.ref, urlencode({"limit": _PAGE} | dict(asked.parameters))
    seen: set[str] = set()
    while query not in seen:
        seen.add(query)
        page = _json(answer(ref, query, MAX_JSON_BYTES), ref)
        if page.get("type") != "FeatureCollection":
            raise ConfigError(
                f"{ref.url} answers with something that is not an ItemCollection; is it a STAC API's search?"
            )
        yield page
        following = next(
            (link for link in map(mapping, sequence(page.get("links"))) if link.get("rel") == "next"), None
        )
        if following is None or not sequence(page.get("features")):
            return
        if str(following.get("method", "GET")).upper() != "GET":
            raise ConfigError(
                f"{ref.url} gives its further pages by POST only, which is not asked; raise limit in the search"
            )
        there = urlsplit(urljoin(f"{asked.ref.url}", str(following.get("href"))))
        if (there.scheme.lower(), there.netloc.lower()) != (asked.ref.scheme, asked.ref.bucket):
            raise ConfigError(
                f"{ref.url} leads to another host for its next page, {there.netloc[:80]!r}; that is refused"
            )
        ref = ObjectRef.parse(f"{there.scheme}://{there.netloc}{there.path}")
        query = there.query


def _self_of(feature: Mapping[str, Any], ref: ObjectRef) -> ObjectRef:
    """Address at which the API says that an item lies, on its own host; else that of the search."""
    for link in map(mapping, sequence(feature.get("links"))):
        if link.get("rel") == "self":
            try:
                found = ObjectRef.parse(urljoin(ref.url, str(link.get("href"))))
            except EarthloomError:
                break
            if (found.scheme, found.bucket) == (ref.scheme, ref.bucket):
                return found
    return ref


def _json(data: bytes, ref: ObjectRef) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{ref.url} answers with something that is not JSON: {str(error)[:120]}") from error


def _interval(text: str) -> tuple[datetime | None, datetime | None]:
    """`2026-01-01T00:00:00Z`, or two of these, of which one may be open (`..` or nothing)."""
    first, slash, last = text.partition("/")
    ends = [
        None if end in ("", "..") else datetime.fromisoformat(utc(end)[0]) for end in (first, last if slash else first)
    ]
    if ends == [None, None]:
        raise ConfigError(f"{text[:60]!r} is no interval such as 2026-01-01T00:00:00Z/..")
    return ends[0], ends[1]


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
