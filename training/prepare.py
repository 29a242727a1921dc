"""`python -m training.prepare`: aligned crops and targets of a data set, with the service's detector and alignment."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model_core.affect import ACTION_UNITS
from model_core.faces.alignment import TEMPLATES, align
from model_core.faces.detection import FaceDetector, build_detector
from model_core.faces.geometry import Crop
from training.data.prepared import PreparedInfo, create_crops, distributions, write_targets
from training.data.twins import TWIN_CORRELATION, twins_in_later_splits
from training.datasets import READERS, DatasetError, DatasetReader, OverlappingReader, RawFace, build_reader
from training.datasets.rendered import MANIFEST
from training.runs.command_line import CommandParser, at_least, fail, share
from training.targets.derived import action_units, facial_strength, mean_movement, valence_arousal
from training.targets.teacher import BLENDSHAPES, LANDMARKS, BlendshapeTeacher, TeacherReading

_RELATIVE = "valence-arousal is derived relative to the training faces"


@dataclass(frozen=True)
class PrepareOptions:
    """The options of a preparation, from which each worker process builds its reader, detector and teacher."""

    dataset: str
    """A key of READERS."""
    alignment: str
    """Alignment of the crops, a key of TEMPLATES."""
    size: int
    """Side of a crop in pixels."""
    detector: str
    """Face detector: yuface, mtcnn or yunet:PATH."""
    min_confidence: float
    """Smallest confidence of a detection, in [0, 1]."""
    teacher: Path | None
    """The file face_landmarker.task. None: no targets are derived."""
    twin_correlation: float = TWIN_CORRELATION
    """Correlation from which on two pictures count as twins, in [0, 1], for sets whose splits share photographs."""


@dataclass(frozen=True)
class _Found:
    crop: Crop
    reading: TeacherReading | None


class _Worker:
    """The reader, detector and teacher of a worker process; the pool calls `run`."""

    current: "_Worker"

    def __init__(self, options: PrepareOptions) -> None:
        cv2.setNumThreads(1)
        self._options = options
        self._reader: DatasetReader = build_reader(options.dataset)
        self._detector: FaceDetector = build_detector(options.detector)
        self._teacher = BlendshapeTeacher(options.teacher) if options.teacher else None

    @classmethod
    def start(cls, options: PrepareOptions) -> None:
        cls.current = cls(options)

    @classmethod
    def run(cls, record: RawFace) -> _Found | None:
        return cls.current._prepare(record)

    def _prepare(self, record: RawFace) -> _Found | None:
        frame = self._reader.load(record)
        faces = self._detector.detect(frame, min_confidence=self._options.min_confidence, max_faces=1)
        if not faces:
            return None
        try:
            crop = align(frame, faces[0].landmarks, self._options.alignment, self._options.size)
        except ValueError:
            return None
        return _Found(crop, self._teacher.read(frame, faces[0]) if self._teacher else None)


def prepare(options: PrepareOptions, root: Path, out: Path, workers: int) -> None:
    """Prepare the data set under `root` into the new folder `out`; valence-arousal is derived unless it is annotated.

    The folder is written under a temporary name and moved into place when it is complete. Raises DatasetError,
    FileExistsError, TeacherError, and the errors of build_detector.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another folder or remove it")
    # Detector and teacher are built before the work, so that a mistyped name costs no time.
    detector_name = build_detector(options.detector).name
    if options.teacher:
        BlendshapeTeacher(options.teacher)
    reader = build_reader(options.dataset)
    every = list(reader.faces(root))
    if not every:
        raise DatasetError(f"{root} has no pictures")
    records, twins = _without_twins(reader, every, options.twin_correlation)
    annotated = _annotated(records)
    rendered = records[0].action_units is not None
    relative = options.teacher is not None and not annotated and not rendered
    training = sum(record.split == "train" for record in records)
    if relative and not training:
        raise DatasetError(f"{root} has no training pictures: {_RELATIVE}")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        arrays = _work_through(options, records, partial, workers)
        if relative and not _of_training(arrays, "derived").any():
            raise DatasetError(f"no face was read in any of the {training} training pictures of {root}: {_RELATIVE}")
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    info = PreparedInfo(
        dataset=options.dataset,
        label_set=reader.label_set,
        alignment=options.alignment,
        size=options.size,
        detector=detector_name,
        min_confidence=options.min_confidence,
        derived=options.teacher is not None,
        annotators=reader.annotators,
        annotated=bool(annotated),
        rendered=rendered,
        **twins,
    )
    if rendered:
        arrays["action_units"] = np.array([record.action_units for record in records], dtype=np.float32)
        # It knows the people, poses and strengths, by which measures compare.
        shutil.copyfile(root / MANIFEST, partial / MANIFEST)
    arrays |= annotated or {"valence_arousal": _valence_arousal(arrays, info)}
    write_targets(partial, info, arrays)
    partial.rename(out)
    print("\n".join(_told(out, info, arrays)))


def _told(out: Path, info: PreparedInfo, arrays: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Return the lines that tell what was prepared."""
    counts = "known action units" if info.rendered else f"{arrays['derived'].sum()} with derived targets"
    if info.annotated:
        counts += f", {arrays['annotated'].sum()} with annotated valence-arousal"
    if not _of_training(arrays, "found").any():
        counts += "; no face is a training face: the set can be measured on, not trained on"
    yield f"{out}: {arrays['found'].sum()} of {len(arrays['found'])} faces found, {counts}"
    if info.twin_correlation is not None:
        left_out = f"{info.training_twins} training and {info.validation_twins} validation pictures"
        yield f"left out as twins of a later split's, from a correlation of {info.twin_correlation} on: {left_out}"


def _without_twins(
    reader: DatasetReader, records: Sequence[RawFace], least_correlation: float
) -> tuple[Sequence[RawFace], dict[str, Any]]:
    """Leave out each picture of which a later split has a twin, where the splits of the set share photographs.

    Returns the other records, and the fields of PreparedInfo that tell how many were left out.
    """
    if not isinstance(reader, OverlappingReader):
        return records, {}
    pictures = np.stack([reader.picture(record) for record in records])
    twins = twins_in_later_splits(pictures, [record.split for record in records], least_correlation)
    lost = Counter(record.split for record, twin in zip(records, twins, strict=True) if twin)
    counts = {"training_twins": lost["train"], "validation_twins": lost["validation"]}
    kept = [record for record, twin in zip(records, twins, strict=True) if not twin]
    return kept, {"twin_correlation": least_correlation, **counts}


def _work_through(
    options: PrepareOptions, records: Sequence[RawFace], folder: Path, workers: int
) -> dict[str, NDArray[Any]]:
    """Write all crops, and return the other fields of PreparedFaces except valence_arousal."""
    count = len(records)
    crops = create_crops(folder, count, options.size)
    found = np.zeros(count, dtype=bool)
    derived = np.zeros(count, dtype=bool)
    units = np.zeros((count, len(ACTION_UNITS)), dtype=np.float32)
    blendshapes = np.zeros((count, len(BLENDSHAPES)), dtype=np.float32)
    landmarks = np.zeros((count, LANDMARKS, 2), dtype=np.float32)
    for index, result in enumerate(tqdm(_results(options, records, workers), total=count, unit="face")):
        if result is None:
            continue
        crops[index] = result.crop
        found[index] = True
        if result.reading:
            derived[index] = True
            units[index] = action_units(result.reading)
            blendshapes[index], landmarks[index] = result.reading.blendshapes, result.reading.landmarks
    crops.flush()
    votes = np.array([record.votes for record in records], dtype=np.float32)
    return {
        "names": np.array([record.name for record in records]),
        "splits": np.array([record.split for record in records]),
        "found": found,
        "votes": votes,
        "derived": derived if records[0].action_units else derived & (votes.sum(axis=1) > 0),
        "action_units": units,
        **({"blendshapes": blendshapes, "landmarks": landmarks} if options.teacher else {}),
    }


def _results(options: PrepareOptions, records: Iterable[RawFace], workers: int) -> Iterator[_Found | None]:
    # Processes are spawned, since a fork would copy the locks of this process's threads.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_Worker.start, initargs=(options,)) as pool:
        yield from pool.map(_Worker.run, records, chunksize=16)


def _annotated(records: Sequence[RawFace]) -> dict[str, NDArray[Any]]:
    """Return `annotated` and `valence_arousal` of PreparedFaces; nothing where no record has any."""
    known = np.array([record.valence_arousal is not None for record in records])
    values = np.array([record.valence_arousal or (0, 0) for record in records], dtype=np.float32)
    return {"annotated": known, "valence_arousal": values} if known.any() else {}


def _of_training(arrays: Mapping[str, NDArray[Any]], field: str) -> NDArray[np.bool_]:
    """bool [N]: where a field of PreparedFaces is true of a training face."""
    return np.asarray(arrays[field] & (arrays["splits"] == "train"))


def _valence_arousal(arrays: Mapping[str, NDArray[Any]], info: PreparedInfo) -> NDArray[np.float32]:
    """Return derived valence-arousal, float32 [N, 2], 0 without a teacher and for rendered faces.

    Strengths are relative to the training faces.
    """
    if not info.derived or info.rendered:
        return np.zeros((len(arrays["found"]), 2), dtype=np.float32)
    reference_rows = _of_training(arrays, "derived")
    blendshapes = arrays["blendshapes"]
    reference = float(np.percentile(mean_movement(blendshapes[reference_rows]), 95))
    shares = distributions(arrays["votes"]).astype(np.float64)
    return valence_arousal(shares, facial_strength(blendshapes, reference), info.labels)


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.prepare", description=__doc__)
    parser.add_argument("--dataset", required=True, choices=sorted(READERS))
    parser.add_argument("--root", required=True, type=Path, help="folder of the data set's own files")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the prepared set")
    parser.add_argument("--alignment", default="arcface-1", choices=sorted(TEMPLATES))
    parser.add_argument("--size", default=112, type=at_least(16), help="side of a crop in pixels")
    parser.add_argument("--detector", default="yuface", help="yuface, mtcnn or yunet:PATH")
    parser.add_argument("--min-confidence", default=0.6, type=share)
    parser.add_argument("--teacher", type=Path, help="face_landmarker.task; without it nothing is derived")
    parser.add_argument(
        "--twin-correlation",
        default=TWIN_CORRELATION,
        type=share,
        help="ferplus: leave out training and validation pictures that correlate so highly with a later split's; "
        "1: identical ones only (default: %(default)s)",
    )
    parser.add_argument("--workers", default=2, type=at_least(1))
    args = parser.parse_args()
    options = PrepareOptions(
        args.dataset,
        args.alignment,
        args.size,
        args.detector,
        args.min_confidence,
        args.teacher,
        args.twin_correlation,
    )
    try:
        prepare(options, args.root, args.out, args.workers)
    except BrokenProcessPool:
        fail(DatasetError("a process ended, perhaps since memory ran out; fewer --workers need less"))
    except (DatasetError, ModuleNotFoundError, OSError, ValueError) as error:
        fail(error)


if __name__ == "__main__":
    main()
