"""`python -m training.train`: train a network on a prepared set, or a head on video data.

The same command resumes a run that was stopped. `torchrun --nproc-per-node N -m -- training.train` shares each step of
a run on still pictures among N processes, on CUDA with a GPU each.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.distributed import get_node_local_rank

from model_core.bundles.bundle import BundleError
from model_core.models import NetworkSpec, build_network
from model_core.models.clip import ClipError
from model_core.preprocessing import InputSpec
from training.data.prepared import load_prepared
from training.datasets import DatasetError
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, fail
from training.runs.config import LocalConfig, TrainConfig
from training.runs.config_file import ConfigError, checked, read_values
from training.runs.local import LocalRun, build_local_run
from training.runs.loop import TrainingRun
from training.runs.processes import ALONE, Processes, joined_processes
from training.runs.start import freeze, start_from
from training.runs.trained import require_targets
from training.video.build import build_sequence_run
from training.video.config import SequenceConfig
from training.video.loop import SequenceRun


def build_run(config: TrainConfig, folder: Path, device: torch.device, processes: Processes = ALONE) -> TrainingRun:
    """Put a run together: seeded network, data, folder. Raises DatasetError, CheckpointError, ValueError."""
    torch.manual_seed(config.run.seed)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    faces = load_prepared(config.data.prepared)
    tasks, options = config.network.tasks, config.input
    labels = faces.info.labels if "expression" in tasks else ()
    spec = NetworkSpec(config.network.backbone, tasks, labels, config.network.hidden)
    input_spec = InputSpec(options.size, options.colour, options.mean, options.std, faces.info.alignment)
    require_targets(faces, spec)
    network = build_network(spec)
    if config.network.start_from:
        taken = start_from(network, spec, config.network.start_from, input_spec)
        if processes.leads:
            print(taken)
    freeze(network, config.network.frozen)
    folder.mkdir(parents=True, exist_ok=True)
    return TrainingRun(config, faces, spec, input_spec, network, folder, device, processes)


def _build(
    values: dict[str, Any], args: argparse.Namespace, device: torch.device, processes: Processes
) -> TrainingRun | SequenceRun | LocalRun:
    """A run on video data if its configuration has an encoder, of local features if it has views, else of a network."""
    if "views" in values:
        if processes.count > 1 or device.type != "cpu":
            raise ConfigError("local features are trained by one process, on the CPU")
        return build_local_run(checked(LocalConfig, values, str(args.config)), args.run)
    if "encoder" not in values:
        return build_run(checked(TrainConfig, values, str(args.config)), args.run, device, processes)
    if processes.count > 1:
        raise ConfigError("a head on video data is trained by one process")
    return build_sequence_run(checked(SequenceConfig, values, str(args.config)), args.run, device)


def choose_device(name: str) -> torch.device:
    """PyTorch's device of that name; plain `cuda` is, for each of several processes, a GPU of its own.

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
"""What ends the command with one line."""


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
            run = _build(read_values(args.config, args.set), args, device, processes)
            resumed = run.resume()
        except ERRORS as error:
            fail(error)
        if resumed and processes.leads:
            print(f"resuming at epoch {run.progress.epoch + 1}, step {run.progress.step}")
        run.run()


if __name__ == "__main__":
    main()
