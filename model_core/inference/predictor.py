"""From crops to calibrated affect: the only way by which the service reaches the networks.

Several bundles answer together. Each task uses the last bundle that supports it, and bundles with the same backbone
share an encoder, which runs once for each crop. The order of serving is::

    crops -> encoder -> heads, or a track's recurrent state and heads -> (smoothing) -> calibration -> thresholds

One use, for faces that are already aligned::

    predictor = Predictor([open_bundle(locate_bundle("default"))])
    [affect] = predictor.predict([[crop]])
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model_core.affect import ACTION_UNITS, TASKS, ActionUnit, Affect, Expression, Task
from model_core.baseline import ChangeEstimator, Comparison, Levels, levels_of
from model_core.bundles.bundle import Bundle
from model_core.bundles.manifest import BundleManifest
from model_core.calibration import UNCALIBRATED_UNIT, Calibration, ChangeLimits, UnitCalibration
from model_core.faces.geometry import Crop
from model_core.inference.encoder import Encoder, Features, grouped, naming
from model_core.inference.heads import change_estimator
from model_core.inference.layout import FeatureLayout, OutputLayout
from model_core.inference.memory import TrackMemory
from model_core.inference.recurrent import RecurrentNetwork
from model_core.inference.runtimes import RuntimeOptions

Outputs: TypeAlias = NDArray[np.float64]
"""One face's raw outputs, float64 [D]: those of a BundleEnsemble's tasks one after another, in the order of TASKS."""


@dataclass(frozen=True, eq=False)
class PlacedBundle:
    """A bundle together with the place of its columns in a face's features."""

    manifest: BundleManifest

    columns: slice
    """A framewise bundle's outputs; for a temporal bundle, its backbone's vector."""

    recurrent: RecurrentNetwork | None
    """A temporal bundle's network without the backbone; None for a framewise bundle."""

    estimator: ChangeEstimator | None
    """What the bundle's outputs of `unit_changes` are compared by; None without that task."""

    @classmethod
    def of(cls, bundle: Bundle, columns: slice) -> "PlacedBundle":
        """Place a bundle. Raises BundleError if the weights of what follows its encoder are missing or do not fit."""
        manifest = bundle.manifest
        with naming(bundle):
            recurrent = RecurrentNetwork(bundle.weights, manifest.network.widths) if manifest.temporal else None
            return cls(manifest, columns, recurrent, change_estimator(bundle.weights, manifest.network.estimator))

    @property
    def layout(self) -> OutputLayout:
        """The columns of the bundle's raw outputs."""
        return OutputLayout(self.manifest.network.widths)

    def outputs(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the raw outputs [B, d] for features [B, F] of single faces.

        A temporal bundle sees each face as the first frame of a track.
        """
        own = features[:, self.columns]
        return own if self.recurrent is None else self.recurrent.step(own, None)[0]


class BundleEnsemble:
    """Several bundles answering together: each task uses the last bundle that supports it."""

    def __init__(self, bundles: Sequence[PlacedBundle]) -> None:
        """Take bundles in ascending order of precedence. With no bundle the ensemble has no task."""
        last = {task: bundle for bundle in bundles for task in bundle.manifest.network.tasks}
        self._by_task = {task: last[task] for task in TASKS if task in last}

        self.bundles: tuple[PlacedBundle, ...] = tuple(bundles)
        """The bundles, in the order given."""

        self.tasks: Mapping[Task, BundleManifest] = {task: bundle.manifest for task, bundle in self._by_task.items()}
        """The manifest of the bundle that answers each task, in the order of TASKS."""

        self.temporal = any(bundle.recurrent is not None for bundle in self._by_task.values())
        """True if a temporal bundle answers one of the tasks."""

        rates = [manifest.temporal.frame_rate for manifest in self.tasks.values() if manifest.temporal is not None]
        self.frame_rate: float | None = max(rates, default=None)
        """Frames a second that the answering temporal bundles were evaluated with, the highest; None without one."""

        self.labels: tuple[str, ...] = self.tasks["expression"].network.labels if "expression" in self.tasks else ()
        """Expression labels in the order of the outputs; empty without the task."""

        self.layout = OutputLayout({task: manifest.network.widths[task] for task, manifest in self.tasks.items()})
        """The columns of the raw outputs."""

        fitted = {
            task: getattr(manifest.calibration, task) for task, manifest in self.tasks.items() if task != "unit_changes"
        }
        axes, units = self.tasks.get("valence_arousal"), self.tasks.get("unit_changes", self.tasks.get("action_units"))
        limits = ChangeLimits(
            None if axes is None else axes.calibration.change_limits.valence_arousal,
            None if units is None else units.calibration.change_limits.action_units,
        )
        self._calibration = Calibration(**fitted, change_limits=limits)

        estimator = self._by_task["unit_changes"].estimator if "unit_changes" in self.tasks else None
        self.comparison = Comparison.of(self.tasks, self._calibration, estimator)
        """The comparison of a face with a baseline."""

    def outputs(self, features: Sequence[Features]) -> list[Outputs]:
        """Return the raw outputs of single faces; temporal bundles see each as the first frame of a track."""
        if not features:
            return []
        rows = np.stack(features)
        bundle_outputs = {bundle: bundle.outputs(rows) for bundle in set(self._by_task.values())}
        parts = [bundle_outputs[bundle][:, bundle.layout.columns(task)] for task, bundle in self._by_task.items()]
        return list(np.concatenate([np.empty((len(rows), 0)), *parts], axis=1))

    def track_states(self) -> "TrackStates":
        """Return fresh states for the tracks of one video."""
        return TrackStates(self._by_task)

    def affects(self, outputs: Sequence[Outputs]) -> list[Affect]:
        """Calibrate raw outputs, which may have been smoothed over time. This runs no network."""
        if not outputs or not self.tasks:
            return [Affect()] * len(outputs)
        return calibrated(self.layout.split(np.stack(outputs)), self.labels, self._calibration)

    def levels(self, outputs: Sequence[Outputs]) -> list[Levels]:
        """Return what `comparison` compares of the faces, by their raw outputs, which may have been smoothed."""
        if not outputs or not self.comparison.names:
            return [np.empty(0)] * len(outputs)
        return list(levels_of(self.layout.split(np.stack(outputs)), self._calibration))


class TrackStates:
    """The recurrent states of one video's tracks, one for each track and temporal bundle.

    A state is held until `keep` drops it, for only the caller knows which tracks may still get faces::

        outputs = states.step(track_id, features, time_s)
        states.keep(tracker.live_ids)
    """

    def __init__(self, by_task: Mapping[Task, PlacedBundle]) -> None:
        """Take the bundle that answers each task, in the order of TASKS."""
        self._by_task = by_task
        self._memories: dict[int, dict[PlacedBundle, TrackMemory]] = {}

    def step(self, track_id: int, features: Features, time_s: float) -> Outputs:
        """Return the raw outputs for a track's next face, at a time in seconds that does not decrease."""
        bundle_outputs = {
            bundle: self._bundle_outputs(bundle, track_id, features, time_s) for bundle in set(self._by_task.values())
        }
        parts = [bundle_outputs[bundle][bundle.layout.columns(task)] for task, bundle in self._by_task.items()]
        return np.concatenate([np.empty(0), *parts])

    def keep(self, track_ids: Collection[int]) -> None:
        """Drop the states of all tracks but these."""
        for track_id in self._memories.keys() - set(track_ids):
            del self._memories[track_id]

    def _bundle_outputs(self, bundle: PlacedBundle, track_id: int, features: Features, time_s: float) -> Outputs:
        own = features[bundle.columns]
        spec = bundle.manifest.temporal
        if bundle.recurrent is None or spec is None:
            return own
        memories = self._memories.setdefault(track_id, {})
        if bundle not in memories:
            memories[bundle] = TrackMemory(bundle.recurrent, spec)
        return memories[bundle].step(own, time_s)


class Predictor:
    """Bundles on a device."""

    def __init__(self, bundles: Sequence[Bundle], device: str = "cpu", options: RuntimeOptions | None = None) -> None:
        """Take bundles in ascending order of precedence, and a device by torch's name, such as `cuda:0`.

        Without options, the engine and the precision are the defaults. Raises as `Encoder` does, and ValueError for no
        bundle.
        """
        if not bundles:
            raise ValueError("there must be a bundle")
        self.device = device
        self.options = options or RuntimeOptions()

        used = answering([bundle.manifest for bundle in bundles])
        self.idle = tuple(bundle.manifest for i, bundle in enumerate(bundles) if i not in used)
        """Manifests of the bundles that answer nothing, because later ones support all their tasks. They are freed."""

        bundles = [bundles[i] for i in used]
        self.manifests = tuple(bundle.manifest for bundle in bundles)
        """Manifests of the bundles that answer something, in the order given."""

        groups = grouped(bundles)
        self.encoders = tuple(Encoder([bundles[i] for i in group], device, self.options) for group in groups)
        """One encoder for each distinct backbone and input; each may have a thread of its own."""

        layout = FeatureLayout.of([encoder.layout for encoder in self.encoders], groups)
        placed = [PlacedBundle.of(*each) for each in zip(bundles, layout.columns, strict=True)]
        self.everything = BundleEnsemble(placed)
        """All bundles together."""

        self.framewise = BundleEnsemble([bundle for bundle in placed if bundle.recurrent is None])
        """The bundles that judge each frame by itself."""

    def predict(self, faces: Sequence[Sequence[Crop]]) -> list[Affect]:
        """Return estimates for single faces, in their order.

        Each face is a crop for each encoder: uint8 [S, S, 3] RGB, in its encoder's size and alignment. Raises
        ValueError for a crop of another shape.
        """
        return self.everything.affects(self.outputs(faces))

    def outputs(self, faces: Sequence[Sequence[Crop]]) -> list[Outputs]:
        """Return the raw outputs of each face: `predict` without the calibration."""
        if not faces:
            return []
        by_encoder = zip(self.encoders, zip(*faces, strict=True), strict=True)
        features = [encoder.features(crops) for encoder, crops in by_encoder]
        return self.everything.outputs([np.concatenate(parts) for parts in zip(*features, strict=True)])


def answering(manifests: Sequence[BundleManifest]) -> list[int]:
    """Return the positions of the bundles that are the last to support a task, among all or the framewise ones."""
    last: dict[tuple[Task, bool], int] = {}
    for position, manifest in enumerate(manifests):
        for task in manifest.network.tasks:
            last[task, True] = position
            if manifest.temporal is None:
                last[task, False] = position
    return sorted(set(last.values()))


def calibrated(
    logits: Mapping[Task, NDArray[np.float64]], labels: Sequence[str], calibration: Calibration
) -> list[Affect]:
    """Return the calibrated estimates of B faces for the logits of each task, [B, d], of at least one.

    `labels` names the columns of the expression logits.
    """
    [size] = {len(part) for part in logits.values()}
    axes = expressions = units = eyes = None
    closed_eyes = calibration.eyes_closed or UNCALIBRATED_UNIT
    if "valence_arousal" in logits:
        axes = calibration.valence_arousal_estimates(logits["valence_arousal"])
    if "expression" in logits:
        expressions = calibration.expression_probabilities(logits["expression"])
    if "action_units" in logits:
        units = calibration.unit_probabilities(logits["action_units"])
    if "eyes_closed" in logits:
        eyes = closed_eyes.probability(logits["eyes_closed"][:, 0]).tolist()
    return [
        Affect(
            valence=None if axes is None else float(axes[i, 0]),
            arousal=None if axes is None else float(axes[i, 1]),
            expression=None if expressions is None else _expression(expressions[i], labels),
            action_units=None if units is None else _action_units(units[i], calibration),
            eyes_closed=None if eyes is None else _action_unit(eyes[i], closed_eyes),
        )
        for i in range(size)
    ]


def _expression(probabilities: NDArray[np.float64], labels: Sequence[str]) -> Expression:
    by_label = dict(zip(labels, probabilities.tolist(), strict=True))
    return Expression(max(by_label, key=by_label.__getitem__), by_label)


def _action_units(probabilities: NDArray[np.float64], calibration: Calibration) -> dict[str, ActionUnit]:
    return {
        name: _action_unit(probability, calibration.unit(name))
        for name, probability in zip(ACTION_UNITS, probabilities.tolist(), strict=True)
    }


def _action_unit(probability: float, calibration: UnitCalibration) -> ActionUnit:
    return ActionUnit(probability, active=probability >= calibration.threshold)
