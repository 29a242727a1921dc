from pathlib import Path

import numpy as np

from tests.fakes import write_prepared
from training.data.degraded import degraded
from training.data.prepared import load_prepared


def test_each_found_face_is_changed_and_its_targets_are_not(tmp_path: Path) -> None:
    faces = load_prepared(write_prepared(tmp_path / "p", train=2, validation=20, test=0, side=112, missing=[5]))
    rows = faces.indices("validation")
    copy = degraded(faces, rows, seed=1)
    assert copy.names.tolist() == faces.names[rows].tolist()
    assert np.array_equal(copy.votes, faces.votes[rows])
    assert np.array_equal(copy.action_units, faces.action_units[rows])
    changed = np.array(
        [not np.array_equal(one, other) for one, other in zip(copy.crops, faces.crops[rows], strict=True)]
    )
    assert changed.tolist() == (rows != 5).tolist()
    assert np.array_equal(degraded(faces, rows, seed=1).crops, copy.crops)
    assert not np.array_equal(degraded(faces, rows, seed=2).crops, copy.crops)
    assert faces.crops[5].max() == 0
