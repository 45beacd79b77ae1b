"""Seven classes of land cover around Raleigh: the recipe `land-cover` against a random forest on each pixel's bands.

The east of the scene is held back. GRASS sample data of North Carolina: a Landsat 7 scene of 2000 and a map of 1996.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from numpy.typing import NDArray

from earthloom.models.training.score import confusion, iou
from tests.bench.recipe import accuracy, confusion_of, laid_out
from tests.bench.scores import Score

_N_CLASSES = 7
_WEST_PX, _EAST_PX = 300, 332  # columns: what is trained on ends, what judges begins, `gap_px` of the recipe apart
_LEAST_PX = 5  # of a leaf: with fewer the trees learn single pixels by heart


def scores() -> list[Score]:
    """Accuracy and mean IoU on the east.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    with TemporaryDirectory(prefix="earthloom-score-") as place:
        file = laid_out("land-cover", Path(place))
        theirs = _forest(file.parent)
        ours = confusion_of(file)
    assert ours.sum() == theirs.sum(), "both are judged by the same pixels"
    data = f"North Carolina, {ours.sum()} px of the east held back"
    return [
        Score(
            task="land-cover", data=data, method="recipe land-cover, trained here", metric=metric, value=judge(ours),
            baseline=judge(theirs),
        )
        for metric, judge in (("accuracy", accuracy), ("mean IoU of the classes there", _mean_iou))
    ]  # fmt: skip


def _mean_iou(counts: NDArray[np.int64]) -> float:
    """Of the classes that are there; one that was only found lowers the others."""
    return float(np.mean([iou(counts, value) for value in range(_N_CLASSES) if counts[value].any()]))


def _forest(folder: Path) -> NDArray[np.int64]:
    """The confusion of 100 trees."""
    from sklearn.ensemble import RandomForestClassifier

    with rasterio.open(folder / "landsat7.tif") as scene, rasterio.open(folder / "land-cover.tif") as labels:
        bands, truth = scene.read(), labels.read(1)
        known = (bands != scene.nodata).all(axis=0) & (truth != labels.nodata)
    west, east = known.copy(), known.copy()
    west[:, _WEST_PX:], east[:, :_EAST_PX] = False, False
    trees = RandomForestClassifier(100, min_samples_leaf=_LEAST_PX, random_state=0).fit(bands[:, west].T, truth[west])
    return confusion(
        (trees.predict(bands[:, east].T) - 1).astype(np.uint8), (truth[east] - 1).astype(np.uint8), _N_CLASSES
    )
