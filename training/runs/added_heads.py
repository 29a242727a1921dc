"""Linear heads that are added to a finished network: it stays as it is, and they are fitted to its vectors."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.affect import TASKS, Task
from model_core.calibration import Calibration
from model_core.faces.alignment import shrink
from model_core.inference.encoder import answers_to
from model_core.inference.networks import build_tensor_runtime
from model_core.inference.runtimes import Runtime, RuntimeOptions
from model_core.models.folding import folded
from model_core.models.spec import EstimatorSpec
from model_core.preprocessing import to_batch
from training.data.prepared import PreparedFaces
from training.runs.checkpoint import CheckpointError, TrainedNetwork, load_trained, save_trained
from training.runs.command_line import CommandParser
from training.runs.config import CPUPrecision
from training.runs.trained import Evaluable, read_calibration, write_calibration

_BATCH = 64


@dataclass(frozen=True)
class Head:
    """A linear map from vectors to K outputs."""

    weight: NDArray[np.float64]
    """float64 [K, D]."""
    bias: NDArray[np.float64]
    """float64 [K]."""

    def __call__(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return outputs, float64 [N, K], for vectors [N, D]."""
        return np.asarray(vectors @ self.weight.T + self.bias)


def load_extensible(run: Path) -> TrainedNetwork:
    """Read a run's best weights, to which a head can be added. Raises CheckpointError where none can."""
    trained = load_trained(run / "best.pt")
    spec = trained.spec
    if trained.on_videos or spec.tower is not None or spec.hidden is not None:
        raise CheckpointError(f"{run} is no run on still pictures with linear heads, to which another can be added")
    return trained


def with_head(
    trained: TrainedNetwork, task: Task, head: Head, estimator: EstimatorSpec | None = None
) -> TrainedNetwork:
    """Return the network with the head of a task, in place of an earlier one.

    `estimator` goes with `unit_changes`; the caller adds its weights.
    """
    weights = {
        **trained.weights,
        f"heads.{task}.weight": torch.from_numpy(head.weight).float(),
        f"heads.{task}.bias": torch.from_numpy(head.bias).float(),
    }
    tasks = {*trained.spec.tasks, task}
    spec = replace(
        trained.spec,
        tasks=tuple(each for each in TASKS if each in tasks),
        estimator=estimator or trained.spec.estimator,
    )
    return replace(trained, spec=spec, weights=weights)


def save_extended(run: Path, extended: TrainedNetwork, **fitted: Any) -> None:
    """Put weights with a new head into a run, and what was fitted with it, fields of Calibration, into its calibration.

    A process that is killed meanwhile leaves the head without these, and never with those of an earlier one.
    """
    earlier = read_calibration(run)
    nothing = Calibration()
    write_calibration(run, replace(earlier, **{name: getattr(nothing, name) for name in fitted}))
    save_trained(extended, run / "best.pt")
    write_calibration(run, replace(earlier, **fitted))


def add_precision(parser: CommandParser) -> None:
    """Add the argument `--precision` of commands that read faces by a VectorReader."""
    parser.add_argument(
        "--precision",
        default="float32",
        choices=get_args(CPUPrecision),
        help="number format in which the faces are read; bfloat16 takes about half the time on a CPU that has it",
    )


class VectorReader:
    """Reads faces by the backbone alone, with their mirror images where the network's input says so."""

    def __init__(self, evaluable: Evaluable, precision: CPUPrecision = "float32") -> None:
        """Take a network on single faces, and the number format in which OpenVINO runs it."""
        self._input = evaluable.input
        self._options = RuntimeOptions("openvino", precision)
        self._backbone = evaluable.network.backbone

    def vectors(self, faces: PreparedFaces, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the vectors of some records of a set, float64 [N, D].

        Raises ModuleNotFoundError without the extra `openvino`.
        """
        parts = []
        for i in tqdm(range(0, len(rows), _BATCH), f"{faces.info.dataset}, {_BATCH} faces a step", disable=None):
            crops = [shrink(faces.crops[row], self._input.size) for row in rows[i : i + _BATCH]]
            parts.append(answers_to(to_batch(crops, self._input), self._input, self._run))
        return np.concatenate(parts)

    @cached_property
    def _run(self) -> Runtime:
        """Compiled when it is first used: it takes seconds, which a set that is refused should not cost."""
        return build_tensor_runtime(folded(self._backbone), self._input.size, "cpu", self._options)
