import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from model_core.faces.detection import YuFaceNetwork, scan
from model_core.faces.detection.yuface import LibFaceDetection
from model_core.faces.detection.yuface_model import YuFaceModel, faces
from model_core.faces.geometry import Frame

LIBRARY = LibFaceDetection()
MODEL = YuFaceModel(LIBRARY.weights)


@pytest.mark.parametrize("percent", range(20, 101, 5))
def test_a_face_of_just_the_least_confidence_counts(monkeypatch: pytest.MonkeyPatch, percent: int) -> None:
    network = YuFaceNetwork()
    answer = np.array([[percent, 1, 2, 3, 4, *range(10)]], dtype=np.float64)
    monkeypatch.setattr(YuFaceModel, "find", lambda self, image, min_confidence: answer)
    frame = np.zeros((8, 8, 3), dtype=np.uint8)
    assert len(scan(network, frame, min_confidence=percent / 100)) == 1
    assert scan(network, frame, min_confidence=percent / 100 + 0.005) == []


@pytest.mark.parametrize("longer_side", [37, 96, 100, 256, 300, 641])
@pytest.mark.parametrize("faces_beside", [1, 3])
def test_the_model_finds_exactly_what_the_library_finds(longer_side: int, faces_beside: int) -> None:
    portrait = data.astronaut()[:300, 50:350]
    picture = np.concatenate([portrait[:, ::-1] if place % 2 else portrait for place in range(faces_beside)], axis=1)
    scale = longer_side / picture.shape[1]
    picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    found = LIBRARY.find(picture, 0.2)
    np.testing.assert_array_equal(MODEL.find(picture, 0.2), found)
    np.testing.assert_array_equal(MODEL.find(picture, 0.6), found[found[:, 0] >= 60])
    if longer_side / faces_beside >= 96:
        assert (found[:, 0] >= 60).sum() == faces_beside


@given(st.integers(1, 130), st.integers(1, 130), st.integers(0, 2**32 - 1))
def test_noise_of_any_size_has_the_same_faces_in_both(height: int, width: int, seed: int) -> None:
    picture: Frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(MODEL.find(picture, 0.2), LIBRARY.find(picture, 0.2))


def test_threads_get_the_same_answers_and_take_turns() -> None:
    picture = np.asarray(data.astronaut()[:300, 50:350], dtype=np.uint8)
    pictures = [picture[: 300 - 8 * number] for number in range(8)]
    found = [MODEL.find(each, 0.2).tolist() for each in pictures]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert [rows.tolist() for rows in pool.map(lambda each: MODEL.find(each, 0.2), pictures)] == found


def test_a_cell_tells_where_its_face_is() -> None:
    outputs = np.full((64 + 16 + 4, 16), 0.0, np.float32)  # the cells of 64 x 64 pixels
    outputs[:, :2] = -80
    outputs[64 + 5] = [80, np.log(0.81 / 0.19), 0.5, -0.5, np.log(2), 0, *([0.5, 1.0] * 5)]
    # The second row and column of the cells of 16 pixels begin at (16, 16), and the root of 0.81 is 0.9.
    (row,) = faces(outputs, (64, 64), 0.6)
    assert row.tolist() == [90, 8, 0, 32, 16, *([24, 32] * 5)]
    assert faces(outputs, (64, 64), 0.91).shape == (0, 15)


def test_outputs_without_bounds_have_finite_faces() -> None:
    outputs = np.tile(np.array([1e30, 1e30, -1e3, 1e3, 1e30, 1e30, *[0] * 10], np.float32), (84, 1))
    assert np.isfinite(faces(outputs, (64, 64), 0.6)).all()


def test_of_faces_at_the_same_place_one_is_kept_and_512_in_all() -> None:
    cells = (640 // 8) ** 2
    outputs = np.full((cells * 21 // 16, 16), 0.0, np.float32)
    outputs[:, :2] = -80
    outputs[:cells, :2] = 5
    outputs[:cells, 2:6] = 0  # each face is as large as its cell, so none overlap
    assert len(faces(outputs, (640, 640), 0.6)) == 512
    outputs[:cells, 4:6] = 9  # each is far larger than the picture
    assert len(faces(outputs, (640, 640), 0.6)) == 1


def test_without_openvino_the_library_itself_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    network = YuFaceNetwork()
    picture = np.asarray(data.astronaut()[:300, 50:350], dtype=np.uint8)
    found, expected = network.find(picture, 0.6), YuFaceNetwork().find(picture, 0.6)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    assert len(found.boxes) == 1


def test_an_array_that_the_library_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match="unheard_of"):
        LIBRARY.weights("unheard_of", 16)


def resident_kb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.096


@pytest.mark.parametrize("network", [LIBRARY, MODEL], ids=["library", "model"])
def test_memory_does_not_grow_with_calls(network: LibFaceDetection | YuFaceModel) -> None:
    frame = np.zeros((48, 48, 3), np.uint8)
    for _ in range(100):
        network.find(frame, 0.6)
    before = resident_kb()
    for _ in range(500):
        network.find(frame, 0.6)
    assert resident_kb() - before < 5_000  # the wheel's own module would have lost 18,000
