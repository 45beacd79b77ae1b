"""Telling people by a webhook that takes Slack's JSON: a failure once, its end once, and new results.

What was said last is kept in `notices/<subject>.json` of OUT, so that a failure that lasts is not said every night, by
whichever of several drivers. Telling never fails a run. The address is a secret: no text of this module has it.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from earthloom.jobs.records.attempt import now
from earthloom.jobs.records.canonical import FORMAT, canonical, digest, read_document
from earthloom.jobs.records.documents import merge
from earthloom.jobs.report.flags import with_flags
from earthloom.tiling.errors import EarthloomError, StorageError
from earthloom.tiling.storage.store import Store

_PAUSES_S = (1.0, 4.0)
"""Seconds before the second and the third try."""
_TIMEOUT_S = 10.0
_LISTED = 10  # problems of one message
_TEXT = 300  # characters of one problem

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """How a command ended."""

    what: str
    """`landwater to s3://maps`."""
    summary: str
    """`27 published (5 new), 3 refused, 0 failed`."""
    problems: Mapping[str, tuple[str, str]]
    """For each scene, or other word for what failed: class of the error, and its text."""
    known: frozenset[str] = frozenset()
    """Problems that an earlier run named."""
    new: int = 0
    """Results that were not there before."""
    link: str = ""


def tell(url: SecretStr, store: Store, subject: str, news: News) -> None:
    """Send what people have not been told yet, if anything; never raises."""
    try:
        _tell(url, store, subject, news)
    except Exception as error:
        log.warning("nobody was notified: %s", type(error).__name__ if not isinstance(error, EarthloomError) else error)


def _tell(url: SecretStr, store: Store, subject: str, news: News) -> None:
    key = f"notices/{subject}.json"
    kinds = sorted((name, kind) for name, (kind, _) in news.problems.items())
    ours = {
        "format": FORMAT, "state": "failing" if kinds else "well", "digest": digest(kinds), "told": now(),
        "write_id": secrets.token_hex(16),
    }  # fmt: skip
    try:
        before = _replace(store, key, ours)
    except StorageError:  # what is broken may be the storage: better twice than never
        before = {}
    was_failing = before.get("state") == "failing"
    ended = f"{news.what}: {news.summary}"
    if kinds and not (was_failing and before["digest"] == ours["digest"]):
        message = _failure(news, ended, news.known if was_failing else frozenset())
    elif was_failing and not kinds:
        message = f"recovered: {ended}"
    else:
        message = f"done: {ended}" if news.new else ""
    if message and not _send(url, f"{message}\n{news.link}".rstrip()):
        _replace(store, key, {**ours, "state": before.get("state", "well"), "digest": before.get("digest", "")})


def _replace(store: Store, key: str, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what is said now; what was said last, by whoever. Of several drivers that say the same, one hears of it last."""
    before: dict[str, Any] = {}

    def changed(existing: bytes | None) -> bytes:
        found = read_document(existing, key) if existing else {}
        if found.get("write_id") != ours["write_id"]:  # else an answer was lost
            before.clear()
            before.update(found)
        same = (found.get("state"), found.get("digest")) == (ours["state"], ours["digest"])
        return existing if existing and same else canonical(ours)

    merge(store, key, changed)
    return before


def _failure(news: News, ended: str, told: frozenset[str]) -> str:
    fresh = {name: one for name, one in news.problems.items() if name not in told}
    lines = [
        f"• {name}: {with_flags(text.removeprefix(f'{name}: '))[:_TEXT]}"
        for name, (_, text) in list(fresh.items())[:_LISTED]
    ]
    more = [f"… and {len(fresh) - _LISTED} more"] if len(fresh) > _LISTED else []
    return "\n".join([f"failed: {ended}" if lines else f"fewer failures: {ended}", *lines, *more])


def _send(url: SecretStr, text: str) -> bool:
    """Whether the message has arrived."""
    address = url.get_secret_value()
    plain = (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )  # else a scene's id could call @channel
    body = json.dumps({"text": plain}).encode()
    host = urlsplit(address).hostname
    opener = urllib.request.build_opener(_NoRedirect)
    why = ""
    for pause_s in (*_PAUSES_S, None):
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method="POST")
        try:
            with opener.open(request, timeout=_TIMEOUT_S):
                return True
        except urllib.error.HTTPError as error:
            why = f"it answers {error.code}"
            error.close()
            if error.code != 429 and error.code < 500:
                break
        except (OSError, ValueError) as error:  # a name that is not resolved, a refused connection, a time-out
            why = type(getattr(error, "reason", error)).__name__
        if pause_s is not None:
            time.sleep(pause_s)
    log.warning("`notify`: %s did not take the message (%s); the next run tries again", host, why)
    return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is said goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
