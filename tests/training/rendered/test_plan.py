from itertools import islice

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from training.rendered.movements import EXPRESSIONS
from training.rendered.plan import SHORT_SITTING, SITTING, Plan, Pose

PLAN = Plan(("makehuman", "ict"), 12, 0)


def test_people_take_turns_and_test_people_have_a_counterpart() -> None:
    sittings = list(islice(PLAN.sittings(), 8))
    assert [sitting.person.name for sitting in sittings[:5]] == [
        "makehuman-0000", "ict-0000", "makehuman-0001", "makehuman-0001-skin", "ict-0001",
    ]  # fmt: skip
    assert [sitting.number for sitting in sittings] == list(range(8))
    own, repeated = sittings[2:4]
    assert (repeated.seed, repeated.movements) == (own.seed, own.movements)


def test_only_test_people_have_counterparts() -> None:
    for sitting in islice(PLAN.sittings(), 60):
        assert sitting.person.name == sitting.person.original or sitting.person.split == "test"


@pytest.mark.parametrize("pictures", [SITTING, SHORT_SITTING])
def test_a_sitting_begins_at_rest(pictures: int) -> None:
    for sitting in islice(Plan(("makehuman", "ict"), 12, 0, pictures).sittings(), 30):
        assert len(sitting.movements) == pictures
        assert sitting.movements[0].kind == "neutral"


@pytest.mark.parametrize("pictures", [SITTING, SHORT_SITTING])
def test_every_unit_and_expression_comes_soon(pictures: int) -> None:
    sittings = list(islice(Plan(("makehuman", "ict"), 12, 0, pictures).sittings(), 30))
    singles = [
        max(
            movement.left | movement.right,
            key=lambda unit: max(movement.left.get(unit, 0), movement.right.get(unit, 0)),
        )
        for sitting in sittings
        for movement in sitting.movements
        if movement.kind == "single"
    ]
    assert set(ACTION_UNITS) - {"AU25"} <= set(singles)
    composed = {movement.expression for sitting in sittings for movement in sitting.movements}
    assert {*EXPRESSIONS, "neutral"} <= composed


def test_a_plan_goes_on_with_other_pictures_of_the_same_people() -> None:
    sittings = list(islice(Plan(("ict",), 1, 0).sittings(), 4))
    assert {sitting.person.original for sitting in sittings} == {"ict-0000"}
    assert len({sitting.seed for sitting in sittings}) >= 2


def test_the_seed_decides() -> None:
    first, again, different = (next(Plan(("ict",), 2, seed).sittings()) for seed in (1, 1, 2))
    assert first == again
    assert first.seed != different.seed


@pytest.mark.parametrize(
    ("models", "people", "seed", "message"),
    [((), 1, 0, "head model"), (("ict",), 0, 0, "at least one person"), (("ict",), 1, -1, "at least 0")],
)
def test_a_plan_out_of_range_is_refused(models: tuple[str, ...], people: int, seed: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(models, people, seed)  # type: ignore[arg-type]


def test_sittings_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="a sitting has 8 or 4 pictures, not 5"):
        Plan(("ict",), 1, 0, 5)


@pytest.mark.parametrize(
    ("pose", "nose", "crown"),
    [
        (Pose(90, 0, 0), [1, 0, 0], [0, 1, 0]),
        (Pose(0, 90, 0), [0, 1, 0], [0, 0, -1]),
        (Pose(0, 0, 90), [0, 0, 1], [-1, 0, 0]),
    ],
)
def test_poses_turn_the_head(pose: Pose, nose: list[float], crown: list[float]) -> None:
    """x is the person's left, so a roll to the right shoulder brings the crown to -x."""
    assert pose.matrix() @ [0, 0, 1] == pytest.approx(np.array(nose), abs=1e-9)
    assert pose.matrix() @ [0, 1, 0] == pytest.approx(np.array(crown), abs=1e-9)
