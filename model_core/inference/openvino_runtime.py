"""The engine OpenVINO, for CPUs: models made from torch's networks, which needs torch, and runtimes, which do not."""

import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.inference.runtimes import Runtime, RuntimeOptions
from model_core.openvino_package import import_openvino
from model_core.preprocessing import Images

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGES_A_THREAD = 8
"""Images in one pass for each of its threads. More are not faster, and take 3 MB each (DDAMFN with local features)."""

Model: TypeAlias = Any
"""An openvino.Model, which has no types. It maps images, float32 [B, S, S, 3], to outputs, float32 [B, D]."""


def has_bfloat16() -> bool:
    """Return True if the CPU computes in bfloat16 itself; others emulate it, which is slower than float32.

    OpenVINO lists the format for CPUs with AVX512_BF16, of which those with AMX are a part, or AVX-VNNI-2.
    """
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def convert(network: "nn.Module", size: int, weights: "tuple[Tensor, ...]" = ()) -> Model:
    """Return the model of a torch network that maps images, float32 [B, 3, S, S], of `size` pixels to one tensor.

    `weights` are further arguments of its forward pass; the model has them as inputs after the images.
    """
    import torch

    openvino = import_openvino()
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    shapes = [
        openvino.PartialShape([-1, 3, size, size]),
        *(openvino.PartialShape(list(each.shape)) for each in weights),
    ]
    with warnings.catch_warnings(), torch.no_grad():
        # OpenVINO traces by torch.jit, which PyTorch calls deprecated; torch.export takes three times as long to start.
        warnings.simplefilter("ignore", FutureWarning)
        # A trace freezes some values silently, such as the batch size; such a network must not be served.
        warnings.simplefilter("error", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        example = (torch.zeros(2, 3, size, size), *weights)
        # PyTorch would check the trace by another one of the same images, which takes as long as all the rest.
        trace = TorchScriptPythonDecoder(network, example_input=example, trace_kwargs={"check_trace": False})
        model = openvino.convert_model(trace, input=shapes, example_input=example)
    # Images are in memory with channels innermost, and are not copied so.
    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input(0).tensor().set_layout(openvino.Layout("NHWC"))
    steps.input(0).model().set_layout(openvino.Layout("NCHW"))
    return _simplified(steps.build())


def _simplified(model: Model) -> Model:
    """Return the same model, which starts and runs faster: sizes that are known are numbers, and means are poolings.

    OpenVINO computes a mean over an axis of a map in float32 and converts it, which takes three to ten times as long as
    a pooling.
    """
    fold_constants(model)  # which imports OpenVINO
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() == "ReduceMean" and (kernel := _averaged_area(node)):
            pool = opset13.avg_pool(node.input_value(0), [1, 1], [0, 0], [0, 0], kernel, exclude_pad=True)
            node.output(0).replace(pool.output(0))
        elif node.get_type_name() == "Reshape" and node.input_value(0).get_node().get_type_name() == "Parameter":
            # A bias is fused into its convolution only if no other one shares it.
            for consumer in list(node.output(0).get_target_inputs())[1:]:
                own = opset13.reshape(node.input_value(0), node.input_value(1), special_zero=False)
                consumer.replace_source_output(own.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _averaged_area(mean: Any) -> list[int] | None:
    """Return height and width of what a ReduceMean averages, if it keeps the axes of a map [B, C, H, W], else None."""
    sides = list(mean.get_input_partial_shape(0))
    axes = {int(axis) % len(sides) for axis in mean.input_value(1).get_node().get_vector()}
    if len(sides) != 4 or not axes <= {2, 3} or not mean.get_attributes()["keep_dims"]:
        return None
    return [sides[axis].get_length() if axis in axes else 1 for axis in (2, 3)]


def fold_constants(model: Model) -> None:
    """Compute what a model computes from constants alone, and infer its shapes, in place."""
    import_openvino()  # first, since it keeps the package from reporting its use
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    model.validate_nodes_and_infer_types()


def compiled(model: Model, options: RuntimeOptions) -> Runtime:
    """Return a runtime of a model. Only one thread may call it at a time."""
    openvino = import_openvino()
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    if options.threads is not None:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    run_model = openvino.Core().compile_model(model, "CPU", settings)

    least = _least_batch(run_model, model) if options.precision == "bfloat16" else 1
    most = IMAGES_A_THREAD * run_model.get_property("INFERENCE_NUM_THREADS")

    def run(images: Images) -> NDArray[np.float64]:
        rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        passes = np.array_split(rows, -(-len(rows) // most))
        size = max(least, len(passes[0]))  # one for all, since every change of it takes milliseconds
        outputs = [np.array(run_model(_filled(each, size))[0], dtype=np.float64)[: len(each)] for each in passes]
        return np.concatenate(outputs)

    return run


def _filled(rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return at least one row, followed by copies of the last one up to `size` rows."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


def _least_batch(run_model: Any, model: Model) -> int:
    """Return 2 for a model that answers a single image otherwise than the same one beside another, else 1.

    OpenVINO does so in bfloat16 where a convolution's kernel covers the whole map (seen with 2026.4.1 on a CPU with
    AMX): the answer for a single image is wrong.
    """
    shape = [2, *(side.get_length() for side in list(model.input(0).get_partial_shape())[1:])]
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    among_two, alone = (np.array(run_model(images[:count])[0], dtype=np.float64)[0] for count in (2, 1))
    return 1 if np.abs(alone - among_two).max() < 0.1 * np.abs(among_two).max() else 2
