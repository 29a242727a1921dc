"""Video data as training sees it: the features of each face's frames, beside their targets."""

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
    """One face through one video. features: float32 [T, D]; present: bool [T], frames that have a picture."""

    sequence: VideoSequence
    features: NDArray[np.float32]
    present: NDArray[np.bool_]

    @property
    def video(self) -> str:
        """The video's name."""
        return self.sequence.video


def load_tracks(reader: SequenceReader, root: Path, task: Task, cache: FeatureCache, split: Split) -> list[Track]:
    """The tracks of a split that have labels of a task, with their features computed or from the cache.

    Raises DatasetError, also where there is none.
    """
    sequences = labelled_sequences(reader, root, task, split)
    return [Track(each, *cache.features(each)) for each in tqdm(sequences, desc="features", unit="track")]


def labelled_sequences(reader: SequenceReader, root: Path, task: Task, split: Split) -> list[VideoSequence]:
    """Return the sequences of a split that have labels of a task, in the reader's order.

    Raises DatasetError, also where there is none.
    """
    sequences = [each for each in reader.sequences(root) if each.split == split and _labelled(each, task).any()]
    if not sequences:
        raise DatasetError(f"{root} has no {split} video with labels of {task}")
    return sequences


def _labelled(sequence: VideoSequence, task: Task) -> NDArray[np.bool_]:
    mask = getattr(sequence.targets, f"{task}_mask")
    return np.asarray(mask.reshape(len(mask), -1).any(axis=1))
