import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core.affect import AffectLogits
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from tests.training.measuring.test_report import FACES, ROWS, outputs
from training.datasets import DatasetError
from training.measuring.scoring import (
    Outputs,
    collect,
    concatenated,
    headline,
    predicted_majority,
    require_finite,
)

SPEC = InputSpec(4, "rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "arcface-1")


class Brightness(AffectNetwork):
    """Answers with the mean of the picture."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Identity(), {})

    def forward(self, x: torch.Tensor) -> AffectLogits:
        return AffectLogits(expression=x.mean(dim=(2, 3)))


def test_outputs_are_of_the_found_faces_in_order() -> None:
    crops = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3) * 51
    network = Brightness().train()
    collected = collect(network, replace(FACES, crops=crops), np.array([4, 2, 0]), SPEC, torch.device("cpu"))
    assert collected.rows.tolist() == [4, 0]
    assert collected.valence_arousal is None
    assert collected.action_units is None
    np.testing.assert_allclose(collected.expression, [[0.8] * 3, [0.0] * 3], atol=1e-6)
    assert collected.expression.dtype == np.float64
    assert not network.training


def test_parts_are_joined_in_their_order() -> None:
    first, second = (Outputs(np.array([i]), None, np.full((1, 3), float(i)), None) for i in (4, 7))
    empty = Outputs(np.array([], dtype=np.int64), None, None, None)
    whole = concatenated([empty, second, first])
    assert whole.rows.tolist() == [7, 4]
    assert whole.expression is not None
    assert whole.expression[:, 0].tolist() == [7, 4]
    assert whole.action_units is None
    assert len(concatenated([empty, empty]).rows) == 0


def test_a_face_not_found_has_no_prediction() -> None:
    given = outputs()
    predicted, actual = predicted_majority(FACES, ROWS, given, given.expression)
    happy, sad = 1, 3
    assert predicted.tolist() == [happy, sad, -1, sad]
    assert actual.tolist() == [happy, happy, sad, sad]


def test_the_headline_by_hand() -> None:
    values = headline(FACES, ROWS, outputs())
    assert values["accuracy"] == 2 / 4
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 8)
    assert values["ccc_v"] == pytest.approx(2 / 3)
    assert values["ccc_a"] == 0
    # Only AU1's target varies: the others have no correlation and take no part.
    assert values["au_r"] == pytest.approx(1 / math.sqrt(3), rel=1e-5)
    assert values["score"] == pytest.approx((2 / 4 + (2 / 3 + 0) / 2 + values["au_r"]) / 3)


def test_the_headline_of_annotated_targets() -> None:
    nobody, both = np.zeros(5, bool), np.array([True, True, True, False, False])
    values = headline(replace(FACES, derived=nobody, annotated=both), ROWS, outputs())
    assert values["ccc_v"] == pytest.approx(2 / 3)  # as by hand in test_report
    assert "au_r" not in values


@pytest.mark.parametrize("task", ["valence_arousal", "expression", "action_units"])
def test_outputs_that_are_not_finite_have_no_score(task: str) -> None:
    values = getattr(outputs(), task).copy()
    values[1, 0] = np.nan  # the argmax of this row is still a class
    damaged = replace(outputs(), **{task: values})
    assert np.isnan(headline(FACES, ROWS, damaged)["score"])
    with pytest.raises(ValueError, match="the network's outputs are not finite"):
        require_finite(damaged)
    require_finite(outputs())


def test_constant_units_have_no_correlation() -> None:
    given = replace(outputs(), action_units=np.zeros_like(outputs().action_units))
    values = headline(FACES, ROWS, given)
    assert math.isnan(values["au_r"])
    assert math.isnan(values["score"])


def test_a_split_without_targets_is_refused() -> None:
    with pytest.raises(DatasetError, match="neither a majority nor other targets"):
        headline(replace(FACES, derived=np.zeros(5, bool)), ROWS, replace(outputs(), expression=None))
