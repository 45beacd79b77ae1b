"""Taking secrets out of what people and files get to read: messages of errors, log records, tracebacks.

Libraries print signed addresses and request headers where they fail. Knows the shapes of such secrets, and the values
that this process holds in its environment. Knows nothing of who logs what.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from typing import Any

from earthloom.tiling.storage import signatures

_HIDDEN = "***"
_SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "RAY_AUTH_TOKEN", "GDAL_HTTP_USERPWD", "GDAL_HTTP_BEARER", "GDAL_HTTP_PROXYUSERPWD",
)  # fmt: skip
_SHORTEST = 8  # a shorter value would also be a word of ordinary text
_SHAPES = (
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*)[^\r\n]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)(x-amz-security-token['\"]?\s*[:=]\s*)[^\s&\"']+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)((?:https?|s3)://[^\s?#\"'<>]*)\?[^\s\"'<>)]+"), rf"\1?{_HIDDEN}"),  # all of a query: signed or not
    (re.compile(r"(?i)(x-amz-(?:signature|credential)=)[^\s&\"']+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)(\w://)[^\s/@:\"']+:[^\s/@\"']+@"), rf"\1{_HIDDEN}@"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"), _HIDDEN),
)  # fmt: skip


def redact(text: str) -> str:
    """The text with `***` for credentials of this process's environment, signed queries, and authorisation headers."""
    for name in _SECRETS:
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST:
            text = text.replace(value, _HIDDEN)
    for secret in signatures.secrets():
        text = text.replace(secret, _HIDDEN)
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def guard_logs() -> None:
    """From now on no record of this process's loggers, whoever's they are, holds a secret that `redact` knows."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a library's own slip; logging would report it, and not raise it
            text = f"{record.msg} {record.args}"
        record.msg, record.args = redact(text), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record

    factory.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(factory)
