"""Aff-Wild2 in the layout of the ABAW challenges (arXiv 2503.12260 uses the 8th): annotations and cropped frames."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from model_core.affect import ACTION_UNITS, LABEL_SETS, Task
from training.datasets.raw import DatasetError, Split
from training.datasets.sequences import FloatArray, Person, Sequence, SequenceTargets, numbered_frames

_ANNOTATIONS = re.compile(r"\d+(st|nd|rd|th)[ _]ABAW[ _]Annotations")
_TASK_FOLDERS: Mapping[str, Task] = {
    "VA_Estimation_Challenge": "valence_arousal",
    "EXPR_Recognition_Challenge": "expression",
    "EXPR_Classification_Challenge": "expression",
    "AU_Detection_Challenge": "action_units",
}
_SPLIT_FOLDERS: Mapping[str, Split] = {"Train_Set": "train", "Validation_Set": "validation"}
HEADERS: Mapping[Task, str] = {
    "valence_arousal": "valence,arousal",
    "expression": "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
    "action_units": ",".join(ACTION_UNITS),
}
"""First line of each task's files; it says the order of what follows."""
_CROPS = ("cropped_aligned", "cropped_aligned_new_50_vids")
_FRAME_ROOTS = (*_CROPS, *(name for batch in ("batch1", "batch2") for name in (batch, f"{batch}/cropped_aligned")))


class AffWild2:
    """Layout: `<n>th_ABAW_Annotations/<task>/{Train_Set,Validation_Set}/<name>.txt`, `<crops>/<name>/00001.jpg`.

    Line k after a file's header belongs to frame k. A task or line a video lacks is masked; frames beyond the last line
    have no labels and are left out. A video may be in different splits of different tasks: it is then one sequence a
    split, and a model of several tasks must choose.
    """

    label_set = "abaw"

    def sequences(self, root: Path) -> Iterator[Sequence]:
        """See SequenceReader. Files are read as their sequence is asked for."""
        files = _annotation_files(root)
        frame_roots = [root / name for name in _FRAME_ROOTS if (root / name).is_dir()]
        if not frame_roots:
            raise DatasetError(f"Aff-Wild2 expects frames in one of {', '.join(_FRAME_ROOTS)} under {root}")
        for split in _SPLIT_FOLDERS.values():
            for name in sorted(name for part, name in files if part == split):
                targets = _targets({task: _rows(path, task) for task, path in files[split, name].items()})
                frames = _frames(name, frame_roots, len(targets.valence_arousal))
                video, person = _person(name)
                yield Sequence(video, person, split, frames, targets)


def _annotation_files(root: Path) -> dict[tuple[Split, str], dict[Task, Path]]:
    roots = [path for path in _folders(root) if _ANNOTATIONS.fullmatch(path.name)]
    if len(roots) != 1:
        raise DatasetError(f"Aff-Wild2 expects one folder like '6th_ABAW_Annotations' in {root}, found {len(roots)}")
    files: dict[tuple[Split, str], dict[Task, Path]] = {}
    for folder in _folders(roots[0]):
        if folder.name not in _TASK_FOLDERS:
            raise DatasetError(f"{folder}: expected only {', '.join(_TASK_FOLDERS)}")
        task = _TASK_FOLDERS[folder.name]
        for name, split in _SPLIT_FOLDERS.items():
            paths = sorted((folder / name).glob("*.txt"))
            if not paths:
                raise DatasetError(f"Aff-Wild2 expects {folder / name} with a .txt file a video")
            for path in paths:
                if files.setdefault((split, path.stem), {}).setdefault(task, path) != path:
                    raise DatasetError(f"{path}: {path.stem} has another {task} file in this split")
    if not files:
        raise DatasetError(f"Aff-Wild2 expects {', '.join(_TASK_FOLDERS)} in {roots[0]}")
    return files


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise DatasetError(f"{path} is missing: Aff-Wild2 expects a folder there")
    return sorted(child for child in path.iterdir() if child.is_dir())


def _rows(path: Path, task: Task) -> FloatArray:
    """The numbers of one file, [T, columns]; checked, with the marks of ignored frames still in."""
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    header = ",".join(name.strip() for name in lines[0].split(",")) if lines else ""
    if header != HEADERS[task]:
        raise DatasetError(f"{path} line 1: expected the header {HEADERS[task]!r}, found {header!r}")
    if len(lines) == 1:
        raise DatasetError(f"{path}: expected a line a frame after the header")
    return np.array([_row(line, task, f"{path} line {number}") for number, line in enumerate(lines[1:], start=2)])


def _row(line: str, task: Task, place: str) -> FloatArray:
    columns = 1 if task == "expression" else HEADERS[task].count(",") + 1
    try:
        row = np.array([float(value) for value in line.split(",")])
    except ValueError:
        row = np.empty(0)
    if task == "valence_arousal":
        valid = (np.abs(row) <= 1) | (row == -5)
    else:
        valid = np.isin(row, range(-1, len(LABEL_SETS["abaw"]) if task == "expression" else 2))
    if len(row) != columns or not valid.all():
        raise DatasetError(f"{place}: expected {columns} value(s) of {task} or its ignore mark, found {line!r}")
    return row.astype(np.float32)


def _targets(rows: Mapping[Task, FloatArray]) -> SequenceTargets:
    count, labels = max(len(values) for values in rows.values()), len(LABEL_SETS["abaw"])
    ignored = {"valence_arousal": (2, -5), "expression": (1, -1), "action_units": (len(ACTION_UNITS), -1)}
    full = {task: np.full((count, width), mark, np.float32) for task, (width, mark) in ignored.items()}
    for task, values in rows.items():
        full[task][: len(values)] = values
    affect, units = full["valence_arousal"], full["action_units"]
    affect_mask = (affect != -5).all(axis=1)
    units_mask = np.broadcast_to((units != -1).all(axis=1, keepdims=True), units.shape)  # as the challenge counts them
    expression = (full["expression"] == np.arange(labels)).astype(np.float32)
    return SequenceTargets(
        valence_arousal=np.where(affect_mask[:, None], affect, 0).astype(np.float32),
        valence_arousal_mask=affect_mask.astype(np.float32),
        expression=expression,
        expression_mask=expression.sum(axis=1),
        action_units=np.where(units_mask, units, 0).astype(np.float32),
        action_units_mask=units_mask.astype(np.float32),
    )


def _frames(name: str, roots: list[Path], count: int) -> tuple[Path | None, ...]:
    folders = [root / name for root in roots if (root / name).is_dir()]
    if len(folders) != 1:
        places = ", ".join(map(str, roots))
        raise DatasetError(f"Aff-Wild2 expects one folder {name!r} of frames in {places}, found {len(folders)}")
    return numbered_frames(folders[0], count)


def _person(name: str) -> tuple[str, Person]:
    if name.endswith("_left"):
        return name.removesuffix("_left"), "left"
    if name.endswith("_right"):
        return name.removesuffix("_right"), "right"
    return name, ""
