"""Encoders side by side, each with a batcher of its own."""

import asyncio

import numpy as np
import pytest

from service.analysis.estimating import BatchedEncoder, Estimator
from service.scheduling.batcher import BatcherClosed, NoObserver
from service.scheduling.lanes import Lane
from service.scheduling.replica import BatchLimits
from service.scheduling.watchdog import Watchdog
from tests.service.fakes import FakePredictor
from tests.service.scheduling.clocks import settle


def batched(encoder: FakePredictor) -> BatchedEncoder:
    return BatchedEncoder([encoder], BatchLimits(8), Watchdog(), observer=NoObserver())


def face(first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.full((32, 32, 3), level, np.uint8) for level in (first, second))


def test_features_of_all_encoders_come_together_in_the_order_of_the_faces() -> None:
    one, other = FakePredictor(), FakePredictor(seconds=0.02)

    async def run() -> list[list[float]]:
        estimator = Estimator([batched(one), batched(other)])
        estimates = await estimator.estimate([face(51, 102), face(0, 255)], Lane.INTERACTIVE)
        await estimator.close()
        assert all(estimate.predict_s >= 0.02 for estimate in estimates)  # the slower one's
        return [estimate.features.tolist() for estimate in estimates]

    assert asyncio.run(run()) == [pytest.approx([0.2, 0.4]), pytest.approx([0.0, 1.0])]
    assert (one.batches, other.batches) == ([2], [2])


def test_where_one_encoder_refuses_the_other_does_not_work_for_nothing() -> None:
    one, other = FakePredictor(), FakePredictor()

    async def run() -> None:
        first, second = batched(one), batched(other)
        estimator = Estimator([first, second])
        one.gate.clear()
        running = asyncio.ensure_future(first.batcher.submit(face(1, 1)[0]))
        await settle()
        await second.batcher.close()
        with pytest.raises(BatcherClosed):
            await estimator.estimate([face(2, 2)], Lane.INTERACTIVE)
        await settle()
        assert estimator.queue_depth == 0
        one.gate.set()
        await running
        await estimator.close()

    asyncio.run(run())
    assert (one.batches, other.batches) == ([1], [])
