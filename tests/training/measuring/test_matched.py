import numpy as np
import pytest

from tests.training.measuring.pictures import answers_for, picture
from training.measuring.matched import Pair, measure_matched, pairs_of

DARK = {"person": "anna-skin", "tone": "dark"}
MALE = {"person": "anna-sex", "sex": "male"}
OLD = {"person": "anna-age", "age": 70.0}
MOVED = {"AU1": 0.5}


def test_pairs_are_of_the_same_place_in_a_sitting_and_the_next() -> None:
    pictures = [
        picture(6, 0),
        picture(6, 1, MOVED),
        picture(7, 1, MOVED, **DARK),
        picture(7, 0, **DARK),
        picture(8, 0),  # Anna again, in another light
        picture(9, 0, **OLD),
        picture(11, 0, **MALE),  # the sitting that it repeats is not there
    ]
    assert pairs_of(pictures) == [Pair("skin", "anna", 2, 1), Pair("skin", "anna", 3, 0), Pair("age", "anna", 5, 4)]


def test_differences_have_a_direction() -> None:
    dark = {"person": "b", "original": "b", "tone": "dark", "sex": "male", "age": 80.0}
    for lighter in ({"tone": "medium"}, {"sex": "female"}, {"age": 28.0}):
        pictures = [picture(0, 0, **dark), picture(1, 0, **(dark | {"person": "b-x"} | lighter))]
        (pair,) = pairs_of(pictures)
        assert (pair.higher, pair.lower) == (0, 1)


def test_other_sittings_are_no_counterparts() -> None:
    other = [picture(0, 0, person="b", original="b"), picture(1, 0, **DARK)]
    assert pairs_of(other) == []
    assert pairs_of([picture(0, 1, MOVED), picture(1, 1, {"AU1": 0.6}, **DARK)]) == []


def test_mean_differences_by_hand() -> None:
    pictures = [picture(0, 0), picture(0, 1, MOVED), picture(1, 0, **DARK), picture(1, 1, MOVED, **DARK)]
    answers = answers_for(pictures, np.array([0.0, np.log(3), np.log(4), np.log(9)]))
    skin = measure_matched(answers, pictures)["skin"]
    # Probabilities 0.5, 0.75 against 0.8, 0.9.
    assert skin["differences"]["AU1"] == pytest.approx((0.3 + 0.15) / 2)
    assert skin["differences"]["valence"] == pytest.approx((np.log(4) + np.log(9) - np.log(3)) / 20)
    assert skin["differences"]["arousal"] == 0
    assert (skin["pairs"], skin["people"]) == (2, 1)
    assert skin["largest_unit"] == {"name": "AU1", "difference": pytest.approx(0.225)}


def test_a_pair_of_which_a_face_was_not_found_does_not_count() -> None:
    pictures = [picture(0, 0), picture(1, 0, **DARK)]
    assert measure_matched(answers_for(pictures, np.zeros(2), found=[True, False]), pictures) == {}


def test_intervals_are_over_people_and_not_over_pictures() -> None:
    pictures = []
    for number in range(8):
        name = {"person": f"p{number}", "original": f"p{number}"}
        pictures += [picture(2 * number, place, **name) for place in range(20)]
        dark = name | {"person": f"p{number}-skin", "tone": "dark"}
        pictures += [picture(2 * number + 1, place, **dark) for place in range(20)]
    # The skin changes valence by 0.1 in every second person, and not at all in the others.
    changed = np.array([number % 2 == 0 for number in range(8) for _ in range(20)]).reshape(8, 20)
    logits = np.stack([np.zeros((8, 20)), changed.astype(float)], axis=1).reshape(-1)
    skin = measure_matched(answers_for(pictures, logits), pictures, resamples=300)["skin"]
    low, high = skin["intervals"]["valence"]
    assert skin["differences"]["valence"] == pytest.approx(0.05)
    # 0.05 +- 1.96 * 0.05 / sqrt(8); with 160 independent pictures it would be 0.008.
    assert 0.025 <= 0.05 - low <= 0.0376
    assert 0.025 <= high - 0.05 <= 0.0376
