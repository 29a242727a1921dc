"""What the frozen part of a network makes of faces, computed once and kept on disk: local features are trained on it.

A row, float16, is a face's vector [512] and then its map [64, 28, 28], flattened. Training faces are kept in several
views: as they are, and in random changes.
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
from model_core.inference.runtimes import Runtime, RuntimeOptions, build_joined
from model_core.models.ddamfn import VECTOR_SIZE
from model_core.models.folding import folded
from model_core.models.local import MAP_SHAPE, LocalDDAMFN
from model_core.preprocessing import InputSpec, to_batch
from training.data.augmentation import Augmentation
from training.data.batches import ahead
from training.data.prepared import PreparedFaces
from training.runs.config import LocalConfig

Rows: TypeAlias = NDArray[np.float16]
"""[N, 512 + 64 * 28 * 28]."""

_WIDTH = VECTOR_SIZE + int(np.prod(MAP_SHAPE))
_BATCH = 64


class FrozenPart(nn.Module):
    """All of a LocalDDAMFN but the local features."""

    def __init__(self, backbone: LocalDDAMFN) -> None:
        super().__init__()
        self._backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        """float [B, 3, 112, 112] -> [B, D]."""
        parts, early = self._backbone.without_local(x)
        return torch.cat([parts.vector, early.flatten(1)], dim=1)


def vectors_of(backbone: LocalDDAMFN, rows: Rows) -> Tensor:
    """Rows [B, D] -> what task heads read, float32 [B, 896], by the local features as they are now."""
    values = torch.from_numpy(rows.astype(np.float32))
    return backbone.with_local(values[:, :VECTOR_SIZE], values[:, VECTOR_SIZE:].unflatten(1, MAP_SHAPE))


@dataclass(frozen=True)
class MapStore:
    """Rows in a folder of their own for these weights, changes and seed: whatever is there is what would be computed.

    Whole views are written; a computation that was interrupted begins with the view it had not finished.
    """

    folder: Path
    faces: PreparedFaces
    input: InputSpec
    augmentation: Augmentation
    seed: int
    backbone: LocalDDAMFN
    options: RuntimeOptions

    @cached_property
    def _frozen(self) -> Runtime:
        """Made ready once, and only where a view is missing: it takes seconds."""
        network = FrozenPart(folded(self.backbone)).eval()
        return build_joined(network, self.input.size, torch.device("cpu"), self.options)

    def view(self, indices: NDArray[np.int64], name: str, number: int) -> Rows:
        """The rows of some records, memory-mapped, computed first where they are missing.

        View 0 is of the faces as they are. name: of the file; another for other records. Raises ModuleNotFoundError
        without the extra of the engine.
        """
        path = self.folder / f"{name}-{number}.npy"
        if not path.exists():
            self._compute(path, indices, number)
        rows: Rows = np.load(path, mmap_mode="r")
        return rows

    def _compute(self, path: Path, indices: NDArray[np.int64], number: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        values = np.lib.format.open_memmap(partial, "w+", np.float16, (len(indices), _WIDTH))
        batches = ahead(self._batches(indices, number))
        starts = range(0, len(indices), _BATCH)
        for start, batch in zip(
            tqdm(starts, f"{path.stem}, {_BATCH} faces a step", disable=None), batches, strict=True
        ):
            values[start : start + _BATCH] = self._frozen(batch)
        values.flush()
        partial.rename(path)

    def _batches(self, indices: NDArray[np.int64], number: int) -> Iterator[Tensor]:
        for start in range(0, len(indices), _BATCH):
            crops = [self._crop(index, number) for index in indices[start : start + _BATCH]]
            yield to_batch(crops, self.input).contiguous()

    def _crop(self, index: int, number: int) -> Crop:
        crop = self.faces.crops[index]
        if number == 0:
            return shrink(crop, self.input.size)
        return self.augmentation.apply(crop, self.input.size, self._generator(index, number))

    def mirrored(self, indices: NDArray[np.int64], number: int) -> NDArray[np.bool_]:
        """bool [N]: which of these records a view mirrors."""
        return np.array(
            [number > 0 and self.augmentation.mirrors(self._generator(index, number)) for index in indices], dtype=bool
        )

    def _generator(self, index: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, number, int(index)))


def open_store(
    folder: Path, faces: PreparedFaces, spec: InputSpec, backbone: LocalDDAMFN, config: LocalConfig
) -> MapStore:
    """The store of this backbone's frozen part, under `folder`."""
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
    for name, value in backbone.state_dict().items():
        if not name.startswith("local."):
            key.update(value.contiguous().numpy().tobytes())
    options = RuntimeOptions(config.views.engine, config.views.precision)
    return MapStore(folder / key.hexdigest()[:16], faces, spec, config.augmentation, seed, backbone, options)
