"""Measuring a run on video data by the challenge's protocol, on the validation videos."""

from pathlib import Path

from model_core.calibration import Calibration
from training.runs.checkpoint import CheckpointError
from training.runs.trained import read_calibration
from training.video.protocol import Measured, measure
from training.video.result import ProtocolResult, write_result
from training.video.scoring import predict
from training.video.submission import HALF, write_submission
from training.video.thresholds import Thresholds
from training.video.trained import TrainedSequences, load_sequences


def evaluate_run(run: Path, root: Path | None, resamples: int, submission: Path | None) -> Measured:
    """Measure, and write the run's `protocol.json` and, if asked for, a submission in the challenge's format.

    root: where the data lies, if it was moved. Raises CheckpointError, also for a run on still pictures, DatasetError,
    ProtocolError, and FileExistsError for a submission that exists.
    """
    model = load_sequences(run, root)
    if model is None:
        raise CheckpointError(f"{run} is a run on still pictures: evaluate it on a set with --prepared")
    calibration = read_calibration(run)
    predictions = predict(model.network, model.config, calibration, model.tracks("validation"))
    thresholds = _thresholds(model, calibration)
    measured = measure(predictions, thresholds, resamples)
    if submission is not None:
        write_submission(submission, model.config.network.task, predictions, thresholds.units if thresholds else HALF)
    write_result(run, _result(run, model, measured, thresholds))
    return measured


def _thresholds(model: TrainedSequences, calibration: Calibration) -> Thresholds | None:
    if calibration.action_units is None:
        return None
    units = {name: unit.threshold for name, unit in calibration.action_units.items()}
    return Thresholds(units, "sorted", tuple(model.held_out))


def _result(run: Path, model: TrainedSequences, measured: Measured, thresholds: Thresholds | None) -> ProtocolResult:
    data, config = model.config.data, model.config
    options = config.model_dump(mode="json", exclude={"data": {"root", "cache"}, "run": {"threads"}})
    return ProtocolResult(
        run.resolve().name, f"{data.described}, validation", options, measured.measures, measured.intervals, thresholds
    )
