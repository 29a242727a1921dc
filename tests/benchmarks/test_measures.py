import math
from pathlib import Path

import cv2
import pytest
import torch
from torch import nn

from benchmarks.clip import HEIGHT, WIDTH, position, write_clip
from benchmarks.forward import (
    WARM_UPS,
    ceiling_ms,
    faces,
    interleaved,
    multiplication_gflops,
    operations,
    with_mirror_image,
)
from benchmarks.long_job import Look, Run
from benchmarks.video import Analysed
from model_core.preprocessing import InputSpec


def test_the_ceiling_by_hand() -> None:
    # At 1,000 GFLOP/s, 1.2 GFLOP take 1.2 ms, and eight times as many 9.6.
    assert ceiling_ms(1000, 8 * 1.2e9) == pytest.approx(9.6)


def test_operations_by_hand() -> None:
    # A 3 x 3 convolution from 2 to 4 channels on 5 x 5 pixels, then a product with a 100 x 10 matrix.
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(100, 10))
    assert operations(network, torch.zeros(1, 2, 5, 5)) == 2 * (25 * 4 * 2 * 9 + 100 * 10)


def test_a_face_is_read_with_its_mirror_image() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2, bias=False))
    x = torch.rand(5, 3, 4, 4)
    read = with_mirror_image(network)
    torch.testing.assert_close(read(x), (network(x) + network(x.flip(3))) / 2)
    torch.testing.assert_close(read(x), read(x.flip(3)))
    assert operations(read, x) == 2 * operations(network, x)


def test_the_faces_differ_and_have_the_network_s_shape() -> None:
    first, second = faces(2, InputSpec(32, "rgb", (0.5,) * 3, (0.25,) * 3, "arcface-1"))
    assert first.shape == (3, 32, 32)
    assert not torch.equal(first, second)


def test_a_matrix_product_has_a_speed() -> None:
    assert 0 < multiplication_gflops(16, 2) < math.inf


def test_the_forms_take_turns() -> None:
    calls: list[str] = []
    medians = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * (WARM_UPS + 2)
    assert set(medians) == {"a", "b"}


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


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(1, 500), (2, 520), (3, 510), (10, 515)], -5),  # the first two are in the first fifth of the time
        ([(0.5, 500), (1, 510)], 10),  # the first look is later than that
        ([(0.5, 500)], 0),
    ],
)
def test_memory_grows_after_the_first_fifth_of_a_job(looks: list[tuple[float, float]], expected: float) -> None:
    run = Run([Look(time_s, 0, 0, memory_mb) for time_s, memory_mb in looks], looks[-1][0])
    assert run.growth_mb() == expected
