import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model_core.metrics import (
    accuracy,
    auroc,
    best_threshold,
    binary_f1,
    brier,
    ccc,
    ece,
    macro_f1,
    pearson,
    reliability,
    top_label_ece,
)

# Quarters and eighths: sums are exact, and ties are frequent.
shares = st.integers(0, 8).map(lambda eighths: eighths / 8)


def scored(size: int = 12) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Scores in [0, 1] with outcomes."""
    lengths = st.integers(1, size)
    return lengths.flatmap(lambda n: st.tuples(arrays(np.float64, n, elements=shares), arrays(np.bool_, n)))


def test_ccc_by_hand() -> None:
    # cov .5, variances 1 and .25, means 1 and .5: 2 * .5 / (1 + .25 + .25).
    assert ccc(np.array([0.0, 2.0]), np.array([0.0, 1.0])) == pytest.approx(2 / 3)
    assert ccc(np.array([1.0, -1.0]), np.array([-1.0, 1.0])) == pytest.approx(-1)
    assert ccc(np.array([0.0, 0.0]), np.array([0.0, 1.0])) == 0


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3])
def test_equal_constants_agree(value: float) -> None:
    assert ccc(np.full(7, value), np.full(7, value)) == pytest.approx(1)


@given(arrays(np.float64, (2, 6), elements=st.integers(-8, 8).map(float)))
def test_ccc_is_pearson_times_agreement_of_mean_and_spread(data: np.ndarray) -> None:
    x, y = data
    value = ccc(x, y)
    assert -1 - 1e-9 <= value <= 1 + 1e-9
    if x.std() > 0 and y.std() > 0:
        ratio, shift = x.std() / y.std(), (x.mean() - y.mean()) / math.sqrt(x.std() * y.std())
        bias = 2 / (ratio + 1 / ratio + shift**2)
        assert value == pytest.approx(np.corrcoef(x, y)[0, 1] * bias)
        assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 1 / 3])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_pearson_is_undefined_for_a_constant(value: float, size: int) -> None:
    constant, other = np.full(size, value), np.linspace(0, 1, size)
    assert math.isnan(pearson(constant, other))
    assert math.isnan(pearson(other, constant))
    assert math.isnan(pearson(constant.astype(np.float32), other))


def test_pearson_by_hand() -> None:
    assert pearson(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])) == pytest.approx(1)
    # Deviations (-1, 0, 1) and (0, 1, -1): -1 / sqrt(2 * 2).
    assert pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 0.0])) == pytest.approx(-0.5)


def test_accuracy_counts_a_missing_prediction_as_wrong() -> None:
    assert accuracy(np.array([0, -1, 2, 1]), np.array([0, 1, 2, 2])) == 0.5


def test_binary_f1_by_hand() -> None:
    # One hit, one false alarm, two misses: 2 / (2 + 3).
    predicted, actual = np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool)
    assert binary_f1(predicted, actual) == pytest.approx(2 * 1 / (2 + 3))
    assert binary_f1(np.zeros(3, bool), np.zeros(3, bool)) == 0
    assert binary_f1(np.ones(3, bool), np.ones(3, bool)) == 1


def test_macro_f1_by_hand() -> None:
    predicted, actual = np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1])
    # Class 0: 2 / (2 + 1); class 1: 2 / (1 + 3); class 2 is never seen: 0.
    assert macro_f1(predicted, actual, [0, 1, 2]) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    # A class left out still draws false alarms upon the others.
    assert macro_f1(predicted, actual, [0]) == pytest.approx(2 / 3)


def test_auroc_by_hand() -> None:
    # Of the four pairs of a positive and a negative: two won, one tied, one lost.
    scores, actual = np.array([0.9, 0.4, 0.4, 0.6]), np.array([1, 1, 0, 0], bool)
    assert auroc(scores, actual) == pytest.approx((1 + 1 + 0.5 + 0) / 4)


@given(scored())
def test_auroc_counts_the_pairs(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, actual = data
    pairs = [float(p > n) + 0.5 * float(p == n) for p in scores[actual] for n in scores[~actual]]
    assert auroc(scores, actual) == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True)


def test_brier_by_hand() -> None:
    assert brier(np.array([0.5, 1.0]), np.array([1.0, 1.0])) == pytest.approx(0.125)


def test_ece_by_hand() -> None:
    # Bins of 1/2: {.2, .4} with outcomes 0, 1: |.3 - .5|; {.9, 1.} with outcomes 1, 1: |.95 - 1|.
    confidence, correct = np.array([0.2, 0.4, 0.9, 1.0]), np.array([0.0, 1.0, 1.0, 1.0])
    assert ece(confidence, correct, bins=2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.05)


@given(scored())
def test_ece_against_its_definition(data: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, correct = data[0], data[1].astype(float)
    total = 0.0
    for i in range(15):
        inside = (confidence >= i / 15) & ((confidence < (i + 1) / 15) | (i == 14))
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    assert ece(confidence, correct) == pytest.approx(total)


def test_top_label_ece_by_hand() -> None:
    # Both answers are certain to 3/4, one is right.
    probabilities = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert top_label_ece(probabilities, np.array([0, 0])) == pytest.approx(0.75 - 0.5)


def test_reliability_by_hand() -> None:
    confidence, correct = np.array([0.2, 0.4, 1.0]), np.array([0.0, 1.0, 1.0])
    mean, share, count = reliability(confidence, correct, bins=3)
    np.testing.assert_allclose(mean, [0.2, 0.4, 1])
    np.testing.assert_allclose(share, [0, 1, 1])
    assert count.tolist() == [1, 1, 1]
    mean, share, count = reliability(confidence, correct, bins=2)
    np.testing.assert_allclose(mean, [0.3, 1])
    np.testing.assert_allclose(share, [0.5, 1])
    mean, share, count = reliability(np.array([0.1]), np.array([1.0]), bins=2)
    assert np.isnan([mean[1], share[1]]).all()
    assert count.tolist() == [1, 0]


@given(scored())
def test_reliability_holds_the_ece(data: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, correct = data[0], data[1].astype(float)
    mean, share, count = reliability(confidence, correct)
    assert np.nansum(np.abs(mean - share) * count) / len(correct) == pytest.approx(ece(confidence, correct))


def test_best_threshold_by_hand() -> None:
    probability, actual = np.array([0.9, 0.8, 0.6, 0.2]), np.array([1, 1, 0, 0], bool)
    assert best_threshold(probability, actual, min_positives=1) == pytest.approx((0.8 + 0.6) / 2)
    assert best_threshold(probability, ~actual, min_positives=1) == pytest.approx(0.2 / 2)


def test_best_threshold_needs_enough_positives() -> None:
    probability, actual = np.linspace(0, 1, 30), np.arange(30) >= 21
    assert best_threshold(probability, actual, min_positives=10) == 0.5
    assert best_threshold(probability, actual, min_positives=9) != 0.5
    assert best_threshold(probability, np.zeros(30, bool)) == 0.5


@given(scored())
def test_no_threshold_beats_the_best(data: tuple[np.ndarray, np.ndarray]) -> None:
    probability, actual = data
    chosen = best_threshold(probability, actual, min_positives=1)
    assert 0 <= chosen <= 1
    if actual.any():
        every = [binary_f1(probability >= t, actual) for t in np.unique(probability)]
        assert binary_f1(probability >= chosen, actual) == pytest.approx(max(every))


TRUTH = np.array([True, False, True, False])
SCORES = np.array([0.75, 0.5, 0.25, 0.5])
OF_SCORES = {
    "ccc": lambda scores: ccc(scores, TRUTH.astype(np.float64)),
    "ccc of the target": lambda scores: ccc(TRUTH[: len(scores)].astype(np.float64), scores),
    "pearson": lambda scores: pearson(scores, TRUTH.astype(np.float64)),
    "auroc": lambda scores: auroc(scores, TRUTH),
    "brier": lambda scores: brier(scores, TRUTH.astype(np.float64)),
    "ece": lambda scores: ece(scores, TRUTH.astype(np.float64)),
    "top label ece": lambda scores: top_label_ece(np.stack([scores, 1 - scores], axis=1), TRUTH.astype(np.int64)),
    "threshold": lambda scores: best_threshold(scores, TRUTH, 1),
    "threshold with few positives": lambda scores: best_threshold(scores, TRUTH, 100),
}


@pytest.mark.parametrize("name", OF_SCORES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_measure_of_a_value_that_is_not_finite_is_nan(name: str, value: float) -> None:
    assert np.isfinite(OF_SCORES[name](SCORES))
    assert np.isnan(OF_SCORES[name](np.array([*SCORES[:3], value])))


NONE, NO_TRUTH, NO_CLASSES = np.zeros(0), np.zeros(0, np.bool_), np.zeros(0, np.int64)


@pytest.mark.parametrize(
    "value",
    [
        ccc(NONE, NONE),
        pearson(NONE, NONE),
        accuracy(NO_CLASSES, NO_CLASSES),
        binary_f1(NO_TRUTH, NO_TRUTH),
        macro_f1(NO_CLASSES, NO_CLASSES, [0, 1]),
        auroc(NONE, NO_TRUTH),
        brier(NONE, NONE),
        ece(NONE, NONE),
        top_label_ece(np.zeros((0, 3)), NO_CLASSES),
        best_threshold(NONE, NO_TRUTH),
    ],
)
def test_a_measure_of_nothing_is_nan(value: float) -> None:
    assert np.isnan(value)


def test_a_value_that_is_not_finite_lies_in_no_bin() -> None:
    confidence, share, count = reliability(np.array([0.25, np.nan, 0.75]), np.array([1.0, 1.0, 0.0]), bins=2)
    assert confidence.tolist() == [0.25, 0.75]
    assert share.tolist() == [1.0, 0.0]
    assert count.tolist() == [1, 1]
