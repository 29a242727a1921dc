"""Bundles in memory that answer at once: a shallow backbone on small crops, random weights."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from model_core.affect import LABEL_SETS, Task
from model_core.bundles.bundle import Bundle
from model_core.bundles.manifest import BundleManifest, TemporalSpec
from model_core.calibration import Calibration
from model_core.models.ddamfn import VECTOR_SIZE
from model_core.models.registry import build_network
from model_core.models.spec import EstimatorSpec, NetworkSpec
from model_core.preprocessing import InputSpec

INPUT = InputSpec(16, "rgb", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "arcface-1")


class TinyBackbone(nn.Module):
    """One strided convolution and a projection; `calls` holds the number of crops of each forward pass."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 8, 4, stride=4)
            self.project = nn.Linear(8 * 16, VECTOR_SIZE)
        self.calls: list[int] = []

    def __deepcopy__(self, memo: object) -> "TinyBackbone":
        copy = TinyBackbone()
        copy.load_state_dict(self.state_dict())
        copy.calls = self.calls  # its serving form counts here, too
        return copy.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_tracing():
            self.calls.append(x.shape[0])
        pooled = nn.functional.adaptive_avg_pool2d(self.conv(x).tanh(), 4)
        return self.project(pooled.flatten(1)).tanh()


def tiny_bundle(
    name: str,
    *tasks: Task,
    backbone: TinyBackbone,
    spec: InputSpec = INPUT,
    temporal: TemporalSpec | None = None,
    calibration: Calibration | None = None,
) -> Bundle:
    """A bundle around a backbone; the heads' weights follow from the name."""
    labels = LABEL_SETS["ferplus"] if "expression" in tasks else ()
    estimator = EstimatorSpec(5, 7) if "unit_changes" in tasks else None
    network_spec = NetworkSpec("mfn-pooled", tasks, labels, recurrent=16 if temporal else None, estimator=estimator)
    with torch.random.fork_rng():
        torch.manual_seed(sum(name.encode()))
        network = build_network(network_spec, backbone).eval()
        for parameter in (network.recurrent or nn.Identity()).parameters():
            nn.init.normal_(parameter, std=0.2)
    manifest = BundleManifest(
        name=name,
        version="1",
        network=network_spec,
        input=spec,
        detector="fake-1",
        references=dict.fromkeys(tasks, "annotated"),
        calibration=calibration or Calibration(),
        licence="Apache-2.0",
        training={},
        quality={},
        weights_sha256=f"{sum(name.encode()):064x}",
        temporal=temporal,
    )
    return Bundle.of(manifest, network)


def resized(spec: InputSpec, size: int) -> InputSpec:
    """The same input in another size."""
    return replace(spec, size=size)
