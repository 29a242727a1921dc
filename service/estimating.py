"""The network's half of the pipeline: what the batcher's thread runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from model_core.affect import Affect
from model_core.faces import Crop
from model_core.predictor import Outputs, Predictor
from service.batch_contract import BatchTooLarge


@dataclass(frozen=True)
class Estimate:
    """One face's outputs, the affect that they mean, and the seconds that its forward pass took."""

    outputs: Outputs
    affect: Affect
    predict_s: float


def estimator(predictor: Predictor, succeeded: Callable[[], None]) -> Callable[[Sequence[Crop]], list[Estimate]]:
    """The batcher's function: a timed forward pass, which tells `succeeded` that it was one."""

    def run(crops: Sequence[Crop]) -> list[Estimate]:
        started = time.perf_counter()
        try:
            outputs = predictor.outputs(crops)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise BatchTooLarge(f"no memory for {len(crops)} faces at once") from error
        affects = predictor.affects(outputs)
        elapsed = time.perf_counter() - started
        succeeded()
        return [Estimate(each, affect, elapsed) for each, affect in zip(outputs, affects, strict=True)]

    return run
