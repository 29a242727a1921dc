"""`python -m training.render`: portraits of rendered people whose action units are known.

The pictures are a data set for `training.prepare --dataset rendered`. They come in sittings of one person in one pose
and light, at rest and moving, in an order in which any first part is a balanced set. A run that was stopped goes on
with the same command, and one with a larger `--count` goes on from there.

It needs the extra `render`, MakeHuman's skins, ICT-FaceKit's model as an array file, and LLVM 19, which is Debian's
package libllvm19; where Mitsuba does not find it, the variable DRJIT_LIBLLVM_PATH names its file.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import cv2
from tqdm import tqdm

from training.datasets.raw import SPLITS, Split
from training.datasets.rendered import MANIFEST, RenderedPicture, as_json, from_json
from training.rendered.errors import RenderError
from training.rendered.ict import IctModel
from training.rendered.makehuman_head import MakeHumanModel
from training.rendered.movements import OTHER_UNITS, Movement, votes
from training.rendered.people import Model, person
from training.rendered.plan import SHORT_SITTING, SITTING, Plan, Sitting
from training.rendered.portrait import HeadModel, Portrait, Studio
from training.rendered.scene import Renderer
from training.rendered.skins import SkinFolder
from training.runs.command_line import CommandParser, at_least, fail

_SETTINGS = "render.json"
_QUALITY = 93


@dataclass(frozen=True)
class RenderOptions:
    """The options of a run, from which each worker process builds its studio."""

    skins: Path
    """Folder of MakeHuman's skins."""
    ict: Path | None
    """ICT-FaceKit's model. None: all people have MakeHuman's head."""
    people: int
    """People of each head model."""
    seed: int
    """The same options give the same pictures."""
    size: int
    """Side of a picture in pixels."""
    samples: int
    """Paths of light for each pixel, before the picture is denoised."""
    splits: tuple[Split, ...] = SPLITS
    """The people of these splits are rendered. Few people suffice to measure, and training needs many."""
    sitting: int = SITTING
    """Pictures of each sitting."""

    @property
    def plan(self) -> Plan:
        """The sittings of the run. Raises ValueError for a number out of range."""
        models: tuple[Model, ...] = ("makehuman", "ict") if self.ict else ("makehuman",)
        return Plan(models, self.people, self.seed, self.sitting)

    def sittings(self) -> Iterator[Sitting]:
        """Return the sittings of the run, without end. Raises ValueError as `plan` does, or where there are none."""
        plan = self.plan
        if not any(
            person(model, i, self.seed).split in self.splits for model in plan.models for i in range(plan.people)
        ):
            raise ValueError(f"none of {self.people} people is of the splits {', '.join(self.splits)}")
        return (sitting for sitting in plan.sittings() if sitting.person.split in self.splits)


class _Worker:
    """The studio of a worker process; the pool calls `run`."""

    current: "_Worker"

    def __init__(self, options: RenderOptions, out: Path) -> None:
        cv2.setNumThreads(1)
        self._out = out
        self._studio = build_studio(options)

    @classmethod
    def start(cls, options: RenderOptions, out: Path) -> None:
        Thread(target=end_with_parent, daemon=True).start()
        cls.current = cls(options, out)

    @classmethod
    def run(cls, sitting: Sitting) -> list[str]:
        return cls.current._render(sitting)

    def _render(self, sitting: Sitting) -> list[str]:
        """Write the pictures of a sitting, and return their lines of the table."""
        lines = []
        for place, portrait in enumerate(self._studio.portraits(sitting)):
            file = Path("pictures") / f"{sitting.number // 1000:03}" / f"{sitting.number:06}-{place}.jpg"
            _write_picture(self._out / file, portrait)
            lines.append(as_json(_described(file, sitting, portrait)))
        return lines


def end_with_parent() -> None:
    """Wait for the process that started this one to end, and end this one at once.

    A command that was killed leaves its workers behind: nobody writes the lines of their pictures, a command that goes
    on may render the same ones, and in the end they would wait for work for ever.
    """
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def build_studio(options: RenderOptions) -> Studio:
    """Build what takes the pictures. Raises RenderError where a file or a library is missing."""
    skins = SkinFolder(options.skins)
    makehuman = MakeHumanModel(skins)
    models: dict[Model, HeadModel] = {"makehuman": makehuman}
    if options.ict:
        models["ict"] = IctModel(options.ict, skins, makehuman.mean_skin())
    return Studio(models, Renderer(options.size, options.samples), options.size)


def render(options: RenderOptions, out: Path, count: int, processes: int) -> None:
    """Render until the folder `out` has at least `count` pictures; what it already has stays.

    Raises RenderError where a file or a library is missing, `out` was made with other options, or a renderer crashed.
    """
    sittings = options.sittings()
    # What takes the pictures is built before the work, so that a mistyped path costs no time.
    build_studio(options)
    out.mkdir(parents=True, exist_ok=True)
    _check_settings(options, out / _SETTINGS)
    done = _finished_sittings(out / MANIFEST, options.sitting)
    wanted = -(-count // options.sitting)
    left = (sitting for sitting in islice(sittings, wanted) if sitting.number not in done)
    progress = tqdm(total=wanted, initial=len(done), unit="sitting")
    # Processes are spawned, since a fork would copy the locks of this process's threads.
    context = get_context("spawn")
    with (
        (out / MANIFEST).open("a", encoding="utf-8") as table,
        ProcessPoolExecutor(processes, context, initializer=_Worker.start, initargs=(options, out)) as pool,
    ):
        try:
            for lines in _ahead(pool, left, 2 * processes):
                table.write("".join(lines))
                table.flush()
                progress.update()
        except BrokenProcessPool as error:
            raise RenderError("a rendering process ended; its error stands above. The same command goes on") from error
    progress.close()
    print(f"{out}: {options.sitting * max(wanted, len(done))} pictures")


def _ahead(pool: ProcessPoolExecutor, sittings: Iterator[Sitting], depth: int) -> Iterator[list[str]]:
    """Return the lines of the sittings in order, while `depth` of them are rendered or wait."""
    pending = [pool.submit(_Worker.run, sitting) for sitting in islice(sittings, depth)]
    while pending:
        yield pending.pop(0).result()
        pending += [pool.submit(_Worker.run, sitting) for sitting in islice(sittings, 1)]


def _check_settings(options: RenderOptions, file: Path) -> None:
    settings = {name: value for name, value in asdict(options).items() if name not in ("skins", "ict")}
    settings["models"] = list(options.plan.models)
    # Folders from before these options do not name them.
    usual = {"splits": SPLITS, "sitting": SITTING}
    settings = {name: value for name, value in settings.items() if name not in usual or value != usual[name]}
    if not file.exists():
        file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    elif json.loads(file.read_text(encoding="utf-8")) != json.loads(json.dumps(settings)):
        raise RenderError(f"{file.parent} was rendered with other options, see {file.name}; choose another folder")


def _finished_sittings(table: Path, pictures_each: int) -> set[int]:
    """Return the sittings in the table, whose last one is dropped from it where its lines are not complete."""
    if not table.exists():
        return set()
    counts: dict[int, int] = {}
    kept = []
    for line in table.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            number = from_json(line).sitting
        except ValueError:
            break
        counts[number] = counts.get(number, 0) + 1
        kept.append((number, line))
    whole = {number for number, pictures in counts.items() if pictures == pictures_each}
    partial = table.with_suffix(".partial")
    partial.write_text("".join(line for number, line in kept if number in whole), encoding="utf-8")
    partial.replace(table)
    return whole


def _write_picture(path: Path, portrait: Portrait) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".jpg", portrait.picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not ok:
        raise RenderError(f"{path} cannot be encoded")
    partial = path.with_suffix(".partial")
    partial.write_bytes(data.tobytes())
    partial.replace(path)


def _described(file: Path, sitting: Sitting, portrait: Portrait) -> RenderedPicture:
    person = sitting.person
    movement = portrait.movement
    pose = portrait.pose
    return RenderedPicture(
        file=file.as_posix(),
        sitting=sitting.number,
        person=person.name,
        original=person.original,
        split=person.split,
        model=person.model,
        sex=person.sex,
        age=person.age,
        age_group=person.age_group,
        tone=person.tone,
        kind=movement.kind,
        expression=movement.expression,
        strength=movement.strength,
        votes=votes(movement),
        left=portrait.left,
        right=portrait.right,
        others=_others(movement),
        yaw=pose.yaw,
        pitch=pose.pitch,
        roll=pose.roll,
        gaze=portrait.gaze,
        eyes_closed=portrait.eyes_closed,
    )


def _others(movement: Movement) -> dict[str, float]:
    stronger = {unit: max(movement.left.get(unit, 0.0), movement.right.get(unit, 0.0)) for unit in OTHER_UNITS}
    return {unit: intensity for unit, intensity in stronger.items() if intensity}


def main() -> None:
    """Command line."""
    parser = CommandParser(prog="python -m training.render", description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--out", required=True, type=Path, help="folder of the pictures; a run that was stopped goes on"
    )
    parser.add_argument("--skins", required=True, type=Path, help="folder of MakeHuman's skins")
    parser.add_argument("--ict", type=Path, help="ICT-FaceKit's model; without it all people have MakeHuman's head")
    parser.add_argument("--count", default=4000, type=at_least(1), help="pictures, rounded up to whole sittings")
    parser.add_argument("--people", default=120, type=at_least(1), help="people of each head model")
    parser.add_argument("--seed", default=0, type=at_least(0), help="the same seed gives the same pictures")
    parser.add_argument("--size", default=256, type=at_least(32), help="side of a picture in pixels")
    parser.add_argument("--samples", default=8, type=at_least(1), help="paths of light for each pixel")
    parser.add_argument(
        "--splits", nargs="+", default=SPLITS, choices=SPLITS, help="render only people of these splits"
    )
    parser.add_argument(
        "--sitting",
        default=SITTING,
        type=int,
        choices=(SITTING, SHORT_SITTING),
        help="pictures of a person in one pose",
    )
    parser.add_argument("--processes", default=1, type=at_least(1), help="each of them uses one core")
    args = parser.parse_args()
    options = RenderOptions(
        args.skins, args.ict, args.people, args.seed, args.size, args.samples, tuple(args.splits), args.sitting
    )
    try:
        render(options, args.out, args.count, args.processes)
    except (ModuleNotFoundError, OSError, RenderError, ValueError) as error:
        fail(error)


if __name__ == "__main__":
    main()
