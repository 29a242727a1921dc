"""Networks that several threads use at once, each compiled no more often than there are cores."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from model_core.faces import compiled_models
from model_core.faces.compiled_models import CompiledModels

openvino = pytest.importorskip("openvino")


def doubling() -> openvino.Model:
    """A model that doubles its input, float32 [N]."""
    from openvino import opset13

    values = opset13.parameter([-1], np.float32)
    return openvino.Model([opset13.multiply(values, np.float32(2))], [values], "doubling")


@pytest.mark.parametrize("release_memory", [False, True])
def test_the_output_is_a_copy(release_memory: bool) -> None:
    models = CompiledModels(doubling())
    first = models.run(np.array([1, 2.5], np.float32), release_memory=release_memory)
    models.run(np.array([7, 7], np.float32))
    assert first.tolist() == [2, 5]
    assert models.run(np.array([3], np.float32)).tolist() == [6]  # of another size


def test_it_is_compiled_once_for_calls_one_after_another_and_at_most_once_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = []
    together = threading.Barrier(len(os.sched_getaffinity(0)))

    def compile_slowly(model: object) -> object:
        compiled.append(model)
        together.wait(timeout=30)  # until there is one for each core
        return lambda values: [2 * values]

    monkeypatch.setattr(compiled_models, "_compiled", compile_slowly)
    models = CompiledModels("model")
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda number: models.run(np.array([number])).tolist(), range(100))
        assert list(answers) == [[2 * number] for number in range(100)]
    assert len(compiled) == len(os.sched_getaffinity(0))
    models.run(np.array([1]))
    assert len(compiled) == len(os.sched_getaffinity(0))


def test_a_call_that_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    models = CompiledModels(doubling())
    with monkeypatch.context() as patch:
        patch.setattr(compiled_models, "_compiled", lambda model: 1 / 0)
        for _ in range(200):
            with pytest.raises(ZeroDivisionError):
                models.run(np.array([1], np.float32))
    assert models.run(np.array([1], np.float32)).tolist() == [2]
