import numpy as np
import pytest

from model_core.inference.runtimes import CPU_OPTIONS
from tests.training.conftest import FinishedRun
from training.runs.trained import load_for_measuring
from training.studies.agreement import compare, render


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
