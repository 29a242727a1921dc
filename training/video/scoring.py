"""Outputs of a temporal or framewise head on whole tracks, computed as the service does."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.affect import Task
from model_core.calibration import Calibration
from model_core.inference.smoothing import smooth_causal, smooth_offline
from model_core.models.heads import AffectNetwork
from training.video.config import EvaluationConfig, SequenceConfig, Smoothing, WindowConfig
from training.video.predictions import ProtocolError, SequencePredictions, pictured_only
from training.video.protocol import measure
from training.video.tracks import Track
from training.video.windows import segments, windows

Floats = NDArray[np.float64]

SCORES: Mapping[Task, str] = {"valence_arousal": "p_va", "expression": "p_expr", "action_units": "p_au"}
"""The challenge's measure of each task."""


@torch.inference_mode()
def track_outputs(network: AffectNetwork, task: Task, track: Track, window: WindowConfig, frame_rate: float) -> Floats:
    """Return uncalibrated outputs of one track, float64 [T, K]; 0 where a frame has no picture.

    The state is reset after a gap, and every `window.length` frames if `window.state` is `reset`.
    """
    network.eval()
    parts = segments(track.present, frame_rate, window.max_gap_s)
    if window.state == "reset" and network.recurrent is not None:
        parts = windows(parts, window.length, window.length)
    pieces = [(frames, _outputs(network, task, track.features[frames])) for frames in parts]
    outputs = np.zeros(getattr(track.sequence.targets, task).shape)
    for frames, values in pieces:
        outputs[frames] = values
    return outputs


def _outputs(network: AffectNetwork, task: Task, features: NDArray[np.float32]) -> Floats:
    logits, _ = network.forward_sequence(torch.from_numpy(np.array(features))[None])
    return np.asarray(getattr(logits, task)[0].double().numpy())


def smoothed(outputs: Floats, track: Track, smoothing: Smoothing, window: WindowConfig, frame_rate: float) -> Floats:
    """Return outputs [T, K] smoothed over time within each run of frames; other rows are unchanged."""
    if smoothing == "none":
        return outputs
    result = outputs.copy()
    smooth = smooth_causal if smoothing == "causal" else smooth_offline
    for frames in segments(track.present, frame_rate, window.max_gap_s):
        result[frames] = smooth(outputs[frames], frames / frame_rate)
    return result


def outputs_over_time(network: AffectNetwork, config: SequenceConfig, tracks: Sequence[Track]) -> list[Floats]:
    """Return `track_outputs` of each track, smoothed as configured, which is what calibration applies to."""
    window = config.window
    frame_rate = config.data.frame_rate
    smoothed_outputs = []
    for track in tracks:
        outputs = track_outputs(network, config.network.task, track, window, frame_rate)
        smoothed_outputs.append(smoothed(outputs, track, config.evaluation.smoothing, window, frame_rate))
    return smoothed_outputs


def predict(
    network: AffectNetwork, config: SequenceConfig, calibration: Calibration, tracks: Sequence[Track]
) -> list[SequencePredictions]:
    """Return calibrated predictions for whole tracks, as they are served; see `predictions_of`."""
    return predictions_of(outputs_over_time(network, config, tracks), config.network.task, calibration, tracks)


def predictions_of(
    outputs: Sequence[Floats], task: Task, calibration: Calibration, tracks: Sequence[Track]
) -> list[SequencePredictions]:
    """Return predictions for whole tracks from their `outputs_over_time`; an empty calibration leaves them raw.

    The references of frames without a picture are masked: nothing is predicted for a face that is not seen.
    """
    return [
        pictured_only(SequencePredictions(track.sequence, **{task: _calibrated(task, values, calibration)}))
        for track, values in zip(tracks, outputs, strict=True)
    ]


def _calibrated(task: Task, outputs: Floats, calibration: Calibration) -> Floats:
    if task == "valence_arousal":
        return calibration.valence_arousal_estimates(outputs)
    if task == "expression":
        return calibration.expression_probabilities(outputs)
    return calibration.unit_probabilities(outputs)


def headline(network: AffectNetwork, config: SequenceConfig, tracks: Sequence[Track]) -> dict[str, float]:
    """Return the challenge's measures on some tracks, before smoothing and calibration; a run watches its `score`.

    `score` is NaN, and alone, where an output is not finite. Raises ProtocolError where the tracks cannot be measured.
    """
    task = config.network.task
    plain = config.model_copy(update={"evaluation": EvaluationConfig(smoothing="none")})
    outputs = outputs_over_time(network, plain, tracks)
    if not all(np.isfinite(values).all() for values in outputs):
        return {"score": math.nan}
    measures = measure(predictions_of(outputs, task, Calibration(), tracks)).measures.get(task)
    if measures is None:
        raise ProtocolError("the held-out videos have no labels in frames with a face: hold out others")
    numbers = {name: value for name, value in measures.items() if isinstance(value, float)}
    score = measures.get(SCORES[task])
    if score is None:
        raise ProtocolError("the held-out videos do not show every action unit labelled: hold out more")
    return {**numbers, "score": score}
