"""Scores of a class map from counts alone: a confusion matrix, and how often the map was right at each confidence.

Everything is a pure function of integers that were added up, so the order of adding changes nothing. In a confusion
matrix the row is the class of the label and the column that of the map. Knows nothing of pixels or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.encoding import CONFIDENCE_STEPS
from earthloom.tiling.errors import ConfigError

Z_95 = 1.959963984540054
"""Half-width of a 95 % interval of a normal distribution, in standard errors."""

_BOOTSTRAP_ROWS = 256  # resamples at once


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """Scores of each class; arrays are (K,) float64, 0 where the denominator is 0.

    Attributes:
        precision: correct pixels of all that the map gives the class; also called user's accuracy.
        recall: correct pixels of all with that label; also called producer's accuracy.
        f1: harmonic mean of both; equal to the Dice coefficient.
        iou: intersection over union (Jaccard index).
        support: (K,) int64, pixels with that label.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    iou: NDArray[np.float64]
    support: NDArray[np.int64]


def class_scores(confusion: NDArray[np.int64]) -> ClassScores:
    """Precision, recall, F1, IoU and support of every class.

    Args:
        confusion: (K, K) pixels by class of the label (row) and of the map (column).
    """
    hits = np.diag(confusion)
    labelled, mapped = confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        precision=_share(hits, mapped), recall=_share(hits, labelled), f1=_share(2 * hits, labelled + mapped),
        iou=_share(hits, labelled + mapped - hits), support=labelled,
    )  # fmt: skip


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def averages(confusion: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and IoU over all classes: `micro` (from all pixels), `macro` (each class alike), `weighted`
    (by support). Where every pixel has one label and one mapped class, micro precision, recall and F1 are the accuracy.
    """
    scores = class_scores(confusion)
    hits, total = int(np.diag(confusion).sum()), int(confusion.sum())
    micro = hits / total if total else 0.0
    found = {"micro": dict.fromkeys(("precision", "recall", "f1"), micro)}
    found["micro"]["iou"] = hits / (2 * total - hits) if total else 0.0
    there = (confusion.sum(axis=0) + confusion.sum(axis=1) > 0).astype(np.float64)
    for name, weights in (("macro", np.ones(len(confusion))), ("weighted", scores.support.astype(np.float64))):
        found[name] = {
            score: _mean(getattr(scores, score), there if (name, score) == ("macro", "iou") else weights)
            for score in ("precision", "recall", "f1", "iou")
        }
    return found


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() else 0.0


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of pixels whose mapped class is that of the label; 0 of no pixels."""
    total = int(confusion.sum())
    return int(np.diag(confusion).sum()) / total if total else 0.0


def kappa(confusion: NDArray[np.int64]) -> float:
    """Cohen's kappa (Cohen 1960): (p_o - p_e) / (1 - p_e), agreement beyond that of independent maps; 1 where p_e is 1."""
    total = float(confusion.sum())
    if not total:
        return 0.0
    expected = float((confusion.sum(axis=0) / total) @ (confusion.sum(axis=1) / total))
    return (accuracy(confusion) - expected) / (1 - expected) if expected < 1 else 1.0


def text_report(confusion: NDArray[np.int64], names: Sequence[str], digits: int = 2) -> str:
    """The table that `sklearn.metrics.classification_report` prints for the same pixels, to the digit.

    Args:
        confusion: (K, K), labels by row.
        names: names of the K classes.
        digits: after the decimal point.
    """
    scores, means = class_scores(confusion), averages(confusion)
    width = max(*(len(name) for name in names), len("weighted avg"), digits)
    total = int(confusion.sum())

    def row(name: str, values: Sequence[float], support: int) -> str:
        return f"{name:>{width}s} " + "".join(f" {value:>9.{digits}f}" for value in values) + f" {support:>9}\n"

    text = f"{'':>{width}s} " + "".join(f" {head:>9}" for head in ("precision", "recall", "f1-score", "support"))
    text += "\n\n"
    for number, name in enumerate(names):
        values = [float(column[number]) for column in (scores.precision, scores.recall, scores.f1)]
        text += row(name, values, int(scores.support[number]))
    text += f"\n{'accuracy':>{width}s} " + f" {'':>9}" * 2 + f" {accuracy(confusion):>9.{digits}f} {total:>9}\n"
    for name in ("macro", "weighted"):
        text += row(f"{name} avg", [means[name][score] for score in ("precision", "recall", "f1")], total)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The map's confidence against how often it is right.

    Attributes:
        pixels: (bins,) int64, how many pixels have a confidence in each of equally wide bins, (low, high].
        confidence: (bins,) their mean confidence; NaN in an empty bin.
        accuracy: (bins,) the share of them that are right; NaN in an empty bin.
        ece: expected calibration error, sum of |accuracy - confidence| weighted by pixels (Naeini et al. 2015,
            Guo et al. 2017).
        mce: the largest |accuracy - confidence| of a bin.
        nll: mean negative log-likelihood of being right, in nats.
        temperature: T that makes sigmoid(logit(confidence) / T) most likely; above 1: the map is over-confident.
        nll_at_temperature: `nll` of those.
    """

    pixels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    ece: float
    mce: float
    nll: float
    temperature: float
    nll_at_temperature: float


def calibrate(histogram: NDArray[np.int64], n_bins: int = 15) -> Calibration | None:
    """Calibration from how many pixels were wrong and right at each stored confidence; None of no pixels.

    Args:
        histogram: (251, 2) int64, pixels by stored confidence (steps of 1/250) and by whether they are right.
        n_bins: number of bins of the reliability curve and the ECE.

    The temperature is that of temperature scaling (Guo et al. 2017) where there are two classes, because the probability
    of the chosen one then determines both logits. Of more classes it is that of the chosen class against all others.
    """
    steps = np.arange(CONFIDENCE_STEPS + 1)
    total = int(histogram.sum())
    if not total:
        return None
    bins = np.maximum((steps * n_bins + CONFIDENCE_STEPS - 1) // CONFIDENCE_STEPS - 1, 0)  # exact: (low, high]
    each = histogram.sum(axis=1)
    pixels = np.bincount(bins, each, n_bins).astype(np.int64)
    summed = np.bincount(bins, each * steps, n_bins).astype(np.int64)
    right = np.bincount(bins, histogram[:, 1], n_bins).astype(np.int64)
    with np.errstate(invalid="ignore"):
        confidence, share = summed / CONFIDENCE_STEPS / pixels, right / pixels
    gap = np.nan_to_num(np.abs(share - confidence))
    temperature = _best_temperature(histogram)
    return Calibration(
        pixels=pixels, confidence=confidence, accuracy=share, ece=float((gap * pixels).sum() / total),
        mce=float(gap.max()), nll=_nll(histogram, 1.0), temperature=temperature,
        nll_at_temperature=_nll(histogram, temperature),
    )  # fmt: skip


def _nll(histogram: NDArray[np.int64], temperature: float) -> float:
    # 0 and 1 are rounded values: half a step towards the middle, so that one wrong pixel does not make it infinite
    p = np.clip(np.arange(CONFIDENCE_STEPS + 1), 0.5, CONFIDENCE_STEPS - 0.5) / CONFIDENCE_STEPS
    z = np.log(p / (1 - p)) / temperature
    losses = histogram[:, 1] * np.logaddexp(0, -z) + histogram[:, 0] * np.logaddexp(0, z)
    return float(losses.sum() / histogram.sum())


def _best_temperature(histogram: NDArray[np.int64]) -> float:
    """The best temperature, by golden-section search; the likelihood is convex in 1 / T."""
    low, high = 1 / 50, 50.0
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(120):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _nll(histogram, 1 / left) <= _nll(histogram, 1 / right):
            high = right
        else:
            low = left
    return float(2 / (low + high))


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaEstimates:
    """Areas of classes as a sample of labels says that they are, whatever the map says; arrays are (K,) float64.

    Attributes:
        mapped_m2: of the map.
        area_m2, area_se_m2: estimate and its standard error; the 95 % interval is ±1.96 standard errors.
        users, users_se: user's accuracy (precision).
        producers, producers_se: producer's accuracy (recall), weighted by mapped area.
        overall, overall_se: overall accuracy, weighted by mapped area.
    """

    mapped_m2: NDArray[np.float64]
    area_m2: NDArray[np.float64]
    area_se_m2: NDArray[np.float64]
    users: NDArray[np.float64]
    users_se: NDArray[np.float64]
    producers: NDArray[np.float64]
    producers_se: NDArray[np.float64]
    overall: float
    overall_se: float


def area_estimates(confusion: NDArray[np.int64], mapped_m2: NDArray[np.float64]) -> AreaEstimates | None:
    """The stratified estimator of Olofsson et al. (2014), Remote Sensing of Environment 148, 42-57, eqs 1 to 12.

    The strata are the classes of the map: W_i = mapped area of class i by that of all; n_ij sampled pixels that the map
    gives class i and the label class j. Then p_ij = W_i n_ij / n_i, the area of class j is A sum_i p_ij, and

        S(p_j)^2 = sum_i W_i^2 (n_ij / n_i) (1 - n_ij / n_i) / (n_i - 1)          (eq. 10)
        V(O)     = sum_i W_i^2 U_i (1 - U_i) / (n_i - 1)                          (eq. 5)
        V(U_i)   = U_i (1 - U_i) / (n_i - 1)                                      (eq. 6)
        V(P_j)   = [N_j^2 (1 - P_j)^2 U_j (1 - U_j) / (n_j - 1)
                    + P_j^2 sum_(i != j) N_i^2 (n_ij / n_i) (1 - n_ij / n_i) / (n_i - 1)] / N_.j^2   (eq. 7)

    with N_i the mapped area and N_.j the estimated one. It holds for labels that were drawn at random within each class
    of the map and independently of each other; neighbouring pixels are not independent.

    Args:
        confusion: (K, K), labels by row, as everywhere in this module.
        mapped_m2: (K,) area of each class in the whole map.

    Returns:
        None where a class that is mapped has fewer than two labelled pixels: its variance is unknown.

    Raises:
        ConfigError: if the lengths differ.
    """
    if np.shape(mapped_m2) != confusion.shape[:1]:
        raise ConfigError(f"{len(confusion)} classes are scored and {len(mapped_m2)} areas given; give one per class")
    n = confusion.T.astype(np.float64)  # by row what the map says
    n_i, total = n.sum(axis=1), float(mapped_m2.sum())
    there = mapped_m2 > 0
    if not total or (n_i[there] < 2).any():
        return None
    n, n_i, N = np.where(there[:, None], n, 0), np.where(there, n_i, 2), np.where(there, mapped_m2, 0)
    W, share = N / total, n / n_i[:, None]
    spread = share * (1 - share) / (n_i[:, None] - 1)
    p = W @ share
    users = np.diag(share).copy()
    v_users = np.diag(spread).copy()
    N_j = p * total
    producers = np.divide(N * users, N_j, out=np.zeros(len(p)), where=N_j > 0)
    others = (N**2) @ spread - N**2 * v_users
    v_producers = np.divide(
        N**2 * (1 - producers) ** 2 * v_users + producers**2 * others, N_j**2, out=np.zeros(len(p)), where=N_j > 0
    )
    return AreaEstimates(
        mapped_m2=mapped_m2, area_m2=N_j, area_se_m2=total * np.sqrt((W**2) @ spread), users=users,
        users_se=np.sqrt(v_users), producers=producers, producers_se=np.sqrt(v_producers), overall=float(W @ users),
        overall_se=float(np.sqrt((W**2) @ v_users)),
    )  # fmt: skip


def bootstrap(
    blocks: NDArray[np.int64], *, resamples: int = 1000, seed: int = 0
) -> dict[str, NDArray[np.float64]] | None:
    """95 % intervals of scores by resampling whole blocks, because neighbouring pixels are wrong together.

    Args:
        blocks: (B, K, K) confusion matrix of each block with labels.
        resamples: sets of B blocks that are drawn with replacement.
        seed: seed of the drawing.

    Returns:
        By score, `iou` and `f1` (K, 2), `accuracy` and `mean_iou` (2,): lower and upper end, percentiles 2.5 and 97.5 of
        the sets that show the class. None of fewer than ten blocks, of which an interval would say nothing.
    """
    B, K = blocks.shape[:2]
    if B < 10:
        return None
    rng = np.random.default_rng(seed)
    flat = blocks.reshape(B, K * K).astype(np.float64)
    parts = []
    for start in range(0, resamples, _BOOTSTRAP_ROWS):
        rows = min(_BOOTSTRAP_ROWS, resamples - start)
        parts.append((rng.multinomial(B, np.full(B, 1 / B), rows) @ flat).reshape(rows, K, K))
    drawn = np.concatenate(parts)
    hits, labelled, mapped = np.einsum("bkk->bk", drawn), drawn.sum(axis=2), drawn.sum(axis=1)
    with np.errstate(invalid="ignore"):
        iou, f1 = hits / (labelled + mapped - hits), 2 * hits / (labelled + mapped)
    return {
        "iou": _ends(iou), "f1": _ends(f1), "mean_iou": _ends(np.nanmean(iou, axis=1, keepdims=True))[0],
        "accuracy": _ends(hits.sum(axis=1, keepdims=True) / drawn.sum(axis=(1, 2))[:, None])[0],
    }  # fmt: skip


def _ends(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) percentiles 2.5 and 97.5 of the numbers in each column (sets, n); 0 where there is none."""
    columns = (column[~np.isnan(column)] for column in values.T)
    return np.array([np.percentile(column, (2.5, 97.5)) if len(column) else (0.0, 0.0) for column in columns])
