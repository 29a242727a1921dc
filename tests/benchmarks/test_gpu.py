import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.gpu import BASELINE, QUICK, measure, ways
from benchmarks.gpu_checks import differences, drawn, place, small_memory, within
from model_core.affect import AffectLogits
from model_core.bundles.bundle import load_bundle
from model_core.inference.networks import ConcatenatedNetwork


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_quick_run_checks_and_times_everything(quick_bundle_dir: Path, device: str) -> None:
    text, good = measure(load_bundle(quick_bundle_dir), place(device), QUICK)
    assert good
    assert text.count("| float32 |") == 2
    if device == "cpu":
        assert "| float32 | 1 | 0 | 0 | yes |" in text  # recorded on a CPU means the same
    for size in QUICK.batches:
        for form in (BASELINE, "eager float32", "recorded bfloat16", "served float32"):
            assert f"| {size} | {form} |" in text
        assert f"| {size} | pinned |" in text


def test_differences_by_hand() -> None:
    expected = np.array([[0.9, 0.1], [0.4, 0.6]])
    found = np.array([[0.8, 0.2], [0.6, 0.4]])
    same, mean, tail = differences(found, expected)
    assert (same, mean) == (0.5, pytest.approx(0.15))
    assert tail == pytest.approx(0.1 + 0.999 * 0.1)  # linear between 0.1 and 0.2


@pytest.mark.parametrize(
    ("measured", "good"),
    [
        ((1, 0, 0), True),
        ((0.998, 0, 0), False),
        ((1, 0.001, 0), False),
        ((1, 0, 0.01), False),
        ((1, math.nan, 0), False),
    ],
)
def test_float32_must_be_near(measured: tuple[float, float, float], good: bool) -> None:
    assert within(measured, "float32") is good


def test_drawings_are_seeded_and_differ() -> None:
    first, again, other = drawn(3, seed=1), drawn(3, seed=1), drawn(3, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])
    assert {(crop.shape, crop.dtype) for crop in first} == {((112, 112, 3), np.dtype("uint8"))}


def test_a_device_without_memory_halves_and_goes_on() -> None:
    text, good = small_memory(place("cpu"), drawn(8))
    assert good
    # 8 and both halves fail, and all later batches are of two.
    assert "tried: [8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2]." in text


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> AffectLogits:
        return AffectLogits(valence_arousal=self.conv(x).mean(dim=(2, 3)))


def test_a_compiled_way_says_the_same() -> None:
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    network = ConcatenatedNetwork(Tiny(), ("valence_arousal",)).requires_grad_(False)
    for way in ways(network, place("cpu"), 4, "eager"):
        assert way.compiled is not None
        torch.testing.assert_close(way.compiled(images), way.forward(images))
        assert way.served(images) == pytest.approx(way.forward(images).double().numpy())
