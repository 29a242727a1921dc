from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.affect import ACTION_UNITS
from tests.fakes import write_prepared
from training.data.batches import targets, unit_variance
from training.data.mixture import Source, mix
from training.data.prepared import PreparedFaces, load_prepared
from training.datasets import DatasetError

FERPLUS, RENDERED = 0, 1
AU12 = list(ACTION_UNITS).index("AU12")


@pytest.fixture
def ferplus(tmp_path: Path) -> PreparedFaces:
    """Records 0 to 5: three training, two validation and one test faces; the second has no face."""
    return load_prepared(write_prepared(tmp_path / "ferplus", train=3, validation=2, test=1, missing=[1]))


@pytest.fixture
def rendered(tmp_path: Path) -> PreparedFaces:
    """Records 6 to 9 of the mixture, of which the teacher read nothing; the second has no composed expression."""
    faces = load_prepared(write_prepared(tmp_path / "rendered", train=2, validation=1, test=1))
    votes = faces.votes / 10
    votes[1] = 0
    info = replace(faces.info, dataset="rendered", rendered=True, derived=False, annotators=1)
    nothing = np.zeros(4, dtype=bool)
    return replace(faces, info=info, votes=votes, derived=nothing, blendshapes=None, landmarks=None)


def test_records_of_one_set_follow_those_of_the_other(ferplus: PreparedFaces, rendered: PreparedFaces) -> None:
    faces = mix([Source("a", ferplus), Source("b", rendered)])
    assert len(faces) == 10
    assert faces.origins.tolist() == [FERPLUS] * 6 + [RENDERED] * 4
    assert faces.indices("train").tolist() == [0, 1, 2, 6, 7]
    assert faces.indices("train", limit=1).tolist() == [0, 6]
    assert faces.indices("test").tolist() == [5, 9]
    assert np.array_equal(faces.crops[5], ferplus.crops[5])
    assert np.array_equal(faces.crops[6], rendered.crops[0])
    assert np.array_equal(faces.crops[9], rendered.crops[3])
    assert faces.info.dataset == "ferplus+rendered"
    assert faces.majority.tolist() == [*ferplus.majority, *rendered.majority]
    assert rendered.majority[1] == -1


def test_each_target_counts_where_it_is_known(ferplus: PreparedFaces, rendered: PreparedFaces) -> None:
    target = targets(mix([Source("a", ferplus), Source("b", rendered)]), np.arange(10))
    assert target.expression_mask.tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 1, 1]
    assert target.valence_arousal_mask.tolist() == [1, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    assert target.action_units_mask[:, AU12].tolist() == [1, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert target.action_units[7].tolist() == rendered.action_units[1].tolist()
    assert target.expression[6].tolist() == (ferplus.votes[0] / 10).tolist()


def test_only_trusted_units_and_listed_tasks_are_learned(ferplus: PreparedFaces, rendered: PreparedFaces) -> None:
    sources = [
        Source("a", ferplus, trusted_units=("AU12", "AU25")),
        Source("b", rendered, tasks=("action_units",)),
    ]
    faces = mix(sources)
    target = targets(faces, np.arange(10))
    trusted = [float(name in ("AU12", "AU25")) for name in ACTION_UNITS]
    assert target.action_units_mask[0].tolist() == trusted
    assert target.action_units_mask[1].tolist() == [0] * 12
    assert target.action_units_mask[6:].tolist() == [[1] * 12] * 4
    assert target.expression_mask.tolist() == [1] * 6 + [0] * 4
    assert faces.majority[6:].tolist() == [-1] * 4
    nothing = mix([Source("a", ferplus, tasks=("expression",)), sources[1]])
    assert not nothing.with_valence_arousal.any()
    assert nothing.with_action_units.tolist() == [False] * 6 + [True] * 4


def test_neutral_faces_teach_that_units_are_absent(ferplus: PreparedFaces, rendered: PreparedFaces) -> None:
    ferplus.votes[:] = 0
    ferplus.votes[0, ferplus.info.labels.index("neutral")] = 7
    ferplus.votes[0, ferplus.info.labels.index("sadness")] = 3
    ferplus.votes[2, ferplus.info.labels.index("neutral")] = 6
    ferplus.votes[2, ferplus.info.labels.index("anger")] = 4
    ferplus.action_units[:] = 0.5
    faces = mix([Source("a", ferplus, trusted_units=("AU12",), neutral_at_rest=True), Source("b", rendered)])
    at_rest = [0.5 if name == "AU12" else 0 for name in ACTION_UNITS]
    assert targets(faces, np.array([0])).action_units[0].tolist() == at_rest
    assert faces.known_units[0].all()
    assert faces.known_units[2].tolist() == [name == "AU12" for name in ACTION_UNITS]
    other_task = Source("a", ferplus, tasks=("expression",), neutral_at_rest=True)
    assert not other_task.known_units.any()


def test_what_the_teacher_reads_in_neutral_faces_may_count_less(ferplus: PreparedFaces) -> None:
    ferplus.votes[:] = 0
    ferplus.votes[[0, 2], ferplus.info.labels.index("neutral")] = [7, 6]
    ferplus.votes[2, ferplus.info.labels.index("anger")] = 4
    ferplus.action_units[:] = 0.5
    source = Source("a", ferplus, trusted_units=("AU12",), neutral_at_rest=True, resting_factor=0.5)
    assert source.action_units[0].tolist() == [0.25 if name == "AU12" else 0 for name in ACTION_UNITS]
    assert source.action_units[2].tolist() == 12 * [0.5]


def test_rare_expressions_may_count_as_much_as_frequent_ones(ferplus: PreparedFaces) -> None:
    ferplus.votes[:] = 0
    ferplus.votes[:3, ferplus.info.labels.index("neutral")] = 10
    ferplus.votes[3, ferplus.info.labels.index("anger")] = 10
    assert Source("a", ferplus).expression_weights.tolist() == [1, 1, 1, 1, 0, 0]
    balanced = Source("a", ferplus, balance=1)
    # Two labels share a weight of four faces: three faces have a third of two each, and one has two.
    assert balanced.expression_weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2, 0, 0])
    half = Source("a", ferplus, balance=0.5).expression_weights
    assert half[3] / half[0] == pytest.approx(3**0.5)
    mask = targets(mix([balanced, Source("b", ferplus)]), np.array([0, 3, 4, 9])).expression_mask
    assert mask.tolist() == pytest.approx([2 / 3, 2, 0, 1])
    ferplus.votes[:] = 0
    assert not Source("a", ferplus, balance=1).expression_weights.any()


def test_the_variance_of_a_unit_is_that_of_the_targets_that_are_learned(
    ferplus: PreparedFaces, rendered: PreparedFaces
) -> None:
    faces = mix([Source("a", ferplus, trusted_units=("AU12",)), Source("b", rendered)])
    variance = unit_variance(faces, np.array([0, 1, 2, 6, 7])).tolist()
    both = np.concatenate([ferplus.action_units[[0, 2]], rendered.action_units[[0, 1]]])
    assert variance[AU12] == pytest.approx(both[:, AU12].var(), rel=1e-5)
    assert variance[0] == pytest.approx(rendered.action_units[[0, 1], 0].var(), rel=1e-5)
    untaught = mix([Source("a", ferplus, trusted_units=("AU12",))])
    assert unit_variance(untaught, np.array([0, 2])).tolist()[0] == 1


def test_a_unit_is_present_by_the_threshold_of_its_own_set(ferplus: PreparedFaces, rendered: PreparedFaces) -> None:
    ferplus.action_units[0] = rendered.action_units[0] = 0.25
    present = mix([Source("a", ferplus), Source("b", rendered)]).units_present
    assert (present[0].any(), present[6].all()) == (False, True)


def test_readings_of_the_teacher_count_where_there_are_any(ferplus: PreparedFaces, rendered: PreparedFaces) -> None:
    faces = mix([Source("a", ferplus), Source("b", replace(rendered, derived=np.ones(4, dtype=bool)))])
    assert faces.blendshapes is not None
    assert faces.blendshapes.shape == (10, 52)
    assert not faces.blendshapes[6:].any()
    assert faces.derived.tolist() == [*ferplus.derived, False, False, False, False]
    assert mix([Source("b", rendered)]).landmarks is None


@pytest.mark.parametrize(
    ("field", "value"), [("label_set", "affectnet8"), ("alignment", "ddamfn-frontal-1"), ("detector", "mtcnn")]
)
def test_sets_that_do_not_go_together_are_refused(
    ferplus: PreparedFaces, rendered: PreparedFaces, field: str, value: str
) -> None:
    other = replace(rendered, info=replace(rendered.info, **{field: value}))
    with pytest.raises(DatasetError, match=f"a and b differ in {field}: .* and {value}"):
        mix([Source("a", ferplus), Source("b", other)])
    with pytest.raises(DatasetError, match="two of the sets have the same name: a, a"):
        mix([Source("a", ferplus), Source("a", rendered)])
