"""The page's files: its own, which come with Earthloom, and the libraries that this machine's cache holds.

The page is the same bytes whatever is published: it asks for `catalog.json`, and for the index beside each collection.
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
from importlib import resources

from earthloom.jobs.page.libraries import CDN, LIBRARIES, Library, kept
from earthloom.tiling.errors import EarthloomError, MissingObjectError
from earthloom.tiling.storage.store import Store

PAGE = "index.html"
FOLDER = "page"
OWN = (
    "answer.js", "catalogue.js", "elements.js", "legend.js", "map.js", "page.css", "page.js", "sharing.js", "vectors.js",
)  # fmt: skip
"""Our own files below `page/`."""

log = logging.getLogger(__name__)


def file_of_page(name: str) -> bytes | None:
    """A file of the page by its key below OUT; None if it is no such file, or a library that the cache does not hold."""
    if name == PAGE:
        return _page()
    folder, _, file = name.partition("/")
    if folder != FOLDER:
        return None
    if file in OWN:
        return _own(file)
    return next((kept(library) for library in LIBRARIES if library.file == file), None)


def write_page(store: Store) -> None:
    """Put the page into OUT, unless it is there in this version. Libraries are copied if they are in the cache.

    The page itself goes last and says which version of the other files it was written with, so that one request tells
    whether all is there.
    """
    libraries = {f"{FOLDER}/{one.file}": data for one in LIBRARIES if (data := kept(one)) is not None}
    try:
        if _stored(store, PAGE) == _page() and all(store.head(name) for name in list(libraries)[:1]):
            return
        for name, data in libraries.items():
            head = store.head(name)  # the version stands in its name
            if head is None or head.size != len(data):
                store.put(name, data)
        for file in OWN:
            store.put(f"{FOLDER}/{file}", _own(file))
        store.put(PAGE, _page())
    except EarthloomError as error:  # no reason for a run to fail: the next one writes it
        log.warning("the page %s/%s is not written: %s", store.ref.url, PAGE, error)


def _stored(store: Store, key: str) -> bytes | None:
    try:
        return store.get(key)
    except MissingObjectError:
        return None


def _page() -> bytes:
    """`index.html` with the policy's hosts, the libraries' digests and the version of what lies beside it."""
    version = hashlib.sha256(b"".join(map(_own, OWN))).hexdigest()[:16]
    known = [{"file": one.file, "url": one.url, "integrity": one.integrity} for one in LIBRARIES]
    said = {"cdn": CDN, "version": version, "libraries": json.dumps(known)}
    page = _own(PAGE).decode().replace("{{preload}}", "\n".join(map(_preload, LIBRARIES[:2])))
    for name, value in said.items():
        page = page.replace(f"{{{{{name}}}}}", html.escape(value))
    return page.encode()


def _preload(library: Library) -> str:
    """What lets the browser fetch a library while it still reads the page's own scripts; nothing if it lies elsewhere."""
    if kept(library) is None:
        return ""
    return (
        f'<link rel="preload" as="script" href="{FOLDER}/{library.file}" integrity="{library.integrity}" '
        'crossorigin="anonymous">'
    )


def _own(name: str) -> bytes:
    return (resources.files("earthloom.jobs.page") / "site" / name).read_bytes()
