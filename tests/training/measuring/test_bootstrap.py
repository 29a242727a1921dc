import numpy as np
import pytest

from training.measuring.bootstrap import intervals


def test_a_constant_is_its_own_interval() -> None:
    assert intervals(lambda rows: {"a": 0.25, "deep": {"b": 1.0}}, 9, resamples=20) == {
        "a": [0.25, 0.25],
        "deep": {"b": [1.0, 1.0]},
    }


def test_a_share_has_the_normal_interval() -> None:
    right = np.arange(1000) < 800
    low, high = intervals(lambda rows: {"share": float(right[rows].mean())}, 1000, resamples=1000)["share"]
    # 0.8 +- 1.96 sqrt(0.8 * 0.2 / 1000) = 0.8 +- 0.0248
    assert low == pytest.approx(0.7752, abs=0.004)
    assert high == pytest.approx(0.8248, abs=0.004)


def test_rows_are_paired_and_drawn_with_repetition() -> None:
    drawn = []

    def measures(rows: np.ndarray) -> dict[str, float]:
        drawn.append(rows)
        values = rows.astype(float)
        return {"difference": float((values - values).mean()), "mean": float(values.mean())}

    found = intervals(measures, 50, resamples=30)
    assert found["difference"] == [0.0, 0.0]
    assert found["mean"][0] < 24.5 < found["mean"][1]
    assert all(rows.shape == (50,) and rows.min() >= 0 and rows.max() < 50 for rows in drawn)
    assert any(len(set(rows.tolist())) < 50 for rows in drawn)


def test_the_seed_decides() -> None:
    def mean(rows: np.ndarray) -> dict[str, float]:
        return {"mean": float(rows.mean())}

    assert intervals(mean, 50, 30, seed=1) == intervals(mean, 50, 30, seed=1) != intervals(mean, 50, 30, seed=2)


def test_what_a_resample_leaves_undefined_has_no_interval() -> None:
    def measures(rows: np.ndarray) -> dict[str, float]:
        often = {"often": 1.0} if 0 in rows else {}  # the first row is missing from a third of the resamples
        return {"nan": float("nan"), "count": len(rows), "always": 1.0, **often}

    assert intervals(measures, 10, resamples=50) == {"always": [1.0, 1.0]}


def test_without_resamples_there_are_no_intervals() -> None:
    assert intervals(lambda rows: {"a": 1.0}, 5, resamples=0) == {}


def test_a_calibration_error_lies_within_its_interval() -> None:
    gaps = np.random.default_rng(0).normal(0.01, 1, 400)

    def error(rows: np.ndarray) -> dict[str, float]:
        value = float(np.abs(gaps[rows].reshape(20, 20).mean(axis=1)).mean())
        return {"ece": value, "raised": value}

    value = error(np.arange(400))["ece"]
    found = intervals(error, 400, resamples=200)
    shift = found["raised"][0] - found["ece"][0]
    assert found["ece"][0] < value < found["ece"][1]
    assert found["raised"][1] - found["ece"][1] == pytest.approx(shift)


def test_clusters_are_drawn_whole() -> None:
    people = np.array(["a", "b", "b", "c", "c", "c"])
    drawn: list[list[int]] = []

    def mean(rows: np.ndarray) -> dict[str, float]:
        drawn.append(np.bincount(rows, minlength=6).tolist())
        return {"mean": float(rows.mean())}

    intervals(mean, 6, resamples=40, clusters=people)
    for counts in drawn:
        assert counts[1] == counts[2]
        assert counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[1] + counts[3] == 3
    assert len({tuple(counts) for counts in drawn}) > 5


def test_pictures_of_the_same_people_make_nothing_surer() -> None:
    # Ten people, five of whom smile: a picture each, or a hundred.
    smiles = np.arange(10) % 2 == 0

    def width(pictures: int) -> float:
        values, people = np.repeat(smiles, pictures), np.repeat(np.arange(10), pictures)
        share = intervals(lambda rows: {"s": float(values[rows].mean())}, len(values), resamples=400, clusters=people)
        return float(share["s"][1] - share["s"][0])

    assert width(100) == width(1) > 0.5
