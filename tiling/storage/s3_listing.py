"""Listing a bucket that holds a key which obstore cannot say, such as `a//b`: one such key and it lists nothing at all.

One request of S3's API, signed by hand (AWS Signature Version 4), used only where obstore has given up. Knows the keys of
the environment, no roles of machines.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.error import HTTPError
from urllib.parse import quote, unquote_plus, urlsplit
from urllib.request import Request, urlopen
from xml.etree import ElementTree

from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.objects import Head
from earthloom.tiling.storage.settings import unsigned

_TIMEOUT_S = 60.0
_PLAIN = "-_.~"
_NOTHING = hashlib.sha256(b"").hexdigest()


def list_keys(bucket: str, prefix: str, after: str = "", env: Mapping[str, str] = os.environ) -> Iterator[Head]:
    """Every object of a bucket below `prefix` whose key sorts after `after`, by whole keys, whatever they hold.

    Raises:
        StorageError: if there are no keys to sign with, or the server refuses.
    """
    where = f"s3://{bucket}/{prefix}"
    if not (unsigned(env) or (env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"))):
        raise StorageError(
            f"cannot list {where}: it holds a key with an empty part, as in a//b, and listing such keys needs "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; name the scenes one by one, or set these"
        )
    query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"} | ({"start-after": after} if after else {})
    while True:
        try:
            with urlopen(_request(bucket, query, env), timeout=_TIMEOUT_S) as answer:
                page = ElementTree.fromstring(answer.read())
        except (OSError, ElementTree.ParseError) as error:
            why = f"HTTP {error.code}" if isinstance(error, HTTPError) else type(error).__name__
            raise StorageError(
                f"cannot list {where}: {why}; earthloom doctor tests the endpoint", transient=True
            ) from error
        for element in page.iter():
            element.tag = element.tag.rpartition("}")[2]  # some servers name the namespace and some do not
        plain = unquote_plus if page.findtext("EncodingType") == "url" else str
        for entry in page.iter("Contents"):
            when = datetime.fromisoformat(entry.findtext("LastModified") or "1970-01-01T00:00:00+00:00")
            size, etag = int(entry.findtext("Size") or 0), entry.findtext("ETag")
            yield Head(plain(entry.findtext("Key") or ""), size, etag, when.timestamp())
        token = page.findtext("NextContinuationToken")
        if page.findtext("IsTruncated") != "true" or not token:
            return
        query["continuation-token"] = token


def _request(bucket: str, query: Mapping[str, str], env: Mapping[str, str]) -> Request:
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    url = urlsplit(endpoint.rstrip("/") if endpoint else f"https://s3.{region}.amazonaws.com")
    path = f"{url.path}/{bucket}"
    asked = "&".join(f"{quote(name, safe=_PLAIN)}={quote(query[name], safe=_PLAIN)}" for name in sorted(query))
    headers = {} if unsigned(env) else _signed(url.netloc, path, asked, region, env)
    return Request(f"{url.scheme}://{url.netloc}{path}?{asked}", headers=headers)


def _signed(host: str, path: str, query: str, region: str, env: Mapping[str, str]) -> dict[str, str]:
    """Headers of a GET without a body; AWS's documentation of Signature Version 4 has the names of the steps."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": _NOTHING, "x-amz-date": now}
    if token := env.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    if env.get("AWS_REQUEST_PAYER"):
        headers["x-amz-request-payer"] = "requester"
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = "\n".join(["GET", quote(path, safe=f"/{_PLAIN}"), query, lines, names, _NOTHING])
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{env['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{env['AWS_ACCESS_KEY_ID']}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return headers
