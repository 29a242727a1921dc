"""`python -m benchmarks.peers`: our frames a second beside other people's, for the same pictures and in the same run.

`fer` gets a virtual environment of its own, since it cannot live beside ours; HSEmotion, which fetches its weights from
elsewhere, has a stand-in: EfficientNet-B0 at 224 pixels with random weights, which do not change the work, behind our
detector. Speed is compared, and nothing else. All take turns in every round, a frame at a time.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import IO

import cv2
import numpy as np
import torch

from benchmarks.concurrency import pictures
from benchmarks.process import engine_options
from benchmarks.reporting import circumstances, section, table
from model_core.bundles.bundle import load_bundle, locate_bundle
from model_core.faces.alignment import align
from model_core.faces.detection import build_detector
from model_core.faces.geometry import Frame
from model_core.inference.predictor import Predictor
from model_core.preprocessing import InputSpec, to_batch

FER = "fer==25.10.3"
FER_NEEDS = ("tensorflow>=2.16", "setuptools<81", "opencv-python-headless<5", "requests", "pillow")
"""What its default way imports, in versions that still have what it uses; what it asks for besides (a second torch,
tools for videos) takes gigabytes."""

DEFAULT = (16, 10)
QUICK = (1, 1)
"""Pictures, and rounds."""


class PeerMissing(Exception):
    """A peer cannot be measured here; the message says why, in one line."""


@dataclass(frozen=True)
class Turn:
    """Seconds for all pictures once, and the faces that were found."""

    seconds: float
    faces: int


def environment(folder: Path, install_s: float) -> Path:
    """The Python of an environment with `fer` in `folder`, made unless it is there. Raises PeerMissing."""
    python = folder / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(folder)], install_s)
    if subprocess.run([python, "-c", "import fer.fer"], capture_output=True, check=False).returncode:
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        _run([*pip, "--no-deps", FER], install_s)
        _run([*pip, *FER_NEEDS], install_s)
    return python


def _run(command: Sequence[str], within_s: float) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=within_s)
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"its installation did not end within {within_s:g} s") from None
    except subprocess.CalledProcessError as error:
        raise PeerMissing(f"its installation failed: {_last_line(error.stderr)}") from None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].replace("|", "/") if lines else "no reason was given"


@contextmanager
def fer_process(python: Path, paths: Sequence[Path], threads: int) -> Iterator[Callable[[], Turn]]:
    """`fer_peer.py` under another Python. A call does a turn, or raises PeerMissing where the process has ended."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    variables = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "-1", **dict.fromkeys(names, str(threads))}
    command = [str(python), str(Path(__file__).with_name("fer_peer.py")), *map(str, paths)]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=variables, stdin=pipe, stdout=pipe, stderr=errors, text=True) as process,
    ):
        try:
            yield lambda: _asked(process, errors)
        finally:
            process.kill()
            process.communicate()


def _asked(process: "subprocess.Popen[str]", errors: IO[str]) -> Turn:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it has ended, and then has no more lines
        process.stdin.write("\n")
        process.stdin.flush()
    for line in process.stdout:
        match line.split():
            case ["turn", seconds, faces]:
                return Turn(float(seconds), int(faces))
    errors.seek(0)
    raise PeerMissing(f"it ended: {_last_line(errors.read())}")


def ours(frames: Sequence[Frame]) -> Callable[[], Turn]:
    """Detect, align and predict with the shipped bundle, by the engine that AFFECT_ENGINE names."""
    predictor = Predictor([load_bundle(locate_bundle("default"))], "cpu", engine_options())
    detector, spec = build_detector("yuface"), predictor.encoders[0].input

    def run(frame: Frame) -> int:
        crops = [[align(frame, face.landmarks, spec.alignment, spec.size)] for face in detector.detect(frame)]
        return len(predictor.predict(crops))

    return lambda: _turn(frames, run)


def stand_in(frames: Sequence[Frame]) -> Callable[[], Turn]:
    """Time a random EfficientNet-B0 behind the same detector. Raises PeerMissing without torchvision."""
    try:
        from torchvision.models import efficientnet_b0
    except ModuleNotFoundError:
        raise PeerMissing("torchvision is not installed") from None
    network = efficientnet_b0(weights=None, num_classes=8).eval().to(memory_format=torch.channels_last)
    detector, spec = build_detector("yuface"), InputSpec(224, "rgb", (0.5,) * 3, (0.25,) * 3, "arcface-1")

    def run(frame: Frame) -> int:
        crops = [align(frame, face.landmarks, spec.alignment, spec.size) for face in detector.detect(frame)]
        with torch.inference_mode():
            return len(network(torch.from_numpy(to_batch(crops, spec)))) if crops else 0

    return lambda: _turn(frames, run)


def _turn(frames: Sequence[Frame], run: Callable[[Frame], int]) -> Turn:
    started = perf_counter()
    faces = sum(map(run, frames))
    return Turn(perf_counter() - started, faces)


def compare(ways: Mapping[str, Callable[[], Turn]], count: int, rounds: int) -> list[tuple[object, ...]]:
    """A row for each way, by medians over rounds in which they take turns, after one that does not count.

    A row: name, frames/s, ms/frame, faces of `count` pictures, how many times as long as the first way it takes. What
    raises PeerMissing has a row that says why, and takes no further turns.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    missing: dict[str, str] = {}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            try:
                if name not in missing:
                    turns[name].append(way())
            except PeerMissing as error:
                missing[name] = str(error)
    seconds = {name: median(turn.seconds for turn in each[1:]) for name, each in turns.items() if name not in missing}
    first = seconds[next(iter(ways))]
    rows: list[tuple[object, ...]] = []
    for name in ways:
        if name in missing:
            rows.append((f"{name}: not measured, {missing[name]}", "-", "-", "-", "-"))
        else:
            took = seconds[name]
            rows.append((name, count / took, 1000 * took / count, turns[name][-1].faces, took / first))
    return rows


def measure(folder: Path, count: int, rounds: int, install_s: float) -> str:
    """The markdown section; the environment of `fer` is, or will be, in `folder`."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = [place / f"{i}.jpg" for i in range(count)]
        for path, content in zip(paths, pictures(count), strict=True):
            path.write_bytes(content)
        frames = [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in paths]

        def fer() -> Callable[[], Turn]:
            return stack.enter_context(fer_process(environment(folder, install_s), paths, torch.get_num_threads()))

        ways = {
            f"this service's parts, {engine_options()}": ours(frames),
            f"{FER}, its defaults": _or_missing(fer),
            "stand-in for HSEmotion: our detector, EfficientNet-B0, torch float32": _or_missing(
                lambda: stand_in(frames)
            ),
        }
        rows = compare(ways, count, rounds)
    header = ("what", "frames/s", "ms/frame", "faces found", "times ours takes")
    note = f"{count} pictures of 256 x 256 with one face, decoded; medians of {rounds} rounds in which all take turns."
    return section("Peers", table(header, rows), note)


def _or_missing(make: Callable[[], Callable[[], Turn]]) -> Callable[[], Turn]:
    try:
        return make()
    except PeerMissing as error:
        reason = str(error)

        def refuse() -> Turn:
            raise PeerMissing(reason)

        return refuse


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--environment", type=Path, help="folder for the environment of `fer`, kept; unset: temporary")
    parser.add_argument("--pictures", type=int, default=DEFAULT[0])
    parser.add_argument("--rounds", type=int, default=DEFAULT[1])
    parser.add_argument("--install-s", type=float, default=1800, help="longest time of each step of an installation")
    parser.add_argument("--quick", action="store_true", help="one picture, one round: does it run at all?")
    args = parser.parse_args()
    count, rounds = QUICK if args.quick else (args.pictures, args.rounds)
    print(circumstances(torch.get_num_threads()), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        print(measure(args.environment or Path(folder) / "fer", count, rounds, args.install_s))


if __name__ == "__main__":
    main()
