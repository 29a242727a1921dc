"""The tracks of a video as they grow: faces joined over time, and their outputs smoothed as the request asks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from model_core.affect import Affect
from model_core.predictor import Outputs
from model_core.smoothing import CausalSmoother, smooth_offline
from model_core.tracking import FaceTracker
from service.analysis import FaceAnalysis, Sample, Smoothing


class TrackBuilder:
    """Collects one video's samples by track. `affects` makes estimates of smoothed outputs."""

    def __init__(
        self, tracker: FaceTracker, smoothing: Smoothing, affects: Callable[[Sequence[Outputs]], list[Affect]]
    ) -> None:
        self._tracker = tracker
        self._smoothing = smoothing
        self._affects = affects
        self._smoothers: dict[int, CausalSmoother] = {}
        self._samples: dict[int, list[Sample]] = {}
        self._outputs: dict[int, list[Outputs]] = {}

    def add(self, time_s: float, frame: int, faces: Sequence[FaceAnalysis], outputs: Sequence[Outputs]) -> None:
        """The next frame's faces, with the outputs that each one's affect was made of."""
        tracked = self._tracker.update([analysis.face for analysis in faces], time_s)
        for place, analysis, values in zip(tracked, faces, outputs, strict=True):
            if self._smoothing == "causal":
                smoother = self._smoothers.setdefault(place.track_id, CausalSmoother())
                [affect] = self._affects([smoother.update(values, time_s)])
                analysis = replace(analysis, affect=affect)  # noqa: PLW2901 - the same face, smoothed
            elif self._smoothing == "offline":
                self._outputs.setdefault(place.track_id, []).append(values)
            self._samples.setdefault(place.track_id, []).append(Sample(time_s, frame, analysis))

    def finish(self) -> Mapping[int, tuple[Sample, ...]]:
        """All samples by track; offline smoothing happens here, so a long video takes a moment."""
        if self._smoothing != "offline":
            return {track_id: tuple(samples) for track_id, samples in self._samples.items()}
        return {track_id: self._smoothed(track_id) for track_id in self._samples}

    def _smoothed(self, track_id: int) -> tuple[Sample, ...]:
        samples = self._samples[track_id]
        times_s = np.array([sample.time_s for sample in samples])
        affects = self._affects(list(smooth_offline(np.stack(self._outputs[track_id]), times_s)))
        return tuple(
            replace(sample, analysis=replace(sample.analysis, affect=affect))
            for sample, affect in zip(samples, affects, strict=True)
        )
