"""Both head models: what their people look like and how shapes move them."""

from pathlib import Path

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from training.rendered.errors import RenderError
from training.rendered.ict import IctHead, IctModel
from training.rendered.makehuman import Look, half_of_face
from training.rendered.makehuman_head import MakeHumanHead, MakeHumanModel, draw_look
from training.rendered.movements import DRAWN_UNITS, SIDES, Movement
from training.rendered.people import person
from training.rendered.plan import counterpart
from training.rendered.units import UNIT_SHAPES, Maker, lips_part, movement_shapes, unit_shapes

AHEAD = np.array([0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def man(makehuman: MakeHumanModel) -> MakeHumanHead:
    return makehuman.head(person("makehuman", 1, 0))


@pytest.fixture(scope="module")
def scanned(ict: IctModel) -> IctHead:
    return ict.head(person("ict", 1, 0))


@pytest.fixture(params=["faceunits", "expression", "ict"])
def maker_and_head(request: pytest.FixtureRequest) -> tuple[Maker, MakeHumanHead | IctHead]:
    return request.param, request.getfixturevalue("scanned" if request.param == "ict" else "man")


def test_a_head_is_as_large_as_a_head(man: MakeHumanHead, scanned: IctHead) -> None:
    for head in (man, scanned):
        skin = next(piece.mesh for piece in head.pieces({}, (0, 0), AHEAD) if piece.material == "skin")
        assert 14 < np.ptp(skin.vertices[skin.vertices[:, 1] > -3][:, 0]) < 20
        assert 8 < skin.vertices[:, 1].max() < 14


def test_pieces_are_whole(man: MakeHumanHead, scanned: IctHead) -> None:
    for head in (man, scanned):
        pieces = head.pieces({}, (0, 0), AHEAD)
        assert {piece.material for piece in pieces} == {"skin", "cloth", "mouth", "eye", "tooth", "hair", "lash"}
        for piece in pieces:
            assert np.isfinite(piece.mesh.vertices).all()
            assert len(piece.colours) == len(piece.mesh.vertices) > piece.mesh.triangles.max()
            assert 0 <= piece.colours.min() <= piece.colours.max() <= 1


@pytest.mark.parametrize("unit", DRAWN_UNITS)
def test_every_unit_moves_its_side(unit: str, maker_and_head: tuple[Maker, MakeHumanHead | IctHead]) -> None:
    maker, head = maker_and_head
    for side, sign in (("left", 1), ("right", -1)):
        offsets = head.moved(unit_shapes(maker, unit, side, 1.0)) - head.moved({})  # type: ignore[arg-type]
        moved = np.linalg.norm(offsets, axis=1)
        assert moved.max() > 0.1
        place = (moved[:, None] * head.moved({})).sum(axis=0) / moved.sum()
        assert place[0] * sign > 0.3
        # Brows, lids and cheeks are above the tip of the nose, the rest below it.
        upper = unit in ("AU1", "AU2", "AU4", "AU6", "AU7")
        assert (place[1] > -3.5) == upper


@pytest.mark.parametrize(("unit", "direction"), [("AU1", 1), ("AU2", 1), ("AU4", -1), ("AU12", 1), ("AU15", -1)])
def test_units_lift_or_lower(unit: str, direction: int, maker_and_head: tuple[Maker, MakeHumanHead | IctHead]) -> None:
    maker, head = maker_and_head
    offsets = head.moved(unit_shapes(maker, unit, "left", 1.0)) - head.moved({})
    strongest = offsets[np.argmax(np.linalg.norm(offsets, axis=1))]
    assert strongest[1] * direction > 0.1


def test_au7_narrows_the_eye_by_both_lids(maker_and_head: tuple[Maker, MakeHumanHead | IctHead]) -> None:
    maker, head = maker_and_head
    height = (head.moved(unit_shapes(maker, "AU7", "left", 1.0)) - head.moved({}))[:, 1]
    assert height.max() > 0.08  # of the lower lid, in cm
    assert height.min() < -0.08


@pytest.mark.parametrize("unit", ["AU1", "AU2", "AU4"])
def test_all_makers_brows_move_about_as_far(unit: str, maker_and_head: tuple[Maker, MakeHumanHead | IctHead]) -> None:
    maker, head = maker_and_head
    offsets = head.moved(unit_shapes(maker, unit, "left", 1.0)) - head.moved({})
    assert 0.5 < np.linalg.norm(offsets, axis=1).max() < 1.0


def test_lips_part_with_the_jaw_and_not_in_a_frown(maker_and_head: tuple[Maker, MakeHumanHead | IctHead]) -> None:
    maker, head = maker_and_head

    def parted(**units: float) -> float:
        return lips_part(head.lip_gap(movement_shapes(maker, Movement("pair", units, units))))

    assert parted() == 0
    assert parted(AU26=1.0) == 1
    assert 0.2 < parted(AU10=0.8) < 1
    for unit in ("AU12", "AU15", "AU24"):
        assert parted(**{unit: 1.0}) < 0.2, unit


def test_lips_stay_together_over_a_dropped_jaw(man: MakeHumanHead, scanned: IctHead) -> None:
    movement = Movement("single", {"AU26": 1.0}, {"AU26": 1.0}, closed_jaw=True)
    assert man.lip_gap(movement_shapes("faceunits", movement)) < 0.3
    assert scanned.lip_gap(movement_shapes("ict", movement)) < 0.3


def test_people_differ_and_are_drawn_from_their_seed(makehuman: MakeHumanModel, ict: IctModel) -> None:
    for model, name in ((makehuman, "makehuman"), (ict, "ict")):
        first, again, other = (model.head(person(name, number, 0)) for number in (1, 1, 3))  # type: ignore[arg-type]
        assert np.array_equal(first.moved({}), again.moved({}))
        assert np.abs(first.moved({}) - other.moved({})).max() > 0.2


def test_a_counterpart_of_another_skin_has_the_same_shape(makehuman: MakeHumanModel) -> None:
    who = person("makehuman", 1, 0)
    own, other = (makehuman.head(each) for each in (who, counterpart(who, 0)))
    assert np.array_equal(own.moved({}), other.moved({}))
    of_other_sex = makehuman.head(counterpart(who, 1))
    assert np.abs(own.moved({})[:13380] - of_other_sex.moved({})[:13380]).mean(axis=0).max() > 0.2


def test_targets_of_a_person_interpolate() -> None:
    look = draw_look(person("makehuman", 4, 0), np.random.default_rng(0))
    universal = [weight for name, weight in look.targets.items() if "universal" in name]
    heritage = [weight for name, weight in look.targets.items() if name.startswith("macro") and "universal" not in name]
    assert sum(universal) == pytest.approx(1)
    assert sum(heritage) == pytest.approx(1)
    assert all(abs(weight) <= 1 for weight in look.targets.values())


def test_all_shapes_of_the_tables_exist(makehuman: MakeHumanModel, ict: IctModel) -> None:
    look = Look({}, {"african": 0.5, "asian": 0.5})
    base = makehuman.files.vertices
    for maker, table in UNIT_SHAPES.items():
        for name in {name for shapes in table.values() for name in shapes}:
            for side in SIDES:
                if maker == "ict":
                    assert np.abs(ict.offsets(name, side)).max() > 0
                else:
                    assert np.abs(makehuman.files.move(base, look, {(name, side): 1.0}) - base).max() > 0


def test_the_halves_of_a_shape_are_the_whole(ict: IctModel) -> None:
    whole = ict.offsets("jawOpen", "left") + ict.offsets("jawOpen", "right")
    assert whole == pytest.approx(ict.expression["jawOpen"], abs=1e-6)
    assert half_of_face(np.array([-1, 0, 1.0]), "left", 1.0).tolist() == [0, 0.5, 1]
    assert half_of_face(np.array([-1, 0, 1.0]), "right", 1.0).tolist() == [1, 0.5, 0]


def test_a_scanned_head_wears_the_skins_of_makehuman(ict: IctModel) -> None:
    uv, sure = ict.skin_uv
    surface = ict.surfaces.parts["skin"].mesh(ict.neutral.astype(np.float32))
    assert len(uv) == len(sure) == len(surface.vertices)
    assert 0.2 < (sure == 1).mean() < 0.6
    # The face lies in one island of the texture.
    island = uv[sure == 1]
    assert island.min(axis=0) == pytest.approx([0.75, 0.3], abs=0.12)
    assert island.max(axis=0) == pytest.approx([0.97, 0.68], abs=0.12)


def test_a_missing_model_is_named(tmp_path: Path, makehuman: MakeHumanModel) -> None:
    with pytest.raises(RenderError, match=r"missing: .*face\.npz"):
        IctModel(tmp_path / "face.npz", makehuman.skins, makehuman.mean_skin())


def test_another_file_is_not_icts_model(tmp_path: Path, makehuman: MakeHumanModel) -> None:
    np.savez(tmp_path / "face.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(RenderError, match="lacks identity, expression"):
        IctModel(tmp_path / "face.npz", makehuman.skins, makehuman.mean_skin())


def test_the_order_of_units_is_that_of_the_vocabulary() -> None:
    assert [unit for unit in ACTION_UNITS if unit != "AU25"] == list(DRAWN_UNITS)
