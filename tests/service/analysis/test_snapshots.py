"""Snapshots: values come back bit by bit, and nothing is made but what was declared."""

import json
import math
import subprocess
from collections import deque

import numpy as np
import pytest

from model_core.faces.geometry import Box, Point
from service.analysis.snapshots import Snapshots

FIXED = object()


def there_and_back(value: object) -> object:
    snapshots = Snapshots([Box, Point], [FIXED])
    return snapshots.restored(json.loads(json.dumps(snapshots.taken(value))))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        "text",
        0.1 + 0.2,
        -math.inf,
        [1, (2.5, [])],
        {1: "a", "b": {}, (1, 2): None},
        frozenset({1, 2}),
        deque([1, 2]),
        Box(1, 2.5, 3, 4),
        Point(0.1, 2),
        FIXED,
        {FIXED: [FIXED]},
    ],
)
def test_a_value_comes_back(value: object) -> None:
    back = there_and_back(value)
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    "value", [np.array([[0.1, math.nan]]), np.empty((8, 0)), np.arange(3, dtype=np.uint8), np.float32(0.1)]
)
def test_numbers_of_numpy_keep_their_type_and_bits(value: np.ndarray) -> None:
    back = there_and_back(value)
    assert isinstance(back, type(value))
    assert (back.dtype, back.shape, back.tobytes()) == (value.dtype, value.shape, value.tobytes())


def test_an_array_that_comes_back_can_be_written() -> None:
    back = there_and_back(np.zeros(3))
    assert isinstance(back, np.ndarray)
    back[0] = 1


def test_what_was_not_declared_is_neither_written_nor_made() -> None:
    with pytest.raises(TypeError, match="a CompletedProcess is not among the declared classes"):
        there_and_back(subprocess.CompletedProcess([], 0))
    for snapshot in (["CompletedProcess", {}], ["fixed", 1], ["array", "|O", [1], "AAAAAAAAAAA="], [], ["Box"]):
        with pytest.raises((ValueError, TypeError, KeyError, IndexError)):
            Snapshots([Box], [FIXED]).restored(snapshot)
