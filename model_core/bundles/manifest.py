"""The content of `bundle.json`, and how it is parsed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from model_core.affect import ACTION_UNITS, REFERENCES, Reference, Task
from model_core.calibration import (
    AxisCalibration,
    Calibration,
    ChangeLimits,
    ExpressionCalibration,
    UnitCalibration,
)
from model_core.models.spec import EstimatorSpec, NetworkSpec, TowerSpec
from model_core.preprocessing import InputSpec

FORMAT = 1
"""Version of the manifest's format; no other is read."""

MIN_SAME_LABEL = 0.995
MAX_MEAN_CHANGE = 0.003
MAX_CHANGE_999 = 0.03
MAX_ACCURACY_CHANGE = 0.003
"""Limits of a PrecisionGate, within which a short number format is used without being asked for."""

T = TypeVar("T")

Validation: TypeAlias = Literal["rendered", "teacher", "none"]
"""The faces that bear an action unit out: rendered ones, of known intensity; those that a teacher read; or none."""


@dataclass(frozen=True)
class UnitNote:
    """The trust that an action unit deserves. Raises ValueError for impossible values."""

    validated: Validation
    """`none`: the unit could not be learned, or was not measured."""

    r: float | None = None
    """Correlation of its probability before calibration with the targets of those faces. None: unknown."""

    auroc: float | None = None
    """AUROC on those faces. None: unknown."""

    reference: Reference | None = None
    """Origin of its training targets, where units differ in that. None: that of the task."""

    change_r: float | None = None
    """Correlation of its change against the same person at rest with that of its intensity, on rendered faces."""

    change_auroc: float | None = None
    """AUROC of this change. None: unknown, as of bundles that were measured before."""

    def __post_init__(self) -> None:
        if self.validated not in get_args(Validation) or self.reference not in (None, *REFERENCES):
            raise ValueError(f"a unit cannot be validated by {self.validated!r:.40} of {self.reference!r:.40} origin")
        if not all(-1 <= r <= 1 for r in (self.r, self.change_r) if r is not None):
            raise ValueError("a correlation lies within -1 and 1")
        if not all(0 <= auroc <= 1 for auroc in (self.auroc, self.change_auroc) if auroc is not None):
            raise ValueError("an AUROC lies within 0 and 1")


@dataclass(frozen=True)
class TemporalSpec:
    """The frames and states that a temporal network was evaluated with, and is run with.

    Raises ValueError for impossible values.
    """

    frame_rate: float
    """Frames per second of the video that the network was trained on."""

    window: int
    """Length in frames of the sequences of the evaluation."""

    state: Literal["carried", "reset"]
    """`carried` from a track's start to its end, or `reset` every `window` frames."""

    max_gap_s: float
    """Longest gap in seconds within a track; after a longer one the track starts anew."""

    def __post_init__(self) -> None:
        if self.state not in ("carried", "reset"):
            raise ValueError(f"unknown temporal state {self.state!r}; known: carried, reset")
        if not (0 < self.frame_rate < inf and 0 < self.max_gap_s < inf and self.window >= 1):
            raise ValueError("the frame rate, the window and the longest gap must be positive and finite")


@dataclass(frozen=True)
class PrecisionGate:
    """The differences between a bundle's answers in a short number format and in float32, as they were measured.

    `python -m training.precision` measures and records them. Raises ValueError for impossible values.
    """

    precision: Literal["bfloat16"]
    """The number format that was compared with float32."""

    engine: Literal["torch", "openvino"]
    """The engine that ran both."""

    engine_version: str

    measured_on: str
    """The prepared sets and splits."""

    faces: int
    """Number of faces. Each was answered alone and in batches; each figure is the worse one of the two."""

    same_label: float | None
    """Share of faces whose expression label is the same, in [0, 1]. None: the bundle has no expressions."""

    mean_change: float
    """Mean absolute change of an estimate: valence, arousal, the probability of a label, a unit or closed eyes."""

    change_999: float
    """The 99.9th percentile of each face's largest change of an estimate."""

    accuracy_change: float | None
    """Absolute change of the accuracy on the faces with a majority label. None: the bundle has no expressions."""

    def __post_init__(self) -> None:
        if self.precision != "bfloat16" or self.engine not in ("torch", "openvino"):
            raise ValueError(f"a gate cannot be of {self.precision!r:.40} with the engine {self.engine!r:.40}")
        figures = (self.same_label, self.mean_change, self.change_999, self.accuracy_change)
        if self.faces < 1 or not all(figure is None or 0 <= figure <= 2 for figure in figures):
            raise ValueError("a gate is measured on one face or more, and its figures lie within 0 and 2")

    @property
    def passed(self) -> bool:
        """True if the differences are so small that the number format may be used without being asked for."""
        return (
            (self.same_label is None or self.same_label >= MIN_SAME_LABEL)
            and self.mean_change <= MAX_MEAN_CHANGE
            and self.change_999 <= MAX_CHANGE_999
            and (self.accuracy_change is None or self.accuracy_change <= MAX_ACCURACY_CHANGE)
        )


@dataclass(frozen=True)
class BundleManifest:
    """The content of `bundle.json`. Raises ValueError for fields that contradict each other."""

    name: str
    version: str
    network: NetworkSpec
    input: InputSpec

    detector: str
    """Name and version of the detector that the training crops were prepared with."""

    references: Mapping[Task, Reference]
    """For each of the network's tasks, the origin of its training targets."""

    calibration: Calibration

    licence: str
    """SPDX identifier of the weights' licence."""

    training: Mapping[str, Any]
    """The data set, its terms and the configuration, as JSON values for people and `/models`; no code reads them."""

    quality: Mapping[str, Any]
    """Metrics on the test split, as JSON values for people and `/models`; no code reads them."""

    weights_sha256: str = ""
    """Hexadecimal digest of the weights file."""

    code_version: str = ""
    """Version of the distribution that wrote the bundle."""

    temporal: TemporalSpec | None = None
    """The frames and states that a temporal bundle is run with; None for a framewise bundle."""

    unit_notes: Mapping[str, UnitNote] | None = None
    """For each action unit, how far it can be trusted. None: the bundle does not say, as earlier ones do not."""

    precision_gate: PrecisionGate | None = None
    """How much bfloat16 changes the answers. None: it was not measured, and is used only where it is asked for."""

    format: int = FORMAT

    def __post_init__(self) -> None:
        if set(self.references) != set(self.network.tasks):
            raise ValueError("references must name exactly the network's tasks")
        if not set(self.references.values()) <= set(REFERENCES):
            raise ValueError(f"a reference is one of {', '.join(REFERENCES)}")
        if (self.temporal is None) != (self.network.recurrent is None):
            raise ValueError("a recurrent network needs temporal settings, and no other has any")
        if (size := self.network.input_size) not in (None, self.input.size):
            raise ValueError(f"{self.network.backbone} takes crops of {size} pixels, not {self.input.size}")
        if self.unit_notes is not None and set(self.unit_notes) != set(ACTION_UNITS):
            raise ValueError(f"notes must name exactly the units {', '.join(ACTION_UNITS)}")
        bias = self.calibration.expression.bias if self.calibration.expression else None
        if bias is not None and len(bias) != len(self.network.labels):
            raise ValueError(f"{len(bias)} expression biases for {len(self.network.labels)} labels")


def parse_manifest(values: Any) -> BundleManifest:
    """Return a manifest from JSON values. Raises ValueError, TypeError or KeyError if they are not understood."""
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}, the only one that this version reads")
    known = _known(BundleManifest, values)
    temporal = values.get("temporal")
    gate = values.get("precision_gate")
    known |= {
        "network": parse_network(values["network"]),
        "input": parse_input(values["input"]),
        "calibration": parse_calibration(values["calibration"]),
        "temporal": None if temporal is None else TemporalSpec(**_known(TemporalSpec, temporal)),
        "unit_notes": _by_name(UnitNote, values.get("unit_notes")),
        "precision_gate": None if gate is None else PrecisionGate(**_known(PrecisionGate, gate)),
    }
    return BundleManifest(**known)


def manifest_values(manifest: BundleManifest) -> dict[str, Any]:
    """Return a manifest as the JSON values that `parse_manifest` reads.

    A gate that was not measured is left out, and so is an estimator that the network lacks: versions that do not know
    them can read a bundle without them.
    """
    values = asdict(manifest) | {"calibration": calibration_values(manifest.calibration)}
    if manifest.network.estimator is None:
        del values["network"]["estimator"]
    if manifest.precision_gate is None:
        del values["precision_gate"]
    return values


def parse_network(values: Any) -> NetworkSpec:
    """Return a NetworkSpec from JSON values; raises as `parse_manifest` does."""
    known = _known(NetworkSpec, values, tuples=("tasks", "labels"))
    if known.get("tower") is not None:
        known["tower"] = TowerSpec(**_known(TowerSpec, known["tower"]))
    if known.get("estimator") is not None:
        known["estimator"] = EstimatorSpec(**_known(EstimatorSpec, known["estimator"]))
    return NetworkSpec(**known)


def parse_input(values: Any) -> InputSpec:
    """Return an InputSpec from JSON values; raises as `parse_manifest` does."""
    return InputSpec(**_known(InputSpec, values, tuples=("mean", "std")))


def parse_calibration(values: Any) -> Calibration:
    """Return a Calibration from JSON values; raises as `parse_manifest` does."""
    parts = _known(Calibration, values)
    expression, eyes_closed = parts["expression"], parts.get("eyes_closed")
    return Calibration(
        None if expression is None else ExpressionCalibration(**_known(ExpressionCalibration, expression, ("bias",))),
        _by_name(UnitCalibration, parts["action_units"]),
        _by_name(AxisCalibration, parts.get("valence_arousal")),  # the first bundles lack the key
        ChangeLimits(**_known(ChangeLimits, parts.get("change_limits", {}))),
        None if eyes_closed is None else UnitCalibration(**_known(UnitCalibration, eyes_closed)),
    )


def calibration_values(calibration: Calibration) -> dict[str, Any]:
    """Return a Calibration as the JSON values that `parse_calibration` reads.

    Limits and closed eyes are left out where they were not fitted, so that versions that do not know them can read a
    bundle without them.
    """
    values = asdict(calibration)
    if calibration.change_limits == ChangeLimits():
        del values["change_limits"]
    if calibration.eyes_closed is None:
        del values["eyes_closed"]
    return values


def _by_name(kind: type[T], values: Any) -> dict[str, T] | None:
    """Return dataclasses by name from JSON values; null gives None."""
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ValueError(f"calibrations and notes must be an object by name or null, not {values!r:.40}")
    return {name: kind(**_known(kind, value)) for name, value in values.items()}


def _known(kind: type[T], values: Any, tuples: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a dataclass's values by field, with lists as tuples where named. Raises ValueError for unknown keys."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or not set(values) <= names:
        unknown = sorted(set(values) - names) if isinstance(values, dict) else values
        raise ValueError(f"{kind.__name__} does not know {unknown}")
    return {name: tuple(value) if name in tuples else value for name, value in values.items()}
