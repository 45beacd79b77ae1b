"""The page's files: its own, which come with Earthloom, and the libraries that this machine's cache holds.

The page is the same bytes whatever is published: it asks for `catalog.json`, and for the index beside each collection.
"""

from __future__ import annotations

import json
import logging
from importlib import resources

from earthloom.jobs.page.libraries import CDN, LIBRARIES, kept
from earthloom.tiling.errors import EarthloomError, MissingObjectError
from earthloom.tiling.storage.store import Store

PAGE = "index.html"
FOLDER = "page"
OWN = ("answer.js", "catalogue.js", "elements.js", "map.js", "page.css", "page.js")
"""Our own files below `page/`."""

log = logging.getLogger(__name__)


def file_of_page(name: str) -> bytes | None:
    """A file of the page by its key below OUT; None if it is no such file, or a library that the cache does not hold."""
    if name == PAGE:
        return _own(PAGE).replace(b"{{libraries}}", _libraries().encode()).replace(b"{{cdn}}", CDN.encode())
    folder, _, file = name.partition("/")
    if folder != FOLDER:
        return None
    if file in OWN:
        return _own(file)
    return next((kept(library) for library in LIBRARIES if library.file == file), None)


def write_page(store: Store) -> None:
    """Put the page into OUT, as far as it is not there in this version. Libraries are copied if they are in the cache."""
    names = [*(f"{FOLDER}/{name}" for name in (*OWN, *(library.file for library in LIBRARIES))), PAGE]
    try:
        for name in names:  # the page itself last: what it asks for is there
            data = file_of_page(name)
            if data is not None and _there(store, name, data) != data:
                store.put(name, data)
    except EarthloomError as error:  # no reason for a run to fail: the next one writes it
        log.warning("the page %s/%s is not written: %s", store.ref.url, PAGE, error)


def _there(store: Store, name: str, data: bytes) -> bytes | None:
    """What lies in OUT; a library is known by its name and size, as its version stands in its name."""
    if name not in {f"{FOLDER}/{library.file}" for library in LIBRARIES}:
        try:
            return store.get(name)
        except MissingObjectError:
            return None
    head = store.head(name)
    return data if head and head.size == len(data) else None


def _libraries() -> str:
    """What the page needs to know of them, for a `data-` attribute."""
    known = [{"file": one.file, "url": one.url, "integrity": one.integrity} for one in LIBRARIES]
    return json.dumps(known).replace("&", "&amp;").replace("'", "&#39;")


def _own(name: str) -> bytes:
    return (resources.files("earthloom.jobs.page") / "site" / name).read_bytes()
