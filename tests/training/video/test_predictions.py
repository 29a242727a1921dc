from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.sequences import of_affect, of_expressions, of_units, unlabelled
from training.video.predictions import ProtocolError, SequencePredictions, pictured_only, pool, split_by_video


def test_labelled_frames_are_pooled_by_video_and_person() -> None:
    second = of_affect([[0.3, 0.4], [9, 9], [0.5, 0.6]], [[0, 0.1], [-5, -5], [0.2, 0.3]], "b")
    right = of_affect([[0.1, 0.2]], [[1, -1]], "a", "right")
    left = of_affect([[0.7, 0.8]], [[-1, 1]], "a", "left")
    nothing = of_affect([[1, 1]], [[-5, -5]], "c")
    pooled = pool([second, right, nothing, left], "valence_arousal")
    assert pooled is not None
    assert pooled.values.tolist() == [[0.7, 0.8], [0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    assert pooled.targets[:, 0] == pytest.approx([-1, 1, 0, 0.2])
    assert pooled.starts.tolist() == [0, 2, 4]
    assert pooled.videos == 2
    assert pooled.frames(np.array([1, 1, 0])).tolist() == [2, 3, 2, 3, 0, 1]


def test_a_frame_with_some_units_is_pooled_with_its_mask() -> None:
    targets = np.full((3, 12), -1.0)
    targets[1, 4] = 1
    pooled = pool([of_units(np.full((3, 12), 0.5), targets)], "action_units")
    assert pooled is not None
    assert pooled.mask.tolist() == [[i == 4 for i in range(12)]]
    assert pooled.values.tolist() == [[0.5 if i == 4 else 0 for i in range(12)]]


def test_what_is_not_covered_is_none() -> None:
    assert pool([], "expression") is None
    assert pool([of_affect([[0, 0]], [[0, 0]])], "expression") is None
    assert pool([of_expressions([1], [-1])], "expression") is None


def test_bad_predictions_are_refused() -> None:
    with pytest.raises(ProtocolError, match=r"a: expression is \(3, 8\), its targets \(2, 8\)"):
        SequencePredictions(unlabelled(2), expression=np.zeros((3, 8)))
    known = of_affect([[0, 0]], [[0, 0]])
    with pytest.raises(ProtocolError, match="1 of 2 sequences have predictions of valence_arousal"):
        pool([known, of_expressions([1], [1], "b")], "valence_arousal")
    with pytest.raises(ProtocolError, match="the sequence a stands twice"):
        pool([known, known], "valence_arousal")
    with pytest.raises(ProtocolError, match="a: some values of valence_arousal are not finite"):
        pool([of_affect([[0, np.nan]], [[0, 0]])], "valence_arousal")
    for value in (-0.1, 1.1, np.nan):
        with pytest.raises(ProtocolError, match="a: some values of action_units are not probabilities"):
            pool([of_units(np.array([value]), np.array([1.0]))], "action_units")
        assert pool([of_units(np.array([value, 0.5]), np.array([-1.0, 1.0]))], "action_units") is not None


def test_only_frames_with_a_picture() -> None:
    known = of_affect([[0.1, 0], [0.2, 0]], [[1, 1], [0, 0]])
    frames = (None, known.sequence.frames[1])
    seen = pictured_only(replace(known, sequence=replace(known.sequence, frames=frames)))
    pooled = pool([seen], "valence_arousal")
    assert pooled is not None
    assert pooled.values.tolist() == [[0.2, 0]]
    units = of_units(np.full(2, 0.5), np.ones(2))
    unseen = pictured_only(replace(units, sequence=replace(units.sequence, frames=(None, None))))
    assert pool([unseen], "action_units") is None


@given(videos=st.integers(2, 12), share=st.floats(0.01, 0.99), seed=st.integers(0, 5), order=st.randoms())
def test_no_video_is_on_both_sides(videos: int, share: float, seed: int, order: Random) -> None:
    items = [unlabelled(1, f"v{i}", person) for i in range(videos) for person in ("left", "right")]
    held_out, rest = split_by_video(items, share, seed)
    assert len(held_out) + len(rest) == 2 * videos
    tuned, reported = ({each.video for each in part} for part in (held_out, rest))
    assert not tuned & reported
    assert len(tuned) == min(max(1, round(share * videos)), videos - 1)
    assert [each.name for each in items if each.video in tuned] == [each.name for each in held_out]
    order.shuffle(items)
    assert {each.video for each in split_by_video(items, share, seed)[0]} == tuned


def test_the_seed_decides_and_predictions_are_parted_too() -> None:
    items = [of_affect([[0, 0]], [[0, 0]], f"v{i}") for i in range(10)]
    parts = {tuple(each.video for each in split_by_video(items, 0.3, seed)[0]) for seed in range(5)}
    assert len(parts) > 1
    assert {len(part) for part in parts} == {3}


@pytest.mark.parametrize(("videos", "share"), [(1, 0.5), (0, 0.5), (3, 0.0), (3, 1.0)])
def test_a_side_without_videos_is_refused(videos: int, share: float) -> None:
    with pytest.raises(ProtocolError, match=f"a share of {share} of {videos} videos"):
        split_by_video([unlabelled(1, f"v{i}") for i in range(videos)], share, 0)
