"""A small training run that several test modules use."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model_core.inference import openvino_runtime
from model_core.inference.openvino_runtime import Model
from tests.fakes import write_prepared
from training.rendered.errors import RenderError
from training.rendered.scene import Renderer
from training.runs.config import load_config
from training.runs.network import NetworkRun
from training.train import build_run

CONFIG = """
kind = "network"
[data]
prepared = "{prepared}"
[network]
backbone = "mfn-pooled"
[input]
size = 16
[optimizer]
batch_size = 8
epochs = 2
[run]
seed = 3
threads = 1
"""


@dataclass(frozen=True)
class FinishedRun:
    """A run that was never interrupted: 2 epochs of 4 steps; record 33 (validation) and 41 (test) have no face."""

    prepared: Path
    config: Path
    folder: Path
    run: NetworkRun


@pytest.fixture(scope="session", autouse=True)
def _converted_once() -> Iterator[None]:
    """A network is converted for OpenVINO once, since that takes seconds, and many tests have the same one."""
    converted: dict[bytes, Model] = {}
    convert = openvino_runtime.convert

    def remembered(network: nn.Module, size: int, weights: tuple[Tensor, ...] = ()) -> Model:
        described = hashlib.sha256(repr((vars(network), size, [each.shape for each in weights])).encode())
        for value in network.state_dict().values():
            described.update(value.contiguous().numpy().tobytes())
        key = described.digest()
        if key not in converted:
            converted[key] = convert(network, size, weights)
        return converted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_runtime, "convert", remembered)
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FinishedRun]:
    base = tmp_path_factory.mktemp("training")
    prepared = write_prepared(base / "prepared", missing=[33, 41])
    config = base / "config.toml"
    config.write_text(CONFIG.format(prepared=prepared))
    threads = torch.get_num_threads()
    run = build_run(load_config(config), base / "run", torch.device("cpu"))
    run.run()
    yield FinishedRun(prepared, config, base / "run", run)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def path_tracer() -> None:
    """Skip, by name, what needs a package or a library to render."""
    for name in ("anny", "mitsuba", "pyoidn"):
        pytest.importorskip(name, reason=f"the package {name}, of the extra `render`, is absent")
    try:
        Renderer(8, 1)
    except RenderError as error:
        pytest.skip(f"LLVM 19 is absent, Debian's libllvm19: {error}")
