from pathlib import Path

import numpy as np
import pytest

from model_core.faces.detection import YuFaceNetwork, scan, yuface


@pytest.mark.parametrize("percent", range(0, 101, 5))
def test_a_face_of_just_the_least_confidence_counts(monkeypatch: pytest.MonkeyPatch, percent: int) -> None:
    network = YuFaceNetwork()
    answer = np.array([[percent, 1, 2, 3, 4, *range(10), 0]], dtype=np.int16)
    monkeypatch.setattr(yuface, "_run_libfacedetection", lambda function, image: answer)
    frame = np.zeros((8, 8, 3), dtype=np.uint8)
    assert len(scan(network, frame, min_confidence=percent / 100)) == 1
    assert scan(network, frame, min_confidence=percent / 100 + 0.005) == []


def test_memory_does_not_grow_with_calls() -> None:
    network = YuFaceNetwork()
    frame = np.zeros((48, 48, 3), np.uint8)

    def resident_kb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4.096

    for _ in range(100):
        network.find(frame, 0.6)
    before = resident_kb()
    for _ in range(500):
        network.find(frame, 0.6)
    assert resident_kb() - before < 5_000  # the wheel's own module would have lost 18,000
