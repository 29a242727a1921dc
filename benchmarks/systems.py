"""`python -m benchmarks.systems`: every system of the paper, and of our recipe, on a generated Aff-Wild2.

It generates the set, trains a small CLIP on its training videos, then trains, calibrates and evaluates each
configuration once a seed, by the commands that a user has. Finished runs are kept, so a stopped benchmark goes on. The
`paper/` files are run as they are but for rate and epochs, which suit Aff-Wild2's two million frames: both are options.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.reporting import section, table
from model_core.affect import Task
from training.video.result import RESULT, ProtocolResult, read_result
from training.video.scoring import SCORES

Scores = NDArray[np.float64]

KINDS = ("paper", "best")
TASKS: Mapping[str, Task] = {"va": "valence_arousal", "expr": "expression", "au": "action_units"}
"""By the last part of a configuration's name."""
SYSTEMS = (
    *(f"ddamfn_{memory}_{task}" for task in TASKS for memory in ("fc", "lstm")),
    "clip_fc_expr",
    "clip_lstm_expr",
)


@dataclass(frozen=True)
class Study:
    """The folders and the extent of a study. rate, epochs: of the `paper/` configurations."""

    out: Path
    videos: int
    frames: int
    seeds: Sequence[int]
    rate: float
    epochs: int

    def prepare(self) -> None:
        """Generate the set, unless it is there."""
        if not (self.out / "set").exists():
            size = ["--videos", self.videos, "--frames", self.frames, "--validation", max(2, self.videos // 3)]
            _command("training.generate", "--out", self.out / "set", *size)

    def clip(self, seed: int) -> Path:
        """The small CLIP for the runs of a seed: it reads only the videos that they train on."""
        folder = self.out / f"clip-{seed}"
        if not folder.exists():
            _command("training.studies.small_clip", "--root", self.out / "set", "--out", folder, "--seed", seed)
        return folder

    def result(self, kind: str, system: str, seed: int) -> ProtocolResult:
        """One run, trained and measured unless it was."""
        run = self.out / f"{kind}-{system}-{seed}"
        if not (run / RESULT).exists():
            options = {
                "data.root": self.out / "set",
                "data.cache": self.out / "features",
                "data.reference": "derived",
                "run.seed": seed,
            }
            if system.startswith("clip"):
                normalized = str(kind == "best").lower()
                options["encoder.clip"] = f'{{model="local-dir:{self.clip(seed)}", normalized={normalized}}}'
            if kind == "paper":
                options |= {"optimizer.rate": self.rate, "optimizer.epochs": self.epochs}
            settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
            _command("training.train", "--config", f"{kind}/{system}.toml", "--run", run, *settings)
            _command("training.calibrate", "--run", run)
            _command("training.evaluate", "--run", run)
        return read_result(run)


def _command(module: str, *arguments: object) -> None:
    """Run a training command in this process, which spares it the seconds of importing torch each time."""
    before = sys.argv
    sys.argv = [module, *map(str, arguments)]
    try:
        with redirect_stdout(StringIO()):
            importlib.import_module(module).main()
    finally:
        sys.argv = before


Results = Mapping[tuple[str, str], Sequence[ProtocolResult]]
"""(kind, system) -> its runs, one a seed."""


def scores(runs: Sequence[ProtocolResult], system: str, suffix: str = "") -> Scores:
    """The challenge's measure of each run's raw outputs, as the paper has it; suffix `_tuned`: by tuned thresholds."""
    task = _task(system)
    return np.array([run.measures[task][SCORES[task] + suffix] for run in runs], dtype=np.float64)


def calibrated_scores(runs: Sequence[ProtocolResult], system: str) -> Scores:
    """The challenge's measure of each run's calibrated outputs, units at the thresholds of the calibration.

    NaN for a run without a calibration.
    """
    task = _task(system)
    name = SCORES[task] + ("_tuned" if task == "action_units" else "")
    found = [run.calibrated.measures[task][name] if run.calibrated else np.nan for run in runs]
    return np.array(found, dtype=np.float64)


def report(results: Results) -> str:
    """Markdown: each system's measure over the seeds, and the differences that the paper's claims are about."""
    rows = [
        [
            f"{kind}/{system}",
            SCORES[_task(system)],
            *_spread(scores(runs, system)),
            *_spread(calibrated_scores(runs, system)),
        ]
        for (kind, system), runs in results.items()
    ]
    differences = [[name, *_spread(gains)] for name, gains in _differences(results)]
    spread = ["mean over seeds", "lowest to highest"]
    headings = ["system", "measure", *(f"{state}, {each}" for state in ("raw", "calibrated") for each in spread)]
    return section("Systems", table(headings, rows)) + section(
        "Differences of raw outputs, seed by seed", table(["difference", *spread], differences)
    )


def _task(system: str) -> Task:
    return TASKS[system.rpartition("_")[2]]


def _spread(values: Scores) -> list[object]:
    return [f"{values.mean():.3f}", f"{values.min():.3f} to {values.max():.3f}"]


def _differences(results: Results) -> Iterator[tuple[str, Scores]]:
    for (kind, system), runs in results.items():
        first = scores(runs, system)
        framewise, paper = (kind, system.replace("_lstm_", "_fc_")), ("paper", system)
        if framewise in results and framewise[1] != system:
            yield f"{kind}: {system} over {framewise[1]}", first - scores(results[framewise], system)
        if kind == "best" and paper in results:
            yield f"{system}: best/ over paper/", first - scores(results[paper], system)
        if _task(system) == "action_units":
            yield f"{kind}/{system}: tuned thresholds over 0.5", scores(runs, system, "_tuned") - first


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.systems", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", required=True, type=Path, help="folder for the set, the features and the runs")
    parser.add_argument("--videos", default=24, type=int)
    parser.add_argument("--frames", default=300, type=int)
    parser.add_argument("--seeds", default=3, type=int)
    parser.add_argument("--rate", default=1e-3, type=float, help="learning rate of the paper/ configurations")
    parser.add_argument("--epochs", default=15, type=int, help="epochs of the paper/ configurations")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    args = parser.parse_args()
    study = Study(args.out.resolve(), args.videos, args.frames, range(args.seeds), args.rate, args.epochs)
    study.prepare()
    results = {
        (kind, system): [study.result(kind, system, seed) for seed in study.seeds]
        for kind in KINDS
        for system in args.systems
    }
    print(report(results))


if __name__ == "__main__":
    main()
