import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.affect import LABEL_SETS
from tests.fakes import write_prepared
from training.data.batches import unit_variance
from training.data.prepared import PreparedFaces, distributions, load_prepared
from training.datasets import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "prepared", train=3, validation=2, test=1, missing=[1])


def test_what_is_written_comes_back(folder: Path) -> None:
    faces = load_prepared(folder)
    assert len(faces) == 6
    assert faces.info.labels == LABEL_SETS["ferplus"]
    assert faces.indices("train").tolist() == [0, 1, 2]
    assert faces.indices("validation").tolist() == [3, 4]
    assert faces.indices("test").tolist() == [5]
    assert faces.found.tolist() == [True, False, True, True, True, True]
    assert faces.crops.shape == (6, 32, 32, 3)
    assert (faces.crops[1] == 0).all()


def with_votes(faces: PreparedFaces, votes: list[list[int]]) -> PreparedFaces:
    padded = np.zeros((len(votes), 8), dtype=np.float32)
    padded[:, : len(votes[0])] = votes
    return replace(faces, votes=padded)


def test_a_majority_needs_more_than_five_votes(folder: Path) -> None:
    faces = with_votes(load_prepared(folder), [[6, 4], [5, 5], [0, 10], [5, 4], [0, 6], [0, 0]])
    assert faces.majority.tolist() == [0, -1, 1, -1, 1, -1]


def test_with_one_annotator_a_vote_is_a_majority(folder: Path) -> None:
    faces = with_votes(load_prepared(folder), [[0, 1], [0, 0]])
    assert replace(faces, info=replace(faces.info, annotators=1)).majority.tolist() == [1, -1]


def test_annotated_valence_arousal_counts_where_it_was_annotated(tmp_path: Path) -> None:
    derived = load_prepared(write_prepared(tmp_path / "derived", train=2, validation=1, test=1, missing=[1]))
    assert derived.with_valence_arousal.tolist() == [True, False, True, True]
    annotated = load_prepared(write_prepared(tmp_path / "annotated", train=2, validation=1, test=1, annotated=True))
    assert annotated.with_valence_arousal.tolist() == [True, False, True, False]
    assert not annotated.derived.any()


def test_of_rendered_faces_the_units_are_known_and_valence_arousal_is_not(tmp_path: Path) -> None:
    faces = load_prepared(write_prepared(tmp_path / "set", train=2, validation=1, test=1, missing=[1]))
    rendered = replace(faces, info=replace(faces.info, rendered=True), derived=np.zeros(4, dtype=bool))
    assert rendered.with_action_units.tolist() == [True, False, True, True]
    assert not rendered.with_valence_arousal.any()
    assert unit_variance(rendered, np.array([1, 2, 3])) == pytest.approx(faces.action_units[2:].var(axis=0))


def test_what_counts_as_present_depends_on_where_the_units_come_from(tmp_path: Path) -> None:
    faces = load_prepared(write_prepared(tmp_path / "set", train=2, validation=1, test=1))
    faces.action_units[:, 0] = [0.19, 0.2, 0.29, 0.3]
    assert faces.units_present[:, 0].tolist() == [False, False, False, True]
    rendered = replace(faces, info=replace(faces.info, rendered=True))
    assert rendered.units_present[:, 0].tolist() == [False, True, True, True]
    assert (faces.info.present_from, rendered.info.present_from) == (0.3, 0.2)


def test_a_set_that_disagrees_with_its_description_is_refused(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "annotated", annotated=True)
    values = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps({**values, "annotated": False}))
    with pytest.raises(DatasetError, match="was prepared by another version"):
        load_prepared(folder)


def test_votes_as_distributions() -> None:
    votes = np.array([[1, 3], [0, 0], [0, 8]], dtype=np.float32)
    shares = distributions(votes)
    assert shares.dtype == np.float32
    assert shares.tolist() == [[0.25, 0.75], [0, 0], [0, 1]]


@pytest.mark.parametrize("name", ["prepared.json", "crops.npy", "faces.npz"])
def test_a_set_with_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DatasetError, match=r"is not a prepared data set .*training\.prepare"):
        load_prepared(folder)


@pytest.mark.parametrize("name", ["prepared.json", "crops.npy", "faces.npz"])
@pytest.mark.parametrize("keep", [0, 60])
def test_a_set_with_a_cut_file_is_refused(folder: Path, name: str, keep: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])
    with pytest.raises(DatasetError, match=r"is not a prepared data set .*training\.prepare"):
        load_prepared(folder)


def test_another_version_is_refused(folder: Path) -> None:
    values = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps({**values, "format": 2}))
    with pytest.raises(DatasetError, match="was prepared by another version"):
        load_prepared(folder)


def test_a_pickle_in_the_targets_is_refused(folder: Path) -> None:
    with np.load(folder / "faces.npz") as archive:
        arrays = dict(archive)
    arrays["names"] = np.array([{}] * 6, dtype=object)
    np.savez(folder / "faces.npz", allow_pickle=True, **arrays)
    with pytest.raises(DatasetError, match="ValueError"):
        load_prepared(folder)
