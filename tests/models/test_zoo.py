from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from earthloom.models import zoo
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE, write_card
from earthloom.models.zoo.entry import ZooEntry
from earthloom.models.zoo.landwater import LANDWATER
from earthloom.tiling.errors import CardError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from tests.models.nets import copy_landwater


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the real landwater in a cache of its own."""
    copy_landwater(tmp_path, monkeypatch)
    return tmp_path


def test_models_that_came_with_an_image_are_found_where_nothing_can_be_written(
    filled: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARTHLOOM_MODELS", str(filled / "models"))
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("EARTHLOOM_CACHE", str(scratch))
    assert [Path(ref.path).parent for _, ref in zoo.variants("landwater")] == [filled / "models"] * 2
    monkeypatch.delenv("EARTHLOOM_MODELS")
    assert zoo.folder_of(LANDWATER[0]).is_relative_to(scratch)


def no_downloads(*_: object, **__: object) -> Any:
    pytest.fail("it tried to download")


@pytest.mark.usefixtures("cache")
def test_water_index_works_without_being_added() -> None:
    assert [card.label for card, _ in zoo.variants("water-index")] == ["water-index-mndwi", "water-index-ndwi"]
    assert zoo.add("water-index") == []


@pytest.mark.usefixtures("cache")
def test_a_model_that_was_not_added_says_how_to() -> None:
    with pytest.raises(CardError, match="earthloom models add landwater"):
        zoo.variants("landwater")
    ready = {card.label: here for card, here in zoo.catalogue()}
    assert (ready["landwater-6b"], ready["sr-x2"], ready["water-index-ndwi"], ready["stretch"]) == (
        False,
        False,
        True,
        True,
    )


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("call", [zoo.variants, zoo.add])
def test_an_unknown_name_lists_the_known_ones(call: Any) -> None:
    with pytest.raises(CardError, match="the zoo has landwater, "):
        call("landwatr")


@pytest.mark.usefixtures("filled")
def test_variants_come_best_first_and_a_folder_is_its_own_variant() -> None:
    found = zoo.variants("landwater")
    assert [card for card, _ in found] == list(LANDWATER)
    assert zoo.variants(str(zoo.folder_of(LANDWATER[1]))) == [found[1]]


@pytest.mark.usefixtures("filled")
def test_adding_twice_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_downloads)
    assert zoo.add("landwater") == [zoo.folder_of(card) for card in LANDWATER]


@pytest.mark.usefixtures("filled")
def test_damage_in_the_cache_is_seen_and_a_foreign_card_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = zoo.folder_of(LANDWATER[0]) / weights.FILE
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(zoo, "download", lambda *_: (_ for _ in ()).throw(CardError("fetched again")))
    with pytest.raises(CardError, match="fetched again"):
        zoo.add("landwater")
    shutil.copy(zoo.folder_of(LANDWATER[1]) / FILE, path.parent / FILE)
    with pytest.raises(CardError, match="does not hold the zoo's landwater-6b"):
        zoo.variants("landwater")


@pytest.fixture
def other_release() -> ModelCard:
    """The card of `deforestation` in another release, which ships other weights for it."""
    ((card, _),) = zoo.variants("deforestation")
    ((other, _),) = zoo.variants("buildings")
    return dataclasses.replace(card, version="1.0.0", weights=other.weights)


def test_releases_that_share_a_cache_leave_each_other_alone(
    cache: Path, other_release: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inodes() -> set[int]:
        return {path.stat().st_ino for path in cache.rglob(weights.FILE)}

    ((card, ref),) = zoo.variants("deforestation")
    with monkeypatch.context() as patch:
        patch.setitem(zoo.ZOO, "deforestation", ZooEntry(cards=(other_release,)))
        ((theirs, place),) = zoo.variants("deforestation")
    assert (theirs, weights.sha256_of(place.path / weights.FILE)) == (other_release, other_release.weights)
    before = inodes()
    assert zoo.variants("deforestation") == [(card, ref)]
    assert weights.sha256_of(ref.path / weights.FILE) == card.weights
    assert inodes() == before, "nothing is written again"


def test_a_folder_of_an_older_name_counts_where_it_holds_the_card(cache: Path, other_release: ModelCard) -> None:
    ((card, ref),) = zoo.variants("deforestation")
    older = cache / "models" / card.label
    ref.path.rename(older)
    assert zoo.variants("deforestation") == [(card, ObjectRef.parse(str(older)))]
    ((_, buildings),) = zoo.variants("buildings")
    shutil.copy(buildings.path / weights.FILE, older)
    write_card(older, other_release)
    assert zoo.variants("deforestation") == [(card, ref)]
    assert weights.sha256_of(older / weights.FILE) == other_release.weights


@pytest.mark.usefixtures("cache")
def test_a_folder_that_is_mended_lacks_no_file_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    ((card, ref),) = zoo.variants("deforestation")
    names, steps = sorted(path.name for path in ref.path.iterdir()), 0

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            try:
                return function(*arguments, **options)
            finally:
                steps += 1
                assert sorted(path.name for path in ref.path.iterdir()) == names

        return call

    (ref.path / weights.FILE).write_bytes(b"damaged")
    for place, name in ((shutil, "rmtree"), (os, "replace"), (os, "rename")):
        monkeypatch.setattr(place, name, watched(getattr(place, name)))
    assert zoo.add("deforestation") == [ref.path]
    assert steps > 1
    assert weights.sha256_of(ref.path / weights.FILE) == card.weights


def test_a_wheel_with_other_bytes_is_not_unpacked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("--dest") + 1], "ukis_csmask-0.2.1-py3-none-any.whl").write_bytes(b"PK")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(CardError, match="nothing was unpacked"):
        zoo.add("landwater")
    assert not list(cache.rglob("*"))


def test_a_cache_that_cannot_be_written_is_an_error_with_a_remedy(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zoo, "download", refuse)
    with pytest.raises(StorageError, match=f"{cache}: Permission denied; set EARTHLOOM_CACHE"):
        zoo.add("landwater")


@pytest.mark.usefixtures("cache")
def test_a_failed_download_gives_pips_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(CardError, match="ERROR: No matching distribution"):
        zoo.add("landwater")


@pytest.mark.parametrize("card", [card for card, _ in zoo.catalogue()], ids=lambda card: card.label)
def test_every_card_of_the_zoo_can_be_planned_and_told_apart(card: ModelCard) -> None:
    assert len({c.color for c in card.classes}) == len(card.classes)
    assert card.halo_px is not None
    assert card.halo_px % card.stride_px == 0
    assert card.overlap == "blend" or card.support_px is not None
    assert card.memory, "a plan would count its chips as nothing"
    assert card.flop_per_px is not None
    assert card.license
    assert card.citation
    if card.outputs:
        assert card.support_px is not None
        assert card.halo_px >= card.support_px, "an image has no tolerance for seams"
