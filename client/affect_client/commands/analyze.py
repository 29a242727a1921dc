"""`affect analyze`: a table for each picture and video of files and folders, several at once, and a manifest.

Started again, it goes on: what is done from the same file, with the same options and model, is passed over, and what
failed is tried again, at the end.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Literal, cast

from tqdm import tqdm

from affect_client.affect import Affect, FrameOptions, VideoOptions
from affect_client.commands.arguments import add_service, api_key, number
from affect_client.commands.folder import MANIFEST, Entry, Origin, ResultFolder
from affect_client.commands.formats import FORMATS, Format, document_csv, picture_csv, write_parquet
from affect_client.commands.inputs import Input, Kind, find_inputs, passed_over
from affect_client.connection import RetryPolicy, understanding
from affect_client.errors import AffectError, needing, sentence
from affect_client.files import PartialFile, fitting_name
from affect_client.numbers import OPTIONS, Range
from affect_client.results import TRUNCATED, Models, Picture
from affect_client.videos import CSV, JSON

PATIENCE = RetryPolicy(tries=20, max_wait_s=600)
"""A busy service, or one that is started again, is waited for: nobody sits in front of a folder of videos."""

JOBS = Range(1, 256, is_whole=True)
"""Files that may be analysed at once; each has a thread."""

ENDS_ALL = frozenset({"unreachable", "unauthorized"})
"""Errors after which no other file would fare better."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a picture, a video, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    add_service(parser)
    parser.add_argument("--jobs", type=number(JOBS), default=4, metavar="N", help="files at once (%(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="csv", help="format of the results (%(default)s)")
    options = parser.add_argument_group("parameters of the analysis, whose defaults are the service's")
    options.add_argument(
        "--max-faces", type=number(OPTIONS["max_faces"]), metavar="N", help="at most this many faces: the largest"
    )
    options.add_argument(
        "--min-confidence",
        type=number(OPTIONS["min_confidence"]),
        metavar="C",
        help="lowest detection confidence, 0 to 1",
    )
    options.add_argument("--fps", type=number(OPTIONS["fps"]), help="analysed frames a second of a video")
    options.add_argument(
        "--start-s", type=number(OPTIONS["start_s"]), metavar="S", help="start of the analysed part of a video"
    )
    options.add_argument(
        "--end-s", type=number(OPTIONS["end_s"]), metavar="S", help="end of the analysed part of a video"
    )
    options.add_argument("--temporal", choices=("auto", "off"), help="off: only bundles without memory")
    options.add_argument("--smoothing", choices=("none", "causal", "offline"), help="smoothing of each track")
    options.add_argument(
        "--baseline-s",
        type=number(OPTIONS["baseline_s"]),
        metavar="S",
        help="first seconds of each track that are at rest",
    )
    options.add_argument(
        "--baseline",
        metavar="FILE|auto",
        help="for pictures, one of the same person at rest; for videos `auto`, which guesses rest from each track",
    )


def run(arguments: argparse.Namespace) -> int:
    """Analyse the files; return 0 if all results are there, 1 if some are not, 130 after Ctrl-C.

    Raises AffectError, FolderInUse, MissingExtra, OSError and ValueError.
    """
    try:
        request = _request(arguments)
        inputs = find_inputs(arguments.paths)
        if others := passed_over(arguments.paths, arguments.out):
            told = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(others.items()))
            print(f"affect analyze: files of other kinds are passed over: {told}", file=sys.stderr)
        if request.compares:
            _require_use(request, inputs)
        key = api_key(arguments)
        # The folder is closed first: no file has failed because a command that ends closes its connections.
        with Affect(arguments.url, key, retry=PATIENCE) as affect, ResultFolder(arguments.out) as folder:
            with Affect(arguments.url, key) as impatient:
                models = impatient.models()  # somebody has just typed the address
            if request.baseline is not None:
                for doubt in _doubts(affect, request.baseline, request.frame_options):
                    print(f"affect analyze: {doubt}; changes against it may be wrong", file=sys.stderr)
            batch = Batch(affect, folder, models, request)
            # A file that brings the service down must not keep the others from their turn.
            inputs.sort(key=lambda each: folder.failed_before(batch.result_of(each)))
            return analyze_all(batch, inputs, arguments.jobs)
    except KeyboardInterrupt:
        print("affect analyze: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


@dataclass(frozen=True)
class BatchRequest:
    """The request that is sent for all files."""

    format_name: str
    """Of FORMATS."""
    video_options: VideoOptions
    """Parameters that are sent with every video; pictures get those of them that they have."""
    baseline: bytes | None = None
    """A picture of the person of all pictures at rest."""

    @property
    def form(self) -> Format:
        """The format of the results."""
        return FORMATS[self.format_name]

    @property
    def frame_options(self) -> FrameOptions:
        """Parameters that are sent with every picture."""
        known = FrameOptions.__optional_keys__
        return cast("FrameOptions", {name: value for name, value in self.video_options.items() if name in known})

    @property
    def compares(self) -> bool:
        """True if faces are compared with a baseline."""
        return self.baseline is not None or self.compares_videos

    @property
    def compares_videos(self) -> bool:
        """True if the faces of videos are compared with a part of their own track."""
        return not self.video_options.keys().isdisjoint({"baseline", "baseline_s"})

    @property
    def media_type(self) -> str:
        """The request for a video."""
        return JSON if "baseline" in self.video_options else self.form.media_type

    def described(self, kind: Kind) -> dict[str, Any]:
        """Return the format and the parameters for files of a kind, as the manifest has them."""
        if kind is Kind.VIDEO:
            return {"format": self.format_name, **self.video_options}
        told = {"format": self.format_name, **self.frame_options}
        return told if self.baseline is None else told | {"baseline": hashlib.sha256(self.baseline).hexdigest()}


def _request(arguments: argparse.Namespace) -> BatchRequest:
    """Return what the arguments ask for. Raises OSError, MissingExtra, and ValueError for what does not go together."""
    form = FORMATS[arguments.format]
    known = VideoOptions.__optional_keys__ - {"baseline"}
    given = {name: value for name, value in vars(arguments).items() if name in known and value is not None}
    if form.columns is not None:
        given["columns"] = form.columns
    if arguments.format == "parquet":
        with needing("tables"):
            import pyarrow  # noqa: F401
    if arguments.baseline == "auto":
        if "baseline_s" in given:
            raise ValueError("give either --baseline auto or --baseline-s")
        if not form.has_changes:
            raise ValueError(f"--baseline auto has no place in the format {arguments.format}; use csv, parquet or json")
        given["baseline"] = "auto"
    is_file = arguments.baseline not in {None, "auto"}
    return BatchRequest(
        arguments.format, cast("VideoOptions", given), Path(arguments.baseline).read_bytes() if is_file else None
    )


def _require_use(request: BatchRequest, inputs: Sequence[Input]) -> None:
    """Raise ValueError for a baseline of pictures, or of videos, where there is none of these."""
    kinds = set()
    for each in inputs:
        with suppress(OSError):  # which is told when the file has its turn
            kinds.add(each.kind)
    if request.baseline is not None and Kind.PICTURE not in kinds:
        raise ValueError("--baseline with a file is for pictures, and there is none; videos take --baseline-s or auto")
    if request.compares_videos and Kind.VIDEO not in kinds:
        raise ValueError("--baseline auto and --baseline-s are for videos, and there is none; pictures take a file")


def _doubts(affect: Affect, baseline: bytes, options: FrameOptions) -> Iterator[str]:
    """Return what speaks against a picture as baseline. Raises AffectError where nothing can be compared with it."""
    face = affect.frame(baseline, baseline=baseline, **options).baseline
    if face is None:
        return
    if not face.quality.reliable:
        yield f"the face of the baseline is not reliable ({', '.join(face.quality.reasons)})"
    if active := [name for name, unit in (face.action_units or {}).items() if unit.active]:
        yield f"the face of the baseline may not be at rest ({', '.join(active)})"


class State(StrEnum):
    """The end of the work on a file."""

    DONE = "done"
    KEPT = "kept"
    """Its result was there before."""
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """The end of the work on a file."""

    path: Path
    state: State
    message: str = ""
    """A remark for the person who waits; empty where all is well."""
    ends_all: bool = False
    """True if other files would fail for the same reason."""


@dataclass(frozen=True)
class Answer:
    """The service's answer about a file."""

    pieces: Iterable[bytes]
    """Of the result, or of the table that a Parquet file is made from."""
    request_id: str | None
    truncated: Callable[[], bool] = lambda: False
    """True if the file is damaged and ended early, which is known after the last piece."""


class Batch:
    """Analyses files one by one into a folder of results; threads may share it."""

    def __init__(self, affect: Affect, folder: ResultFolder, models: Models, request: BatchRequest) -> None:
        self.folder = folder
        self._affect = affect
        self._models = models
        self._request = request

    def result_of(self, item: Input) -> str:
        """Return the path of a file's result in the folder."""
        folder, slash, name = item.result.rpartition("/")
        return folder + slash + fitting_name(name, f".{self._request.form.suffix}")

    def analyze(self, item: Input) -> Outcome:
        """Make a file's result unless it is there, or tell why it cannot be made. Raises Stopped, or OSError."""
        origin = Origin("", {}, {})
        try:
            kind = item.kind
            origin = self._origin(item.path, kind)
            result = self.result_of(item)
            if self.folder.holds(result, origin):
                return Outcome(item.path, State.KEPT)
            if other := self.folder.made_from_another(result, item.path, origin.sha256):
                # It is not noted: the entry about the other file has to stay the last one about this result.
                told = f"{self.folder.path / result} is the result of {other}; give another --out"
                return Outcome(item.path, State.FAILED, told)
            return self._make(item, kind, origin)
        except (AffectError, OSError) as error:
            self.folder.note(self._entry(item, "failed", origin, error=_told(error)))
            ends_all = isinstance(error, AffectError) and error.code in ENDS_ALL
            told = sentence(error).removeprefix(f"{item.path}: ")
            return Outcome(item.path, State.FAILED, told, ends_all)

    def _origin(self, path: Path, kind: Kind) -> Origin:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        tasks = {
            name: {"bundle": task.bundle, "version": task.version, "sha256": task.sha256}
            for name, task in self._models.model.tasks.items()
        }
        model = self._models.model
        computed_by = {"engine": model.engine, "precision": model.precision, "detector": model.detector}
        return Origin(sha256, self._request.described(kind), computed_by | tasks)

    def _make(self, item: Input, kind: Kind, origin: Origin) -> Outcome:
        """Write a result and its entry. Raises AffectError, OSError and Stopped."""
        with self.folder.writing(self.result_of(item)) as file:
            answer = self._picture(item.path) if kind is Kind.PICTURE else self._video(item.path)
            self._write(answer.pieces, file)
            truncated = answer.truncated()
            entry = self._entry(item, "done", origin, truncated=truncated, request_id=answer.request_id)
            self.folder.finish(file, entry)
        return Outcome(item.path, State.DONE, TRUNCATED if truncated else "")

    def _picture(self, path: Path) -> Answer:
        form = self._request.form
        if form.columns is not None:
            detail = f"pictures have no table with the columns of {form.columns}; use csv or parquet"
            raise AffectError(detail, "unsupported_format")
        document = self._affect.frame_document(path, baseline=self._request.baseline, **self._request.frame_options)
        with understanding():
            if form.media_type == CSV:
                content = picture_csv(Picture.of(document), self._models.labels)
            else:
                content = json.dumps(document).encode() + b"\n"
        return Answer([content], document.get("request_id"))

    def _video(self, path: Path) -> Answer:
        answer = self._affect.video_answer(path, self._request.media_type, **self._request.video_options)
        if self._request.media_type != JSON:
            return Answer(answer, answer.request_id, lambda: answer.truncated)
        content = b"".join(answer)
        with understanding():
            document = json.loads(content)
            truncated = bool(document["video"]["truncated"])
            if self._request.form.media_type != JSON:
                content = document_csv(document, self._models.labels)
        return Answer([content], answer.request_id, lambda: truncated)

    def _write(self, pieces: Iterable[bytes], file: PartialFile) -> None:
        if self._request.format_name == "parquet":
            write_parquet(pieces, file.stream)
        else:
            file.write(pieces)

    def _entry(self, item: Input, state: Literal["done", "failed"], origin: Origin, **rest: Any) -> Entry:
        finished_at = datetime.now(UTC).isoformat(timespec="seconds")
        return Entry(str(item.path), self.result_of(item), state, finished_at, origin, **rest)


def _told(error: AffectError | OSError) -> dict[str, Any]:
    if isinstance(error, AffectError):
        return {"code": error.code, "status": error.status, "detail": error.detail}
    return {"code": "unreadable_file", "status": None, "detail": sentence(error)}


def analyze_all(batch: Batch, inputs: Sequence[Input], jobs: int) -> int:
    """Analyse files, `jobs` at once, and return the exit status."""
    counts: Counter[State] = Counter()
    with tqdm(total=len(inputs), unit="file", disable=None) as bar:
        for outcome in _outcomes(batch, inputs, jobs):
            counts[outcome.state] += 1
            bar.update()
            if outcome.message:
                tqdm.write(f"{outcome.path}: {outcome.message}", file=sys.stderr)
            if outcome.ends_all:
                break
    untried = len(inputs) - counts.total()
    told = f"{counts[State.DONE]} analysed, {counts[State.KEPT]} as before, {counts[State.FAILED]} failed"
    print(f"{told}{f', {untried} not tried' if untried else ''}; see {batch.folder.path / MANIFEST}")
    return int(untried > 0 or counts[State.FAILED] > 0)


def _outcomes(batch: Batch, inputs: Sequence[Input], jobs: int) -> Iterator[Outcome]:
    """Return the outcome of each file as it comes.

    The threads are not waited for where the command ends early: what they still do comes to nothing.
    """
    waiting: SimpleQueue[Input] = SimpleQueue()
    ended: SimpleQueue[Outcome | Exception] = SimpleQueue()

    def work() -> None:
        while True:
            item = waiting.get()
            try:
                ended.put(batch.analyze(item))
            except Exception as error:
                ended.put(error)

    for item in inputs:
        waiting.put(item)
    for _ in range(min(jobs, len(inputs))):
        Thread(target=work, daemon=True).start()
    for _ in inputs:
        outcome = ended.get()
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome
