"""`python -m training.import_checkpoint`: the DDAMFN authors' AffectNet-8 checkpoint -> an expression bundle.

The file is a dict with `model_state_dict`, read as plain tensors. Of its 1,190 entries 221 belong to modules that the
published forward pass never runs; they are known by name and dropped. Any other difference is refused by name.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model_core.affect import LABEL_SETS
from model_core.bundle import BundleError, save_bundle
from model_core.calibration import Calibration
from model_core.detection import build_detector
from model_core.manifest import BundleManifest
from model_core.models import NetworkSpec, build_network
from model_core.models.ddamfn import VECTOR_SIZE, ConvNorm, DirectionAttention, MixedDepthwise
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.checkpoint import CheckpointError, load_plain

SPEC = NetworkSpec("ddamfn", ("expression",), LABEL_SETS["affectnet8"])
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


def convert(state: Mapping[str, Any]) -> AffectNetwork:
    """An upstream state dict as our network. Raises CheckpointError that names the keys at fault."""
    network = build_network(SPEC)
    ours = {_upstream_name(name): name for name in network.state_dict()}
    expected = {_upstream_name(name): value.shape for name, value in network.state_dict().items()}
    expected |= dead_entries(network)
    problems = [f"missing {name}" for name in expected if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in expected]
    for name in state.keys() & expected.keys():
        found = state[name].shape if isinstance(state[name], Tensor) else type(state[name]).__name__
        if found != expected[name]:
            shape = tuple(found) if isinstance(found, torch.Size) else found
            problems.append(f"{name} is {shape}, expected {tuple(expected[name])}")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError("not a DDAMFN AffectNet-8 checkpoint: " + "; ".join(sorted(problems)[:5]) + more)
    network.load_state_dict({ours[name]: tensor for name, tensor in state.items() if name in ours})
    return network.eval()


def _upstream_name(name: str) -> str:
    return name.removeprefix("backbone.").replace("heads.expression.", "fc.")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.import_checkpoint", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="for instance affecnet8_epoch25_acc0.6469.pth")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the bundle")
    parser.add_argument("--detector", default="yuface", help="what it will be served with: yuface, mtcnn or yunet:PATH")
    args = parser.parse_args()
    try:
        manifest = BundleManifest(
            name="affectnet8-ddamfn",
            version="1",
            network=SPEC,
            input=INPUT,
            detector=build_detector(args.detector).name,
            references={"expression": "annotated"},
            calibration=Calibration(),
            licence="as the checkpoint's authors state; not ours to grant",
            training={"dataset": "affectnet", "source": args.checkpoint.name},
            quality={},
        )
        content = load_plain(args.checkpoint)
        if not isinstance(content, dict) or not isinstance(content.get("model_state_dict"), dict):
            raise CheckpointError(f"{args.checkpoint} has no model_state_dict")
        save_bundle(args.out, manifest, convert(content["model_state_dict"]))
    except (BundleError, CheckpointError, ModuleNotFoundError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: expressions over {', '.join(SPEC.labels)}; uncalibrated until fitted on your data")


if __name__ == "__main__":
    main()
