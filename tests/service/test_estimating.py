"""Encoders side by side, each with a batcher of its own."""

import asyncio

import numpy as np
import pytest

from service.batch_contract import BatchLimits, NoObserver, QueueFull
from service.estimating import BatchedEncoder, Estimator
from service.lanes import Lane
from tests.service.fakes import FakePredictor


def batched(encoder: FakePredictor, max_wait_s: float = 10) -> BatchedEncoder:
    return BatchedEncoder([encoder], BatchLimits(8, 8, max_wait_s, 30), observer=NoObserver(), on_hang=lambda: None)


def face(first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.full((32, 32, 3), level, np.uint8) for level in (first, second))


def test_features_of_all_encoders_come_together_in_the_order_of_the_faces() -> None:
    one, other = FakePredictor(), FakePredictor(seconds=0.02)

    async def run() -> list[list[float]]:
        estimator = Estimator([batched(one), batched(other)])
        estimates = await estimator.estimate([face(51, 102), face(0, 255)], Lane.INTERACTIVE, admitted=False)
        await estimator.close()
        assert all(estimate.predict_s >= 0.02 for estimate in estimates)  # the slower one's
        return [estimate.features.tolist() for estimate in estimates]

    assert asyncio.run(run()) == [pytest.approx([0.2, 0.4]), pytest.approx([0.0, 1.0])]
    assert (one.batches, other.batches) == ([2], [2])


def test_where_one_encoder_refuses_the_other_does_not_work_for_nothing() -> None:
    one, other = FakePredictor(), FakePredictor()

    async def run() -> None:
        first, second = batched(one), batched(other, max_wait_s=0.01)
        estimator = Estimator([first, second])
        for encoder in (one, other):
            encoder.gate.clear()
        running = asyncio.ensure_future(estimator.estimate([face(1, 1)], Lane.INTERACTIVE, admitted=False))
        await asyncio.sleep(0.05)
        waiting = asyncio.ensure_future(second.batcher.submit_many([face(1, 1)[1]], admitted=True))
        await asyncio.sleep(0.05)
        assert estimator.expected_wait_s(Lane.INTERACTIVE) >= 0.05
        with pytest.raises(QueueFull):
            await estimator.estimate([face(2, 2)], Lane.INTERACTIVE, admitted=False)
        await asyncio.sleep(0.05)
        assert (first.batcher.queue_depth, estimator.queue_depth) == (0, 1)
        for encoder in (one, other):
            encoder.gate.set()
        await asyncio.gather(running, waiting)
        await estimator.close()

    asyncio.run(run())
    assert (one.batches, other.batches) == ([1], [1, 1])
