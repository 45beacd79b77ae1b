"""The page about an area tells its alerts, in a table and on its map."""

from __future__ import annotations

import base64
import io
import re
from html import escape
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from earthloom.jobs.analysis.extract import extract
from earthloom.jobs.analysis.report import area_report, gained_m2, transitions_m2
from earthloom.jobs.products.areas import area_text, area_unit
from earthloom.models.zoo import variants
from earthloom.tiling.grid import pixel_areas_m2
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.integration import test_alerts as lake
from tests.jobs.monitoring.test_zonal import CLASSES, STORE, UTM, a_map


def shown(page: str) -> NDArray[np.uint8]:
    """The page's first picture, (rows, columns, 3)."""
    data = re.findall(r"data:image/png;base64,([^\"]+)", page)[0]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("report")
    lake.write(base / "in", 0)
    assert lake.go(base).exit_code == 0
    return base


def test_alerts_are_listed_with_their_areas_and_outlined(folder: Path) -> None:
    store, vermilion = open_store(ObjectRef.parse(str(folder / "out"))), (213, 94, 0)
    before = area_report(store, "water-index", "lake")
    assert "<h2>Alerts</h2>" not in before
    assert not (shown(before) == vermilion).all(axis=2).any()
    for number in range(1, len(lake.DATES)):
        lake.write(folder / "in", number)
    lake.go(folder)
    after = area_report(store, "water-index", "lake")
    (file,) = [path for path in folder.rglob("alerts.parquet") if lake.DATES[-1] in path.parent.name]
    alerts = gpd.read_parquet(file)
    assert "<p>2 confirmed.</p>" in after
    assert f"since {lake.DATES[0]}, where both are known" in after
    for area_m2 in alerts.loc[alerts["state"] == "confirmed", "area_m2"]:
        assert f"<td>{area_text(area_m2, area_unit(alerts['area_m2'].max()))}</td>" in after
    assert after.count(f"<td>flooded</td><td>land → water</td><td>confirmed</td><td>{lake.DATES[1]}</td>") == 2
    assert (shown(after) == vermilion).all(axis=2).sum() > 300


@pytest.mark.parametrize(("rule", "told"), [("min_area_m2 = 900_000", "<p>1 confirmed.</p>"), (None, None)])
def test_alerts_of_a_rule_that_was_changed_or_removed_are_not_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, rule: str | None, told: str | None
) -> None:
    for number in range(len(lake.DATES)):
        lake.write(folder / "in", number)
    area, _, _ = lake.AREA.partition("[[product.alert]]")
    monkeypatch.setattr(lake, "AREA", lake.AREA.replace("min_area_m2 = 50_000", rule) if rule else area)
    assert lake.go(folder).exit_code == 0
    store = open_store(ObjectRef.parse(str(folder / "out")))
    page, collection = area_report(store, "water-index", "lake"), store.get("monitors/lake/collection.json").decode()
    assert ("<h2>Alerts</h2>" in page) == (told is not None)
    assert told is None or told in page
    assert collection.count("/alerts/") == (told is not None)


def test_the_page_says_by_which_model_the_maps_were_made(folder: Path) -> None:
    page = area_report(open_store(ObjectRef.parse(str(folder / "out"))), "water-index", "lake")
    (card,) = (card for card, _ in variants("water-index") if card.label == "water-index-mndwi")
    said = f"{card.label} {card.version}: {card.title}. ", f"Licence of the model: {card.license}. ", card.citation
    for text in said:
        assert escape(text) in page
    removals = (
        ("collections/*/water-index-*.json", f"{card.label}, whose card"),
        ("scenes/*/*/item.json", "was made of"),
    )
    for pattern, what in removals:
        for document in folder.glob(f"out/{pattern}"):
            document.unlink()  # as somebody may, and as `gc` would
        page = area_report(open_store(ObjectRef.parse(str(folder / "out"))), "water-index", "lake")
        assert what in page
        assert "no longer there" in page


def test_what_clouds_hide_on_one_date_is_no_change() -> None:
    first, last = (a_map(UTM, seed) for seed in (1, 2))
    last.values[:, UTM.width // 2 :] = 255
    became = transitions_m2(extract(STORE, first), extract(STORE, last))
    both = (first.values != 255) & (last.values != 255)
    areas = pixel_areas_m2(UTM, UTM.window)
    for entry in CLASSES:
        expected = areas[both & (last.values == entry.value)].sum() - areas[both & (first.values == entry.value)].sum()
        assert gained_m2(became)[entry.value] == pytest.approx(expected, abs=1e-3)
    assert abs(gained_m2(became).sum()) < 1e-3, "what one class gains another one loses"
