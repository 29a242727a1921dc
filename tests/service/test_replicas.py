"""Several replicas of a network behind one queue: who takes what, and what the others do when one is ill."""

import asyncio
import re
import threading
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from service.app import create_app
from service.scheduling.batcher import Batcher, BatcherClosed
from service.scheduling.replica import BatchLimits, BatchTooLarge
from service.scheduling.watchdog import Watchdog, WorkerStalled
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import png
from tests.service.scheduling.clocks import ManualClock, until
from tests.service.scheduling.test_batcher import Gate
from tests.service.test_faults import SmallDevice, wait_for

FACE = face_at(8, 8, 32)


def pair(
    first: Callable[[list[int]], list[int]],
    second: Callable[[list[int]], list[int]],
    max_items: int = 2,
    watchdog: Watchdog | None = None,
) -> Batcher[int, int]:
    return Batcher(first, BatchLimits(max_items), watchdog or Watchdog(), replicas=[second])


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 5)


def test_a_free_replica_takes_the_next_batch_in_a_thread_of_its_own() -> None:
    async def story() -> None:
        first, second = Gate(closed=True), Gate()
        queue = pair(first, second)
        held = asyncio.create_task(queue.submit_many([1, 2]))
        await entered(first)
        assert await queue.submit_many([3, 4, 5]) == [6, 8, 10]
        first.open.set()
        assert await held == [2, 4]
        await queue.close()
        assert (first.batches, second.batches) == ([[1, 2]], [[3, 4], [5]])
        assert len(first.threads | second.threads) == 2
        assert not any(thread.ident in first.threads | second.threads for thread in threading.enumerate())

    asyncio.run(story())


def test_both_work_at_once_where_there_is_enough() -> None:
    async def story() -> None:
        together = threading.Barrier(2, timeout=5)

        def run(items: list[int]) -> list[int]:
            together.wait()  # passes only while the other is here as well
            return items

        queue = pair(run, run)
        assert await queue.submit_many(range(8)) == list(range(8))
        await queue.close()

    asyncio.run(story())


def test_an_item_for_each_goes_first_and_to_all() -> None:
    async def story() -> None:
        first, second = Gate(closed=True), Gate(closed=True)
        queue = pair(first, second)
        held = asyncio.create_task(queue.submit_many([1, 2, 3, 4, 5]))
        await entered(first)
        await entered(second)
        probe = asyncio.create_task(queue.submit_to_each(9))
        await asyncio.sleep(0)
        first.open.set()
        second.open.set()
        assert await probe == [18, 18]
        assert await held == [2, 4, 6, 8, 10]
        await queue.close()
        assert first.batches[1][0] == second.batches[1][0] == 9
        assert sorted(item for batch in first.batches + second.batches for item in batch) == [1, 2, 3, 4, 5, 9, 9]
        with pytest.raises(BatcherClosed):
            await queue.submit_to_each(9)

    asyncio.run(story())


def test_a_device_with_less_memory_gets_smaller_batches_and_the_other_does_not() -> None:
    async def story() -> None:
        sizes: dict[str, list[int]] = {"small": [], "large": []}
        seen = {"small": threading.Event(), "large": threading.Event()}

        def device(name: str, most: int) -> Callable[[list[int]], list[int]]:
            def run(items: list[int]) -> list[int]:
                sizes[name].append(len(items))
                seen[name].set()
                assert all(event.wait(5) for event in seen.values())  # both get work
                if len(items) > most:
                    raise BatchTooLarge("no memory")
                return items

            return run

        queue = pair(device("small", 1), device("large", 4), max_items=4)
        assert await queue.submit_many(range(12)) == list(range(12))
        await queue.close()
        # 4 fails, 2 fails, and so does the other half of 2; from then on it takes one at a time.
        assert sizes["small"][:7] == [4, 2, 1, 1, 2, 1, 1]
        assert set(sizes["small"][7:]) <= {1}
        assert sizes["large"][0] == 4

    asyncio.run(story())


def test_one_that_stalls_loses_its_batch_only_and_the_other_serves_on() -> None:
    async def story() -> None:
        first, second, clock = Gate(closed=True), Gate(), ManualClock()
        queue = pair(first, second, watchdog=Watchdog(1, sleep=clock.sleep))
        held = asyncio.create_task(queue.submit(1))
        await clock.advance(1.25)
        with pytest.raises(WorkerStalled):
            await held
        assert queue.stalled
        assert await queue.submit_many([2, 3, 4]) == [4, 6, 8]
        with pytest.raises(WorkerStalled):
            await queue.submit_to_each(9)
        first.open.set()
        await until(lambda: not queue.stalled)
        assert await queue.submit_to_each(9) == [18, 18]
        await queue.close()

    asyncio.run(story())


def test_where_all_stall_the_queue_fails() -> None:
    async def story() -> None:
        first, second, clock = Gate(closed=True), Gate(closed=True), ManualClock()
        queue = pair(first, second, max_items=1, watchdog=Watchdog(1, sleep=clock.sleep))
        requests = [asyncio.create_task(queue.submit(item)) for item in range(4)]
        await clock.advance(1.25)
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [WorkerStalled] * 4
        with pytest.raises(WorkerStalled):
            await queue.submit(5)
        first.open.set()
        second.open.set()
        await queue.close()

    asyncio.run(story())


@given(
    requests=st.lists(st.lists(st.integers(0, 20), max_size=6), max_size=10),
    replicas=st.integers(1, 4),
    max_items=st.integers(1, 4),
)
def test_any_number_of_replicas_gives_each_caller_its_own_results(
    requests: list[list[int]], replicas: int, max_items: int
) -> None:
    async def story() -> None:
        gates = [Gate() for _ in range(replicas)]
        queue: Batcher[int, int] = Batcher(gates[0], BatchLimits(max_items), Watchdog(), replicas=gates[1:])
        answers = await asyncio.gather(*map(queue.submit_many, requests), return_exceptions=True)
        await queue.close()
        for items, answer in zip(requests, answers, strict=True):
            if 13 in items:
                assert str(answer) == "13 is poisoned"
            else:
                assert answer == [2 * item for item in items]
        assert all(len(batch) <= max_items for gate in gates for batch in gate.batches)

    asyncio.run(story())


def serving(first: FakePredictor, second: FakePredictor, settings: Settings | None = None) -> TestClient:
    app = create_app(settings or Settings(), FakeDetector(FACE), first, lambda: None, replicas=[second])
    return TestClient(app, raise_server_exceptions=False)


def on_gpu(index: int) -> FakePredictor:
    predictor = FakePredictor()
    predictor.device = f"cuda:{index}"  # a name only
    return predictor


def test_the_service_is_ready_when_every_replica_is() -> None:
    first, second = on_gpu(0), on_gpu(1)
    second.failing = RuntimeError("broken")
    with serving(first, second) as client:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["detail"]) == (503, "a forward pass failed (RuntimeError)")
        # The first answers pictures, which says nothing of the second.
        assert client.post("/analyze/frame", files={"file": png(204)}).json()["model"]["device"] == "cuda:0,cuda:1"
        assert client.get("/readyz").status_code == 503
        second.failing = None
        assert client.get("/readyz").status_code == 200
        metrics = client.get("/metrics").text
        devices = re.findall(r'^affect_model_info\{.*device="(\S+?)".*\} 1.0$', metrics, re.M)
        assert devices == ["cuda:0", "cuda:1"]
        assert 'affect_device_memory_bytes{device="cuda:1"} 0.0' in metrics  # it holds no network


def test_a_replica_that_hangs_makes_the_service_not_ready_while_the_other_answers() -> None:
    first, second = FakePredictor(), FakePredictor()
    with serving(first, second, Settings(stall_s=0.5)) as client:
        assert client.get("/readyz").status_code == 200
        first.gate.clear()
        assert client.post("/analyze/frame", files={"file": png(204)}).status_code == 503
        assert client.get("/readyz").json()["detail"] == "a forward pass has not ended in time"
        assert client.post("/analyze/frame", files={"file": png(204)}).status_code == 200
        first.gate.set()
        wait_for(lambda: client.get("/readyz").status_code == 200)


def test_replicas_without_memory_for_the_batch_get_halves() -> None:
    first, second = SmallDevice(), SmallDevice()
    detector = FakeDetector(*(face_at(8 + i, 8, 32 - i) for i in range(8)))
    with TestClient(create_app(Settings(), detector, first, replicas=[second])) as client:
        for _ in range(3):
            assert len(client.post("/analyze/frame", files={"file": png(204)}).json()["faces"]) == 8
    assert set(first.batches + second.batches) <= {1, 2}
