"""Results of the protocol as a markdown table, beside the numbers that the paper reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from model_core.affect import Task
from training.video.result import CalibratedResult, ProtocolResult, read_result

COLUMNS: Mapping[str, tuple[Task, str]] = {
    "CCC_VA": ("valence_arousal", "p_va"),
    "CCC_V": ("valence_arousal", "ccc_valence"),
    "CCC_A": ("valence_arousal", "ccc_arousal"),
    "F1_EXPR": ("expression", "p_expr"),
    "F1_AU": ("action_units", "p_au"),
    "F1_AU tuned": ("action_units", "p_au_tuned"),
}
"""Heading -> task, and name of the measure, of raw outputs, as the paper reports them."""

CALIBRATED: Mapping[str, tuple[Task, str]] = {
    "CCC_VA calibrated": ("valence_arousal", "p_va"),
    "F1_EXPR calibrated": ("expression", "p_expr"),
    "F1_AU calibrated": ("action_units", "p_au_tuned"),
}
"""The same of calibrated outputs, which the paper does not have."""

REPORTED: Mapping[str, Mapping[str, float]] = {
    "official baseline": {"CCC_VA": 0.22, "F1_EXPR": 0.25, "F1_AU": 0.39},
    "paper: DDAMFN + LSTM": {"CCC_VA": 0.479, "F1_AU": 0.411, "F1_AU tuned": 0.451},
    "paper: CLIP + LSTM": {"F1_EXPR": 0.336},
}
"""The numbers of arXiv 2503.12260."""

_REPORTED_ON = "Aff-Wild2, as reported"

CAPTION = f"""\
Columns without "calibrated" are of raw outputs, as the paper reports them: F1_AU at thresholds of 0.5; tuned: at
thresholds of the paper's grid 0.1 .. 0.9, found on the videos that were held out of training. "Calibrated": outputs
calibrated on those videos, as they are served; F1_AU at the thresholds of the calibration. In brackets: 95 % intervals,
bootstrapped over videos. "{_REPORTED_ON}": by arXiv 2503.12260, probably on the validation split, where its published
code also tunes the thresholds. Rows measured on different data cannot be compared."""


def table(results: Sequence[ProtocolResult]) -> str:
    """A markdown table: the reported rows, then a row for each of `results` in their order, and a caption."""
    headings = ["system", "measured on", *COLUMNS, *CALIBRATED]
    rows = [headings, ["---"] * len(headings)]
    for system, values in REPORTED.items():
        cells = [f"{values[name]:.3g}" if name in values else "-" for name in COLUMNS]
        rows.append([system, _REPORTED_ON, *cells, *(["-"] * len(CALIBRATED))])
    for result in results:
        cells = [_cell(result, *column) for column in COLUMNS.values()]
        cells += [_cell(result.calibrated, *column) for column in CALIBRATED.values()]
        rows.append([_escaped(result.system), _escaped(_measured_on(result)), *cells])
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", CAPTION])


def table_of_runs(folders: Sequence[Path]) -> str:
    """`table` of the results in these runs' folders. Raises ProtocolError where one has none."""
    return table([read_result(folder) for folder in folders])


def _measured_on(result: ProtocolResult) -> str:
    videos = sorted({value for task in result.measures.values() if isinstance(value := task.get("videos"), int)})
    return f"{result.data}, {' or '.join(map(str, videos))} videos" if videos else result.data


def _cell(result: ProtocolResult | CalibratedResult | None, task: Task, name: str) -> str:
    if result is None:
        return "-"
    value = result.measures.get(task, {}).get(name)
    interval = result.intervals.get(task, {}).get(name)
    if not isinstance(value, int | float):
        return "-"
    if interval is None or isinstance(interval, dict):
        return f"{value:.3f}"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
