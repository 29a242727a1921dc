"""Checkpoints: an analysis that goes on from any of them gives the results of one that was never disturbed."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from model_core.bundles.manifest import TemporalSpec
from model_core.faces.detection import build_detector
from model_core.faces.geometry import Frame
from model_core.inference.predictor import Predictor
from service.analysis.checkpoints import RESULTS, Checkpoints
from service.analysis.results import AnalysisOptions, FirstSeconds, FrameResult
from service.analysis.snapshots import Snapshots
from service.app import create_app
from service.http.dependencies import Context
from service.media.decoders import IsolatedSource
from service.media.videos import Window
from service.scheduling.lanes import Lane
from service.settings import Settings
from service.telemetry import StageClock, Telemetry
from tests.service.media_files import video
from tests.tiny_bundles import TinyBackbone, tiny_bundle

WINDOW = Window(fps=10, start_s=0.5)
MADE_BY = "this test"


class Kept:
    """A journal in memory."""

    def __init__(self, earlier: Sequence[bytes] = ()) -> None:
        self.earlier = earlier
        self.added: list[bytes] = []

    def records(self) -> Iterator[bytes]:
        return iter(self.earlier)

    def append(self, record: bytes, *, lasting: bool = True) -> None:
        self.added.append(record)

    def take_over(self) -> None:
        """Nothing lasts."""


class CountingClock(StageClock):
    """Counts the frames that are analysed."""

    frames = 0

    def count_frame(self, faces: Any) -> None:
        self.frames += 1


class Run:
    """An analysis to its end."""

    def __init__(self, journal: Kept, made_by: str = MADE_BY) -> None:
        self.journal = journal
        # The clock stands still, and no time passes between two checkpoints: there is one after every chunk.
        self.checkpoints = Checkpoints(journal, made_by, every_s=0, now_s=lambda: 0.0)
        self.clock = CountingClock(Telemetry(), "test")
        self.results: list[FrameResult] = []

    @asynccontextmanager
    async def source(self, context: Context, clip: Path) -> AsyncIterator[IsolatedSource]:
        with clip.open("rb") as file:
            yield context.decoders.video(file, context.limits, WINDOW)

    async def __call__(self, context: Context, clip: Path, options: AnalysisOptions) -> "Run":
        assert context.model is not None
        async with self.source(context, clip) as source:
            with context.model.pipeline.admitted(Lane.BACKGROUND) as ticket:
                results = context.model.pipeline.resumed(source, options, ticket, self.clock, self.checkpoints)
                async for result in results:
                    self.results.append(result)
                    assert source.info.width == 320
        self.truncated = source.truncated
        return self

    @property
    def told(self) -> str:
        return json.dumps(Snapshots(RESULTS).taken(self.results))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, astronaut: Frame) -> Path:
    """Three seconds at 15 frames a second: a drifting face, and behind a cut two others."""
    face = cv2.resize(astronaut[:256, 96:352], (160, 160))
    frames = []
    for number in range(45):
        if number < 25:
            frame = np.full((240, 320, 3), 90, np.uint8)
            frame[40:200, 20 + 2 * number : 180 + 2 * number] = face
        else:
            frame = np.full((240, 320, 3), 200, np.uint8)
            frame[number - 5 : number + 155, :160] = face[:, ::-1]
            frame[10 + number : 90 + number, 220:300] = cv2.resize(face, (80, 80)) // 2
        frames.append(frame)
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return video(path, frames, "libx264", fps=15, options={"g": "6"})


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A service with a framewise bundle, and one with memory."""
    backbone = TinyBackbone()
    spec = TemporalSpec(10.0, 4, "carried", 0.5)
    bundles = [
        tiny_bundle("everything", "valence_arousal", "expression", "action_units", backbone=backbone),
        tiny_bundle("remembers", "valence_arousal", backbone=backbone, temporal=spec),
    ]
    # One face a forward pass, since the last bit of an estimate may depend on who else is in it.
    with TestClient(create_app(Settings(max_batch=1), build_detector("yuface"), Predictor(bundles))) as client:
        yield client


def run(client: TestClient, clip: Path, options: AnalysisOptions, each: Run) -> Run:
    assert client.portal is not None
    return client.portal.call(each, client.app.state.context, clip, options)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options",
    [
        AnalysisOptions(),
        AnalysisOptions(smoothing="causal", baseline=FirstSeconds(0.5), max_faces=1),
        AnalysisOptions(smoothing="offline", baseline=FirstSeconds(1.0)),
    ],
    ids=lambda options: options.smoothing,
)
def test_from_every_checkpoint_the_results_are_those_of_an_undisturbed_analysis(
    client: TestClient, clip: Path, options: AnalysisOptions
) -> None:
    whole = run(client, clip, options, Run(Kept()))
    records = whole.journal.added
    assert len(records) >= 5
    assert len(whole.results) == whole.clock.frames == 25
    assert {face.track_id for result in whole.results for face in result.faces} >= {1, 2}
    for count in range(1, len(records) + 1):
        rest = run(client, clip, options, Run(Kept(records[:count])))
        assert rest.told == whole.told
        known = sum(len(Snapshots(RESULTS).restored(json.loads(each)["results"])) for each in records[:count])
        assert rest.clock.frames == len(whole.results) - known
        assert rest.journal.added[:count] == records[:count]
        assert rest.truncated is whole.truncated is False


def with_value(record: bytes, name: str, value: object) -> bytes:
    return json.dumps(json.loads(record) | {name: value}).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("made_by", "another version"),
        ("state", ["dict"]),
        ("state", ["Popen", {}]),
        ("results", ["list", ["FrameResult"]]),
        ("info", {"width": 1}),
        ("times_s", None),
    ],
)
def test_what_cannot_be_used_ends_the_past(client: TestClient, clip: Path, name: str, value: object) -> None:
    options = AnalysisOptions()
    whole = run(client, clip, options, Run(Kept()))
    first, second, *others = whole.journal.added
    for earlier, used in (([with_value(first, name, value), second], 0), ([first, with_value(second, name, value)], 1)):
        rest = run(client, clip, options, Run(Kept([*earlier, *others])))
        assert rest.told == whole.told
        known = len(json.loads(first)["results"]) - 1 if used else 0  # without the name of the list
        assert rest.clock.frames == len(whole.results) - known


def test_a_checkpoint_is_due_after_its_time() -> None:
    now_s = 0.0
    checkpoints = Checkpoints(Kept(), MADE_BY, every_s=10, now_s=lambda: now_s)
    assert not checkpoints.due()
    now_s = 10.0
    assert checkpoints.due()
