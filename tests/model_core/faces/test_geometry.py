import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.faces.geometry import Box
from tests.fakes import face_at

sides = st.floats(1, 100)
boxes = st.builds(Box, st.floats(-100, 100), st.floats(-100, 100), sides, sides)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Box(0, 0, 10, 10), 1.0),
        (Box(5, 0, 10, 10), 50 / 150),
        (Box(5, 5, 10, 10), 25 / 175),
        (Box(2, 2, 5, 4), 20 / 100),
        (Box(10, 0, 10, 10), 0.0),
        (Box(50, 50, 10, 10), 0.0),
        (Box(3, 3, 0, 0), 0.0),
    ],
    ids=["same", "half beside", "corner", "inside", "touching", "apart", "empty"],
)
def test_iou_by_hand(other: Box, expected: float) -> None:
    assert Box(0, 0, 10, 10).iou(other) == pytest.approx(expected)


@given(boxes, boxes)
def test_iou_is_symmetric_and_a_share(a: Box, b: Box) -> None:
    assert 0 <= a.iou(b) <= 1 + 1e-9
    assert a.iou(b) == pytest.approx(b.iou(a))
    assert a.iou(a) == pytest.approx(1)


def test_area() -> None:
    assert Box(-3, 7, 4, 5).area == 20


def test_landmarks_as_array_keeps_the_order_of_the_fields() -> None:
    landmarks = face_at(0, 0, 10).landmarks
    array = landmarks.as_array()
    assert (array.shape, array.dtype) == ((5, 2), np.float64)
    np.testing.assert_allclose(array, [[3, 4], [7, 4], [5, 6], [3.5, 8], [6.5, 8]])
    assert tuple(array[3]) == landmarks.left_mouth
