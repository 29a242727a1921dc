"""Fixtures that several test modules share.

Some tests run without torch, so it is imported where it is needed.
"""

import gc
import logging
import shutil
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import settings

from model_core.affect import ACTION_UNITS, LABEL_SETS
from model_core.bundles.bundle import save_bundle
from model_core.bundles.manifest import BundleManifest
from model_core.calibration import UNCALIBRATED_UNIT, Calibration, ExpressionCalibration, UnitCalibration
from model_core.faces.geometry import Frame
from model_core.models.spec import NetworkSpec
from model_core.openvino_package import import_openvino
from model_core.preprocessing import InputSpec
from service.media.decoders import Decoder, DecoderPool

# Before a test module imports OpenVINO itself, which would then report each conversion over the network, from processes
# of its own that take seconds.
with suppress(ModuleNotFoundError):
    import_openvino()

settings.register_profile("quick", deadline=None, max_examples=50)
settings.load_profile("quick")

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"

TINY_CALIBRATION = Calibration(
    ExpressionCalibration(2.0, (0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5)),
    dict.fromkeys(ACTION_UNITS, UNCALIBRATED_UNIT) | {"AU12": UnitCalibration(2.0, -1.0, 0.25)},
)


class LentDecoders(DecoderPool):
    """The pool of an app in a test: its processes are those of the whole test run, since starting some takes time."""

    lender: DecoderPool

    def start(self) -> None:
        """They are started already."""

    def lease(self) -> Decoder:
        return self.lender.lease()

    def give_back(self, decoder: Decoder) -> None:
        self.lender.give_back(decoder)

    def close(self) -> None:
        """They go on."""


@pytest.fixture(scope="session", autouse=True)
def _lent_decoders() -> Iterator[None]:
    """Apps of all tests share two decoder processes; those that test the processes make pools of their own."""
    with closing(DecoderPool(2, 50_000_000)) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(LentDecoders, "lender", pool, raising=False)
        patch.setattr("service.app.DecoderPool", LentDecoders)
        yield


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name long bytes by their argument: some hold the time when they were made, and test processes must agree."""
    return argname if isinstance(val, bytes) and len(val) > 32 else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from modules and tests: they stay, and each look through all of them takes 0.5 s."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `system` where a command it names is absent, and one marked `gpu` without CUDA."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("CUDA is absent: no GPU, or a torch without it")
    for command in (name for marker in item.iter_markers("system") for name in marker.args):
        if shutil.which(command) is None:
            pytest.skip(f"the command {command} is absent: it comes with a system package")


@pytest.fixture(scope="session")
def astronaut() -> Frame:
    """uint8 [512, 512, 3] RGB with one smiling face, read-only."""
    frame = np.ascontiguousarray(skimage.data.astronaut(), dtype=np.uint8)
    frame.flags.writeable = False
    return frame


def _save_untrained(folder: Path, backbone: str, size: int) -> Path:
    import torch

    from model_core.models.registry import build_network

    with torch.random.fork_rng():
        torch.manual_seed(20)
        spec = NetworkSpec(backbone, ("valence_arousal", "expression", "action_units"), LABEL_SETS["ferplus"])
        network = build_network(spec)
    manifest = BundleManifest(
        name="tests-only-untrained",
        version="0",
        network=spec,
        input=InputSpec(size, "grey", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "arcface-1"),
        detector="yuface-2023.5.1",
        references={"valence_arousal": "derived", "expression": "annotated", "action_units": "derived"},
        calibration=TINY_CALIBRATION,
        licence="Apache-2.0",
        training={"dataset": "none", "note": "untrained weights for tests"},
        quality={},
    )
    save_bundle(folder, manifest, network)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bundle for tests only: seeded, untrained weights, all three tasks, TINY_CALIBRATION."""
    return _save_untrained(tmp_path_factory.mktemp("bundles") / "tests-only-untrained", "ddamfn", 112)


@pytest.fixture(scope="session")
def quick_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the pooled trunk on small crops, where many faces are encoded."""
    return _save_untrained(tmp_path_factory.mktemp("bundles") / "tests-only-untrained", "mfn-pooled", 32)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data beside the repository, or a skip that names it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent: development data beside the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def yunet_file(shared_data: Path) -> Path:
    """YuNet's ONNX file, or a skip that names it."""
    path = shared_data / "models" / "face_detection_yunet_2026may.onnx"
    if not path.is_file():
        pytest.skip("../shared/data/models/face_detection_yunet_2026may.onnx is absent")
    return path


@pytest.fixture
def log_kept() -> Iterator[None]:
    """Give the root logger back the level and the handlers that it has now."""
    root = logging.getLogger()
    level = root.level
    handlers = list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers = handlers
