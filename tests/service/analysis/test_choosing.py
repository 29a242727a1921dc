"""Which people are reported where there are more than were asked for."""

import numpy as np

from model_core.faces.geometry import TrackedFace
from service.analysis.choosing import ChosenPeople
from tests.fakes import face_at


def chosen(people: ChosenPeople, sides: dict[int, float], time_s: float, ended: tuple[int, ...] = ()) -> list[int]:
    """Ids of the reported faces of a frame, whose faces have these sides by id; tracks up to 20 live, but for some."""
    faces = [TrackedFace(track_id, face_at(0, 0, side)) for track_id, side in sides.items()]
    return [each.track_id for each in people.choose(faces, set(range(20)) - set(ended), time_s)]


def test_the_largest_are_chosen_first_and_come_by_area() -> None:
    assert chosen(ChosenPeople(2), {1: 40, 2: 60, 3: 50}, 0) == [2, 3]


def test_people_of_nearly_equal_size_do_not_take_turns() -> None:
    people, rng = ChosenPeople(2), np.random.default_rng(0)
    frames = [
        chosen(people, {track_id: 100 * (1 + 0.05 * rng.standard_normal()) for track_id in range(1, 7)}, i / 10)
        for i in range(100)
    ]
    assert {frozenset(frame) for frame in frames} == {frozenset(frames[0])}


def test_a_newcomer_takes_a_place_only_if_it_is_free_or_of_a_face_of_half_the_area() -> None:
    people = ChosenPeople(1)
    assert chosen(people, {1: 100}, 0) == [1]
    assert chosen(people, {1: 100, 2: 141}, 0.1) == [1]  # 1.99 times the area
    assert chosen(people, {1: 100, 2: 142}, 0.2) == [2]
    assert chosen(people, {1: 150, 2: 142}, 0.3) == [2]


def test_the_smallest_gives_its_place_up() -> None:
    people = ChosenPeople(2)
    assert chosen(people, {1: 100, 2: 50}, 0) == [1, 2]
    assert chosen(people, {1: 100, 2: 50, 3: 90}, 0.1) == [1, 3]


def test_a_place_is_kept_for_a_second() -> None:
    people = ChosenPeople(1)
    assert chosen(people, {1: 100}, 0) == [1]
    assert chosen(people, {2: 100}, 1.0) == []
    assert chosen(people, {1: 100, 2: 100}, 1.0) == [1]
    assert chosen(people, {2: 100}, 2.1) == [2]
    assert chosen(people, {1: 100, 2: 100}, 2.2) == [2]


def test_the_place_of_a_track_that_has_ended_is_free_at_once() -> None:
    people = ChosenPeople(1)
    assert chosen(people, {1: 100}, 0) == [1]
    assert chosen(people, {2: 50}, 0.1, ended=(1,)) == [2]
