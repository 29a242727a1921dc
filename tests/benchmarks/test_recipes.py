import numpy as np
import pytest

from benchmarks.recipes import Gain, gain, gated, report, score
from training.video.predictions import Pooled


def test_scores_by_hand() -> None:
    every = np.ones((2, 2), np.bool_)
    # cov .5, variances 1 and .25, means 1 and .5: 2 * .5 / (1 + .25 + .25); and perfect agreement.
    estimates, targets = np.array([[0.0, 0.0], [2.0, 1.0]]), np.array([[0.0, 0.0], [1.0, 1.0]])
    assert score("valence_arousal", estimates, targets, every) == pytest.approx((2 / 3 + 1) / 2)
    chosen, actual = np.eye(8)[[0, 0, 1]], np.eye(8)[[0, 1, 1]]
    assert score("expression", chosen, actual, np.ones((3, 8), np.bool_)) == pytest.approx((2 / 3 + 2 / 3) / 8)
    # The first unit is found in both frames, the second in its only labelled one; the third is missed.
    probabilities = np.array([[0.9, 0.9, 0.1], [0.5, 0.9, 0.1]])
    labels, mask = np.ones((2, 3)), np.array([[True, True, True], [True, False, True]])
    assert score("action_units", probabilities, labels, mask) == pytest.approx((1 + 1 + 0) / 3)


def test_the_gate_opens_where_the_encoders_own_head_is_sure() -> None:
    logits, own = np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([[0.9, 0.1], [0.3, 0.7]])
    [open_for_one] = gated([logits], [own], 0.8)
    assert open_for_one.argmax(axis=1).tolist() == [0, 0]  # its own answer, then the new head's
    [never] = gated([logits], [own], None)
    assert never.argmax(axis=1).tolist() == [1, 0]


def pooled(values: list[float]) -> Pooled:
    columns = np.array(values)[:, None].repeat(2, axis=1)
    targets = np.array([0.0, 1.0, 0.0, 1.0])[:, None].repeat(2, axis=1)
    return Pooled(columns, targets, np.ones((4, 2), np.bool_), np.array([0, 2, 4]))


def test_a_gain_is_paired_over_videos() -> None:
    # The idea turns chance into the truth in both videos, so every resample gains 1.
    found = gain("idea", "system", 0, "valence_arousal", (pooled([0, 0, 0, 0]), pooled([0, 1, 0, 1])), resamples=20)
    assert (found.without, found.with_it, found.interval) == (0.0, 1.0, (1.0, 1.0))


def test_the_report() -> None:
    [*_, row] = report([Gain("gate", "ddamfn_fc_expr", 1, 0.5, 0.625, (-0.25, 0.375))]).strip().splitlines()
    assert row == "| gate | best/ddamfn_fc_expr | 1 | 0.500 | 0.625 | +0.125 [-0.250, +0.375] |"
