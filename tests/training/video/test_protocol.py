"""The challenge's measures on a few frames whose numbers a person can check, and on any."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.affect import ACTION_UNITS, LABEL_SETS
from model_core.metrics import macro_f1
from tests.training.sequences import of_affect, of_expressions, of_units, unlabelled
from training.video.predictions import ProtocolError, SequencePredictions
from training.video.protocol import measure
from training.video.thresholds import Thresholds, tune_thresholds

UNITS = tuple(ACTION_UNITS)
LABELS = LABEL_SETS["abaw"]


def direct_ccc(x: list[float], y: list[float]) -> float:
    """2 cov / (var + var + (mean - mean)^2), sum by sum."""
    n = len(x)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / n
    var_x, var_y = sum((a - mean_x) ** 2 for a in x) / n, sum((b - mean_y) ** 2 for b in y) / n
    denominator = var_x + var_y + (mean_x - mean_y) ** 2
    return 2 * covariance / denominator if denominator else 1.0


def test_concordance_over_all_frames_is_not_the_mean_over_videos() -> None:
    # Within each video the estimates are constant, so its own concordance is 0.
    answers = [of_affect([[0, 0]] * 2, [[0, 0.5]] * 2, "a"), of_affect([[1, 0]] * 2, [[1, -0.5]] * 2, "b")]
    found = measure(answers).measures["valence_arousal"]
    assert found == {"p_va": 0.5, "ccc_valence": 1.0, "ccc_arousal": 0.0, "frames": 4, "videos": 2}


def test_concordance_by_hand() -> None:
    # Means 0.5 and 0; variances 0.25 and 1, covariance 0.5: 2 * 0.5 / (0.25 + 1 + 0.25) = 2/3.
    found = measure([of_affect([[1, 1], [0, -1]], [[1, 1], [-1, -1]])]).measures["valence_arousal"]
    assert found["ccc_valence"] == pytest.approx(2 / 3)
    assert found["p_va"] == pytest.approx(5 / 6)


def test_expressions_by_hand() -> None:
    # neutral: 1 found, 1 too many, 1 missed: 1/2. anger: 1 found, 1 too many, 1 missed: 1/2. Six classes at 0.
    found = measure([of_expressions([0, 0, 1], [0, 1, 0], "a"), of_expressions([1, 5], [1, -1], "b")])
    expected = {"neutral": 0.5, "anger": 0.5} | dict.fromkeys(LABELS[2:], 0.0)
    assert found.measures["expression"] == {
        "p_expr": 0.125,
        "f1": expected,
        "support": {"neutral": 2, "anger": 2} | dict.fromkeys(LABELS[2:], 0),
        "frames": 4,
        "videos": 2,
    }
    assert set(found.measures) == {"expression"}


def test_units_at_half_and_at_thresholds() -> None:
    answers = [of_units(np.array([0.3, 0.35, 0.6, 0.1]), np.array([1.0, 0, 1, -1]), "b")]
    tuned = Thresholds(dict.fromkeys(UNITS, 0.3), "grid", ("a",))
    found = measure(answers, tuned).measures["action_units"]
    assert found["f1"] == pytest.approx(dict.fromkeys(UNITS, 2 / 3))  # 1 of 2 found
    assert found["f1_tuned"] == pytest.approx(dict.fromkeys(UNITS, 4 / 5))  # both, and 1 too many
    assert (found["p_au"], found["p_au_tuned"]) == pytest.approx((2 / 3, 4 / 5))
    assert found["positives"] == dict.fromkeys(UNITS, 2)
    assert (found["frames"], found["videos"]) == (3, 1)
    assert not {"p_au_tuned", "f1_tuned"} & set(measure(answers).measures["action_units"])


def test_a_unit_without_labels_has_no_number_and_neither_has_the_mean() -> None:
    targets = np.ones((2, 12))
    targets[:, 0] = -1
    found = measure([of_units(np.full((2, 12), 0.9), targets)]).measures["action_units"]
    assert found["f1"] == dict.fromkeys(UNITS[1:], 1.0)
    assert found["positives"] == dict.fromkeys(UNITS[1:], 2)
    assert "p_au" not in found


def test_thresholds_are_never_tuned_on_what_is_reported() -> None:
    """Published defect: thresholds tuned and reported on the same split."""
    first, second = (of_units(np.array([0.2, 0.4]), np.array([0.0, 1]), video) for video in ("a", "b"))
    tuned = tune_thresholds([first], "grid")
    assert measure([second], tuned).measures["action_units"]["p_au_tuned"] == 1
    with pytest.raises(ProtocolError, match="tuned on 1 of the videos to report on, as a"):
        measure([first, second], tuned)
    with pytest.raises(ProtocolError, match="tuned on 1 of the videos to report on, as a"):
        measure([of_units(np.array([0.2]), np.array([1.0]), "a", "left")], tuned)


def test_intervals_are_over_videos() -> None:
    answers = [
        of_expressions([0] * 9, [0 if right else 1] * 9, f"v{i}") for i, right in enumerate([True] * 8 + [False])
    ]
    found = measure(answers, resamples=200)
    # All is taken for neutral, and one video of nine is not: 72 frames found, 9 too many, F1 16/17. With k right videos
    # a resample's F1 is 2k / (k + 9); k is 9 less a number of mean 1, which is above 3 in 1.5 % of the resamples.
    assert found.measures["expression"]["f1"]["neutral"] == pytest.approx(16 / 17)
    assert found.intervals["expression"]["f1"]["neutral"] == pytest.approx([2 * 6 / 15, 1], abs=0.03)
    assert set(found.intervals["expression"]) == {"p_expr", "f1"}
    assert measure(answers).intervals == {"expression": {}}


values = st.floats(-1, 1, width=32)
video = st.lists(st.tuples(values, values, values, values), min_size=1, max_size=8)


@given(videos=st.lists(video, min_size=1, max_size=5))
def test_pooled_concordance_is_the_direct_formula(videos: list[list[tuple[float, ...]]]) -> None:
    answers = [
        of_affect([frame[:2] for frame in frames], [frame[2:] for frame in frames], f"v{i}")
        for i, frames in enumerate(videos)
    ]
    found = measure(answers).measures["valence_arousal"]
    columns = [list(column) for column in zip(*(frame for frames in videos for frame in frames), strict=True)]
    expected = [direct_ccc(columns[i], columns[i + 2]) for i in range(2)]
    assert [found["ccc_valence"], found["ccc_arousal"]] == pytest.approx(expected, abs=1e-6)
    assert found["p_va"] == pytest.approx(sum(expected) / 2, abs=1e-6)


def anything(rng: np.random.Generator, name: str) -> SequencePredictions:
    """Predictions and targets of all tasks for a few frames, with masks."""
    frames = int(rng.integers(1, 7))
    whole = unlabelled(frames, name)
    masks = [rng.integers(0, 2, shape).astype(np.float32) for shape in (frames, frames, (frames, 12))]
    targets = replace(
        whole.targets,
        valence_arousal=(rng.uniform(-1, 1, (frames, 2)) * masks[0][:, None]).astype(np.float32),
        valence_arousal_mask=masks[0],
        expression=(np.eye(8)[rng.integers(0, 8, frames)] * masks[1][:, None]).astype(np.float32),
        expression_mask=masks[1],
        action_units=(rng.integers(0, 2, (frames, 12)) * masks[2]).astype(np.float32),
        action_units_mask=masks[2],
    )
    return SequencePredictions(
        replace(whole, targets=targets),
        valence_arousal=rng.uniform(-1, 1, (frames, 2)),
        expression=rng.normal(size=(frames, 8)),
        action_units=rng.uniform(0, 1, (frames, 12)),
    )


TUNED = Thresholds(dict.fromkeys(UNITS, 0.3), "grid", ("another",))


@given(seed=st.integers(0, 2**32), count=st.integers(1, 5))
def test_the_order_of_videos_changes_nothing(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    answers = [anything(rng, f"v{i}") for i in range(count)]
    before = measure(answers, TUNED, resamples=3)
    Random(seed).shuffle(answers)
    assert measure(answers, TUNED, resamples=3) == before


@given(seed=st.integers(0, 2**32), noise=st.sampled_from([np.nan, np.inf, -7.0, 0.5]))
def test_masked_frames_never_matter(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    answers = [anything(rng, f"v{i}") for i in range(3)]
    before = measure(answers, TUNED, resamples=3)
    for each in answers:
        targets = each.sequence.targets
        assert each.valence_arousal is not None
        assert each.expression is not None
        assert each.action_units is not None
        each.valence_arousal[targets.valence_arousal_mask == 0] = noise
        each.expression[targets.expression_mask == 0] = noise
        each.action_units[targets.action_units_mask == 0] = noise
    assert measure(answers, TUNED, resamples=3) == before


@given(seed=st.integers(0, 2**32))
def test_macro_f1_is_that_of_the_metrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, actual = rng.integers(0, 8, (2, 30))
    found = measure([of_expressions(predicted.tolist(), actual.tolist())]).measures["expression"]
    assert found["p_expr"] == pytest.approx(macro_f1(predicted, actual, range(8)))


def test_other_labels_are_refused() -> None:
    answers = [of_expressions([0], [0])]
    assert "happiness" in measure(answers, labels=LABEL_SETS["ferplus"]).measures["expression"]["f1"]
    with pytest.raises(ProtocolError, match="the targets are of 8 expressions, not of anger, joy"):
        measure(answers, labels=("anger", "joy"))
