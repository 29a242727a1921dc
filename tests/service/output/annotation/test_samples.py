"""Samples on disk, and what is between them."""

import io

import pytest

from model_core.faces.geometry import Box
from service.output.annotation.samples import Between, Mark, Sample, SampleFile

FIRST = Mark(1, Box(0, 0, 10, 10), "happiness", 0.5, -0.25, ("AU6", "AU12"))
SECOND = Mark(2, Box(50, 50, 10, 10))
SAMPLES = [
    Sample(0.0, 0, (FIRST,)),
    Sample(0.5, 5, (Mark(1, Box(20, 10, 20, 30), "anger", -1.0, 1.0), SECOND)),
    Sample(1.0, 10),
]


def test_samples_are_read_as_they_were_written_and_again() -> None:
    file = SampleFile(io.BytesIO())
    for sample in SAMPLES:
        file.add(sample)
    assert list(file) == SAMPLES
    assert list(file) == SAMPLES


def test_a_box_moves_along_the_line_between_two_samples() -> None:
    between = Between(iter(SAMPLES))
    assert between.at(0.0) == (FIRST,)
    [mark] = between.at(0.125)  # a quarter of the way
    assert mark == Mark(1, Box(5, 2.5, 12.5, 15), "happiness", 0.5, -0.25, ("AU6", "AU12"))
    [moved, new] = between.at(0.5)
    assert (moved.box, moved.label, new.track_id) == (Box(20, 10, 20, 30), "anger", 2)
    [same, _] = between.at(0.75)  # which has no later sample to move to
    assert same.box == Box(20, 10, 20, 30)
    assert between.at(1.0) == between.at(9.0) == ()


@pytest.mark.parametrize("time_s", [-1.0, 0.0])
def test_nothing_is_known_before_the_first_sample(time_s: float) -> None:
    assert Between(iter(())).at(time_s) == ()
    assert Between(iter([Sample(0.5, 1, (FIRST,))])).at(time_s) == ()
