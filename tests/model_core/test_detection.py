from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from model_core.detection import DETECTORS, FaceDetector, build_detector, largest
from model_core.faces import Face, Frame
from tests.fakes import face_at


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return build_detector("yuface")


@pytest.fixture(scope="module")
def face(detector: FaceDetector, astronaut: Frame) -> Face:
    faces = detector.detect(astronaut)
    assert len(faces) == 1
    return faces[0]


def test_the_astronauts_face_is_found(face: Face) -> None:
    # Her face fills about 90 x 110 pixels around (222, 120).
    assert face.confidence >= 0.6
    assert abs(face.box.x + face.box.width / 2 - 222) < 20
    assert abs(face.box.y + face.box.height / 2 - 120) < 20
    assert 70 < face.box.width < 120
    assert 80 < face.box.height < 140


def test_landmarks_are_in_plausible_places(face: Face) -> None:
    marks = face.landmarks
    assert marks.left_eye.x < marks.nose.x < marks.right_eye.x
    assert marks.left_mouth.x < marks.nose.x < marks.right_mouth.x
    assert max(marks.left_eye.y, marks.right_eye.y) < marks.nose.y < min(marks.left_mouth.y, marks.right_mouth.y)
    expected = [[200, 101], [247, 102], [220, 124], [198, 142], [239, 143]]
    assert np.abs(marks.as_array() - expected).max() < 6


@pytest.mark.parametrize("shape", [(240, 320, 3), (1, 1, 3), (1, 500, 3), (2000, 3, 3)])
def test_a_black_image_has_no_face(detector: FaceDetector, shape: tuple[int, int, int]) -> None:
    assert detector.detect(np.zeros(shape, dtype=np.uint8)) == []


def test_a_large_picture_is_answered_in_its_own_pixels(detector: FaceDetector, astronaut: Frame, face: Face) -> None:
    large = cv2.resize(astronaut, (2000, 2000), interpolation=cv2.INTER_CUBIC)
    (found,) = detector.detect(np.asarray(large, dtype=np.uint8))
    factor = 2000 / 512
    assert np.abs(found.landmarks.as_array() - factor * face.landmarks.as_array()).max() < 8 * factor
    assert abs(found.box.width - factor * face.box.width) < 12 * factor


def test_an_oblong_picture_keeps_its_shape(detector: FaceDetector, astronaut: Frame, face: Face) -> None:
    wide = np.zeros((512, 1280, 3), dtype=np.uint8)
    wide[:, 700 : 700 + 512] = astronaut
    (found,) = detector.detect(wide)
    assert np.abs(found.landmarks.as_array() - face.landmarks.as_array() - [700, 0]).max() < 10


def test_threads_agree(detector: FaceDetector, astronaut: Frame, face: Face) -> None:
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    alone = detector.detect(mirrored)
    frames = [astronaut, mirrored] * 6
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, frames)) == [[face], alone] * 6


def test_min_confidence_and_max_faces(detector: FaceDetector, astronaut: Frame, face: Face) -> None:
    assert detector.detect(astronaut, min_confidence=0.99) == []
    assert detector.detect(astronaut, min_confidence=face.confidence) == [face]
    pair = np.zeros((512, 768, 3), dtype=np.uint8)
    pair[:, :512] = astronaut
    pair[:256, 512:] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    first, second = detector.detect(pair)
    assert first.box.x < 512 < second.box.x
    assert detector.detect(pair, max_faces=1) == [first]


def test_the_largest_come_first() -> None:
    small, middle, large = face_at(0, 0, 5), face_at(0, 0, 10), face_at(0, 0, 20)
    assert largest([middle, small, large], None) == [large, middle, small]
    assert largest([middle, small, large], 2) == [large, middle]
    assert largest([], 3) == []


@pytest.mark.parametrize("make", DETECTORS.values(), ids=DETECTORS)
def test_every_detector_states_name_and_version(make: Callable[[], FaceDetector]) -> None:
    name, _, version = make().name.partition("-")
    assert name in DETECTORS
    assert version


def test_an_unknown_detector_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown face detector 'haar'; known: yuface"):
        build_detector("haar")
