from collections.abc import Sequence

import numpy as np
import pytest

from training.data.twins import twins_in_earlier_splits, twins_in_later_splits
from training.datasets.raw import SPLITS, Split

TRAIN, VALIDATION, TEST = SPLITS
UP, DOWN, FLAT = [[0, 0], [9, 9]], [[9, 9], [0, 0]], [[5, 5], [5, 5]]
LEFT, RIGHT = [[9, 0], [9, 0]], [[0, 9], [0, 9]]
CORNER = [[0, 0], [0, 9]]  # correlates by 1/sqrt(3) with UP


def twins(pictures: Sequence[tuple[Split, list[list[int]]]], least_correlation: float = 0.9) -> list[object]:
    pixels = np.array([picture for _, picture in pictures], dtype=np.uint8)
    return list(twins_in_later_splits(pixels, [split for split, _ in pictures], least_correlation).tolist())


def test_only_the_picture_of_the_earlier_split_goes() -> None:
    assert twins([(TRAIN, UP), (TEST, UP), (TRAIN, UP), (VALIDATION, DOWN)]) == [True, False, True, False]
    assert twins([(TRAIN, UP), (VALIDATION, UP), (TEST, DOWN)]) == [True, False, False]
    assert twins([(VALIDATION, UP), (TEST, UP)]) == [True, False]
    assert twins([(TRAIN, UP), (TRAIN, UP), (TEST, DOWN), (TEST, DOWN)]) == [False] * 4


def test_pictures_of_later_splits_may_have_been_trained_on() -> None:
    pictures = np.array([UP, DOWN, DOWN, UP, LEFT], dtype=np.uint8)
    splits: list[Split] = [TRAIN, VALIDATION, TEST, TEST, TEST]
    assert twins_in_earlier_splits(pictures, splits).tolist() == [False, False, True, True, False]


def test_a_mirror_image_is_a_twin() -> None:
    assert twins([(TRAIN, LEFT), (TEST, RIGHT)]) == [True, False]
    assert twins([(TRAIN, DOWN), (TEST, UP)]) == [False, False]


@pytest.mark.parametrize(("least_correlation", "twin"), [(0.57, True), (0.58, False)])
def test_the_correlation_decides(least_correlation: float, twin: bool) -> None:
    assert twins([(TRAIN, CORNER), (TEST, UP)], least_correlation) == [twin, False]


def test_contrast_and_brightness_do_not_matter_to_identity() -> None:
    brighter = [[20, 20], [200, 200]]
    assert twins([(TRAIN, brighter), (TEST, UP)], 1) == [True, False]


def test_a_picture_without_contrast_is_nobodys_twin() -> None:
    assert twins([(TRAIN, FLAT), (VALIDATION, FLAT), (TEST, FLAT)]) == [False] * 3


def test_a_set_may_lack_splits() -> None:
    assert twins([(TRAIN, UP), (TRAIN, UP)]) == [False, False]
    assert twins([(TEST, UP)]) == [False]


def test_pictures_beyond_one_block_are_compared() -> None:
    pictures: list[tuple[Split, list[list[int]]]] = [(TRAIN, DOWN)] * 1500
    assert twins([*pictures, (TRAIN, UP), (TEST, UP)]) == [False] * 1500 + [True, False]
