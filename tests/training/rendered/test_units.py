import pytest

from training.rendered.movements import DRAWN_UNITS, OTHER_UNITS, Movement
from training.rendered.units import (
    UNIT_SHAPES,
    Maker,
    blink_left,
    gaze_shapes,
    lips_part,
    movement_shapes,
    scaled,
    summed,
    unit_shapes,
)


@pytest.mark.parametrize("maker", UNIT_SHAPES)
def test_every_maker_draws_every_unit(maker: Maker) -> None:
    assert UNIT_SHAPES[maker].keys() == {*DRAWN_UNITS, *OTHER_UNITS}


def test_units_are_told_apart_by_their_shapes() -> None:
    for table in UNIT_SHAPES.values():
        drawn = [tuple(sorted(shapes.items())) for shapes in table.values()]
        assert len(set(drawn)) == len(drawn)


def test_icts_cheek_raiser_is_au6() -> None:
    assert max(UNIT_SHAPES["ict"]["AU6"], key=UNIT_SHAPES["ict"]["AU6"].__getitem__) == "cheekRaiser"


def test_shapes_are_linear_in_the_intensity() -> None:
    assert unit_shapes("faceunits", "AU12", "left", 0.5) == {("mouthSmile", "left"): 0.5}
    assert unit_shapes("expression", "AU26", "right", 1.0) == {("unit/mouth-open", "right"): 0.5}


def test_a_movement_sums_its_units_on_both_sides() -> None:
    shapes = movement_shapes("faceunits", Movement("pair", {"AU7": 1.0, "AU6": 1.0}, {"AU7": 0.5}))
    assert shapes[("eyeSquint", "left")] == pytest.approx(1.15)
    assert shapes[("eyeSquint", "right")] == 0.5
    assert ("cheekSquint", "right") not in shapes


@pytest.mark.parametrize("maker", UNIT_SHAPES)
def test_lips_may_stay_closed_while_the_jaw_drops(maker: Maker) -> None:
    shapes = movement_shapes(maker, Movement("single", {"AU26": 1.0}, {"AU26": 1.0}, closed_jaw=True))
    assert shapes == {(name, side): 0.5 for name in ("jawOpen", "mouthClose") for side in ("left", "right")}


def test_shapes_are_summed_and_scaled() -> None:
    first, second = {("a", "left"): 1.0}, {("a", "left"): 0.5, ("b", "right"): 2.0}
    assert summed(first, second) == {("a", "left"): 1.5, ("b", "right"): 2.0}  # type: ignore[arg-type]
    assert scaled(second, 0.5) == {("a", "left"): 0.25, ("b", "right"): 1.0}  # type: ignore[arg-type]


def test_a_blink_closes_no_further_what_is_narrowed_or_closed() -> None:
    assert blink_left({"AU12": 1.0}) == 1
    assert blink_left({"AU7": 0.5}) == 0.8
    assert blink_left({"AU7": 1.0, "AU43": 0.9}) == pytest.approx(0.1)
    assert blink_left({"AU43": 1.0}) == 0


def test_lids_follow_the_gaze() -> None:
    assert gaze_shapes(15, -60) == {
        ("eyeLookOut", "left"): 0.5,
        ("eyeLookDown", "left"): 1.0,
        ("eyeLookIn", "right"): 0.5,
        ("eyeLookDown", "right"): 1.0,
    }
    assert gaze_shapes(0, 0) == {}


@pytest.mark.parametrize(("gap_cm", "intensity"), [(-0.1, 0), (0.05, 0), (0.24, 0.2), (1.0, 1), (3, 1)])
def test_parted_lips_are_measured(gap_cm: float, intensity: float) -> None:
    assert lips_part(gap_cm) == pytest.approx(intensity)
