"""Labels of chips of 320 m around two ports: the recipe `scene-class` against logistic regression on ten numbers of a chip.

Durban and Port Hedland are held back. Labels are rectangles of plain ground that were drawn by hand in the pictures, so
neither says anything of mixed ground.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize

from earthloom.models.training.score import confusion
from tests.bench.recipe import accuracy, confusion_of, f1
from tests.bench.scores import Score
from tests.scenes import DATA

_RECIPES = Path(__file__).resolve().parents[2] / "infra" / "recipes"
_CLASSES = ("water", "built-up", "vegetation")
_HELD_BACK = ("durban", "hedland")
_SIDE_PX, _COVER = 32, 0.9  # as the recipe has them


def scores() -> list[Score]:
    """Accuracy, and F1 of each class.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    ports = sorted(path for path in (DATA / "ships_s2").glob("*.tif") if not path.stem.endswith("_shipmask"))
    if not ports:
        raise FileNotFoundError(f"{DATA / 'ships_s2'} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    with TemporaryDirectory(prefix="earthloom-score-") as place:
        folder = Path(place)
        for name in ("scene-class.toml", "scene-class.geojson"):
            shutil.copyfile(_RECIPES / name, folder / name)
        (folder / "images").mkdir()
        for port in ports:
            (folder / "images" / port.name).symlink_to(port.resolve())
        theirs = _logistic(ports)
        ours = confusion_of(folder / "scene-class.toml")
    data = f"{ours.sum()} chips of plain ground around {' and '.join(_HELD_BACK)}, held back"
    found = [("accuracy", accuracy(ours), accuracy(theirs))]
    found += [(f"F1 of {name}", f1(ours, value), f1(theirs, value)) for value, name in enumerate(_CLASSES)]
    return [
        Score(
            task="scene-class", data=data, method="recipe scene-class, trained here", metric=metric, value=value,
            baseline=baseline,
        )
        for metric, value, baseline in found
    ]  # fmt: skip


def _logistic(ports: list[Path]) -> NDArray[np.int64]:
    """Its confusion on the ports held back."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    some = {port.stem: _chips(port) for port in ports}
    taught = [chips for name, chips in some.items() if name not in _HELD_BACK]
    asked = [some[name] for name in _HELD_BACK]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(np.concatenate([numbers for numbers, _ in taught]), np.concatenate([truth for _, truth in taught]))
    numbers, truth = (np.concatenate(parts) for parts in zip(*asked, strict=True))
    return confusion(model.predict(numbers).astype(np.uint8), truth, len(_CLASSES))


def _chips(port: Path) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """(n, 10) mean and deviation of each band of the chips of which one class covers enough, and that class."""
    from geopandas import GeoDataFrame

    with rasterio.open(port) as dataset:
        bands = dataset.read().astype(np.float64)
        features = json.loads((_RECIPES / "scene-class.geojson").read_bytes())["features"]
        drawn = GeoDataFrame.from_features(features, crs="OGC:CRS84").to_crs(dataset.crs)
        pairs = [(shape, _CLASSES.index(name)) for shape, name in zip(drawn.geometry, drawn["class"], strict=True)]
        labels = rasterize(pairs, out_shape=dataset.shape, transform=dataset.transform, fill=255, dtype="uint8")
    height, width = (side // _SIDE_PX for side in labels.shape)
    cut = labels[: height * _SIDE_PX, : width * _SIDE_PX].reshape(height, _SIDE_PX, width, _SIDE_PX)
    shares = np.stack([(cut == value).mean(axis=(1, 3)) for value in range(len(_CLASSES))])
    grid = bands[:, : height * _SIDE_PX, : width * _SIDE_PX].reshape(len(bands), height, _SIDE_PX, width, _SIDE_PX)
    numbers = np.concatenate([grid.mean(axis=(2, 4)), grid.std(axis=(2, 4))])
    clear = shares.max(axis=0) >= _COVER
    return numbers[:, clear].T, shares.argmax(axis=0)[clear].astype(np.uint8)
