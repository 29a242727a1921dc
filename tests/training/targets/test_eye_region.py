from dataclasses import replace

import numpy as np

from tests.training.sittings import LINE
from training.targets.eye_region import eye_targets, mirrored_where


def test_what_is_known_of_eyes_by_hand() -> None:
    looking = replace(LINE, gaze=(15.0, -6.0), eyes_closed=0.25, yaw=-9.0, pitch=4.5)
    targets = eye_targets([LINE, looking])
    np.testing.assert_allclose(targets, [[0, 0, 0, 0, 0], [0.5, -0.2, 0.25, -0.2, 0.1]], atol=1e-6)
    # In a mirror image the person looks and turns to the other side.
    np.testing.assert_allclose(
        mirrored_where(targets[[1, 1]], np.array([True, False])),
        [[-0.5, -0.2, 0.25, 0.2, 0.1], [0.5, -0.2, 0.25, -0.2, 0.1]],
        atol=1e-6,
    )
    assert eye_targets([]).shape == (0, 5)
