import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from model_core.metrics import binary_f1
from tests.training.sequences import of_affect, of_units
from training.measuring.fitting import GRID
from training.video.predictions import ProtocolError
from training.video.thresholds import Thresholds, tune_thresholds

UNITS = tuple(ACTION_UNITS)
PROBABILITIES = np.array([0.05, 0.15, 0.22, 0.28, 0.35, 0.45])
POSITIVE = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 1.0])


def test_the_papers_grid() -> None:
    assert GRID == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    # At 0.2: 3 found of 3, one too many, F1 6/7; at 0.3: 2 of 3, none too many, 4/5; at 0.5 nothing, 0.
    tuned = tune_thresholds([of_units(PROBABILITIES, POSITIVE)], "grid")
    assert tuned.units == dict.fromkeys(UNITS, 0.2)
    assert (tuned.method, tuned.tuned_on) == ("grid", ("a",))


@pytest.mark.parametrize(
    ("probability", "positive", "threshold"),
    [([0.05, 0.97], [0, 1], 0.5), ([0.05, 0.25], [0, 1], 0.2), ([0.65, 0.97], [0, 1], 0.7), ([0.3, 0.9], [0, 0], 0.5)],
)
def test_of_equals_the_grid_takes_the_nearest_to_half(
    probability: list[float], positive: list[float], threshold: float
) -> None:
    tuned = tune_thresholds([of_units(np.array(probability), np.array(positive, float))], "grid")
    assert set(tuned.units.values()) == {threshold}


def test_sorted_scores_find_what_the_grid_misses() -> None:
    probability = np.tile([0.31, 0.33, 0.37, 0.39], 50)
    positive = np.tile([0.0, 0.0, 1.0, 1.0], 50)
    answers = [of_units(probability, positive)]
    fine, coarse = tune_thresholds(answers, "sorted"), tune_thresholds(answers, "grid")
    assert fine.units == pytest.approx(dict.fromkeys(UNITS, 0.35))  # half-way between 0.33 and 0.37
    assert coarse.units == dict.fromkeys(UNITS, 0.3)
    assert binary_f1(probability >= 0.35, positive > 0) == 1
    assert binary_f1(probability >= 0.3, positive > 0) == pytest.approx(2 / 3)


def test_a_rare_unit_keeps_half() -> None:
    answers = [of_units(PROBABILITIES, POSITIVE)]
    assert set(tune_thresholds(answers).units.values()) == {0.5}
    assert set(tune_thresholds(answers, min_positives=4).units.values()) == {0.5}
    # All three positives with one too many: half-way between 0.22 and 0.15.
    assert tune_thresholds(answers, min_positives=3).units == pytest.approx(dict.fromkeys(UNITS, 0.185))


@pytest.mark.parametrize("method", ["grid", "sorted"])
def test_masked_entries_do_not_tune_and_a_unit_without_labels_keeps_half(method: str) -> None:
    values, wanted = (each[:, None].repeat(12, axis=1) for each in (PROBABILITIES, POSITIVE))
    wanted[:, 3] = -1
    values = np.concatenate([values, np.full((9, 12), 0.99)])
    wanted = np.concatenate([wanted, np.full((9, 12), -1.0)])
    tuned = tune_thresholds([of_units(values, wanted)], method, min_positives=0)  # type: ignore[arg-type]
    assert tuned.units["AU6"] == 0.5
    assert tuned.units["AU7"] == pytest.approx(0.2 if method == "grid" else 0.185)


def test_decisions_are_not_probabilities() -> None:
    """Published defect: thresholds searched on binarised predictions are always the first of the grid."""
    for method in ("grid", "sorted"):
        with pytest.raises(ProtocolError, match="tuned on probabilities, but every prediction is 0 or 1"):
            tune_thresholds([of_units(np.array([0.0, 1.0]), np.array([0.0, 1.0]))], method)  # type: ignore[arg-type]


def test_nothing_to_tune_on() -> None:
    for answers in ([], [of_affect([[0, 0]], [[0, 0]])], [of_units(np.array([0.3]), np.array([-1.0]))]):
        with pytest.raises(ProtocolError, match="no labelled frames"):
            tune_thresholds(answers)


def test_thresholds_are_checked() -> None:
    whole = dict.fromkeys(UNITS, 0.5)
    with pytest.raises(ProtocolError, match="must name the units AU1, AU2"):
        Thresholds({"AU1": 0.5}, "grid", ("a",))
    with pytest.raises(ProtocolError, match="within 0 and 1"):
        Thresholds(whole | {"AU12": float("nan")}, "grid", ("a",))
    with pytest.raises(ProtocolError, match="must name the videos"):
        Thresholds(whole, "grid", ())
