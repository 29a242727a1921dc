"""A store of a frozen network's outputs for faces, computed once and kept on disk, on which local features are trained.

A row, float16, is a face's vector without local features [D - 384], followed by its feature map [64, 28, 28],
flattened. Training faces are stored in several views, the first not augmented, the others augmented at random.
Validation faces are stored as they are, and their mirror images where a network reads these, too.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from model_core.faces.alignment import shrink
from model_core.faces.geometry import Crop
from model_core.inference.networks import build_tensor_runtime
from model_core.inference.runtimes import Runtime, RuntimeOptions
from model_core.models.folding import folded
from model_core.models.local import LOCAL_SIZE, MAP_SHAPE, LocalDDAMFN
from model_core.preprocessing import Images, InputSpec, to_batch
from training.data.augmentation import Augmentation
from training.data.batches import ahead
from training.data.prepared import PreparedFaces
from training.runs.config import LocalConfig

Rows: TypeAlias = NDArray[np.float16]
"""float16 [N, D - 384 + 64 * 28 * 28], for a backbone with vectors [D]."""

Vectors: TypeAlias = NDArray[np.float32]
"""float32 [N, D]: the heads' input, which is all that is needed of faces where local features are frozen, too."""

_MAP_SIZE = int(np.prod(MAP_SHAPE))
_BATCH = 64


class FrozenPart(nn.Module):
    """All of a LocalDDAMFN except the local features."""

    def __init__(self, backbone: LocalDDAMFN) -> None:
        super().__init__()
        self._backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        """Return rows for images, float [B, 3, 112, 112]."""
        parts, early = self._backbone.without_local(x)
        return torch.cat([parts.vector, early.flatten(1)], dim=1)


def vectors_of(backbone: LocalDDAMFN, rows: Rows | Vectors) -> Tensor:
    """Return the heads' input of some rows, float32 [B, D], with the current local features. Vectors are that."""
    if rows.shape[1] == backbone.vector_size:
        return torch.from_numpy(rows)
    vectors, maps = torch.from_numpy(rows.astype(np.float32)).tensor_split([-_MAP_SIZE], dim=1)
    return backbone.with_local(vectors, maps.unflatten(1, MAP_SHAPE))


@torch.inference_mode()
def all_vectors(backbone: LocalDDAMFN, rows: Rows) -> Vectors:
    """Return the heads' input of all rows, with local features that do not change any more."""
    backbone.eval()
    vectors = np.empty((len(rows), backbone.vector_size), np.float32)
    for start in tqdm(range(0, len(rows), _BATCH), f"local features, {_BATCH} faces a step", disable=None):
        vectors[start : start + _BATCH] = vectors_of(backbone, rows[start : start + _BATCH]).numpy()
    return vectors


@dataclass(frozen=True)
class MapStore:
    """A folder of rows that belongs to these weights, augmentation and seed.

    A view is written when it is complete; an interrupted computation starts again with the view it had not finished.
    """

    folder: Path
    faces: PreparedFaces
    input: InputSpec
    augmentation: Augmentation
    seed: int
    backbone: LocalDDAMFN
    options: RuntimeOptions
    """Engine and number format that compute the rows."""

    @cached_property
    def _frozen(self) -> Runtime:
        """The compiled frozen part, which is built only where a view is missing, since that takes seconds."""
        network = FrozenPart(folded(self.backbone)).eval()
        return build_tensor_runtime(network, self.input.size, "cpu", self.options)

    def view(self, indices: NDArray[np.int64], name: str, number: int, *, mirrored: bool = False) -> Rows:
        """Return the rows of some records, memory-mapped; they are computed first where they are missing.

        View 0 is not augmented. `mirrored` stores the mirror image of a view. `name` identifies the records in the
        file's name. Raises ModuleNotFoundError without the extra of the engine.
        """
        path = self.folder / f"{name}-{number}{'-mirrored' * mirrored}.npy"
        if not path.exists():
            self._compute(path, indices, number, mirrored)
        rows: Rows = np.load(path, mmap_mode="r")
        return rows

    def _compute(self, path: Path, indices: NDArray[np.int64], number: int, mirrored: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        width = self.backbone.vector_size - LOCAL_SIZE + _MAP_SIZE
        values = np.lib.format.open_memmap(partial, "w+", np.float16, (len(indices), width))
        batches = ahead(self._batches(indices, number))
        starts = range(0, len(indices), _BATCH)
        for start, batch in zip(
            tqdm(starts, f"{path.stem}, {_BATCH} faces a step", disable=None), batches, strict=True
        ):
            values[start : start + _BATCH] = self._frozen(batch[..., ::-1].copy() if mirrored else batch)
        values.flush()
        partial.rename(path)

    def _batches(self, indices: NDArray[np.int64], number: int) -> Iterator[Images]:
        for start in range(0, len(indices), _BATCH):
            crops = [self._crop(index, number) for index in indices[start : start + _BATCH]]
            yield to_batch(crops, self.input)

    def _crop(self, index: int, number: int) -> Crop:
        crop = self.faces.crops[index]
        if number == 0:
            return shrink(crop, self.input.size)
        return self.augmentation.apply(crop, self.input.size, self._generator(index, number))

    def mirrored(self, indices: NDArray[np.int64], number: int) -> NDArray[np.bool_]:
        """Return which of these records a view mirrors, bool [N]."""
        return np.array(
            [number > 0 and self.augmentation.mirrors(self._generator(index, number)) for index in indices], dtype=bool
        )

    def _generator(self, index: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, number, int(index)))


def open_store(
    folder: Path, faces: PreparedFaces, spec: InputSpec, backbone: LocalDDAMFN, config: LocalConfig
) -> MapStore:
    """Return the store of this backbone's frozen part, in a subfolder named by a hash of all it depends on."""
    seed = config.run.seed
    described = {
        "prepared": asdict(faces.info),
        "input": asdict(spec),
        "augmentation": config.augmentation.model_dump(),
        "limit": config.data.limit,
        "seed": seed,
        "precision": config.views.precision,
    }
    key = hashlib.sha256(json.dumps(described).encode())
    key.update("\n".join(faces.names).encode())
    key.update(faces.found.tobytes())
    key.update("\n".join(faces.splits).encode())
    for index in range(len(faces)):
        key.update(faces.crops[index].tobytes())
    for name, value in backbone.state_dict().items():
        if not name.startswith("local."):
            key.update(value.contiguous().numpy().tobytes())
    options = RuntimeOptions(config.views.engine, config.views.precision)
    return MapStore(folder / key.hexdigest()[:16], faces, spec, config.augmentation, seed, backbone, options)
