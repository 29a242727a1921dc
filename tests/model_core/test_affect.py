from dataclasses import FrozenInstanceError

import pytest

from model_core.affect import ACTION_UNITS, LABEL_SETS, TASKS, Affect, Expression


def test_every_label_set_has_different_labels() -> None:
    sizes = {name: len(labels) for name, labels in LABEL_SETS.items()}
    assert sizes == {"ferplus": 8, "affectnet8": 8, "rafdb": 7, "abaw": 8}
    assert all(len(set(labels)) == len(labels) for labels in LABEL_SETS.values())


def test_label_sets_keep_their_data_sets_own_order() -> None:
    assert LABEL_SETS["ferplus"][:4] == ("neutral", "happiness", "surprise", "sadness")
    assert LABEL_SETS["affectnet8"][:4] == ("neutral", "happiness", "sadness", "surprise")
    assert LABEL_SETS["rafdb"][:4] == ("surprise", "fear", "disgust", "happiness")
    assert LABEL_SETS["abaw"][0] == "neutral"
    assert LABEL_SETS["abaw"][-1] == "other"


def test_only_contempt_and_other_set_the_label_sets_apart() -> None:
    assert set(LABEL_SETS["ferplus"]) == set(LABEL_SETS["affectnet8"])
    assert set(LABEL_SETS["affectnet8"]) - set(LABEL_SETS["rafdb"]) == {"contempt"}
    assert set(LABEL_SETS["ferplus"]) ^ set(LABEL_SETS["abaw"]) == {"contempt", "other"}


def test_action_units_are_the_challenges_twelve_in_its_order() -> None:
    numbers = [int(name.removeprefix("AU")) for name in ACTION_UNITS]
    assert numbers == [1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26]


def test_a_task_no_model_covers_is_none() -> None:
    affect = Affect(expression=Expression("neutral", {"neutral": 1.0}))
    assert (affect.valence, affect.arousal, affect.action_units) == (None, None, None)
    assert TASKS == ("valence_arousal", "expression", "action_units", "eyes_closed", "unit_changes")


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Affect().valence = 1.0  # type: ignore[misc]
