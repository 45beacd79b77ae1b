"""Signed addresses: what to append to a web file's plain address so that its server gives it, and to no other address.

A signature is a secret. It stays in the environment of each process, like every credential, and joins an address only in
the request itself: references, plans, records and messages hold the plain address. Knows no service by name.
"""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, quote, unquote, urlsplit

_LONG = 16  # a shorter value, as of a version or a permission, is no signature and may be a word of ordinary text
_DAY = re.compile(r"\d{4}-\d\d-\d\d")

VARIABLE = "EARTHLOOM_SIGNED_URLS"
"""Signed addresses, with blanks between them. Each holds for the file that it names, or, where its path ends in `/`, for
everything below: `https://store.blob.core.windows.net/images/?sv=…&sig=…`."""


def query_for(scheme: str, authority: str, key: str) -> str:
    """The query, without its question mark, with which this file is asked for; empty where none is listed.

    The longest listed path wins; of equal ones the last, so that a new signature may be appended.
    """
    best, query = -1, ""
    for url in listed():
        path = unquote(url.path).removeprefix("/")
        fits = key == path or ((not path or path.endswith("/")) and key.startswith(path))
        if (url.scheme.lower(), url.netloc.lower()) == (scheme, authority) and fits and len(path) >= best:
            best, query = len(path), url.query
    return query


def listed() -> list[SplitResult]:
    """The signed addresses of this process's environment; what is not one is passed over."""
    found = []
    for text in os.environ.get(VARIABLE, "").split():
        try:
            url = urlsplit(text)
        except ValueError:
            continue
        if url.query:
            found.append(url)
    return found


def secrets() -> list[str]:
    """Everything in the list that must not be written, longest first: whole queries, and long values in every spelling."""
    found = set()
    for url in listed():
        values = [piece.partition("=")[2] for piece in url.query.split("&")]
        long = [value for value in values if len(value) >= _LONG and not _DAY.match(value)]
        found |= {url.query, *long, *map(unquote, long), *(quote(unquote(value), safe="") for value in long)}
    return sorted(found, key=len, reverse=True)
