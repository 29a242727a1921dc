import math
from pathlib import Path

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS, LABEL_SETS, Affect
from model_core.bundles.bundle import load_bundle
from model_core.calibration import Calibration
from model_core.faces.geometry import Crop
from model_core.inference.predictor import Predictor, calibrated
from tests.conftest import TINY_CALIBRATION


@pytest.fixture(scope="module")
def predictor(tiny_bundle_dir: Path) -> Predictor:
    return Predictor([load_bundle(tiny_bundle_dir)])


@pytest.fixture(scope="module")
def crops() -> list[Crop]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(4)]


@pytest.fixture(scope="module")
def together(predictor: Predictor, crops: list[Crop]) -> list[Affect]:
    return predictor.predict([[crop] for crop in crops])


def numbers(affect: Affect) -> list[float]:
    assert affect.expression is not None
    assert affect.action_units is not None
    units = [unit.probability for unit in affect.action_units.values()]
    return [affect.valence or 0, affect.arousal or 0, *affect.expression.probabilities.values(), *units]


def test_alone_and_in_a_batch_are_equal(predictor: Predictor, crops: list[Crop], together: list[Affect]) -> None:
    for crop, expected in zip(crops, together, strict=True):
        (alone,) = predictor.predict([[crop]])
        assert numbers(alone) == pytest.approx(numbers(expected), abs=1e-5)


def test_different_crops_have_different_results(together: list[Affect]) -> None:
    assert len({tuple(numbers(affect)) for affect in together}) == len(together)


def test_results_keep_their_promises(predictor: Predictor, together: list[Affect]) -> None:
    for affect in together:
        assert -1 <= affect.valence <= 1
        assert -1 <= affect.arousal <= 1
        probabilities = affect.expression.probabilities
        assert tuple(probabilities) == LABEL_SETS["ferplus"]
        assert sum(probabilities.values()) == pytest.approx(1)
        assert probabilities[affect.expression.label] == max(probabilities.values())
        assert tuple(affect.action_units) == tuple(ACTION_UNITS)
        for name, unit in affect.action_units.items():
            assert 0 <= unit.probability <= 1
            assert unit.active == (unit.probability >= predictor.manifests[0].calibration.unit(name).threshold)


def test_no_crops_no_results(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_a_crop_of_another_size_is_refused(predictor: Predictor, crops: list[Crop]) -> None:
    with pytest.raises(ValueError, match=r"crop is uint8 \(64, 64, 3\), but the model expects uint8 \(112, 112, 3\)"):
        predictor.predict([[crops[0]], [np.zeros((64, 64, 3), dtype=np.uint8)]])


def test_calibration_by_hand() -> None:
    expression = np.zeros((2, 8))
    expression[1, 1] = 2 * math.log(3)
    units = np.zeros((2, 12))
    units[1, list(ACTION_UNITS).index("AU12")] = (1 - math.log(4)) / 2  # 2 z - 1 = -ln 4: probability 1/5
    units[0, 0] = -0.001
    logits = {
        "valence_arousal": np.array([[0.5, -0.25], [0.0, 1.0]]),
        "expression": expression,
        "action_units": units,
    }
    first, second = calibrated(logits, LABEL_SETS["ferplus"], TINY_CALIBRATION)
    assert (first.valence, first.arousal) == (0.5, -0.25)
    # Only the biases .5 and -.5 of the first and the last label speak.
    total = math.exp(0.5) + 6 + math.exp(-0.5)
    assert first.expression.label == "neutral"
    assert first.expression.probabilities["contempt"] == pytest.approx(math.exp(-0.5) / total)
    assert second.expression.label == "happiness"
    assert second.expression.probabilities["happiness"] == pytest.approx(3 / (total + 2))
    assert second.action_units["AU12"].probability == pytest.approx(0.2)
    assert not second.action_units["AU12"].active
    # sigmoid(-1) is .27, above the hand-set threshold of .25.
    assert first.action_units["AU12"].active
    assert not first.action_units["AU1"].active
    assert second.action_units["AU1"].active


def test_a_missing_task_is_none() -> None:
    (affect,) = calibrated({"expression": np.zeros((1, 2))}, ("a", "b"), Calibration())
    assert (affect.valence, affect.arousal, affect.action_units) == (None, None, None)
    (affect,) = calibrated({"valence_arousal": np.zeros((1, 2))}, (), Calibration())
    assert affect == Affect(0.0, 0.0)
