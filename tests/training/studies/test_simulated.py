import numpy as np
import pytest

from tests.fakes import write_prepared
from training.data.prepared import load_prepared
from training.studies.simulated import TREMBLING, Motion, blended, ramp, simulate

STATUE = Motion(**dict.fromkeys(vars(Motion()), 0.0))


def grey(level: int) -> np.ndarray:
    return np.full((32, 32, 3), level, np.uint8)


def test_a_ramp_goes_from_0_to_1() -> None:
    assert ramp(6, 2, 4).tolist() == [0, 0, 0.25, 0.5, 0.75, 1]
    assert ramp(4, 2, 1).tolist() == [0, 0, 1, 1]
    assert ramp(3, 3, 1).tolist() == [0, 0, 0]


def test_without_motion_a_track_is_a_dissolve() -> None:
    track = simulate(grey(40), grey(240), ramp(6, 2, 4), STATUE, np.random.default_rng(0))
    assert track[:, 16, 16, 0].tolist() == [40, 40, 90, 140, 190, 240]
    assert np.ptp(track, axis=(1, 2, 3)).max() == 0


def test_the_same_seed_gives_the_same_track_and_another_does_not() -> None:
    first, again, other = (
        simulate(grey(40), grey(240), ramp(8, 2, 4), Motion(), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_trembling_face_changes_little_from_frame_to_frame() -> None:
    face = np.tile(np.linspace(0, 255, 112, dtype=np.uint8)[:, None, None], (1, 112, 3))
    track = simulate(face, face, np.zeros(20), TREMBLING, np.random.default_rng(0))
    changes = np.abs(np.diff(track.astype(int), axis=0)).mean()
    assert 2 < changes < 15


def test_targets_dissolve_with_the_faces(tmp_path) -> None:
    faces = load_prepared(write_prepared(tmp_path / "p", missing=[3]))
    happy, sad = faces.info.labels.index("happiness"), faces.info.labels.index("sadness")
    target = blended(faces, 0, 1, np.array([0.0, 0.25, 1.0]))
    assert target.expression[:, happy].tolist() == [1, 0.75, 0]
    assert target.expression[:, sad].tolist() == [0, 0.25, 1]
    assert target.valence_arousal[:, 0].tolist() == pytest.approx([0.8, 0.8 * 0.75 - 0.6 * 0.25, -0.6])
    assert target.action_units_mask.shape == (3, 12)
    assert target.action_units_mask.min() == 1
    # Record 3 has no derived targets, so its mixture has none.
    assert blended(faces, 0, 3, np.array([0.5])).valence_arousal_mask.tolist() == [0]
