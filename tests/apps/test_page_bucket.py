"""The page of an OUT in a bucket that is far away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from earthloom.jobs.page.libraries import LIBRARIES, kept
from earthloom.tiling.storage.settings import derive
from infra.s3_server import Server
from tests.apps.chromium import chromium, opened
from tests.apps.published import served
from tests.bench.latency import delayed
from tests.maps import go, lake

pytestmark = [pytest.mark.apps, pytest.mark.s3]

ROUND_TRIP_MS = 40


def test_a_map_from_a_bucket_is_drawn_after_a_few_requests(
    s3: Server, s3_env: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any(kept(library) is None for library in LIBRARIES):
        pytest.skip("the page's libraries are not in the cache: earthloom view OUT fetches them")
    assert go(lake(tmp_path, "far"), out="s3://outputs/page").exit_code == 0
    with delayed(s3.endpoint, ROUND_TRIP_MS) as endpoint, chromium() as browser:
        for name, value in derive(s3.env | {"AWS_ENDPOINT_URL": endpoint}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with served("s3://outputs/page") as url:
            begun = time.monotonic()
            with opened(browser, url) as shown:
                shown.wait_until("Number(document.body.dataset.drawn) > 0")
                print(f"first map after {time.monotonic() - begun:.2f} s, {len(shown.requests)} requests")
                assert shown.complaints == []
                assert shown.page.locator("#scenes li").count() == 1
                asked = [one for one in shown.requests if one.endswith((".tif", ".json"))]
                assert len(asked) <= 8, asked


def test_the_page_in_a_bucket_is_sent_as_a_page(s3: Server, s3_env: None, tmp_path: Path) -> None:
    """A browser shows what a bucket sends as text/html, and saves what it sends as bytes."""
    import boto3

    assert go(lake(tmp_path, "near", width=96, height=64), out="s3://outputs/typed").exit_code == 0
    client = boto3.client("s3", endpoint_url=s3.endpoint, region_name="us-east-1")
    kinds = {
        key: client.head_object(Bucket="outputs", Key=f"typed/{key}")["ContentType"].partition(";")[0]
        for key in ("index.html", "page/page.js", "page/page.css", "collections/water-index/page.json", "catalog.json")
    }
    assert list(kinds.values()) == ["text/html", "text/javascript", "text/css", "application/json", "application/json"]
