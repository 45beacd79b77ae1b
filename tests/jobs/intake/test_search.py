"""Searches of a STAC API as references, against a real small API, with pystac-client as the other client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pystac_client
import pytest

from earthloom.jobs.intake import search as module
from earthloom.jobs.intake.references import find
from earthloom.jobs.intake.search import Search, is_search, search
from earthloom.tiling.errors import ConfigError, EarthloomError, NoSceneError, StorageError
from tests.stac_api import StacApi, item, stac_api

DAYS = [datetime(2026, 1, 1, 10, tzinfo=UTC) + timedelta(days=n) for n in range(25)]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[StacApi]:
    items = [
        item(f"s{n:02}", day.isoformat(), "https://data.example/s.tif", updated=(day + timedelta(hours=5)).isoformat())
        for n, day in enumerate(DAYS)
    ]
    items.append(item("other", DAYS[0].isoformat(), "https://data.example/s.tif", collection="b"))
    with stac_api(items) as running:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", running.host)
        yield running


def test_a_search_finds_over_all_pages_what_pystac_client_finds(api: StacApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", "7")
    asked = {"collections": "a", "datetime": "2026-01-03T00:00:00Z/2026-01-21T00:00:00Z", "bbox": "10.5,50.5,20,60"}
    mine = {found.id for found in search(api.search(**asked))}
    client = pystac_client.Client.open(api.url)
    theirs = client.search(
        method="GET", collections=["a"], datetime=asked["datetime"], bbox=[10.5, 50.5, 20, 60], limit=7
    )
    assert mine == {found.id for found in theirs.items()}
    assert len(mine) == 18


def test_a_search_is_a_reference_whose_scenes_say_where_the_api_has_them(api: StacApi) -> None:
    (request,) = find(api.search(collections="b"))
    assert request.id == "other"
    assert request.item
    assert request.item.url == f"{api.url}/collections/b/items/other"
    assert [part.ref.url for part in request.parts] == ["https://data.example/s.tif"]


def test_what_was_written_since_a_moment_is_what_the_api_says_it_is(api: StacApi) -> None:
    asked = Search.parse(api.search(collections="a"))
    assert asked.can_be_filtered()
    found = search(str(asked.changed_since(DAYS[20])))
    assert [one.id for one in found] == ["s20", "s21", "s22", "s23", "s24"]
    api.filters = False
    assert not asked.can_be_filtered()


def test_a_filter_of_the_users_own_is_kept_beside_ours() -> None:
    asked = Search.parse("https://api.example/v1/search?filter=eo%3Acloud_cover%20%3C%2020&filter-lang=cql2-text")
    narrowed = dict(asked.changed_since(DAYS[0]).parameters)
    assert narrowed["filter"] == "(eo:cloud_cover < 20) AND updated >= TIMESTAMP('2026-01-01T10:00:00Z')"
    assert Search.parse(str(asked.changed_since(DAYS[0]))) == asked.changed_since(DAYS[0])


@pytest.mark.parametrize(
    ("mine", "first", "last", "both"),
    [
        ("2026-01-03T00:00:00Z/..", DAYS[0], None, "2026-01-03T00:00:00Z/.."),
        ("../2026-01-03T00:00:00Z", DAYS[0], None, "2026-01-01T10:00:00Z/2026-01-03T00:00:00Z"),
        (None, None, DAYS[1], "../2026-01-02T10:00:00Z"),
    ],
)
def test_a_search_between_two_days_lies_within_its_own_interval(
    mine: str | None, first: datetime | None, last: datetime | None, both: str
) -> None:
    asked = Search.parse("https://api.example/search?collections=a" + (f"&datetime={mine}" if mine else ""))
    assert dict(asked.between(first, last).parameters)["datetime"] == both


def test_a_next_page_on_another_host_is_not_asked_for(api: StacApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", "7")
    with stac_api(api.items) as other:
        api.next_host = other.host
        with pytest.raises(ConfigError, match="leads to another host"):
            search(api.search(collections="a"))
        assert not other.asked


def test_a_host_inside_that_nobody_listed_is_not_asked(api: StacApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EARTHLOOM_HTTP_HOSTS")
    with pytest.raises(EarthloomError, match="EARTHLOOM_HTTP_HOSTS"):
        search(api.search(collections="a"))
    assert not api.asked


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://api.example/search?collection=a", "no parameter 'collection'"),
        ("https://api.example/search?token=abc", "no parameter 'token'"),
        ("https://api.example/search?datetime=yesterday", "not a date"),
        ("https://api.example/search?datetime=../..", "no interval"),
        ("https://api.example/search?ids=a&ids=b", "given twice"),
    ],
)
def test_a_search_that_is_none_is_refused_before_anybody_is_asked(text: str, says: str) -> None:
    assert is_search(text)
    with pytest.raises(ConfigError, match=says):
        search(text)


def test_a_search_without_an_answer_says_what_to_do(api: StacApi) -> None:
    with pytest.raises(NoSceneError, match="finds no item"):
        search(api.search(collections="none"))
    api.items[0] = {"type": "nonsense"} | {"collection": "a", "properties": api.items[0]["properties"], "id": "s00"}
    assert "not a STAC item" in search(api.search(collections="a"))[0].problem
    assert not is_search("https://api.example/v1/search")


def test_too_much_is_not_read(api: StacApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 100)
    with pytest.raises(StorageError, match="more than 100 bytes"):
        search(api.search(collections="a"))
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 2**20)
    monkeypatch.setattr(module, "MAX_DOCUMENTS", 10)
    with pytest.raises(ConfigError, match="more than 10 items"):
        search(api.search(collections="a"))


@pytest.mark.parametrize(("matched", "told"), [(40, True), (1, False), (None, False)])
def test_pages_that_end_before_all_was_given_are_told(
    api: StacApi, monkeypatch: pytest.MonkeyPatch, matched: int | None, told: bool
) -> None:
    pages = module._pages

    def counted(asked: Search) -> Iterator[Mapping[str, Any]]:
        return ({**page, "numberMatched": matched} for page in pages(asked))

    monkeypatch.setattr(module, "_pages", counted)
    (only,) = search(api.search(collections="b"))
    assert (
        any("gave 1 of the 40 items that the search found; its pages end early" in note for note in only.notes) == told
    )
