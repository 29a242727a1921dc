"""Tracks of video data: the features of each face's frames, beside their targets."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.affect import Task
from training.datasets.raw import DatasetError, Split
from training.datasets.sequences import Sequence as VideoSequence
from training.datasets.sequences import SequenceReader
from training.video.features import FeatureCache


@dataclass(frozen=True, eq=False)
class Track:
    """One face throughout one video of T frames."""

    sequence: VideoSequence
    features: NDArray[np.float32]
    """float32 [T, D]."""
    present: NDArray[np.bool_]
    """bool [T]: True where a frame has a picture of the face."""

    @property
    def video(self) -> str:
        """The video's name."""
        return self.sequence.video


def load_tracks(reader: SequenceReader, root: Path, task: Task, cache: FeatureCache, split: Split) -> list[Track]:
    """Return the tracks of a split that have labels of a task; features that the cache lacks are computed.

    Raises DatasetError, also where there is none.
    """
    sequences = labelled_sequences(reader, root, task, split)
    return [Track(each, *cache.features(each)) for each in tqdm(sequences, "features", unit="track", disable=None)]


def labelled_sequences(reader: SequenceReader, root: Path, task: Task, split: Split) -> list[VideoSequence]:
    """Return the sequences of a split that have labels of a task, in the reader's order.

    Raises DatasetError, also where there is none.
    """
    sequences = [each for each in reader.sequences(root) if each.split == split and _labelled(each, task).any()]
    if not sequences:
        raise DatasetError(f"{root} has no {split} video with labels of {task}")
    return sequences


def _labelled(sequence: VideoSequence, task: Task) -> NDArray[np.bool_]:
    """Return which frames have a label of the task, bool [T]."""
    mask = getattr(sequence.targets, f"{task}_mask")
    return np.asarray(mask.reshape(len(mask), -1).any(axis=1))
