"""The columns of flat arrays: of a network's outputs, by task, and of a face's features, by encoder and bundle.

Every module that writes or reads such columns asks here, so that they cannot disagree.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from model_core.affect import Task
from model_core.bundles.manifest import BundleManifest


@dataclass(frozen=True)
class OutputLayout:
    """The columns of several tasks' outputs, one task after another.

    For a network with all tasks and eight expression labels::

        column   0        1        2 ... 9       10 ... 21
                 valence  arousal  expression    action units
    """

    widths: Mapping[Task, int]
    """Number of columns of each task, in the order of the columns."""

    def columns(self, task: Task) -> slice:
        """Return the columns of a task. Raises KeyError for a task that is not in the layout."""
        by_task: dict[Task, slice] = dict(zip(self.widths, _slices(self.widths.values()), strict=True))
        return by_task[task]

    def split(self, outputs: NDArray[np.float64]) -> dict[Task, NDArray[np.float64]]:
        """Return outputs [B, D] by task, each [B, d]."""
        return {task: outputs[:, self.columns(task)] for task in self.widths}


@dataclass(frozen=True)
class EncoderLayout:
    """The columns that one encoder computes for a face, for the bundles that share it.

    A framewise bundle needs its outputs only. Temporal bundles run later, track by track, and need the backbone's
    vector, which they share. For bundles 0 and 2 framewise, with 10 and 12 outputs, and bundles 1 and 3 temporal::

        column   0 ... 9     10 ... 21    22 ... 533
                 bundle 0    bundle 2     vector, for bundles 1 and 3
    """

    columns: tuple[slice, ...]
    """The columns of each bundle, in the order of the bundles."""

    framewise: tuple[int, ...]
    """Positions of the framewise bundles, in the order of their outputs' columns."""

    has_vector: bool
    """True if the backbone's vector follows the outputs."""

    width: int
    """Number of columns."""

    @classmethod
    def of(cls, manifests: Sequence[BundleManifest]) -> "EncoderLayout":
        """Return the layout for bundles that share an encoder; there is at least one."""
        framewise = tuple(i for i, manifest in enumerate(manifests) if manifest.temporal is None)
        has_vector = len(framewise) < len(manifests)
        widths = [sum(manifests[i].network.widths.values()) for i in framewise]
        vector_size = manifests[0].network.vector_size if has_vector else 0
        *outputs, vector = _slices([*widths, vector_size])
        by_bundle = dict(zip(framewise, outputs, strict=True))
        columns = tuple(by_bundle.get(i, vector) for i in range(len(manifests)))
        return cls(columns, framewise, has_vector, vector.stop)


@dataclass(frozen=True)
class FeatureLayout:
    """The columns of a face's features: those of all encoders, one encoder after another.

    For two encoders, of which the first is the one drawn at EncoderLayout, and the second computes 22 outputs for
    bundle 4::

        column   0 ... 533    534 ... 555
                 encoder 0    encoder 1
    """

    columns: tuple[slice, ...]
    """The columns of each bundle, in the order of the bundles."""

    width: int
    """Number of columns."""

    @classmethod
    def of(cls, encoders: Sequence[EncoderLayout], groups: Sequence[Sequence[int]]) -> "FeatureLayout":
        """Return the layout for encoders and, for each of them, the positions of its bundles among all bundles."""
        blocks = _slices([encoder.width for encoder in encoders])
        by_bundle = {
            bundle: slice(block.start + own.start, block.start + own.stop)
            for encoder, block, group in zip(encoders, blocks, groups, strict=True)
            for bundle, own in zip(group, encoder.columns, strict=True)
        }
        return cls(tuple(by_bundle[bundle] for bundle in sorted(by_bundle)), blocks[-1].stop)


def _slices(widths: Iterable[int]) -> list[slice]:
    """Return adjacent slices of the given widths, from 0 on."""
    ends = [0, *accumulate(widths)]
    return [slice(start, stop) for start, stop in pairwise(ends)]
