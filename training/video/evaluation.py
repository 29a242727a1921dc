"""Measuring a run on video data by the challenge's protocol, on the validation videos."""

from pathlib import Path

from model_core.calibration import Calibration
from training.runs.checkpoint import CheckpointError
from training.runs.trained import read_calibration
from training.video.protocol import measure
from training.video.result import CalibratedResult, ProtocolResult, write_result
from training.video.scoring import outputs_over_time, predict, predictions_of
from training.video.submission import HALF, write_submission
from training.video.thresholds import Thresholds, tune_thresholds
from training.video.trained import TrainedSequences, load_sequences


def evaluate_run(run: Path, root: Path | None, resamples: int, submission: Path | None) -> ProtocolResult:
    """Measure raw and calibrated outputs, and write the run's `protocol.json` and, if asked for, a submission.

    Raw outputs are measured as the paper measures: units at 0.5, and at thresholds of its grid, which are tuned on the
    videos that were held out of training. A submission holds calibrated answers, at the calibration's thresholds. root:
    where the data lies, if it was moved. Raises CheckpointError, also for a run on still pictures, DatasetError,
    ProtocolError, and FileExistsError for a submission that exists.
    """
    model = load_sequences(run, root)
    if model is None:
        raise CheckpointError(f"{run} is a run on still pictures: evaluate it on a set with --prepared")
    calibration, task = read_calibration(run), model.config.network.task
    tracks = model.tracks("validation")
    outputs = outputs_over_time(model.network, model.config, tracks)
    raw, calibrated = (predictions_of(outputs, task, each, tracks) for each in (Calibration(), calibration))
    tuned = _tuned_on_raw(model) if task == "action_units" else None
    measured = measure(raw, tuned, resamples)
    fitted, after = _fitted(model, calibration), None
    if calibration != Calibration():
        found = measure(calibrated, fitted, resamples)
        after = CalibratedResult(found.measures, found.intervals)
    if submission is not None:
        write_submission(submission, task, calibrated, fitted.units if fitted else HALF)
    result = ProtocolResult(
        system=run.resolve().name,
        data=f"{model.config.data.described}, validation",
        config=model.config.model_dump(mode="json", exclude={"data": {"root", "cache"}, "run": {"threads"}}),
        measures=measured.measures,
        intervals=measured.intervals,
        thresholds=tuned,
        calibrated=after,
    )
    write_result(run, result)
    return result


def _tuned_on_raw(model: TrainedSequences) -> Thresholds:
    """Thresholds of the paper's grid for raw outputs, tuned on the held-out videos."""
    held_out = model.tracks("train")
    return tune_thresholds(predict(model.network, model.config, Calibration(), held_out), "grid")


def _fitted(model: TrainedSequences, calibration: Calibration) -> Thresholds | None:
    """The thresholds of a run's calibration; None where no unit was fitted."""
    if calibration.action_units is None:
        return None
    units = {name: unit.threshold for name, unit in calibration.action_units.items()}
    return Thresholds(units, "calibration", tuple(model.held_out))
