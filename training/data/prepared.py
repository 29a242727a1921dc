"""A prepared data set on disk: aligned crops and their targets, ready to train on.

It is a folder with `crops.npy` (memory-mapped), `faces.npz` (targets) and `prepared.json` (how it was made).
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model_core.affect import LABEL_SETS, Reference
from training.datasets.raw import SPLITS, DatasetError, Split
from training.datasets.rendered import PRESENT

FORMAT = 1

DERIVED_PRESENT = 0.3
"""Teacher's score from which on a derived action unit counts as present; fixed before any training."""


@dataclass(frozen=True)
class PreparedInfo:
    """The origin and settings of a prepared set; training copies them into the bundle."""

    dataset: str
    """A key of `training.datasets.READERS`."""
    label_set: str
    """A key of LABEL_SETS."""
    alignment: str
    """Alignment of the crops, a key of `alignment.TEMPLATES`."""
    size: int
    """Side of a crop in pixels."""
    detector: str
    """Name and version of the face detector."""
    min_confidence: float
    """Smallest confidence of a detection, in [0, 1]."""
    derived: bool
    """True where action units, and valence-arousal unless it is annotated, were derived by the teacher."""
    annotators: int = 10
    """Largest number of votes that a face can have."""
    annotated: bool = False
    """True where people annotated valence-arousal; then none of it is derived."""
    rendered: bool = False
    """True where the faces were rendered; then the units' intensities are known, and valence-arousal is not."""
    twin_correlation: float | None = None
    """Correlation from which on a picture was left out as a twin of a later split's. None: twins were not sought."""
    training_twins: int = 0
    """Training pictures that were left out, since a validation or test picture shows the same photograph."""
    validation_twins: int = 0
    """Validation pictures that were left out, since a test picture shows the same photograph."""
    format: int = FORMAT
    """Version of the file format."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The expression labels, in the order of the targets' columns."""
        return LABEL_SETS[self.label_set]

    @property
    def unit_reference(self) -> Reference:
        """The origin of the action units' targets."""
        return "rendered" if self.rendered else "derived"

    @property
    def present_from(self) -> float:
        """Target from which on an action unit counts as present, in [0, 1]."""
        return PRESENT if self.rendered else DERIVED_PRESENT


@dataclass(frozen=True)
class PreparedFaces:
    """N records in the reader's order; a record whose face was not found keeps its targets, with a black crop."""

    info: PreparedInfo
    crops: NDArray[np.uint8]
    """uint8 [N, S, S, 3] RGB."""
    names: NDArray[np.str_]
    """str [N]."""
    splits: NDArray[np.str_]
    """str [N], of SPLITS."""
    found: NDArray[np.bool_]
    """bool [N]: True where the detector found a face."""
    votes: NDArray[np.float32]
    """float32 [N, C]: raw counts of the annotators' votes."""
    derived: NDArray[np.bool_]
    """bool [N]: True where the teacher read the face."""
    action_units: NDArray[np.float32]
    """float32 [N, 12] in [0, 1]: the teacher's scores, or known intensities; they count where `with_action_units`."""
    valence_arousal: NDArray[np.float32]
    """float32 [N, 2] in [-1, 1]; they count where `with_valence_arousal` is True."""
    annotated: NDArray[np.bool_] | None = None
    """bool [N]: True where people annotated valence-arousal. None: it is derived."""
    blendshapes: NDArray[np.float32] | None = None
    """float32 [N, 52]: the teacher's blendshape scores where `derived`, or None."""
    landmarks: NDArray[np.float32] | None = None
    """float32 [N, 146, 2]: the teacher's landmarks where `derived`, in pixels of the picture, or None."""

    def __len__(self) -> int:
        return len(self.names)

    def indices(self, split: Split, limit: int | None = None) -> NDArray[np.int64]:
        """Return the records of a split, found or not, int64 [M]; only the first `limit` of them if that is given."""
        return np.flatnonzero(self.splits == split)[:limit]

    def take(self, rows: NDArray[np.int64]) -> "PreparedFaces":
        """Return the records at `rows`, int64 [M], of a set that is not mixed, with their crops in memory."""
        arrays: dict[str, Any] = {name: v[rows] for name, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **arrays)

    @property
    def shares(self) -> tuple[float, ...]:
        """Relative share in a batch of each set that the records are from; a prepared set is one."""
        return (1.0,)

    @property
    def origins(self) -> NDArray[np.int64]:
        """int64 [N]: the set that each record is from, its position in `shares`."""
        return np.zeros(len(self), dtype=np.int64)

    @property
    def set_names(self) -> tuple[str, ...]:
        """Names of the sets that the records are from, in the order of `shares`."""
        return (self.info.dataset,)

    @property
    def with_action_units(self) -> NDArray[np.bool_]:
        """bool [N]: True where `action_units` count."""
        return self.found if self.info.rendered else self.derived

    @property
    def expression_weights(self) -> NDArray[np.float32]:
        """float32 [N]: how much a face counts in the loss of expressions; 0 without votes."""
        return np.asarray(self.votes.any(axis=1), dtype=np.float32)

    @property
    def known_units(self) -> NDArray[np.bool_]:
        """bool [N, 12]: True where the entry of `action_units` counts."""
        return np.repeat(self.with_action_units[:, None], self.action_units.shape[1], axis=1)

    @property
    def units_present(self) -> NDArray[np.bool_]:
        """bool [N, 12]: True where a unit counts as present; it counts where `with_action_units`."""
        return self.action_units >= np.float32(self.info.present_from)

    @property
    def with_valence_arousal(self) -> NDArray[np.bool_]:
        """bool [N]: True where `valence_arousal` counts."""
        if self.info.rendered:
            return np.zeros(len(self), dtype=bool)
        return self.derived if self.annotated is None else self.annotated

    @property
    def majority(self) -> NDArray[np.int64]:
        """int64 [N]: the label with more than half of all possible votes, or -1; for FER+ this is its majority set."""
        return np.where(self.votes.max(axis=1) > self.info.annotators / 2, self.votes.argmax(axis=1), -1)


def distributions(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return votes [N, C] as distributions, float32 [N, C]; rows without votes are 0."""
    total = votes.sum(axis=1, keepdims=True)
    return (votes / np.where(total > 0, total, 1)).astype(np.float32)


def create_crops(folder: Path, count: int, size: int) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """Return a new memory-mapped array, uint8 [count, size, size, 3], for the crops in `folder`."""
    shape = (count, size, size, 3)
    return np.lib.format.open_memmap(folder / "crops.npy", mode="w+", dtype=np.uint8, shape=shape)


def write_targets(folder: Path, info: PreparedInfo, arrays: Mapping[str, NDArray[Any] | None]) -> None:
    """Write everything but the crops; `arrays` holds the other fields of PreparedFaces by name."""
    present = {name: values for name, values in arrays.items() if values is not None}
    np.savez_compressed(folder / "faces.npz", **present)  # type: ignore[arg-type]
    # A field at its default is left out, so that a set that does not need it can be read by earlier versions.
    later = {item.name: item.default for item in fields(info) if item.default is not MISSING and item.name != "format"}
    document = {name: value for name, value in asdict(info).items() if name not in later or value != later[name]}
    (folder / "prepared.json").write_text(json.dumps(document, indent=2) + "\n")


def load_prepared(folder: Path) -> PreparedFaces:
    """Open a prepared set; crops stay on disk until they are used. Raises DatasetError if it is not one."""
    try:
        info = PreparedInfo(**json.loads((folder / "prepared.json").read_text()))
        crops = np.load(folder / "crops.npy", mmap_mode="r")
        with (folder / "faces.npz").open("rb") as file, np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        faces = PreparedFaces(info=info, crops=crops, **arrays)
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        hint = "make one with `python -m training.prepare`"
        raise DatasetError(f"{folder} is not a prepared data set ({type(error).__name__}); {hint}") from error
    known = info.format == FORMAT and info.annotated == (faces.annotated is not None)
    if not known or len(crops) != len(faces) or not set(faces.splits) <= set(SPLITS):
        raise DatasetError(f"{folder} was prepared by another version; prepare it again")
    return faces
