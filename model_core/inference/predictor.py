"""Crops in, calibrated affect out: the only door to the networks that the service uses.

Several bundles answer together: each task is the last bundle's that covers it, and a shared encoder runs once a crop.
Served in this order: encoder -> heads, or a track's memory and heads -> (smoothing) -> calibration -> thresholds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.affect import ACTION_UNITS, TASKS, ActionUnit, Affect, AffectLogits, Expression, Task
from model_core.bundles.bundle import Bundle
from model_core.bundles.manifest import BundleManifest
from model_core.calibration import Calibration
from model_core.faces.geometry import Crop
from model_core.inference.encoder import Encoder, Features, grouped, without_backbone
from model_core.inference.memory import TrackMemory
from model_core.inference.runtimes import RuntimeOptions, joined
from model_core.models.heads import AffectNetwork

Outputs: TypeAlias = NDArray[np.float64]
"""One face's raw outputs, float64 [D]: those of a BundleEnsemble's tasks one after another, in the order of TASKS."""


@dataclass(frozen=True, eq=False)
class PlacedBundle:
    """A bundle together with the place of its columns in a face's features."""

    manifest: BundleManifest

    columns: slice
    """A framewise bundle's outputs; for a temporal bundle, its backbone's vector."""

    temporal_network: AffectNetwork | None
    """A temporal bundle's network without the backbone; None for a framewise bundle."""

    def outputs(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the raw outputs [B, d] for features [B, F] of single faces.

        A temporal bundle sees each face as the first frame of a track.
        """
        own = features[:, self.columns]
        if self.temporal_network is None:
            return own
        with torch.inference_mode():
            logits = self.temporal_network.read(torch.from_numpy(own).float())
            return np.asarray(joined(logits, tuple(self.manifest.network.widths)).double().numpy())

    def part(self, task: Task) -> slice:
        """Return the columns of a task among the bundle's outputs."""
        widths = self.manifest.network.widths
        start = sum(width for name, width in widths.items() if TASKS.index(name) < TASKS.index(task))
        return slice(start, start + widths[task])


class BundleEnsemble:
    """Several bundles answering together: each task uses the last bundle that supports it."""

    def __init__(self, bundles: Sequence[PlacedBundle]) -> None:
        last = {task: bundle for bundle in bundles for task in bundle.manifest.network.tasks}
        self._by_task = {task: last[task] for task in TASKS if task in last}

        self.tasks: Mapping[Task, BundleManifest] = {task: bundle.manifest for task, bundle in self._by_task.items()}
        """The manifest of the bundle that answers each task, in the order of TASKS."""

        self.temporal = any(bundle.temporal_network is not None for bundle in self._by_task.values())
        """True if a temporal bundle answers one of the tasks."""

        self.labels: tuple[str, ...] = self.tasks["expression"].network.labels if "expression" in self.tasks else ()
        """Expression labels in the order of the outputs; empty without the task."""

        self._widths = [manifest.network.widths[task] for task, manifest in self.tasks.items()]
        fitted = {task: getattr(manifest.calibration, task) for task, manifest in self.tasks.items()}
        self._calibration = Calibration(**fitted)

    def outputs(self, features: Sequence[Features]) -> list[Outputs]:
        """Return the raw outputs of single faces; temporal bundles see each as the first frame of a track."""
        if not features:
            return []
        rows = np.stack(features)
        bundle_outputs = {bundle: bundle.outputs(rows) for bundle in set(self._by_task.values())}
        parts = [bundle_outputs[bundle][:, bundle.part(task)] for task, bundle in self._by_task.items()]
        return list(np.concatenate([np.empty((len(rows), 0)), *parts], axis=1))

    def track_states(self) -> "TrackStates":
        """Return fresh states for the tracks of one video."""
        return TrackStates(self._by_task)

    def affects(self, outputs: Sequence[Outputs]) -> list[Affect]:
        """Calibrate raw outputs, which may have been smoothed over time. This runs no network."""
        if not outputs or not self.tasks:
            return [Affect()] * len(outputs)
        parts = torch.from_numpy(np.stack(outputs)).split(self._widths, dim=1)
        logits = AffectLogits(**dict(zip(self.tasks, parts, strict=True)))
        return calibrated(logits, self.labels, self._calibration)


class TrackStates:
    """The recurrent states of one video's tracks, a state for each track and temporal bundle.

    The caller knows which tracks may still get faces: states are held until `keep` drops them.
    """

    def __init__(self, by_task: Mapping[Task, PlacedBundle]) -> None:
        self._by_task = by_task
        self._memories: dict[int, dict[PlacedBundle, TrackMemory]] = {}

    def step(self, track_id: int, features: Features, time_s: float) -> Outputs:
        """Return the raw outputs for a track's next face, at a time in seconds that does not decrease."""
        bundle_outputs = {
            bundle: self._bundle_outputs(bundle, track_id, features, time_s) for bundle in set(self._by_task.values())
        }
        parts = [bundle_outputs[bundle][bundle.part(task)] for task, bundle in self._by_task.items()]
        return np.concatenate([np.empty(0), *parts])

    def keep(self, track_ids: Collection[int]) -> None:
        """Drop the states of all tracks but these."""
        for track_id in self._memories.keys() - set(track_ids):
            del self._memories[track_id]

    def _bundle_outputs(self, bundle: PlacedBundle, track_id: int, features: Features, time_s: float) -> Outputs:
        own, manifest = features[bundle.columns], bundle.manifest
        if bundle.temporal_network is None or manifest.temporal is None:
            return own
        memories = self._memories.setdefault(track_id, {})
        if bundle not in memories:
            memories[bundle] = TrackMemory(bundle.temporal_network, tuple(manifest.network.widths), manifest.temporal)
        return memories[bundle].step(own, time_s)


class Predictor:
    """Bundles on a device, in an order in which later ones go before earlier ones.

    encoders: one for each distinct backbone and input; each may have a thread of its own. manifests: of the bundles
    that answer something; idle: of those that do not, which are let go. everything reads all bundles; framewise, those
    that judge each frame by itself.
    """

    def __init__(self, bundles: Sequence[Bundle], device: torch.device, options: RuntimeOptions | None = None) -> None:
        """Raises what build_joined raises, and ValueError for no bundle."""
        if not bundles:
            raise ValueError("there must be a bundle")
        self.device = device
        self.options = options or RuntimeOptions()
        used = answering([bundle.manifest for bundle in bundles])
        self.idle = tuple(bundle.manifest for i, bundle in enumerate(bundles) if i not in used)
        bundles = [bundles[i] for i in used]
        self.manifests = tuple(bundle.manifest for bundle in bundles)
        groups = grouped(bundles)
        self.encoders = tuple(Encoder([bundles[i] for i in group], device, self.options) for group in groups)
        placed = _placed(bundles, groups, self.encoders)
        self.everything = BundleEnsemble(placed)
        self.framewise = BundleEnsemble([bundle for bundle in placed if bundle.temporal_network is None])

    def predict(self, faces: Sequence[Sequence[Crop]]) -> list[Affect]:
        """Estimates for single faces, in their order; of each face a crop for each encoder.

        Raises ValueError on a crop of another shape.
        """
        return self.everything.affects(self.outputs(faces))

    def outputs(self, faces: Sequence[Sequence[Crop]]) -> list[Outputs]:
        """The first half of `predict`: what the networks say of each face."""
        if not faces:
            return []
        by_encoder = zip(self.encoders, zip(*faces, strict=True), strict=True)
        features = [encoder.features(crops) for encoder, crops in by_encoder]
        return self.everything.outputs([np.concatenate(parts) for parts in zip(*features, strict=True)])


def answering(manifests: Sequence[BundleManifest]) -> list[int]:
    """Positions of the bundles that are last to cover a task, among all or among the framewise ones."""
    last: dict[tuple[Task, bool], int] = {}
    for position, manifest in enumerate(manifests):
        for task in manifest.network.tasks:
            last[task, True] = position
            if manifest.temporal is None:
                last[task, False] = position
    return sorted(set(last.values()))


def _placed(
    bundles: Sequence[Bundle], groups: Sequence[Sequence[int]], encoders: Sequence[Encoder]
) -> list[PlacedBundle]:
    """The bundles in their order, with their places in features that are all encoders' one after another."""
    columns_of, offset = {}, 0
    for group, encoder in zip(groups, encoders, strict=True):
        for i, columns in zip(group, encoder.columns, strict=True):
            columns_of[i] = slice(offset + columns.start, offset + columns.stop)
        offset += encoder.width
    return [
        PlacedBundle(
            bundle.manifest, columns_of[i], without_backbone(bundle.network) if bundle.manifest.temporal else None
        )
        for i, bundle in enumerate(bundles)
    ]


def calibrated(logits: AffectLogits, labels: Sequence[str], calibration: Calibration) -> list[Affect]:
    """Logits of B faces -> B results."""
    valence_arousal, expression, units = (
        _array(value) for value in (logits.valence_arousal, logits.expression, logits.action_units)
    )
    size = next(len(array) for array in (valence_arousal, expression, units) if array is not None)
    valence_arousal = None if valence_arousal is None else calibration.valence_arousal_estimates(valence_arousal)
    expression = None if expression is None else calibration.expression_probabilities(expression)
    units = None if units is None else calibration.unit_probabilities(units)
    return [
        Affect(
            valence=None if valence_arousal is None else float(valence_arousal[i, 0]),
            arousal=None if valence_arousal is None else float(valence_arousal[i, 1]),
            expression=None if expression is None else _expression(expression[i], labels),
            action_units=None if units is None else _action_units(units[i], calibration),
        )
        for i in range(size)
    ]


def _array(value: Tensor | None) -> NDArray[np.float64] | None:
    return None if value is None else value.double().cpu().numpy()


def _expression(probabilities: NDArray[np.float64], labels: Sequence[str]) -> Expression:
    by_label = dict(zip(labels, probabilities.tolist(), strict=True))
    return Expression(max(by_label, key=by_label.__getitem__), by_label)


def _action_units(probabilities: NDArray[np.float64], calibration: Calibration) -> dict[str, ActionUnit]:
    return {
        name: ActionUnit(probability, active=probability >= calibration.unit(name).threshold)
        for name, probability in zip(ACTION_UNITS, probabilities.tolist(), strict=True)
    }
