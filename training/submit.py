"""`python -m training.submit`: a run's answers to videos without labels, as a file in the ABAW challenge's format.

Every frame of every video is answered: those that the challenge's example file lists, or all of the videos that a file
names, or of all folders of frames that are there.
"""

from pathlib import Path

from tqdm import tqdm

from model_core.bundles.bundle import BundleError
from model_core.calibration import Calibration
from model_core.models.clip import ClipError
from training.datasets import DatasetError
from training.datasets.frame_folders import unlabelled_sequences, wanted_rows
from training.runs.checkpoint import CheckpointError
from training.runs.command_line import CommandParser, fail, require_parent
from training.runs.trained import read_calibration
from training.video.scoring import predict
from training.video.submission import HALF, header, write_whole_submission
from training.video.tracks import Track
from training.video.trained import load_sequences


def submit(run: Path, frames: Path, listed: Path | None, out: Path) -> str:
    """Write the answers of a run on video data to the videos under `frames`; return what was written, in a sentence.

    listed: see `wanted_rows`. Raises CheckpointError, also for a run on still pictures, DatasetError, FileExistsError,
    ProtocolError and what the encoder raises.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another name or remove it")
    model = load_sequences(run)
    if model is None:
        raise CheckpointError(f"{run} is a run on still pictures: a submission needs one on video data")
    task = model.config.network.task
    rows = wanted_rows(frames, listed, header(task))
    cache = model.cache()
    sequences = unlabelled_sequences(frames, rows)
    tracks = [Track(each, *cache.features(each)) for each in tqdm(sequences, "features", unit="video", disable=None)]
    calibration = read_calibration(run)
    thresholds = {name: unit.threshold for name, unit in (calibration.action_units or {}).items()} or HALF
    write_whole_submission(out, task, predict(model.network, model.config, calibration, tracks), rows, thresholds)
    unseen = [track.sequence.name for track in tracks if not track.present.any()]
    return (
        f"{out}: {len(rows)} frames of {len(tracks)} videos"
        + (f"; without any picture, answered by zeros: {', '.join(unseen)}" if unseen else "")
        + ("; the run is not calibrated" if calibration == Calibration() else "")
    )


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.submit", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="folder of a run on video data")
    parser.add_argument("--frames", required=True, type=Path, help="holds a folder of frames 00001.jpg .. a video")
    parser.add_argument("--list", type=Path, help="the challenge's example file, or a file with a video's name a line")
    parser.add_argument("--out", required=True, type=Path, help="new file of answers")
    args = parser.parse_args()
    try:
        require_parent(args.out)
        print(submit(args.run, args.frames, args.list, args.out))
    except (BundleError, CheckpointError, ClipError, DatasetError, ImportError, OSError, ValueError) as error:
        fail(error)


if __name__ == "__main__":
    main()
