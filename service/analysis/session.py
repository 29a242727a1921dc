"""The tracks of a video as they grow: faces joined over time, read by track, and smoothed as the request asks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from model_core.affect import Affect
from model_core.faces.tracking import FaceTracker
from model_core.inference.encoder import Features
from model_core.inference.predictor import BundleEnsemble, Outputs
from model_core.inference.smoothing import CausalSmoother, smooth_offline
from service.analysis.locating import LocatedFrame
from service.analysis.results import FaceAnalysis, Sample, Smoothing
from service.telemetry import StageClock


class TrackBuilder:
    """Collects one video's samples by track, as a reader of the bundles sees them."""

    def __init__(self, tracker: FaceTracker, reader: BundleEnsemble, smoothing: Smoothing, clock: StageClock) -> None:
        self._tracker = tracker
        self._reader = reader
        self._followed = reader.track_states()
        self._smoothing = smoothing
        self._clock = clock
        self._smoothers: dict[int, CausalSmoother] = {}
        self._samples: dict[int, list[Sample]] = {}
        self._outputs: dict[int, list[Outputs]] = {}

    def add(self, frame: LocatedFrame, features: Sequence[Features]) -> list[Affect]:
        """The next frame's faces, with their features; returns what they say, but for smoothing by the future."""
        time_s, located = frame.time_s, frame.located
        with self._clock.stage("track"):
            ids = [place.track_id for place in self._tracker.update(list(located.faces), time_s)]
        outputs = self._read(ids, features, time_s)
        with self._clock.stage("track"):
            if self._smoothing == "causal":
                outputs = [self._smoother(i).update(values, time_s) for i, values in zip(ids, outputs, strict=True)]
            affects = self._reader.affects(outputs)
            rows = zip(ids, located.faces, affects, located.qualities, outputs, strict=True)
            for track_id, face, affect, quality, values in rows:
                sample = Sample(time_s, frame.index, FaceAnalysis(face, affect, quality))
                self._samples.setdefault(track_id, []).append(sample)
                if self._smoothing == "offline":
                    self._outputs.setdefault(track_id, []).append(values)
        return affects

    def finish(self) -> Mapping[int, tuple[Sample, ...]]:
        """All samples by track; offline smoothing happens here, so a long video takes a moment."""
        if self._smoothing != "offline":
            return {track_id: tuple(samples) for track_id, samples in self._samples.items()}
        return {track_id: self._smoothed(track_id) for track_id in self._samples}

    def _read(self, ids: Sequence[int], features: Sequence[Features], time_s: float) -> list[Outputs]:
        if not self._reader.temporal:
            return self._reader.outputs(features)
        with self._clock.stage("temporal"):
            self._followed.keep(self._tracker.live_ids)
            return [self._followed.step(i, face, time_s) for i, face in zip(ids, features, strict=True)]

    def _smoother(self, track_id: int) -> CausalSmoother:
        return self._smoothers.setdefault(track_id, CausalSmoother())

    def _smoothed(self, track_id: int) -> tuple[Sample, ...]:
        samples = self._samples[track_id]
        times_s = np.array([sample.time_s for sample in samples])
        affects = self._reader.affects(list(smooth_offline(np.stack(self._outputs[track_id]), times_s)))
        return tuple(
            replace(sample, analysis=replace(sample.analysis, affect=affect))
            for sample, affect in zip(samples, affects, strict=True)
        )
