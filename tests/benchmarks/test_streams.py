"""What `benchmarks.streams` reads off a stream, without a service."""

import math
from pathlib import Path

import cv2

from benchmarks.streams import CROWD_FPS, Upload, seconds_until, write_crowd
from model_core.faces.detection import build_detector


def test_an_upload_knows_when_its_last_byte_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(range(256)) * 1000)
    upload = Upload(path)
    assert math.isnan(upload.ended)
    assert b"".join(upload) == path.read_bytes()
    assert upload.ended > 0


def test_a_condition_is_waited_for_and_given_up() -> None:
    answers = iter([False, False, True])
    assert seconds_until(lambda: next(answers), most_s=60) < 60
    assert seconds_until(lambda: False, most_s=0.01) == math.inf


def test_a_crowd_has_64_faces_that_are_found(tmp_path: Path) -> None:
    path = tmp_path / "crowd.mp4"
    write_crowd(path, 2)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == CROWD_FPS
    found, frame = capture.read()
    capture.release()
    assert found
    assert len(build_detector("yuface").detect(frame[..., ::-1].copy(), max_faces=64)) == 64
