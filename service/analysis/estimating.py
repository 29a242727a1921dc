"""The network's half of the pipeline: a batcher for each encoder, and a face's features from all of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from model_core.faces.geometry import Crop
from model_core.inference.encoder import Encoder, Features
from model_core.inference.runtimes import DeviceMemoryError
from service.scheduling.batcher import Batcher, BatchObserver
from service.scheduling.lanes import Lane
from service.scheduling.replica import BatchLimits, BatchTooLarge
from service.scheduling.watchdog import Watchdog


@dataclass(frozen=True)
class Estimate:
    """One face's features, and the seconds that their forward pass took (of several encoders', the slowest)."""

    features: Features
    predict_s: float


class BatchedEncoder:
    """An encoder behind a batcher, with a replica on each device. It knows when forward passes last succeeded."""

    def __init__(
        self, replicas: Sequence[Encoder], limits: BatchLimits, watchdog: Watchdog, *, observer: BatchObserver
    ) -> None:
        """`replicas`: the same encoder on each of the devices, at least one."""
        self._size = replicas[0].input.size
        self._succeeded_s = [float("-inf")] * len(replicas)
        run, *others = [partial(self._run, place, encoder) for place, encoder in enumerate(replicas)]
        self.batcher = Batcher[Crop, Estimate](run, limits, watchdog, replicas=others, observer=observer)

    @property
    def last_success_s(self) -> float:
        """Time of the last successful forward pass, by time.monotonic; of several replicas the one longest ago."""
        return min(self._succeeded_s)

    @property
    def stalled(self) -> bool:
        """True while a forward pass is known to hang."""
        return self.batcher.stalled

    async def probe(self) -> None:
        """Make a forward pass on each replica; raises what the batcher raises."""
        await self.batcher.submit_to_each(np.zeros((self._size, self._size, 3), dtype=np.uint8))

    def _run(self, place: int, encoder: Encoder, crops: Sequence[Crop]) -> list[Estimate]:
        """In the replica's thread."""
        started = time.perf_counter()
        try:
            features = encoder.features(crops)
        except DeviceMemoryError as error:
            raise BatchTooLarge(str(error)) from error
        elapsed = time.perf_counter() - started
        self._succeeded_s[place] = time.monotonic()
        return [Estimate(each, elapsed) for each in features]


class Estimator:
    """All encoders. They run side by side, and each batches by itself."""

    def __init__(self, encoders: Sequence[BatchedEncoder]) -> None:
        self._encoders = tuple(encoders)

    @property
    def queue_depth(self) -> int:
        """Crops that wait for a batch; a face waits once an encoder."""
        return sum(encoder.batcher.queue_depth for encoder in self._encoders)

    @property
    def blocked(self) -> bool:
        """True while one of the encoders takes no new face."""
        return any(encoder.batcher.blocked for encoder in self._encoders)

    async def estimate(self, faces: Sequence[Sequence[Crop]], lane: Lane) -> list[Estimate]:
        """Features of faces that were let in, of each of which there is a crop for each encoder.

        Raises what `submit_many` raises.
        """
        calls = [
            asyncio.ensure_future(encoder.batcher.submit_many(crops, lane=lane))
            for encoder, crops in zip(self._encoders, zip(*faces, strict=True), strict=True)
        ]
        try:
            answers = await asyncio.gather(*calls)
        finally:
            for call in calls:  # where one is refused, the others are not needed
                call.cancel()
        if len(answers) == 1:
            return answers[0]
        return [
            Estimate(np.concatenate([part.features for part in parts]), max(part.predict_s for part in parts))
            for parts in zip(*answers, strict=True)
        ]

    async def close(self) -> None:
        """Run what is queued and take nothing new."""
        for encoder in self._encoders:
            await encoder.batcher.close()
