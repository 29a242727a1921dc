import numpy as np
import pytest

from training.data.batch_order import BatchOrder

ORIGINS = np.repeat([0, 1, 2], [10, 7, 2])
"""Positions 0 to 9 are of the first set, 10 to 16 of the second, 17 and 18 of the third."""


def mixed(seed: int = 1) -> BatchOrder:
    return BatchOrder(ORIGINS, (2, 1, 1), 8, seed)


def test_one_set_is_passed_through_once_without_an_incomplete_batch() -> None:
    order = BatchOrder(np.zeros(11, dtype=np.int64), (1.0,), 4, 3)
    batches = order.epoch(2)
    assert batches.shape == (2, 4)
    assert len(set(batches.ravel().tolist())) == 8
    expected = np.random.default_rng((3, 2)).permutation(11)
    assert batches.tolist() == [sorted(expected[:4]), sorted(expected[4:8])]


def test_every_batch_holds_each_sets_share() -> None:
    order = mixed()
    assert order.steps == 2  # 10 // 4
    for epoch in range(3):
        for batch in order.epoch(epoch):
            assert np.bincount(ORIGINS[batch]).tolist() == [4, 2, 2]


def test_an_epoch_is_one_pass_over_the_first_set() -> None:
    first = mixed().epoch(0)
    assert len(set(first[first < 10].tolist())) == 8


def test_other_sets_go_on_where_the_epoch_before_stopped() -> None:
    """The second set gives four faces an epoch: after seven epochs each of its seven was drawn four times."""
    order = mixed()
    epochs = [order.epoch(number) for number in range(7)]
    drawn = np.concatenate([epoch[(epoch >= 10) & (epoch < 17)] for epoch in epochs])
    assert np.bincount(drawn - 10).tolist() == [4] * 7
    assert len(set(drawn[:4].tolist())) == 4


def test_any_epoch_can_be_made_by_itself_and_seeds_differ() -> None:
    late = mixed().epoch(5)
    order = mixed()
    for number in range(5):
        order.epoch(number)
    assert np.array_equal(order.epoch(5), late)
    assert not np.array_equal(mixed(seed=2).epoch(5), late)


@pytest.mark.parametrize(
    ("origins", "shares", "size", "message"),
    [
        ([0] * 3, (1.0,), 4, "^3 training faces do not fill one batch of 4$"),
        ([], (1.0,), 4, "^0 training faces do not fill one batch of 4$"),
        ([0, 1, 1], (1, 1), 4, "^1 training faces do not fill the first set's 2 places in one batch of 4$"),
        ([0] * 9, (1, 1), 4, "^set 2 has no training faces$"),
        ([0] * 9 + [1], (9, 1), 4, r"^set 2 has no place in a batch of 4 with the shares \[9, 1\]$"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    origins: list[int], shares: tuple[float, ...], size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BatchOrder(np.array(origins, dtype=np.int64), shares, size, 0)
