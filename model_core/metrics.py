"""Metrics of whole splits, as pure functions on NumPy arrays. Each states its convention for the undefined case.

Conventions follow the ABAW challenge: concordance and F1 are pooled over all samples, and macro F1 is the mean over the
given classes. A measure of no samples is NaN, and so is one of values that are not finite.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


def _undefined(*arrays: Floats | Ints | NDArray[np.bool_]) -> bool:
    """Return whether there is nothing to measure: an array without entries, or with one that is not finite."""
    return any(not array.size or not np.isfinite(array).all() for array in arrays)


def ccc(estimate: Floats, target: Floats) -> float:
    """Return Lin's concordance of two arrays [N], 2 cov / (var + var + (mean - mean)^2), with population moments.

    Source: Lin, Biometrics 1989. Two equal constants agree perfectly: 1.
    """
    if _undefined(estimate, target):
        return float("nan")
    mean_e = estimate.mean()
    mean_t = target.mean()
    covariance = ((estimate - mean_e) * (target - mean_t)).mean()
    denominator = estimate.var() + target.var() + (mean_e - mean_t) ** 2
    return float(2 * covariance / denominator) if denominator > 0 else 1.0


def pearson(estimate: Floats, target: Floats) -> float:
    """Return Pearson's correlation of two arrays [N]; NaN if one of them is constant."""
    if _undefined(estimate, target):
        return float("nan")
    spread = float(estimate.std() * target.std())
    # By rounding, the standard deviation of some constants is tiny but not zero.
    if spread == 0 or np.ptp(estimate) == 0 or np.ptp(target) == 0:
        return float("nan")
    return float(((estimate - estimate.mean()) * (target - target.mean())).mean() / spread)


def accuracy(predicted: Ints, actual: Ints) -> float:
    """Return the share of equal entries of two arrays [N]; an entry without a prediction is -1 and counts as wrong."""
    return float((predicted == actual).mean()) if predicted.size else float("nan")


def binary_f1(
    predicted: NDArray[np.bool_], actual: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> float:
    """Return the F1 of the positive class for two arrays [N]; 0 if neither has a positive. `weights` are positive."""
    if _undefined(predicted, actual):
        return float("nan")
    unit = np.ones(len(actual)) if weights is None else weights
    true_positives = float(unit @ (predicted & actual))
    total = float(unit @ predicted + unit @ actual)
    return 2 * true_positives / total if total else 0.0


def macro_f1(predicted: Ints, actual: Ints, classes: Sequence[int]) -> float:
    """Return the mean F1 over `classes`, for labels [N].

    Every sample takes part, whatever its class. A class that is neither present nor predicted has an F1 of 0.
    """
    return float(np.mean([binary_f1(predicted == c, actual == c) for c in classes]))


def auroc(scores: Floats, actual: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve for scores [N]: the probability that a positive scores above a negative.

    Ties count half. Without positives, or without negatives, it is NaN.
    """
    positives = int(actual.sum())
    negatives = len(actual) - positives
    if not positives or not negatives or _undefined(scores):
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts)
    ranks = (upper - (counts - 1) / 2)[inverse]
    return float((ranks[actual].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def brier(probability: Floats, outcome: Floats) -> float:
    """Return the mean squared difference of probabilities and outcomes, both [N] in [0, 1]."""
    if _undefined(probability, outcome):
        return float("nan")
    return float(((probability - outcome) ** 2).mean())


def ece(confidence: Floats, correct: Floats, bins: int = 15) -> float:
    """Return the expected calibration error of confidences [N] in [0, 1] against outcomes [N] in {0, 1}.

    It is |mean confidence - mean outcome| in equal-width bins of [0, 1], weighted by the bins' counts.
    """
    if _undefined(confidence, correct):
        return float("nan")
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(index, confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def top_label_ece(probabilities: Floats, actual: Ints) -> float:
    """Return the `ece` of the most probable label, for probabilities [N, C] and labels [N]."""
    if _undefined(probabilities):
        return float("nan")
    return ece(probabilities.max(axis=1), (probabilities.argmax(axis=1) == actual).astype(np.float64))


def reliability(confidence: Floats, correct: Floats, bins: int = 15) -> tuple[Floats, Floats, Ints]:
    """Return the mean confidence, the mean outcome and the count of each bin of `ece`, each [bins].

    The means of an empty bin are NaN. Samples that are not finite lie in no bin.
    """
    finite = np.isfinite(confidence) & np.isfinite(correct)
    confidence = confidence[finite]
    correct = correct[finite]
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    sums = (np.bincount(index, values, minlength=bins) for values in (confidence, correct))
    mean_confidence, mean_outcome = (np.where(count > 0, total / np.maximum(count, 1), np.nan) for total in sums)
    return mean_confidence, mean_outcome, count


def best_threshold(
    probability: Floats,
    actual: NDArray[np.bool_],
    min_positives: int = 10,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Return the threshold t for which `probability >= t` has the highest F1, for probabilities [N] and labels [N].

    Every distinct score is a candidate, and t lies half-way to the next lower score. With fewer than `min_positives`
    positives the search would fit noise, and t is 0.5. `weights`, positive, [N], are those of the samples.
    """
    if _undefined(probability):
        return float("nan")
    if int(actual.sum()) < min_positives:
        return 0.5
    order = np.argsort(-probability, kind="stable")
    scores = probability[order]
    ordered = np.ones(len(scores)) if weights is None else weights[order]
    hits = np.cumsum(ordered * actual[order])
    f1 = 2 * hits / (np.cumsum(ordered) + hits[-1])
    # A threshold can only fall between two different scores.
    f1[:-1][scores[:-1] == scores[1:]] = -1
    best = int(f1.argmax())
    lower = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float((scores[best] + lower) / 2)
