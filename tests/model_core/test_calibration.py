import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model_core.affect import ACTION_UNITS, TASKS
from model_core.calibration import (
    UNCALIBRATED_UNIT,
    AxisCalibration,
    Calibration,
    ChangeLimits,
    ExpressionCalibration,
    UnitCalibration,
)


def logits(width: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float32, (3, width), elements=st.floats(-1e4, 1e4, width=32))


def test_without_calibration_logits_are_taken_plainly() -> None:
    plain = Calibration()
    np.testing.assert_allclose(plain.expression_probabilities(np.log([[1.0, 3.0]])), [[0.25, 0.75]])
    units = plain.unit_probabilities(np.full((1, 12), math.log(3)))
    np.testing.assert_allclose(units, np.full((1, 12), 0.75))
    assert plain.unit("AU1") == UNCALIBRATED_UNIT == UnitCalibration(1, 0, 0.5)


def test_a_task_is_fitted_where_something_of_it_was() -> None:
    plain = Calibration()
    assert not any(plain.fitted(task) for task in TASKS)
    limits = ChangeLimits(action_units=dict.fromkeys(ACTION_UNITS, 1.0))
    told = Calibration(eyes_closed=UNCALIBRATED_UNIT, change_limits=limits)
    assert [task for task in TASKS if told.fitted(task)] == ["eyes_closed", "unit_changes"]


def test_temperature_and_bias_by_hand() -> None:
    # ln 9 / 2 = ln 3, so 1 : 3; a bias of ln 3 on the first evens them out.
    warm = ExpressionCalibration(2.0, (0.0, 0.0))
    np.testing.assert_allclose(warm.probabilities(np.array([[0.0, math.log(9)]])), [[0.25, 0.75]])
    even = ExpressionCalibration(2.0, (math.log(3), 0.0))
    np.testing.assert_allclose(even.probabilities(np.array([[0.0, math.log(9)]])), [[0.5, 0.5]])


def test_axes_by_hand() -> None:
    axes = {"valence": AxisCalibration(2.0, 0.1, 0.2), "arousal": AxisCalibration(1.0, -0.5, 0.2)}
    estimates = Calibration(valence_arousal=axes).valence_arousal_estimates(np.array([[0.2, 0.2], [0.9, -0.9]]))
    np.testing.assert_allclose(estimates, [[0.5, -0.3], [1, -1]])
    np.testing.assert_allclose(Calibration().valence_arousal_estimates(np.array([[0.2, 0.2]])), [[0.2, 0.2]])


@pytest.mark.parametrize("values", [(math.nan, 0, 0), (1, math.inf, 0), (1, 0, -0.1), (1, 0, 2.1), (1, 0, math.nan)])
def test_impossible_axes_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="half-width"):
        AxisCalibration(*values)


def test_axes_stand_in_order() -> None:
    axis = AxisCalibration(1.0, 0.0, 0.1)
    with pytest.raises(ValueError, match="valence, arousal"):
        Calibration(valence_arousal={"arousal": axis, "valence": axis})


def test_platt_scaling_by_hand() -> None:
    unit = UnitCalibration(slope=2.0, intercept=-math.log(9), threshold=0.4)
    np.testing.assert_allclose(unit.probability(np.array([0.0, math.log(3), 1e9, -1e9])), [0.1, 0.5, 1, 0], atol=1e-12)


@given(logits(5), st.floats(0.05, 20))
def test_probabilities_sum_to_one_and_keep_the_order(values: np.ndarray, temperature: float) -> None:
    p = ExpressionCalibration(temperature, (0.0,) * 5).probabilities(values)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (np.take_along_axis(p, values.argmax(axis=1)[:, None], 1) == p.max(axis=1, keepdims=True)).all()


@given(logits(12), st.floats(-5, 5), st.floats(-5, 5))
def test_unit_probabilities_are_probabilities(values: np.ndarray, slope: float, intercept: float) -> None:
    units = {name: UnitCalibration(slope, intercept, 0.5) for name in ACTION_UNITS}
    p = Calibration(action_units=units).unit_probabilities(values)
    assert p.shape == (3, 12)
    assert ((p >= 0) & (p <= 1)).all()


def test_each_unit_has_its_own_numbers() -> None:
    units = {name: UnitCalibration(0, -math.log(i + 1), 0.5) for i, name in enumerate(ACTION_UNITS)}
    p = Calibration(action_units=units).unit_probabilities(np.zeros((1, 12)))
    np.testing.assert_allclose(p[0], [1 / (i + 2) for i in range(12)])


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
def test_a_bad_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        ExpressionCalibration(temperature, (0.0, 0.0))


@pytest.mark.parametrize("bias", [math.nan, math.inf])
def test_a_bad_bias_is_refused(bias: float) -> None:
    with pytest.raises(ValueError, match="every bias finite"):
        ExpressionCalibration(1.0, (0.0, bias))


@pytest.mark.parametrize(
    "numbers",
    [(math.nan, 0, 0.5), (1, math.inf, 0.5), (1, 0, -0.1), (1, 0, 1.1), (1, 0, math.nan)],
)
def test_bad_unit_numbers_are_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        UnitCalibration(*numbers)


def test_units_must_be_all_twelve_in_order() -> None:
    units = dict.fromkeys(ACTION_UNITS, UNCALIBRATED_UNIT)
    for wrong in (dict(reversed(units.items())), {"AU1": UNCALIBRATED_UNIT}, {}):
        with pytest.raises(ValueError, match="a calibration must name the units AU1, AU2"):
            Calibration(action_units=wrong)
