from collections import Counter

import pytest

from training.rendered.people import Model, person, split_of
from training.rendered.plan import counterpart


def test_the_split_depends_on_the_name_alone() -> None:
    assert [split_of(f"makehuman-{number:04}") for number in range(6)] == [
        "train", "test", "train", "train", "train", "test",
    ]  # fmt: skip
    assert person("makehuman", 1, 0).split == person("makehuman", 1, 9).split == "test"


def test_shares_of_the_splits() -> None:
    counts = Counter(split_of(f"{model}-{number:04}") for model in ("makehuman", "ict") for number in range(500))
    assert counts["test"] == pytest.approx(200, abs=40)
    assert counts["validation"] == pytest.approx(100, abs=30)


@pytest.mark.parametrize("model", ["makehuman", "ict"])
def test_a_person_is_drawn_from_the_seed(model: Model) -> None:
    assert person(model, 3, 7) == person(model, 3, 7)
    assert person(model, 3, 7).seed != person(model, 3, 8).seed
    assert person(model, 3, 7).seed != person(model, 4, 7).seed


def test_groups_are_even() -> None:
    people = [person("ict", number, 0) for number in range(60)]
    assert Counter((who.sex, who.tone) for who in people) == Counter(
        {(sex, tone): 10 for sex in ("female", "male") for tone in ("light", "medium", "dark")}
    )
    assert {who.age_group for who in people} == {"young", "middle", "old"}
    assert all(18 <= who.age <= 85 for who in people)
    assert all(sum(who.heritage.values()) == pytest.approx(1) for who in people)


def test_brows_are_as_high_as_in_people() -> None:
    people = [person("makehuman", number, 0) for number in range(200)]
    for sex, height in (("female", 1.9), ("male", 1.8)):
        heights = [who.brow.height_cm for who in people if who.sex == sex]
        assert sum(heights) / len(heights) == pytest.approx(height, abs=0.04)


@pytest.mark.parametrize(("number", "changed"), [(0, "tone"), (1, "sex"), (2, "age")])
def test_a_counterpart_differs_in_one_attribute(number: int, changed: str) -> None:
    who = person("makehuman", 1, 0)
    twin = counterpart(who, number)
    differing = {name for name, value in vars(who).items() if vars(twin)[name] != value}
    assert differing - {"stubble"} == {"name", changed}
    assert (twin.original, twin.split) == ("makehuman-0001", "test")


def test_icts_heads_differ_by_the_skin_alone() -> None:
    who = person("ict", 0, 0)
    assert all(counterpart(who, number).name == "ict-0000-skin" for number in range(3))
