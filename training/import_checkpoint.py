"""`python -m training.import_checkpoint`: the DDAMFN authors' files -> an expression bundle, or a trunk to train from.

The AffectNet-8 checkpoint is a dict with `model_state_dict`, read as plain tensors. Of its 1,190 entries 221 belong to
modules that the published forward pass never runs; they are known by name and dropped. Any other difference is refused
by name. `MFN_msceleb.pth` is a whole pickled module, read without its code; its trunk becomes `trunk.pt` in the folder
given, which `network.start_from` takes.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from model_core.affect import LABEL_SETS
from model_core.bundles.bundle import BundleError, save_bundle
from model_core.bundles.manifest import BundleManifest
from model_core.calibration import Calibration
from model_core.faces.detection import build_detector
from model_core.models.ddamfn import VECTOR_SIZE, ConvNorm, DirectionAttention, MixedDepthwise
from model_core.models.heads import AffectNetwork
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.datasets.file_kind import foreign_kind
from training.importing.pickled_module import children, load_module, tensors
from training.importing.restricted_pickle import StandIn
from training.runs.checkpoint import CheckpointError, load_plain, save_trunk
from training.runs.command_line import CommandParser, fail

SPEC = NetworkSpec("ddamfn", ("expression",), LABEL_SETS["affectnet8"])
WRAPPER = "module."
"""Before every key of a network that was saved inside `torch.nn.DataParallel`."""
INPUT = InputSpec(112, "rgb", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ddamfn-frontal-1")
"""What the published weights expect: ImageNet statistics, the authors' own frontal alignment."""


def dead_entries(network: AffectNetwork) -> dict[str, torch.Size]:
    """Name and shape of the entries that upstream stores but never executes (PAPER section 2)."""
    dead: dict[str, nn.Module] = {"bn": nn.BatchNorm1d(len(SPEC.labels))}
    for name, module in network.backbone.named_modules():
        if isinstance(module, MixedDepthwise):
            dead[f"{name}.bn"], dead[f"{name}.prelu"] = nn.BatchNorm2d(module.width), nn.PReLU(module.width)
        elif isinstance(module, DirectionAttention):
            dead[f"{name}.Linear"] = ConvNorm(VECTOR_SIZE, VECTOR_SIZE, 7, groups=VECTOR_SIZE)
    return {f"{owner}.{name}": value.shape for owner, unit in dead.items() for name, value in unit.state_dict().items()}


def without_wrapper(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict without the prefix `module.` that `torch.nn.DataParallel` puts before every key.

    A dict in which some key lacks the prefix is returned as it is.
    """
    wrapped = bool(state) and all(name.startswith(WRAPPER) for name in state)
    return {name.removeprefix(WRAPPER) if wrapped else name: value for name, value in state.items()}


def convert(state: Mapping[str, Any]) -> AffectNetwork:
    """An upstream state dict as our network. Raises CheckpointError that names the keys at fault."""
    network = build_network(SPEC)
    ours = {_upstream_name(name): name for name in network.state_dict()}
    expected = {_upstream_name(name): value.shape for name, value in network.state_dict().items()}
    expected |= dead_entries(network)
    _require(state, expected, "a DDAMFN AffectNet-8 checkpoint")
    network.load_state_dict({ours[name]: tensor for name, tensor in state.items() if name in ours})
    return network.eval()


def convert_trunk(module: StandIn) -> nn.Module:
    """The first nine parts of a pickled MFN, all but its embedding, as our trunk (PAPER section 2).

    Raises CheckpointError that names the keys at fault.
    """
    network = build_network(SPEC)
    trunk = network.backbone.get_submodule("features")
    parts = list(children(module).values())[: len(list(trunk.children()))]
    state = {f"features.{i}.{name}": value for i, part in enumerate(parts) for name, value in tensors(part).items()}
    expected = {f"features.{name}": value.shape for name, value in trunk.state_dict().items()}
    dead = {name: shape for name, shape in dead_entries(network).items() if name.startswith("features.")}
    _require(state, expected | dead, "an MFN backbone")
    trunk.load_state_dict({name.removeprefix("features."): state[name] for name in expected})
    return trunk


def _require(state: Mapping[str, Any], expected: Mapping[str, torch.Size], kind: str) -> None:
    problems = [f"missing {name}" for name in expected if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in expected]
    common = sorted(state.keys() & expected.keys())
    problems += [f"{name} {fault}" for name in common if (fault := _fault(name, state[name], expected[name]))]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(f"not {kind}: " + "; ".join(sorted(problems)[:5]) + more)


def _fault(name: str, value: Any, shape: torch.Size) -> str | None:
    """Return the fault of one entry as the end of a sentence, or None."""
    if not isinstance(value, Tensor):
        return f"is {type(value).__name__}, expected {tuple(shape)}"
    if value.shape != shape:
        return f"is {tuple(value.shape)}, expected {tuple(shape)}"
    if name.endswith("num_batches_tracked"):  # a counter of training, which nothing here reads
        return None
    if not value.is_floating_point():
        return f"is of {str(value.dtype).removeprefix('torch.')}, expected floating point numbers"
    return None if torch.isfinite(value).all() else "has values that are not finite"


def _upstream_name(name: str) -> str:
    return name.removeprefix("backbone.").replace("heads.expression.", "fc.")


def import_trunk(module: StandIn, source: Path, folder: Path) -> str:
    """Write `trunk.pt` into a new folder, and say how to go on. Raises CheckpointError, FileExistsError."""
    inner = children(module)
    wrapped = list(inner) == [WRAPPER.rstrip(".")]
    trunk = convert_trunk(inner["module"] if wrapped else module)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder or remove it")
    folder.mkdir(parents=True)
    save_trunk(trunk.state_dict(), source.name, folder / "trunk.pt")
    note = f"; its keys began with {WRAPPER!r}, which was stripped" if wrapped else ""
    return f"{folder / 'trunk.pt'}: an MFN trunk without heads; train from it with network.start_from{note}"


def import_affectnet(source: Path, folder: Path, detector: str) -> str:
    """Write the AffectNet-8 checkpoint as a bundle. Raises BundleError, CheckpointError, OSError, ValueError."""
    manifest = BundleManifest(
        name="affectnet8-ddamfn",
        version="1",
        network=SPEC,
        input=INPUT,
        detector=build_detector(detector).name,
        references={"expression": "annotated"},
        calibration=Calibration(),
        licence="as the checkpoint's authors state; not ours to grant",
        training={"dataset": "affectnet", "source": source.name},
        quality={},
    )
    content = load_plain(source)
    state = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{source} has no model_state_dict")
    own = without_wrapper(state)
    save_bundle(folder, manifest, convert(own))
    note = "" if own.keys() == state.keys() else f"; its keys began with {WRAPPER!r}, which was stripped"
    return f"{folder}: expressions over {', '.join(SPEC.labels)}; uncalibrated until fitted on your data{note}"


def import_file(source: Path, folder: Path, detector: str) -> str:
    """Tell the two kinds of file apart by what they hold. Raises as `import_trunk` and `import_affectnet` do."""
    if source.exists() and (kind := foreign_kind(source)) is not None:
        raise CheckpointError(f"{source} {kind}")
    try:
        module = load_module(source)
    except CheckpointError as reason:
        try:
            return import_affectnet(source, folder, detector)
        except CheckpointError as error:
            if isinstance(error.__cause__, UnpicklingError):
                raise CheckpointError(f"{error}; {reason}") from error
            raise
    return import_trunk(module, source, folder)


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.import_checkpoint", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="affecnet8_epoch25_acc0.6469.pth or MFN_msceleb.pth")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the bundle, or for trunk.pt")
    parser.add_argument("--detector", default="yuface", help="what it will be served with: yuface, mtcnn or yunet:PATH")
    args = parser.parse_args()
    try:
        with catch_warnings():
            simplefilter("ignore")  # torch comments on files that are then refused in a line of our own
            done = import_file(args.checkpoint, args.out, args.detector)
    except (BundleError, CheckpointError, ModuleNotFoundError, OSError, ValueError) as error:
        fail(error)
    print(done)


if __name__ == "__main__":
    main()
