from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model_core.inference.runtimes import CPU_OPTIONS
from model_core.preprocessing import Images, InputSpec
from tests.training.conftest import FinishedRun
from training.runs.trained import load_for_measuring
from training.studies.agreement import _timed, compare, render


def test_faces_are_read_as_they_are_served() -> None:
    """A face whose left half alone is bright and its mirror image get one answer where mirror images are read, too."""
    face = np.zeros((1, 3, 4, 4), np.float32)
    face[..., :2] = 1
    both = np.concatenate([face, face[..., ::-1]])
    spec = InputSpec(4, "rgb", (0.5,) * 3, (0.25,) * 3, "arcface-1")

    def left_half(images: Images) -> NDArray[np.float64]:
        return images[..., :2].mean(axis=(1, 2, 3)).astype(np.float64)[:, None]

    assert _timed(left_half, both, spec)[0].tolist() == [[1], [0]]
    assert _timed(left_half, both, replace(spec, with_mirror_image=True))[0].tolist() == [[0.5], [0.5]]


def test_every_way_is_compared_with_the_first(finished: FinishedRun) -> None:
    evaluable, faces = load_for_measuring(str(finished.folder), finished.prepared)
    rows = np.flatnonzero(faces.found)[:6]
    results = compare(evaluable, faces, rows)
    assert [(r["engine"], r["precision"]) for r in results] == [(way.engine, way.precision) for way in CPU_OPTIONS]
    reference, exact = results[0], results[2]
    assert (reference["agreement"], reference["mean_change"], reference["change_999"]) == (1, 0, 0)
    assert exact["agreement"] == 1
    assert exact["mean_change"] < 1e-4
    for r in results:
        assert r["ms_a_face"] > 0
        assert r["accuracy"] == pytest.approx(round(6 * r["accuracy"]) / 6)
    assert len(render(results).splitlines()) == 1 + len(CPU_OPTIONS)
