"""Small sequences whose targets and predictions stand in the test."""

from collections.abc import Sequence as Several
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets.sequences import Person, Sequence, SequenceTargets
from training.video.predictions import SequencePredictions


def unlabelled(frames: int, video: str = "a", person: Person = "", pictures: bool = True) -> Sequence:
    """A sequence of `frames` frames, all with a picture or none; every target is masked."""
    paths = tuple(Path(f"{video}/{number:05d}.jpg") if pictures else None for number in range(1, frames + 1))
    one, two, eight, twelve = (np.zeros((frames, *shape), np.float32) for shape in ((), (2,), (8,), (12,)))
    return Sequence(video, person, "validation", paths, SequenceTargets(two, one, eight, one, twelve, twelve))


def of_affect(
    estimates: Several[Several[float]], targets: Several[Several[float]], video: str = "a", person: Person = ""
) -> SequencePredictions:
    """Valence and arousal, [T, 2] both; a target of -5 is masked."""
    sequence, wanted = unlabelled(len(targets), video, person), np.array(targets, np.float32).reshape(-1, 2)
    mask = (wanted != -5).all(axis=1)
    marked = replace(
        sequence.targets,
        valence_arousal=np.where(mask[:, None], wanted, 0).astype(np.float32),
        valence_arousal_mask=mask.astype(np.float32),
    )
    values = np.array(estimates, np.float64).reshape(-1, 2)
    return SequencePredictions(replace(sequence, targets=marked), valence_arousal=values)


def of_expressions(chosen: Several[int], actual: Several[int], video: str = "a") -> SequencePredictions:
    """The class with the highest score, and the labelled one, by number; -1 is masked."""
    sequence, labels = unlabelled(len(actual), video), np.array(actual)
    marked = replace(
        sequence.targets,
        expression=(labels[:, None] == np.arange(8)).astype(np.float32),
        expression_mask=(labels >= 0).astype(np.float32),
    )
    scores = (np.array(chosen)[:, None] == np.arange(8)).astype(np.float64)
    return SequencePredictions(replace(sequence, targets=marked), expression=scores)


def of_units(
    probabilities: NDArray[np.float64], targets: NDArray[np.float64], video: str = "a", person: Person = ""
) -> SequencePredictions:
    """Twelve units, [T, 12] both, or [T] for the same in all units; a target of -1 is masked."""
    values, wanted = (each if each.ndim == 2 else each[:, None].repeat(12, axis=1) for each in (probabilities, targets))
    sequence = unlabelled(len(wanted), video, person)
    marked = replace(
        sequence.targets,
        action_units=np.maximum(wanted, 0).astype(np.float32),
        action_units_mask=(wanted >= 0).astype(np.float32),
    )
    return SequencePredictions(replace(sequence, targets=marked), action_units=values)
