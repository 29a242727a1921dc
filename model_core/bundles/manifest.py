"""What a bundle says of itself: the content of `bundle.json`, and how JSON becomes it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Literal, TypeVar

from model_core.affect import Reference, Task
from model_core.calibration import AxisCalibration, Calibration, ExpressionCalibration, UnitCalibration
from model_core.models import NetworkSpec
from model_core.models.clip import TowerSpec
from model_core.preprocessing import InputSpec

FORMAT = 1

T = TypeVar("T")


@dataclass(frozen=True)
class TemporalSpec:
    """How a temporal network was evaluated, and is therefore to be run.

    frame_rate: frames a second of the video it was trained on. state: `carried` from a track's start to its end, or
    `reset` to nothing every `window` frames (a sequence length of evaluation). After a gap longer than `max_gap_s` a
    track starts anew.
    """

    frame_rate: float
    window: int
    state: Literal["carried", "reset"]
    max_gap_s: float

    def __post_init__(self) -> None:
        if self.state not in ("carried", "reset"):
            raise ValueError(f"unknown temporal state {self.state!r}; known: carried, reset")
        if not (0 < self.frame_rate < inf and 0 < self.max_gap_s < inf and self.window >= 1):
            raise ValueError("frame rate, window and longest gap must be positive")


@dataclass(frozen=True)
class BundleManifest:
    """All of `bundle.json`. `references` names for each task where its training targets came from.

    training: data set, its terms, configuration; quality: measures on the test split; both as plain JSON values for
    people and `/models`, never read by code. weights_sha256: hexadecimal digest of the weights file.
    """

    name: str
    version: str
    network: NetworkSpec
    input: InputSpec
    detector: str
    references: Mapping[Task, Reference]
    calibration: Calibration
    licence: str
    training: Mapping[str, Any]
    quality: Mapping[str, Any]
    weights_sha256: str = ""
    code_version: str = ""
    temporal: TemporalSpec | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if set(self.references) != set(self.network.tasks):
            raise ValueError("references must name exactly the network's tasks")
        if not set(self.references.values()) <= {"annotated", "derived"}:
            raise ValueError("a reference is either annotated or derived")
        if (self.temporal is None) != (self.network.recurrent is None):
            raise ValueError("a recurrent network needs temporal settings, and no other has any")
        if (size := self.network.input_size) not in (None, self.input.size):
            raise ValueError(f"{self.network.backbone} takes crops of {size} pixels, not {self.input.size}")
        bias = self.calibration.expression.bias if self.calibration.expression else None
        if bias is not None and len(bias) != len(self.network.labels):
            raise ValueError(f"{len(bias)} expression biases for {len(self.network.labels)} labels")


def parse_manifest(values: Any) -> BundleManifest:
    """JSON values -> manifest. Raises ValueError, TypeError or KeyError on anything that is not understood."""
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}, the one this version reads")
    known, temporal = _known(BundleManifest, values), values.get("temporal")
    known |= {
        "network": parse_network(values["network"]),
        "input": parse_input(values["input"]),
        "calibration": parse_calibration(values["calibration"]),
        "temporal": None if temporal is None else TemporalSpec(**_known(TemporalSpec, temporal)),
    }
    return BundleManifest(**known)


def parse_network(values: Any) -> NetworkSpec:
    """JSON values -> NetworkSpec; raises as `parse_manifest` does."""
    known = _known(NetworkSpec, values, tuples=("tasks", "labels"))
    if known.get("tower") is not None:
        known["tower"] = TowerSpec(**_known(TowerSpec, known["tower"]))
    return NetworkSpec(**known)


def parse_input(values: Any) -> InputSpec:
    """JSON values -> InputSpec; raises as `parse_manifest` does."""
    return InputSpec(**_known(InputSpec, values, tuples=("mean", "std")))


def parse_calibration(values: Any) -> Calibration:
    """JSON values -> Calibration; raises as `parse_manifest` does."""
    parts = _known(Calibration, values)
    expression = parts["expression"]
    return Calibration(
        None if expression is None else ExpressionCalibration(**_known(ExpressionCalibration, expression, ("bias",))),
        _by_name(UnitCalibration, parts["action_units"]),
        _by_name(AxisCalibration, parts.get("valence_arousal")),  # the first bundles have none
    )


def _by_name(kind: type[T], values: Any) -> dict[str, T] | None:
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ValueError(f"the calibration of action units, or of axes, must be an object, or null; not {values!r:.40}")
    return {name: kind(**_known(kind, value)) for name, value in values.items()}


def _known(kind: type[T], values: Any, tuples: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a dataclass by field, refusing keys it does not have."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or not set(values) <= names:
        unknown = sorted(set(values) - names) if isinstance(values, dict) else values
        raise ValueError(f"{kind.__name__} does not know {unknown}")
    return {name: tuple(value) if name in tuples else value for name, value in values.items()}
