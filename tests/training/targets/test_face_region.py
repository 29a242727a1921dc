from dataclasses import replace

import numpy as np

from tests.training.sittings import LINE
from training.targets.face_region import mirrored_where, region_targets


def test_what_is_known_of_eyes_by_hand() -> None:
    looking = replace(LINE, gaze=(15.0, -6.0), eyes_closed=0.25, yaw=-9.0, pitch=4.5)
    targets = region_targets("eye-region", [LINE, looking])
    np.testing.assert_allclose(targets, [[0, 0, 0, 0, 0], [0.5, -0.2, 0.25, -0.2, 0.1]], atol=1e-6)
    # In a mirror image the person looks and turns to the other side.
    np.testing.assert_allclose(
        mirrored_where("eye-region", targets[[1, 1]], np.array([True, False])),
        [[-0.5, -0.2, 0.25, 0.2, 0.1], [0.5, -0.2, 0.25, -0.2, 0.1]],
        atol=1e-6,
    )
    assert region_targets("eye-region", []).shape == (0, 5)


def test_what_is_known_of_a_mouth_by_hand() -> None:
    speaking = replace(LINE, others={"AU9": 0.2, "AU17": 0.6, "AU28": 0.1, "AU43": 0.9}, yaw=-9.0, pitch=4.5)
    expected = [0.2, 0, 0, 0.6, 0, 0, 0, 0.1, -0.2, 0.1]  # AU9, 14, 16, 17, 18, 20, 22, 28, then yaw and pitch
    targets = region_targets("mouth-region", [speaking])
    np.testing.assert_allclose(targets, [expected], atol=1e-6)
    mirrored = mirrored_where("mouth-region", targets, np.array([True]))
    np.testing.assert_allclose(mirrored, [[*expected[:8], 0.2, 0.1]], atol=1e-6)
