from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.faces.alignment import shrink
from model_core.preprocessing import InputSpec
from tests.fakes import write_prepared
from training.data.augmentation import Augmentation
from training.data.batch_order import BatchOrder
from training.data.batches import Batch, EpochPlan, ahead, evaluation_batches, image_batch, targets, training_batches
from training.data.prepared import PreparedFaces, load_prepared
from training.runs.processes import Processes

SPEC = InputSpec(32, "grey", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "arcface-1")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> PreparedFaces:
    return load_prepared(write_prepared(tmp_path_factory.mktemp("set") / "prepared", train=22, missing=[3]))


def epoch(
    faces: PreparedFaces, first: int = 0, seed: tuple[int, int] = (1, 0), share: slice = slice(None)
) -> list[Batch]:
    rows = faces.indices("train")
    order = rows[BatchOrder(np.zeros(len(rows), dtype=np.int64), (1.0,), 4, seed[0]).epoch(seed[1])]
    return list(training_batches(faces, SPEC, Augmentation(), EpochPlan(order, seed, first, share)))


def test_an_epoch_sees_each_record_at_most_once(faces: PreparedFaces) -> None:
    batches = epoch(faces)
    rows = np.concatenate([batch.rows for batch in batches])
    assert [len(batch.rows) for batch in batches] == [4] * 5  # 22 // 4
    assert len(set(rows.tolist())) == 20
    assert set(rows.tolist()) <= set(range(22))


@pytest.mark.parametrize("first", [1, 3, 5])
def test_a_resumed_epoch_goes_on_exactly(faces: PreparedFaces, first: int) -> None:
    whole, rest = epoch(faces)[first:], epoch(faces, first)
    assert len(whole) == len(rest)
    for expected, batch in zip(whole, rest, strict=True):
        assert np.array_equal(batch.rows, expected.rows)
        assert torch.equal(batch.images, expected.images)
        for name, value in vars(expected.target).items():
            assert torch.equal(getattr(batch.target, name), value)


def test_repeated_faces_follow_their_batch_mirrored(faces: PreparedFaces) -> None:
    order = faces.indices("train")[:10].reshape(2, 5)
    still = Augmentation(
        rotation_deg=0, scale=0, shift=0, contrast=0, brightness=0, blur=0, noise=0, compression=0, erase=0
    )
    batches = list(training_batches(faces, SPEC, still, EpochPlan(order, (0, 0), repeated=3)))
    for batch, rows in zip(batches, order, strict=True):
        assert batch.repeated.tolist() == [0, 2, 4]
        assert batch.rows.tolist() == rows[[0, 1, 2, 3, 4, 0, 2, 4]].tolist()
        assert torch.equal(batch.images[5:].flip(3), batch.images[[0, 2, 4]])
        assert torch.equal(batch.target.action_units[5:], batch.target.action_units[[0, 2, 4]])
    halves = [
        list(training_batches(faces, SPEC, still, EpochPlan(order, (0, 0), 0, Processes(rank, 2).share(8), 3)))
        for rank in range(2)
    ]
    for whole, first, second in zip(batches, *halves, strict=True):
        assert torch.equal(torch.cat([first.images, second.images]), whole.images)


def test_processes_make_parts_of_the_same_batches(faces: PreparedFaces) -> None:
    shares = [epoch(faces, share=Processes(rank, 2).share(4)) for rank in range(2)]
    for whole, first, second in zip(epoch(faces), *shares, strict=True):
        assert torch.equal(torch.cat([first.images, second.images]), whole.images)
        assert len(first.images) == 2
        for part in (first, second):
            assert np.array_equal(part.rows, whole.rows)
            assert torch.equal(part.target.expression, whole.target.expression)


def test_batches_made_ahead_are_the_same_and_their_errors_arrive(faces: PreparedFaces) -> None:
    batches = epoch(faces)
    assert len(batches) > 3
    assert list(ahead(iter(batches))) == batches

    def broken() -> Iterator[Batch]:
        yield batches[0]
        raise OSError("the disk left")

    received = ahead(broken())
    assert next(received) is batches[0]
    with pytest.raises(OSError, match="the disk left"):
        next(received)


def test_epochs_and_runs_differ(faces: PreparedFaces) -> None:
    orders = [np.concatenate([b.rows for b in epoch(faces, seed=seed)]).tolist() for seed in ((1, 0), (1, 1), (2, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_images_are_what_the_service_would_make(faces: PreparedFaces) -> None:
    rows = np.array([0, 5, 30])
    small = InputSpec(16, "grey", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "arcface-1")
    (batch,) = evaluation_batches(faces, rows, small)
    assert torch.equal(batch.images, image_batch([shrink(faces.crops[row], 16) for row in rows], small))


def test_evaluation_sees_all_in_order(faces: PreparedFaces) -> None:
    rows = np.arange(10)
    batches = list(evaluation_batches(faces, rows, SPEC, batch_size=4))
    assert [batch.rows.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_targets_and_masks(faces: PreparedFaces) -> None:
    faces.votes[1] = [1, 3, 0, 0, 0, 0, 0, 0]
    faces.votes[2] = 0
    target = targets(faces, np.array([1, 2, 3]))
    assert target.expression[:2].tolist() == [[0.25, 0.75, 0, 0, 0, 0, 0, 0], [0] * 8]
    assert target.expression_mask.tolist() == [1, 0, 1]
    assert target.valence_arousal_mask.tolist() == [1, 1, 0]
    assert target.action_units_mask.tolist() == [[1] * 12, [1] * 12, [0] * 12]
    assert target.valence_arousal[1].tolist() == pytest.approx([0.8, 0.4])


def test_annotated_targets_have_a_mask_of_their_own(tmp_path: Path) -> None:
    annotated = load_prepared(write_prepared(tmp_path / "annotated", annotated=True))
    target = targets(annotated, np.array([0, 1]))
    assert target.valence_arousal_mask.tolist() == [1, 0]
    assert target.action_units_mask.tolist() == [[0] * 12, [0] * 12]
