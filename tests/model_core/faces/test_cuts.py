"""Scene cuts in pictures of smooth noise, which differ in every block."""

import cv2
import numpy as np
import pytest

from model_core.faces.cuts import SceneCuts
from model_core.faces.geometry import Box, Frame

BOX = Box(280, 120, 80, 100)
"""A face, whose head of 104 x 110 pixels is compared."""


def scene(seed: int, width: int = 640, height: int = 360) -> Frame:
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 12, width // 12, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def with_head(ground: Frame, seed: int) -> Frame:
    picture = ground.copy()
    picture[115:225, 268:372] = scene(seed, 104, 110)
    return picture


def looks(*pictures: Frame) -> list[bool]:
    cuts = SceneCuts()
    return [cuts.look(picture) for picture in pictures]


def cut_between(first: Frame, second: Frame, after_s: float = 0.1, box: Box = BOX) -> bool:
    """True if a cut is seen between two pictures with a face of the same track."""
    cuts = SceneCuts()
    cuts.look(first)
    cuts.remember(first, {1: BOX}, 0.0)
    cuts.look(second)
    return cuts.is_cut(second, {1: box}, after_s)


def test_another_picture_is_another_scene() -> None:
    assert looks(scene(1), scene(1), scene(2), scene(2)) == [False, False, True, False]


def test_motion_of_a_few_per_cent_is_no_cut() -> None:
    wide = scene(1, 720, 360)
    assert looks(wide[:, :640], wide[:, 20:660], wide[:, 40:680]) == [False, False, False]


def test_light_is_no_cut() -> None:
    picture = scene(1)
    flash = np.clip(1.6 * picture + 70.0, 0, 255).astype(np.uint8)
    assert looks(picture, picture // 3, picture, flash, picture) == [False] * 5


@pytest.mark.parametrize("level", [0, 255])
def test_a_blank_picture_is_passed_over(level: int) -> None:
    blank = np.full((360, 640, 3), level, np.uint8)
    assert looks(scene(1), blank, blank, scene(1)) == [False, False, False, False]
    assert looks(scene(1), blank, blank, scene(2)) == [False, False, False, True]


def test_another_head_before_the_same_ground_is_a_cut() -> None:
    ground = scene(1)
    assert cut_between(with_head(ground, 2), with_head(ground, 3))
    assert not cut_between(with_head(ground, 2), with_head(ground, 2))


def test_a_head_is_recognised_where_it_moved_and_where_a_hand_covers_it() -> None:
    ground = scene(1)
    first = with_head(ground, 2)
    moved = np.roll(first, 60, axis=1)
    assert not cut_between(first, moved, box=Box(BOX.x + 62, BOX.y - 2, BOX.width, BOX.height))
    covered = first.copy()
    covered[170:225, 280:360] = 128
    assert not cut_between(first, covered)


def test_the_same_head_before_another_ground_is_no_cut() -> None:
    assert not cut_between(with_head(scene(1), 2), with_head(scene(4), 2))


def test_without_a_known_face_the_picture_decides() -> None:
    for second, expected in ((scene(2), True), (scene(1), False)):
        cuts = SceneCuts()
        cuts.look(scene(1))
        cuts.remember(scene(1), {}, 0.0)
        cuts.look(second)
        assert cuts.is_cut(second, {}, 0.1) is expected


def test_heads_are_compared_for_half_a_second_only() -> None:
    ground = scene(1)
    assert cut_between(with_head(ground, 2), with_head(ground, 3), after_s=0.5)
    assert not cut_between(with_head(ground, 2), with_head(ground, 3), after_s=0.51)


def test_a_cut_replaces_more_than_half_of_the_people() -> None:
    boxes = {place: Box(20 + 210 * place, 120, 80, 100) for place in range(3)}
    for replaced, expected in ((1, False), (2, True)):
        first = scene(1)
        second = first.copy()
        for box in list(boxes.values())[:replaced]:
            left = round(box.x) - 12
            second[115:225, left : left + 104] = scene(5, 104, 110)
        cuts = SceneCuts()
        cuts.look(first)
        cuts.remember(first, boxes, 0.0)
        cuts.look(second)
        assert cuts.is_cut(second, boxes, 0.1) is expected


def test_a_face_at_the_edge_is_compared_where_most_of_it_is_inside() -> None:
    first, second = scene(1), scene(1)
    second[115:225, :92] = scene(5, 92, 110)
    for x, expected in ((0, True), (-40, False)):  # of the second, more than a quarter is outside
        cuts = SceneCuts()
        cuts.look(first)
        cuts.remember(first, {1: Box(x, 120, 80, 100)}, 0.0)
        cuts.look(second)
        assert cuts.is_cut(second, {1: Box(x, 120, 80, 100)}, 0.1) is expected
