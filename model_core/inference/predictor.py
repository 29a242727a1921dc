"""Crops in, calibrated affect out: the only door to the networks that the service uses.

Several bundles answer together: each task is the last bundle's that covers it, and a shared encoder runs once a crop.
Served in this order: encoder -> heads, or a track's memory and heads -> (smoothing) -> calibration -> thresholds.
"""

from collections.abc import Mapping, Sequence
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
"""One face's uncalibrated outputs, [D]: those of a reader's tasks one after another, in the order of TASKS."""


@dataclass(frozen=True, eq=False)
class Source:
    """A bundle in a predictor. columns: of a face's features, its outputs, or for a temporal one its encoder's vector.

    memory: a temporal bundle's network behind the encoder.
    """

    manifest: BundleManifest
    columns: slice
    memory: AffectNetwork | None

    def first(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features [B, F] -> outputs [B, d]; a temporal bundle sees each face as the first of a track."""
        own = features[:, self.columns]
        if self.memory is None:
            return own
        with torch.inference_mode():
            logits = self.memory.read(torch.from_numpy(own).float())
            return np.asarray(joined(logits, tuple(self.manifest.network.widths)).double().numpy())

    def part(self, task: Task) -> slice:
        """Where a task's outputs are among the bundle's."""
        widths = self.manifest.network.widths
        start = sum(width for name, width in widths.items() if TASKS.index(name) < TASKS.index(task))
        return slice(start, start + widths[task])


class Reader:
    """What some of the bundles say together: each task from the last that covers it."""

    def __init__(self, sources: Sequence[Source]) -> None:
        last = {task: source for source in sources for task in source.manifest.network.tasks}
        self._by_task = {task: last[task] for task in TASKS if task in last}
        self.tasks: Mapping[Task, BundleManifest] = {task: source.manifest for task, source in self._by_task.items()}
        self.temporal = any(source.memory for source in self._by_task.values())
        self._widths = [manifest.network.widths[task] for task, manifest in self.tasks.items()]
        self._labels = self.tasks["expression"].network.labels if "expression" in self.tasks else ()
        fitted = {task: getattr(manifest.calibration, task) for task, manifest in self.tasks.items()}
        self._calibration = Calibration(**fitted)

    def first(self, features: Sequence[Features]) -> list[Outputs]:
        """Outputs of single faces; a temporal bundle sees each as the first of a track."""
        if not features:
            return []
        rows = np.stack(features)
        said = {source: source.first(rows) for source in set(self._by_task.values())}
        parts = [said[source][:, source.part(task)] for task, source in self._by_task.items()]
        return list(np.concatenate([np.empty((len(rows), 0)), *parts], axis=1))

    def follow(self) -> "Followed":
        """Outputs over time, for the tracks of one video."""
        return Followed(self._by_task)

    def affects(self, outputs: Sequence[Outputs]) -> list[Affect]:
        """Outputs, perhaps smoothed over time, become calibrated estimates. Needs no network."""
        if not outputs or not self.tasks:
            return [Affect()] * len(outputs)
        parts = torch.from_numpy(np.stack(outputs)).split(self._widths, dim=1)
        logits = AffectLogits(**dict(zip(self.tasks, parts, strict=True)))
        return calibrated(logits, self._labels, self._calibration)


class Followed:
    """The tracks of one video, each with what the temporal bundles remember of it."""

    def __init__(self, by_task: Mapping[Task, Source]) -> None:
        self._by_task = by_task
        self._memories: dict[tuple[int, Source], TrackMemory] = {}

    def step(self, track_id: int, features: Features, time_s: float) -> Outputs:
        """A track's next face, at a time in seconds that does not decrease -> its outputs."""
        said = {source: self._said(source, track_id, features, time_s) for source in set(self._by_task.values())}
        parts = [said[source][source.part(task)] for task, source in self._by_task.items()]
        return np.concatenate([np.empty(0), *parts])

    def _said(self, source: Source, track_id: int, features: Features, time_s: float) -> Outputs:
        own, manifest = features[source.columns], source.manifest
        if source.memory is None or manifest.temporal is None:
            return own
        if (track_id, source) not in self._memories:
            # New tracks are the only way to grow, so this is when those that have ended are let go.
            self._memories = {key: kept for key, kept in self._memories.items() if not kept.is_over(time_s)}
            memory = TrackMemory(source.memory, tuple(manifest.network.widths), manifest.temporal)
            self._memories[track_id, source] = memory
        return self._memories[track_id, source].step(own, time_s)


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
        sources = _sources(bundles, groups, self.encoders)
        self.everything = Reader(sources)
        self.framewise = Reader([source for source in sources if source.memory is None])

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
        return self.everything.first([np.concatenate(parts) for parts in zip(*features, strict=True)])


def answering(manifests: Sequence[BundleManifest]) -> list[int]:
    """Positions of the bundles that are last to cover a task, among all or among the framewise ones."""
    last: dict[tuple[Task, bool], int] = {}
    for position, manifest in enumerate(manifests):
        for task in manifest.network.tasks:
            last[task, True] = position
            if manifest.temporal is None:
                last[task, False] = position
    return sorted(set(last.values()))


def _sources(bundles: Sequence[Bundle], groups: Sequence[Sequence[int]], encoders: Sequence[Encoder]) -> list[Source]:
    """The bundles in their order, with their places in features that are all encoders' one after another."""
    placed, offset = {}, 0
    for group, encoder in zip(groups, encoders, strict=True):
        for i, columns in zip(group, encoder.columns, strict=True):
            placed[i] = slice(offset + columns.start, offset + columns.stop)
        offset += encoder.width
    return [
        Source(bundle.manifest, placed[i], without_backbone(bundle.network) if bundle.manifest.temporal else None)
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
