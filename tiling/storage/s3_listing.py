"""Listing a bucket that holds a key which obstore cannot say, such as `a//b`: one such key and it lists nothing at all.

By botocore, used only where obstore has given up. Knows the keys of the environment, no roles of machines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.objects import Head
from earthloom.tiling.storage.settings import unsigned

_NO_FILES: Any = {
    "profile": (None, None, None, None), "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}  # fmt: skip
"""The variables of a session by which the AWS tools' own files would be read: `tiling.storage.profiles` has done that."""


def list_keys(bucket: str, prefix: str, after: str = "") -> Iterator[Head]:
    """Every object of a bucket below `prefix` whose key sorts after `after`, by whole keys, whatever they hold.

    Raises:
        StorageError: if there are no keys to sign with, or the server refuses.
    """
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from botocore.session import Session

    env, where = os.environ, f"s3://{bucket}/{prefix}"
    if not (unsigned(env) or (env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"))):
        raise StorageError(
            f"cannot list {where}: it holds a key with an empty part, as in a//b, and listing such keys needs "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; name the scenes one by one, or set these"
        )
    config = Config(s3={"addressing_style": "path"}, signature_version=UNSIGNED if unsigned(env) else None)
    asked = {"StartAfter": after} if after else {}
    payer = {"RequestPayer": "requester"} if env.get("AWS_REQUEST_PAYER") else {}
    try:
        client = Session(_NO_FILES).create_client(
            "s3", env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1", config=config,
            endpoint_url=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None,
            aws_access_key_id=env.get("AWS_ACCESS_KEY_ID"), aws_secret_access_key=env.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=env.get("AWS_SESSION_TOKEN") or None,
        )  # fmt: skip
        with closing(client):
            for page in client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix, **asked, **payer
            ):
                for entry in page.get("Contents", []):
                    yield Head(entry["Key"], entry["Size"], entry.get("ETag"), entry["LastModified"].timestamp())
    except (BotoCoreError, ClientError, ResponseParserError, ValueError) as error:  # ValueError: of an odd endpoint
        status = error.response["ResponseMetadata"]["HTTPStatusCode"] if isinstance(error, ClientError) else None
        why = f"HTTP {status}" if status else type(error).__name__
        raise StorageError(
            f"cannot list {where}: {why}; earthloom doctor tests the endpoint", transient=True
        ) from error
