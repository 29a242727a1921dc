"""`python -m training.import_checkpoint`: the DDAMFN authors' AffectNet-8 checkpoint -> an expression bundle.

The file is a dict with `model_state_dict`, read as plain tensors. Of its 1,190 entries 221 belong to modules that the
published forward pass never runs; they are known by name and dropped. Any other difference is refused by name.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from model_core.affect import LABEL_SETS
from model_core.bundle import BundleError, BundleManifest, save_bundle
from model_core.calibration import Calibration
from model_core.models import NetworkSpec, build_network
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.checkpoint import CheckpointError, load_plain

DEAD = re.compile(
    r"features\.[\w.]*conv_dw\.(bn|prelu)\.\w+"  # norm and slope after the mixed depthwise convolution
    r"|cat_head[01]\.CoordAtt\.Linear\.[\w.]+"  # a third pool of each attention head
    r"|bn\.\w+"  # a norm of the vector
)
"""Full names of entries that upstream stores but never executes (PAPER section 2)."""

SPEC = NetworkSpec("ddamfn", ("expression",), LABEL_SETS["affectnet8"])
INPUT = InputSpec(112, "rgb", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ddamfn-frontal-1")
"""What the published weights expect: ImageNet statistics, the authors' own frontal alignment."""


def convert(state: Mapping[str, Any]) -> AffectNetwork:
    """An upstream state dict as our network. Raises CheckpointError that names the keys at fault."""
    network = build_network(SPEC)
    expected = {_upstream_name(name): (name, tensor) for name, tensor in network.state_dict().items()}
    live = {name: tensor for name, tensor in state.items() if not DEAD.fullmatch(name)}
    problems = [f"missing {name}" for name in expected if name not in live]
    problems += [f"unexpected {name}" for name in live if name not in expected]
    for name in live.keys() & expected.keys():
        found, wanted = live[name], expected[name][1]
        if not isinstance(found, Tensor) or found.shape != wanted.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            problems.append(f"{name} is {shape}, expected {tuple(wanted.shape)}")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError("not a DDAMFN AffectNet-8 checkpoint: " + "; ".join(sorted(problems)[:5]) + more)
    network.load_state_dict({expected[name][0]: tensor for name, tensor in live.items()})
    return network.eval()


def _upstream_name(name: str) -> str:
    return name.removeprefix("backbone.").replace("heads.expression.", "fc.")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.import_checkpoint", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="for instance affecnet8_epoch25_acc0.6469.pth")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the bundle")
    parser.add_argument("--detector", default="yuface", help="the detector it will be served with")
    args = parser.parse_args()
    manifest = BundleManifest(
        name="affectnet8-ddamfn",
        version="1",
        network=SPEC,
        input=INPUT,
        detector=args.detector,
        references={"expression": "annotated"},
        calibration=Calibration(),
        licence="as the checkpoint's authors state; not ours to grant",
        training={"dataset": "affectnet", "source": args.checkpoint.name},
        quality={},
    )
    try:
        content = load_plain(args.checkpoint)
        if not isinstance(content, dict) or not isinstance(content.get("model_state_dict"), dict):
            raise CheckpointError(f"{args.checkpoint} has no model_state_dict")
        save_bundle(args.out, manifest, convert(content["model_state_dict"]))
    except (BundleError, CheckpointError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: expressions over {', '.join(SPEC.labels)}; uncalibrated until fitted on your data")


if __name__ == "__main__":
    main()
