import math
from pathlib import Path

import cv2
import pytest
import torch
from torch import nn

from benchmarks.clip import HEIGHT, WIDTH, position, write_clip
from benchmarks.forward import MULTIPLY_ADDS, WARM_UPS, ceiling_ms, interleaved, multiplication_gflops, settled
from benchmarks.video import Analysed


def test_the_ceiling_by_hand() -> None:
    # 1079.2 GFLOP/s make 1000 faces of 1.0792 GFLOP a second.
    assert pytest.approx(1.0792e9) == 2 * MULTIPLY_ADDS
    assert ceiling_ms(1079.2, 8) == pytest.approx(8)


def test_a_matrix_product_has_a_speed() -> None:
    assert 0 < multiplication_gflops(16, 2) < math.inf


def test_the_forms_take_turns() -> None:
    calls: list[str] = []
    medians = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * (WARM_UPS + 2)
    assert set(medians) == {"a", "b"}


def test_settled_norms_hold_what_they_saw() -> None:
    norm = nn.BatchNorm2d(1)
    network = settled(nn.Sequential(norm), torch.tensor([1.0, 5.0]).view(2, 1, 1, 1))
    assert (norm.running_mean.item(), norm.running_var.item()) == (3, 8)  # 8: the unbiased variance
    assert not network.training


def test_what_comes_after_an_earlier_end() -> None:
    assert Analysed(frames=20, faces=19, seconds=2.0) - Analysed(15, 15, 1.75) == Analysed(5, 4, 0.25)


def test_ms_per_frame_by_hand() -> None:
    assert Analysed(frames=20, faces=20, seconds=0.5).ms_per_frame() == 25
    assert math.isnan(Analysed(0, 0, 1.0).ms_per_frame())


def test_the_picture_stays_in_the_clip() -> None:
    for tenth in range(600):
        x, y = position(tenth / 10)
        assert 0 <= x <= WIDTH - 512
        assert 0 <= y <= HEIGHT - 512


def test_the_clip_is_what_it_says(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 3, 30)
    capture = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 30
    frames = 0
    while (read := capture.read())[0]:
        assert read[1].shape == (HEIGHT, WIDTH, 3)
        frames += 1
    assert frames == 3
    capture.release()


def test_a_clip_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot be written"):
        write_clip(tmp_path / "missing" / "clip.mp4", 1, 30)
