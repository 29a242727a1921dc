import numpy as np
import pytest

from model_core.affect import ACTION_UNITS, LABEL_SETS
from training.targets.derived import (
    CIRCUMPLEX,
    OPEN_LIP_GAP,
    action_units,
    circumplex_table,
    facial_strength,
    mean_movement,
    valence_arousal,
)
from training.targets.teacher import BLENDSHAPES, LANDMARKS, TeacherReading

LABELS = LABEL_SETS["ferplus"]


def reading(lip_gap: float = 0.0, **scores: float) -> TeacherReading:
    values = np.array([scores.pop(name, 0.0) for name in BLENDSHAPES], dtype=np.float32)
    assert not scores
    return TeacherReading(values, np.zeros((LANDMARKS, 2), np.float32), lip_gap)


def units(lip_gap: float = 0.0, **scores: float) -> dict[str, float]:
    """The action units that are not 0."""
    values = action_units(reading(lip_gap, **scores))
    assert (values.shape, values.dtype) == ((12,), np.float32)
    named = dict(zip(ACTION_UNITS, values.tolist(), strict=True))
    return {name: pytest.approx(value) for name, value in named.items() if value}


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_pure_happiness(strength: float) -> None:
    votes = np.eye(8)[[LABELS.index("happiness")]]
    (point,) = valence_arousal(votes, np.array([strength]), LABELS)
    assert point.tolist() == pytest.approx([0.81, 0.51 * (0.6 + 0.4 * strength)])


def test_mixed_votes_by_hand() -> None:
    votes = np.zeros((2, 8))
    votes[0, [LABELS.index("anger"), LABELS.index("neutral")]] = 0.5
    votes[1, [LABELS.index("sadness"), LABELS.index("surprise")]] = 0.75, 0.25
    points = valence_arousal(votes, np.array([1.0, 0.5]), LABELS)
    assert points.dtype == np.float32
    expected = [[-0.255, 0.295], [0.75 * -0.63 + 0.25 * 0.4, (0.75 * -0.27 + 0.25 * 0.67) * 0.8]]
    np.testing.assert_allclose(points, expected, atol=1e-6)


def test_the_table_goes_by_name() -> None:
    for label_set in ("ferplus", "affectnet8"):
        labels = LABEL_SETS[label_set]
        table = circumplex_table(labels)
        assert tuple(table[labels.index("fear")]) == CIRCUMPLEX["fear"] == (-0.64, 0.60)
    with pytest.raises(KeyError, match="other"):
        circumplex_table(LABEL_SETS["abaw"])


def test_action_units_by_hand() -> None:
    assert units() == {}
    assert units(browInnerUp=0.7) == {"AU1": 0.7}
    assert units(browOuterUpLeft=0.2, browOuterUpRight=0.6) == {"AU2": 0.6}
    assert units(browDownLeft=0.9, browDownRight=0.1) == {"AU4": 0.9}
    assert units(eyeSquintLeft=0.2, eyeSquintRight=0.6) == {"AU7": 0.4}
    assert units(mouthUpperUpLeft=0.5, mouthUpperUpRight=0.1) == {"AU10": 0.3}
    assert units(mouthSmileLeft=0.8, mouthSmileRight=0.6) == {"AU12": 0.7}
    assert units(mouthFrownLeft=0.5) == {"AU15": 0.25}
    assert units(mouthRollLower=0.5, mouthRollUpper=0.1) == {"AU23": 0.3}
    assert units(mouthPressRight=1.0) == {"AU24": 0.5}
    assert units(jawOpen=0.4) == {"AU26": 0.4}


def test_a_cheek_is_raised_where_mouth_and_eyes_smile() -> None:
    smile = {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}
    assert units(**smile, eyeSquintLeft=0.5, eyeSquintRight=0.5) == {"AU6": 0.5, "AU7": 0.5, "AU12": 0.8}


@pytest.mark.parametrize(("gap", "score"), [(0.03, 0.3), (OPEN_LIP_GAP, 1.0), (0.4, 1.0)])
def test_lips_part_with_their_distance(gap: float, score: float) -> None:
    assert units(lip_gap=gap) == {"AU25": score}


def test_strength_is_movement_over_its_reference() -> None:
    blendshapes = np.zeros((3, 52), dtype=np.float32)
    blendshapes[:, 0] = 1  # `_neutral` is no movement
    blendshapes[1, 1] = 0.51  # a mean of .01
    blendshapes[2, 1:] = 0.5
    np.testing.assert_allclose(mean_movement(blendshapes), [0, 0.01, 0.5], atol=1e-6)
    np.testing.assert_allclose(facial_strength(blendshapes, 0.02), [0, 0.5, 1], atol=1e-6)
    assert facial_strength(np.zeros((1, 52), np.float32), 0.0).tolist() == [0]
