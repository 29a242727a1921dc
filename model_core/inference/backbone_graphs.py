"""Backbones as OpenVINO's graphs, which are part of the package, so that a CPU serves bundles without torch.

A graph has no weights. Its inputs are the images, and each weight of the folded backbone by its name; a bundle's folded
weights take the places of these inputs. `python -m training.graphs` makes the graphs from torch's networks, as ZIP
files with OpenVINO's two files.
"""

import json
import zipfile
from pathlib import Path

import numpy as np

from model_core.bundles.bundle import Weights
from model_core.inference.folded_weights import folded_weights
from model_core.inference.openvino_runtime import Model, fold_constants
from model_core.openvino_package import import_openvino

FOLDER = Path(__file__).parent / "graphs"
"""The folder of graphs, each named by its backbone."""

IMAGES = "images"
"""Name of the graph's input for images, float32 [B, S, S, 3]; the other inputs are weights."""

WEIGHTS = "weights"
"""Where a graph notes the names and shapes of a bundle's weights, as JSON."""

_TOPOLOGY = "graph.xml"
_CONSTANTS = "graph.bin"


def backbone_model(backbone: str, weights: Weights, folder: Path = FOLDER) -> Model | None:
    """Return the model of a backbone, by its name in a NetworkSpec, with a bundle's weights; None without a graph.

    It maps images to vectors [B, D]. Raises ValueError for weights that do not fit the graph, and for a damaged
    graph.
    """
    path = folder / f"{backbone}.zip"
    if not path.is_file():
        return None
    openvino = import_openvino()
    try:
        with zipfile.ZipFile(path) as file:  # which checks a sum of each part
            model = openvino.Core().read_model(file.read(_TOPOLOGY), file.read(_CONSTANTS))
    except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(f"the graph of {backbone} is damaged; install the package again") from error
    inputs = {each.get_friendly_name(): each for each in model.get_parameters()}
    own = {name: array for name, array in weights.items() if name.startswith("backbone.")}
    shapes = json.loads(model.get_rt_info(WEIGHTS).astype(str))
    _check({name: tuple(shape) for name, shape in shapes.items()}, own)
    for name, array in folded_weights(own).items():
        constant = openvino.op.Constant(array, shared_memory=False)
        inputs[name].output(0).replace(constant.output(0))
        model.remove_parameter(inputs[name])
    fold_constants(model)
    return model


def save_graph(model: Model, path: Path) -> None:
    """Write the file of a graph, whose inputs have their names, in place of an earlier one. Raises OSError."""
    openvino = import_openvino()
    partial = path.with_suffix(".partial")
    graph = partial.with_suffix(".xml")
    constants = partial.with_suffix(".bin")
    openvino.save_model(model, graph, compress_to_fp16=False)
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_LZMA) as file:
        file.write(graph, _TOPOLOGY)
        file.write(constants, _CONSTANTS)
    graph.unlink()
    constants.unlink()
    partial.rename(path)


def _check(expected: dict[str, tuple[int, ...]], weights: Weights) -> None:
    """Raise ValueError, which names the first deviations, for weights that do not fit."""
    problems = [f"missing {name}" for name in expected if name not in weights]
    for name, array in weights.items():
        if name not in expected:
            problems.append(f"unexpected {name}")
        elif array.shape != expected[name]:
            problems.append(f"{name} is {array.shape}, expected {expected[name]}")
        elif array.dtype not in (np.float16, np.float32) or not np.isfinite(array).all():
            problems.append(f"{name} is not finite float16 or float32")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError("; ".join(problems[:3]) + more)
