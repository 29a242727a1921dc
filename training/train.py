"""`python -m training.train`: train a network on a prepared set, or a head on video data.

The same command resumes a run that was stopped. A run that diverges ends with status 1 and keeps no weights.
`torchrun --nproc-per-node N -m -- training.train` shares each step of a run of a whole network among N processes, on
CUDA with a GPU each.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch.distributed import get_node_local_rank

from model_core.bundles.bundle import BundleError
from model_core.models.clip import ClipError
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.datasets import DatasetError
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, fail
from training.runs.config import FaceRegionConfig, LocalConfig, TrainConfig
from training.runs.config_file import ConfigError, checked, read_values
from training.runs.face_region import FaceRegionRun, build_face_region_run
from training.runs.local import LocalRun, build_local_run
from training.runs.network import NetworkRun
from training.runs.processes import ALONE, Processes, joined_processes
from training.runs.run import TrainingDiverged
from training.runs.start import freeze, start_from
from training.runs.teaching import load_teacher
from training.runs.training_data import load_training_faces, records_at_rest, require_targets
from training.video.build import build_sequence_run
from training.video.config import SequenceConfig
from training.video.predictions import ProtocolError
from training.video.run import SequenceRun


def build_run(config: TrainConfig, folder: Path, device: torch.device, processes: Processes = ALONE) -> NetworkRun:
    """Return a seeded run of a whole network in its folder. Raises DatasetError, CheckpointError, ValueError."""
    torch.manual_seed(config.run.seed)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    faces = load_training_faces(config.data)
    tasks, options = config.network.tasks, config.input
    labels = faces.info.labels if "expression" in tasks else ()
    spec = NetworkSpec(config.network.backbone, tasks, labels, config.network.hidden)
    input_spec = InputSpec(alignment=faces.info.alignment, **options.model_dump())
    require_targets(faces, spec)
    network = build_network(spec)
    if config.network.start_from:
        taken = start_from(network, spec, config.network.start_from, input_spec)
        if processes.leads:
            print(taken)
    freeze(network, config.network.frozen)
    teacher = None
    if config.teacher:
        if processes.count > 1:
            raise ConfigError("a network that has a teacher is trained by one process")
        taught = tuple(number for number, each in enumerate(config.data.sets) if each.taught)
        teacher = load_teacher(config.teacher, faces, spec, input_spec, taught)
    at_rest = np.zeros(0, dtype=np.int64)
    if config.optimizer.compared:
        if processes.count > 1:
            raise ConfigError("a run with optimizer.compared is done by one process")
        at_rest = records_at_rest(config.data, faces)
        if not (at_rest[faces.indices("train", config.data.limit)] >= 0).any():
            raise DatasetError("loss.change compares the action units of rendered faces with the same faces at rest")
    folder.mkdir(parents=True, exist_ok=True)
    return NetworkRun(config, faces, spec, input_spec, network, folder, device, processes, teacher, at_rest)


RunConfig = TrainConfig | LocalConfig | FaceRegionConfig | SequenceConfig

KINDS: Mapping[str, type[RunConfig]] = {
    "network": TrainConfig,
    "local": LocalConfig,
    "eye-region": FaceRegionConfig,
    "mouth-region": FaceRegionConfig,
    "sequence": SequenceConfig,
}
"""The values of a configuration's key `kind`."""


def load_run_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration of the kind that it states; see `read_values`. Raises ConfigError."""
    values = read_values(path, overrides)
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        known = ", ".join(f'"{name}"' for name in KINDS)
        raise ConfigError(f"{path}: kind: the file states at its top what it trains, kind = one of {known}")
    return checked(kind, values, str(path))


def build_any_run(
    config: RunConfig, folder: Path, device: torch.device, processes: Processes
) -> NetworkRun | LocalRun | FaceRegionRun | SequenceRun:
    """Put together the run that a configuration describes. Raises one of ERRORS."""
    match config:
        case TrainConfig():
            return build_run(config, folder, device, processes)
        case LocalConfig():
            if processes.count > 1 or device.type != "cpu":
                raise ConfigError("local features are trained by one process, on the CPU")
            return build_local_run(config, folder)
        case FaceRegionConfig():
            if processes.count > 1 or device.type != "cpu":
                raise ConfigError("features of a region are trained by one process, on the CPU")
            return build_face_region_run(config, folder)
        case SequenceConfig():
            if processes.count > 1:
                raise ConfigError("a head on video data is trained by one process")
            return build_sequence_run(config, folder, device)


def choose_device(name: str) -> torch.device:
    """Return the PyTorch device of that name; plain `cuda` gives each of several processes a GPU of its own.

    Raises ValueError.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {name}: PyTorch knows no such device") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"--device {name}: PyTorch finds no GPU")
        if device.index is None:
            device = torch.device("cuda", get_node_local_rank(fallback_rank=0))
        torch.cuda.set_device(device)
    return device


ERRORS = (BundleError, CheckpointError, ClipError, ConfigError, DatasetError, ModuleNotFoundError, OSError, ValueError)
"""Errors of a run that cannot start, which end the command with one line."""


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--run", required=True, type=Path, help="folder of this run: checkpoints and log")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override the file")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with ExitStack() as stack:
        try:
            device = choose_device(args.device)
            processes = stack.enter_context(joined_processes(device))
            run = build_any_run(load_run_config(args.config, args.set), args.run, device, processes)
            resumed = run.resume()
        except ERRORS as error:
            fail(error)
        if resumed and processes.leads:
            print(f"resuming at epoch {run.progress.epoch + 1}, step {run.progress.step}")
        try:
            run.run()
        except (TrainingDiverged, DatasetError, ProtocolError) as error:
            if processes.leads:
                fail(error)
            sys.exit(1)


if __name__ == "__main__":
    main()
