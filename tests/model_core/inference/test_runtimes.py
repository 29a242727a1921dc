import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_core.affect import LABEL_SETS
from model_core.inference import openvino_runtime
from model_core.inference.networks import ConcatenatedNetwork, build_runtime, build_tensor_runtime
from model_core.inference.runtimes import CPU_OPTIONS, RuntimeOptions
from model_core.inference.torch_runtime import convert_weights
from model_core.models.folding import folded
from model_core.models.heads import AffectNetwork
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import Images

CPU = "cpu"
TASKS = ("valence_arousal", "expression", "action_units")


@pytest.fixture(scope="module")
def network() -> AffectNetwork:
    """A random DDAMFN whose norms have seen the images that it is asked about, so that its answers differ."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        made = build_network(NetworkSpec("ddamfn", TASKS, LABEL_SETS["ferplus"]))
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.momentum = 1.0
        made.train()(torch.from_numpy(images(4)))
    return made.eval()


@pytest.fixture(scope="module")
def model(network: AffectNetwork) -> openvino_runtime.Model:
    """The same as OpenVINO's model, since to convert it takes seconds."""
    return openvino_runtime.convert(ConcatenatedNetwork(folded(network), TASKS).eval(), 112)


def images(count: int) -> Images:
    return torch.randn(count, 3, 112, 112, generator=torch.Generator().manual_seed(4)).numpy()


@pytest.fixture(scope="module")
def expected(network: AffectNetwork) -> NDArray[np.float64]:
    with torch.inference_mode():
        logits = network(torch.from_numpy(images(4)))
    return torch.cat([getattr(logits, task) for task in TASKS], dim=1).double().numpy()


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_engines_say_what_the_network_says(network: AffectNetwork, expected: NDArray[np.float64], engine: str) -> None:
    run = build_runtime(network, TASKS, 112, CPU, RuntimeOptions(engine))
    assert expected.std(axis=0).min() > 1e-3
    for count in (4, 1, 3):
        found = run(images(4)[:count])
        assert (found.shape, found.dtype) == ((count, 22), np.float64)
        assert found == pytest.approx(expected[:count], abs=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_answers_as_many_images_as_there_are(model: openvino_runtime.Model, precision: str) -> None:
    run = openvino_runtime.compiled(model, RuntimeOptions("openvino", precision, threads=1))
    many = images(23)
    alone = np.concatenate([run(many[:4]), run(many[4:7]), run(many[7:14]), run(many[14:20]), run(many[20:])])
    # Eight are computed at once, so here are one to three passes, of which the last one may be filled up.
    for count in (8, 9, 16, 23):
        found = run(many[:count])
        assert found.shape == (count, 22)
        np.testing.assert_allclose(found, alone[:count], atol=1e-3)


@pytest.mark.parametrize(
    ("axes", "keepdim", "pooled"),
    [
        (2, True, True),
        (3, True, True),
        ((2, 3), True, True),
        (-1, True, True),
        ((2, 3), False, False),
        (1, True, False),
    ],
)
def test_means_over_the_sides_of_a_map_are_poolings(axes: int | tuple[int, ...], keepdim: bool, pooled: bool) -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=axes, keepdim=keepdim).flatten(1)

    model = openvino_runtime.convert(Mean(), 8)
    kinds = {node.get_type_name() for node in model.get_ordered_ops()}
    assert ("AvgPool" in kinds, "ReduceMean" in kinds) == (pooled, not pooled)
    asked = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    found = openvino_runtime.compiled(model, RuntimeOptions("openvino", threads=1))(asked.numpy())
    assert found == pytest.approx(Mean()(asked).numpy(), abs=1e-6)


def test_openvino_tells_nobody_that_it_is_used() -> None:
    code = """
import sys, torch
from model_core.inference import openvino_runtime
class Unused(torch.nn.Module): pass
try: openvino_runtime.convert(Unused(), 112)
except Exception: pass
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["openvino.tools.ovc.telemetry_stub"]


def test_nor_does_it_in_these_tests() -> None:
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_bfloat16_is_near_and_not_the_same(network: AffectNetwork, expected: NDArray[np.float64]) -> None:
    found = build_runtime(network, TASKS, 112, CPU, RuntimeOptions("torch", "bfloat16"))(images(4))
    off = np.abs(found - expected)
    assert 1e-4 < off.max() < 0.5 * np.abs(expected).max()


def test_weights_converted_once_give_the_same(network: AffectNetwork) -> None:
    whole = ConcatenatedNetwork(folded(network), TASKS)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        each_time = whole(torch.from_numpy(images(2)))
        convert_weights(whole, torch.bfloat16)
        once = whole(torch.from_numpy(images(2)))
    assert {weight.dtype for weight in whole.parameters()} == {torch.bfloat16, torch.float32}  # PReLU stays
    assert torch.equal(once, each_time)


def test_float16_is_for_gpus(network: AffectNetwork) -> None:
    with pytest.raises(ValueError, match="float16 is for GPUs, not for cpu"):
        build_runtime(network, TASKS, 112, CPU, RuntimeOptions("torch", "float16"))
    assert all(way.precision != "float16" for way in CPU_OPTIONS)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-3), ("float16", 0.05), ("bfloat16", 0.3)])
def test_a_gpu_says_what_the_cpu_says(
    network: AffectNetwork, expected: NDArray[np.float64], precision: str, within: float
) -> None:
    run = build_runtime(network, TASKS, 112, "cuda", RuntimeOptions("torch", precision))
    for count in (4, 1, 3):
        assert run(images(4)[:count]) == pytest.approx(expected[:count], abs=within)


@pytest.mark.usefixtures("log_kept")
def test_openvino_takes_no_network_that_a_trace_would_freeze() -> None:
    # A conversion that fails leaves OpenVINO's handler and level on the root logger.
    class Counts(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) * len(x)

    with pytest.raises(RuntimeError, match="Using len to get tensor shape might cause the trace to be incorrect"):
        build_tensor_runtime(Counts(), 8, CPU, RuntimeOptions("openvino"))


def test_openvino_runs_a_network_only_to_trace_it() -> None:
    """PyTorch's check of a trace would run it and the network again, and trace once more."""
    calls = []

    class Recorded(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(x.shape)
            return x.flatten(1)

    build_tensor_runtime(Recorded(), 8, CPU, RuntimeOptions("openvino"))
    assert len(calls) == 1


def test_openvino_is_for_cpus(network: AffectNetwork) -> None:
    with pytest.raises(ValueError, match="not on cuda"):
        build_runtime(network, TASKS, 112, "cuda", RuntimeOptions("openvino"))


def test_a_missing_engine_is_named(network: AffectNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModuleNotFoundError, match="install the extra `openvino`"):
        build_runtime(network, TASKS, 112, CPU, RuntimeOptions("openvino"))
