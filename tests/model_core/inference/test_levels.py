"""The levels that an ensemble of bundles compares."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core.affect import ACTION_UNITS
from model_core.bundles.bundle import BundleError
from model_core.calibration import AXES, UNCALIBRATED_UNIT, Calibration, ChangeLimits, UnitCalibration
from model_core.inference.predictor import PlacedBundle, Predictor
from tests.tiny_bundles import TinyBackbone, tiny_bundle

UNITS = dict.fromkeys(ACTION_UNITS, UNCALIBRATED_UNIT) | {"AU12": UnitCalibration(2.0, -1.0, 0.25)}
LIMITS = ChangeLimits({"valence": 0.1, "arousal": 0.2}, dict.fromkeys(ACTION_UNITS, 1.0))
CROPS = [[np.full((16, 16, 3), level, np.uint8)] for level in (0, 100, 200)]


def test_levels_agree_with_the_calibrated_answer() -> None:
    calibration = Calibration(action_units=UNITS, change_limits=LIMITS)
    bundle = tiny_bundle("all", "valence_arousal", "action_units", backbone=TinyBackbone(), calibration=calibration)
    predictor = Predictor([bundle])
    ensemble = predictor.everything
    outputs = predictor.outputs(CROPS)
    assert ensemble.comparison.names == (*AXES, *ACTION_UNITS)
    assert ensemble.comparison.limits == LIMITS.by_name
    for levels, affect in zip(ensemble.levels(outputs), ensemble.affects(outputs), strict=True):
        told = dict(zip(ensemble.comparison.names, levels, strict=True))
        assert (told["valence"], told["arousal"]) == (affect.valence, affect.arousal)
        for name, unit in affect.action_units.items():
            assert told[name] == pytest.approx(math.log(unit.probability / (1 - unit.probability)))


def test_each_task_has_the_limits_of_the_bundle_that_answers_it() -> None:
    backbone = TinyBackbone()
    fitted = Calibration(change_limits=LIMITS)
    first = tiny_bundle("first", "valence_arousal", "action_units", backbone=backbone, calibration=fitted)
    last = tiny_bundle("last", "action_units", backbone=backbone)
    ensemble = Predictor([first, last]).everything
    assert ensemble.comparison.names == (*AXES, *ACTION_UNITS)
    assert ensemble.comparison.limits == LIMITS.valence_arousal
    other = replace(last, manifest=replace(last.manifest, calibration=Calibration(change_limits=LIMITS)))
    assert Predictor([first, other]).everything.comparison.limits == LIMITS.by_name


def test_changes_have_the_limits_of_the_bundle_that_answers_them() -> None:
    """One bundle answers the units, and another one by how much they changed."""
    backbone = TinyBackbone()
    other_limits = ChangeLimits(action_units=dict.fromkeys(ACTION_UNITS, 3.0))
    changing = tiny_bundle(
        "changing",
        "action_units",
        "unit_changes",
        backbone=backbone,
        calibration=Calibration(change_limits=LIMITS),
    )
    last = tiny_bundle("last", "action_units", backbone=backbone, calibration=Calibration(change_limits=other_limits))
    predictor = Predictor([changing, last])
    ensemble = predictor.everything
    assert ensemble.tasks["action_units"].name == "last"
    assert ensemble.comparison.estimator is not None
    assert ensemble.comparison.limits == LIMITS.action_units
    outputs = predictor.outputs(CROPS)
    told = np.array([ensemble.layout.split(each[None])["unit_changes"][0] for each in outputs])
    levels = np.array(ensemble.levels(outputs))
    assert levels == pytest.approx(told)
    assert ensemble.affects(outputs) == Predictor([last]).predict(CROPS)


def test_an_estimator_compares_the_outputs_of_its_bundle() -> None:
    """It says what torch's layers say, and has no part in the answer for a face."""
    bundle = tiny_bundle("changing", "valence_arousal", "unit_changes", backbone=TinyBackbone())
    predictor = Predictor([bundle])
    ensemble = predictor.everything
    outputs = predictor.outputs(CROPS)
    assert np.array(outputs).shape == (3, 2 + 5)
    levels = np.array(ensemble.levels(outputs))
    compared = ensemble.comparison.compare(levels[0], levels)
    assert compared.rises.shape == compared.values.shape == (3, 2 + 12)
    with torch.inference_mode():
        told = bundle.network.estimator(torch.from_numpy(levels[:, 2:] - levels[0, 2:]).float())
    assert compared.rises[:, 2:] == pytest.approx(told[:, :12].numpy(), abs=1e-6)
    assert compared.values[:, 2:] == pytest.approx(told[:, 12:].numpy(), abs=1e-6)
    assert np.abs(compared.rises[2, 2:]).max() > 1e-3
    assert compared.rises[0].tolist() == [0.0] * 14


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({}, "missing estimator.first.weight"),
        ({"estimator.first.weight": np.zeros((7, 4))}, r"estimator.first.weight is \(7, 4\), expected \(7, 5\)"),
    ],
)
def test_an_estimator_that_does_not_fit_is_named(weights: dict[str, np.ndarray], reason: str) -> None:
    bundle = tiny_bundle("changing", "unit_changes", backbone=TinyBackbone())
    with pytest.raises(BundleError, match=f"bundle changing: {reason}"):
        PlacedBundle.of(replace(bundle, weights=weights), slice(0, 5))


def test_without_comparable_tasks_faces_have_no_levels() -> None:
    bundle = tiny_bundle("only", "expression", backbone=TinyBackbone())
    predictor = Predictor([bundle])
    assert predictor.everything.comparison.names == ()
    assert [levels.tolist() for levels in predictor.everything.levels(predictor.outputs(CROPS))] == [[], [], []]
    assert predictor.everything.levels([]) == []
