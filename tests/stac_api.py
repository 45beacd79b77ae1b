"""A small STAC API on 127.0.0.1: landing page, item search by GET with pages, and the filter on `updated` where it is asked to.

    with stac_api(items) as api:
        api.search(collections="a")       # the address of a search

Plain http is refused by Earthloom unless the host is listed, so set EARTHLOOM_HTTP_HOSTS to `api.host`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.serving import Handler, serving

_CORE = ("https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search")
_FILTER = ("https://api.stacspec.org/v1.0.0/item-search#filter", "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text")
_UPDATED = re.compile(r"updated >= TIMESTAMP\('([^']+)'\)")


@dataclass(slots=True)
class StacApi:
    """What a running API serves and has been asked."""

    items: list[dict[str, Any]]
    filters: bool = True
    """Whether it says that it can be filtered."""
    host: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    """Parameters of each search."""
    next_host: str = ""
    """Where its links to further pages lead, if not to itself."""
    down: bool = False
    """While true, every answer is 503."""

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def search(self, **parameters: str) -> str:
        return f"{self.url}/search?{urlencode(parameters)}"

    def found(self, query: dict[str, str]) -> list[dict[str, Any]]:
        items = self.items
        if "collections" in query:
            items = [item for item in items if item["collection"] in query["collections"].split(",")]
        if "datetime" in query:
            first, _, last = query["datetime"].partition("/")
            items = [
                item for item in items
                if (first in ("", "..") or _moment(item["properties"]["datetime"]) >= _moment(first))
                and (last in ("", "..") or _moment(item["properties"]["datetime"]) <= _moment(last))
            ]  # fmt: skip
        if "bbox" in query:
            west, south, east, north = map(float, query["bbox"].split(","))
            items = [
                item for item in items
                if item["bbox"][0] <= east and item["bbox"][2] >= west
                and item["bbox"][1] <= north and item["bbox"][3] >= south
            ]  # fmt: skip
        if wanted := _UPDATED.search(query.get("filter", "")):
            items = [
                item for item in items
                if _moment(item["properties"].get("updated", "1900-01-01T00:00:00Z")) >= _moment(wanted[1])
            ]  # fmt: skip
        return items


@contextmanager
def stac_api(items: list[dict[str, Any]], *, filters: bool = True) -> Iterator[StacApi]:
    """Serve items until the block ends; the list may change meanwhile."""
    api = StacApi(items, filters)

    class Requests(Handler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            if api.down:
                self.send_error(503)
            elif url.path == "/":
                self._send({**_landing(api.url), "conformsTo": [*_CORE, *(_FILTER if api.filters else ())]})
            elif url.path == "/search":
                api.asked.append(query)
                self._send(_page(api, query))
            else:
                self.send_error(404)

        def _send(self, document: Any) -> None:
            self.send(200, json.dumps(document).encode(), [("Content-Type", "application/json")])

    with serving(Requests) as api.host:
        yield api


def item(item_id: str, moment: str, href: str, *, updated: str | None = None, collection: str = "a") -> dict[str, Any]:
    """A STAC 1.1 item with one TIFF of two bands."""
    bands = [
        {"name": name, "eo:common_name": name, "raster:scale": 1e-4, "raster:offset": 0.0}
        for name in ("green", "swir16")
    ]
    asset = {
        "href": href, "type": "image/tiff; application=geotiff", "roles": ["data", "reflectance"], "bands": bands,
    }  # fmt: skip
    ground = [[10.0, 50.0], [11.0, 50.0], [11.0, 51.0], [10.0, 51.0], [10.0, 50.0]]
    return {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [], "id": item_id, "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [ground]}, "bbox": [10.0, 50.0, 11.0, 51.0], "links": [],
        "properties": {"datetime": moment, **({"updated": updated} if updated else {})}, "assets": {"data": asset},
    }  # fmt: skip


def _page(api: StacApi, query: dict[str, str]) -> dict[str, Any]:
    every, start, limit = api.found(query), int(query.get("token", "0")), int(query.get("limit", "10"))
    some = every[start : start + limit]
    links = []
    if start + limit < len(every):
        further = urlencode(query | {"token": str(start + limit)})
        links.append({"rel": "next", "href": f"http://{api.next_host or api.host}/search?{further}"})
    features = [
        {**one, "links": [{"rel": "self", "href": f"{api.url}/collections/{one['collection']}/items/{one['id']}"}]}
        for one in some
    ]
    return {"type": "FeatureCollection", "features": features, "links": links}


def _landing(url: str) -> dict[str, Any]:
    search = {"rel": "search", "href": f"{url}/search", "type": "application/geo+json", "method": "GET"}
    links = [{"rel": "root", "href": url}, {"rel": "self", "href": url}, search]
    return {"type": "Catalog", "id": "test", "stac_version": "1.1.0", "description": "of a test", "links": links}


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
