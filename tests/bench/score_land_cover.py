"""Seven classes of land cover around Raleigh: the recipe `land-cover` against a random forest on each pixel's bands.

The east of the scene is held back. GRASS sample data of North Carolina: a Landsat 7 scene of 2000 and a map of 1996.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio

from earthloom.models.training.score import confusion, mean_iou
from tests.bench.recipe import accuracy, confusion_of, laid_out
from tests.bench.scores import Score

_N_CLASSES = 7
_WEST_PX, _EAST_PX = 300, 333  # columns: what is trained on ends, what judges begins, `gap_px` of the recipe apart


def scores() -> list[Score]:
    """Accuracy and mean IoU on the east.

    Raises:
        FileNotFoundError: naming the data that is absent.
    """
    with TemporaryDirectory(prefix="earthloom-score-") as place:
        file = laid_out("land-cover", Path(place))
        theirs = _forest(file.parent)
        ours = confusion_of(file)
    data = f"North Carolina, {ours.sum()} px of the east held back"
    return [
        Score(
            task="land-cover", data=data, method="recipe land-cover, trained here", metric=metric, value=judge(ours),
            baseline=judge(theirs),
        )
        for metric, judge in (("accuracy", accuracy), ("mean IoU of the classes there", mean_iou))
    ]  # fmt: skip


def _forest(folder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The confusion of 100 trees."""
    from sklearn.ensemble import RandomForestClassifier

    with rasterio.open(folder / "landsat7.tif") as scene, rasterio.open(folder / "land-cover.tif") as labels:
        bands, truth = scene.read(), labels.read(1)
        known = (scene.dataset_mask() > 0) & (labels.dataset_mask() > 0) & (truth > 0) & (truth <= _N_CLASSES)
    west, east = known.copy(), known.copy()
    west[:, _WEST_PX:], east[:, :_EAST_PX] = False, False
    trees = RandomForestClassifier(100, random_state=0).fit(bands[:, west].T, truth[west])
    return confusion(
        (trees.predict(bands[:, east].T) - 1).astype(np.uint8), (truth[east] - 1).astype(np.uint8), _N_CLASSES
    )
