import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.inference.smoothing import LOOKAHEAD_S, CausalSmoother, OfflineSmoother, smooth_offline

TIMES = np.arange(50) / 10


def causal(values: np.ndarray, times_s: np.ndarray = TIMES) -> np.ndarray:
    smoother = CausalSmoother()
    return np.array([smoother.update(row, time_s) for row, time_s in zip(values, times_s, strict=True)])


def jitter(values: np.ndarray) -> float:
    return float(np.abs(np.diff(values, axis=0)).mean())


def test_a_step_arrives_by_63_per_cent_after_the_time_constant() -> None:
    smoother = CausalSmoother(0.2)
    assert smoother.update(np.array([0.0]), 0.0) == [0.0]
    assert smoother.update(np.array([1.0]), 0.2) == pytest.approx([1 - np.exp(-1)])
    assert smoother.update(np.array([1.0]), 0.4) == pytest.approx([1 - np.exp(-2)])


def test_the_rate_of_frames_does_not_matter_to_the_causal_form() -> None:
    slow, fast = CausalSmoother(), CausalSmoother()
    slow.update(np.zeros(1), 0)
    fast.update(np.zeros(1), 0)
    for time_s in (0.1, 0.25, 0.3):
        last = fast.update(np.ones(1), time_s)
    assert last == pytest.approx(slow.update(np.ones(1), 0.3))


def test_offline_weights_are_a_gaussian_of_time() -> None:
    values, times_s = np.array([[0.0], [1.0], [5.0]]), np.array([0.0, 0.15, 10.0])
    neighbour = np.exp(-0.5)
    expected = [[neighbour / (1 + neighbour)], [1 / (1 + neighbour)], [5.0]]  # the third is too far away to count
    assert smooth_offline(values, times_s, 0.15) == pytest.approx(np.array(expected))


def test_offline_smoothing_has_no_lag() -> None:
    ramp = TIMES[:, None]
    assert smooth_offline(ramp, TIMES)[10:40] == pytest.approx(ramp[10:40])
    # The causal form runs behind: by 0.1 w / (1 - w) for a step of 0.1 s and a decay w over it.
    decay = np.exp(-0.1 / 0.15)
    assert (ramp - causal(ramp))[40] == pytest.approx(0.1 * decay / (1 - decay), abs=1e-6)


def test_both_more_than_halve_the_jitter_of_noise_at_ten_frames_a_second() -> None:
    noise = np.random.default_rng(0).normal(size=(50, 8))
    assert jitter(causal(noise)) < 0.45 * jitter(noise)
    assert jitter(smooth_offline(noise, TIMES)) < 0.35 * jitter(noise)


@given(
    gaps=st.lists(st.floats(0.001, 3), min_size=1, max_size=30),
    level=st.floats(-5, 5),
    seed=st.integers(0, 9),
)
def test_a_constant_stays_and_nothing_leaves_the_range_of_the_values(
    gaps: list[float], level: float, seed: int
) -> None:
    times_s = np.cumsum(gaps)
    constant = np.full((len(gaps), 2), level)
    values = np.random.default_rng(seed).normal(size=(len(gaps), 2))
    for smooth in (causal, smooth_offline):
        assert smooth(constant, times_s) == pytest.approx(constant)
        smoothed = smooth(values, times_s)
        assert smoothed.min() >= values.min() - 1e-9
        assert smoothed.max() <= values.max() + 1e-9


def test_times_constants_must_be_positive() -> None:
    for broken in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive"):
            CausalSmoother(broken)
        with pytest.raises(ValueError, match="positive"):
            smooth_offline(np.zeros((1, 1)), np.zeros(1), broken)
        with pytest.raises(ValueError, match="positive"):
            OfflineSmoother(broken)


def delayed(values: np.ndarray, times_s: np.ndarray, width_s: float) -> np.ndarray:
    """A track smoothed by an OfflineSmoother as its values come, each as soon as its future is known."""
    smoother = OfflineSmoother(width_s)
    waiting: list[float] = []
    smoothed = []

    def release(now_s: float) -> None:
        while waiting and now_s > waiting[0] + 3 * width_s:
            smoothed.append(smoother.smoothed(waiting.pop(0)))
            smoother.forget(waiting[0] if waiting else now_s)

    for value, time_s in zip(values, times_s.tolist(), strict=True):
        release(time_s)
        smoother.add(value, time_s)
        waiting.append(time_s)
        # What is held: the values not smoothed yet, and those that they need before them.
        assert len(smoother) == (times_s[: np.searchsorted(times_s, time_s, "right")] >= waiting[0] - 3 * width_s).sum()
    release(np.inf)
    return np.array(smoothed)


@given(
    gaps=st.lists(st.floats(0.001, 0.5), min_size=1, max_size=60),
    columns=st.sampled_from([1, 2, 22]),
    width_s=st.sampled_from([0.02, 0.15, 0.5]),
    start_s=st.floats(0, 1e4),
    seed=st.integers(0, 9),
)
def test_the_delay_line_equals_the_whole_track_bit_by_bit(
    gaps: list[float], columns: int, width_s: float, start_s: float, seed: int
) -> None:
    times_s = start_s + np.cumsum(gaps)
    values = np.random.default_rng(seed).normal(size=(len(gaps), columns))
    np.testing.assert_array_equal(delayed(values, times_s, width_s), smooth_offline(values, times_s, width_s))


def test_the_delay_line_holds_a_window_however_long_the_track_is() -> None:
    smoother = OfflineSmoother()
    for i in range(10_000):
        time_s = i / 25
        smoother.add(np.zeros(2), time_s)
        smoother.forget(time_s - LOOKAHEAD_S)
        # 0.45 s of looking ahead and 0.45 s of past: 22 steps of 0.04 s and the value between them.
        assert len(smoother) <= 23


def test_what_a_delay_line_looks_ahead_is_three_widths() -> None:
    assert pytest.approx(0.45) == LOOKAHEAD_S
    smoother = OfflineSmoother(0.15)
    for value, time_s in ((0.0, 0.0), (1.0, 0.15), (5.0, 0.46)):
        smoother.add(np.array([value]), time_s)
    neighbour = np.exp(-0.5)
    assert smoother.smoothed(0.0) == pytest.approx([neighbour / (1 + neighbour)])  # 0.46 s is out of its window


def test_a_time_that_was_not_added_or_is_forgotten_is_an_error() -> None:
    smoother = OfflineSmoother()
    smoother.add(np.zeros(1), 1.0)
    smoother.add(np.zeros(1), 1.1)
    with pytest.raises(ValueError, match=r"no value was added at 1\.05 s"):
        smoother.smoothed(1.05)
    smoother.forget(1.1)
    assert smoother.smoothed(1.1) == [0.0]
    with pytest.raises(ValueError, match=r"the values around 1\.0 s are forgotten"):
        smoother.smoothed(1.0)
