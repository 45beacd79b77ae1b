"""A bucket of S3 that knows GET, HEAD and listing, for keys and credentials that a real server will not show."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.serving import Handler, serving


@contextmanager
def odd_bucket(
    objects: Mapping[str, bytes], allows: Callable[[Mapping[str, str]], bool] = lambda _: True
) -> Iterator[dict[str, str]]:
    """Serve `bucket`, and give the environment of a user who may read it.

    Args:
        objects: bytes by whole key.
        allows: whether a request with these headers is answered; others get status 403.
    """

    class Requests(Handler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            key = unquote(url.path).lstrip("/").partition("/")[2]
            if not allows(dict(self.headers.items())):
                return self.send(403, b"<Error><Code>AccessDenied</Code></Error>")
            if not key:
                return self.send(200, self._listing(parse_qs(url.query)))
            if key not in objects:
                return self.send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            data = objects[key]
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            headers = [("ETag", tag), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")]
            if wanted := self.headers.get("Range"):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
                headers.append(("Content-Range", f"bytes {start}-{end}/{len(data)}"))
                return self.send(206, data[start : end + 1], headers)
            return self.send(200, data, headers)

        def _listing(self, query: Mapping[str, list[str]]) -> bytes:
            prefix, after = query.get("prefix", [""])[0], query.get("start-after", [""])[0]
            encoded = "encoding-type" in query
            entries = "".join(
                f"<Contents><Key>{quote(key) if encoded else key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;x&quot;</ETag><Size>{len(data)}</Size></Contents>"
                for key, data in sorted(objects.items()) if key.startswith(prefix) and key > after
            )  # fmt: skip
            said = "<EncodingType>url</EncodingType>" if encoded else ""
            return (
                '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<Name>bucket</Name>{said}<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
            ).encode()

    with serving(Requests) as host:
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}", "AWS_REGION": "us-west-2",
            "AWS_ACCESS_KEY_ID": "k" * 16, "AWS_SECRET_ACCESS_KEY": "s" * 20,
        }  # fmt: skip
