"""What is told of each frame, and how a connection ends; the service and the network are stand-ins."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.analysis.results import FrameResult
from service.errors import Limit, NotReady, Overloaded, UndecodableMedia
from service.live.conversation import MOST_FAILURES, ClientLeft, Conversation, Ending, LiveLimits, ServerStops
from service.live.frames import Arrival, NewestFrame, SkipReason
from service.output.live import LiveMessages
from service.output.schemas import ModelInfo
from tests.service.scheduling.clocks import ManualClock, settle

MODEL = ModelInfo(device="cpu", engine="torch", precision="float32", detector="fake-1", tasks={})
GOOD, BAD, BUSY, DOWN, CRASH = b"good", b"bad", b"busy", b"down", b"crash"
ERRORS: dict[bytes, Callable[[], Exception]] = {
    BAD: lambda: UndecodableMedia("the file is damaged"),
    BUSY: lambda: Overloaded("the queue is full", retry_after_s=1),
    DOWN: lambda: NotReady("the network does not answer"),
    CRASH: lambda: RuntimeError("secret"),
}


class FakeChannel:
    """Messages that a test puts in, and those that were sent."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes | str | type[Exception]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.room = asyncio.Event()
        self.room.set()

    async def receive(self) -> bytes | str:
        message = await self.incoming.get()
        if isinstance(message, type):
            raise message
        return message

    async def send(self, text: str) -> None:
        await self.room.wait()
        self.sent.append(json.loads(text))


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.codes: list[str] = []

    def live_answered(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def live_failed(self, code: str) -> None:
        self.codes.append(code)


class Talk:
    """A conversation with a test as the client, and an analysis that takes one step of the gate."""

    def __init__(self, *, answer_s: float = 20, idle_s: float = 20, send_s: float = 20) -> None:
        self.channel = FakeChannel()
        self.clock = ManualClock()
        self.skipped: list[SkipReason] = []
        self.notes = Notes()
        self.gate = asyncio.Semaphore(0)
        self.analysed: list[int] = []
        frames = NewestFrame(1e6, self.skipped.append, self.clock, self.clock.sleep)
        limits = LiveLimits(
            Limit(name="IDLE", value=idle_s),
            Limit(name="LONGEST", value=20),
            Limit(name="ANSWER", value=answer_s),
            send_s,
        )
        messages = LiveMessages(MODEL, "r-1", {"AFFECT_LIVE_FPS": 15})
        self.conversation = Conversation(self.channel, frames, self._analyse, messages, limits, self.notes)

    async def _analyse(self, arrival: Arrival) -> FrameResult:
        await self.gate.acquire()
        if arrival.picture in ERRORS:
            raise ERRORS[arrival.picture]()
        self.analysed.append(arrival.frame)
        return FrameResult(arrival.time_s, arrival.frame, ())

    def sends(self, *messages: bytes | str | type[Exception]) -> None:
        for message in messages:
            self.channel.incoming.put_nowait(message)

    def lets_through(self, frames: int = 1) -> None:
        for _ in range(frames):
            self.gate.release()


def told(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


def test_the_first_message_tells_of_model_and_limits_and_the_others_of_frames() -> None:
    async def story() -> None:
        talk = Talk()
        running = asyncio.create_task(talk.conversation.run())
        talk.sends(GOOD)
        await talk.clock.advance(0.25)
        talk.lets_through()
        await settle()
        model = {"device": "cpu", "engine": "torch", "precision": "float32", "detector": "fake-1", "tasks": {}}
        assert talk.channel.sent == [
            {"type": "ready", "request_id": "r-1", "model": model, "limits": {"AFFECT_LIVE_FPS": 15}},
            {"type": "frame", "skipped": 0, "time_s": 0.0, "frame": 0, "faces": []},
        ]
        assert talk.notes.seconds == [0.25]
        talk.sends(ClientLeft)
        with pytest.raises(ClientLeft):
            await running

    told(story())


def test_the_newest_of_those_that_come_meanwhile_is_next_and_the_others_are_counted() -> None:
    async def story() -> None:
        talk = Talk()
        running = asyncio.create_task(talk.conversation.run())
        talk.sends(GOOD)
        await settle()
        talk.sends(GOOD, BAD, GOOD, GOOD)
        await settle()
        talk.lets_through(2)
        await settle()
        assert [(each["frame"], each["skipped"]) for each in talk.channel.sent[1:]] == [(0, 0), (4, 3)]
        assert talk.skipped == 3 * ["newer"]
        running.cancel()

    told(story())


def test_a_bad_frame_is_an_answer_and_too_many_in_a_row_are_the_end() -> None:
    async def story() -> None:
        talk = Talk()
        running = asyncio.create_task(talk.conversation.run())
        for picture in [BAD, GOOD, *MOST_FAILURES * [BAD]]:
            assert not running.done()
            talk.sends(picture)
            talk.lets_through()
            await talk.clock.advance(0.1)
        assert talk.channel.sent[1] == {
            "type": "error",
            "frame": 0,
            "skipped": 0,
            "title": "Undecodable media",
            "status": 422,
            "detail": "the file is damaged",
            "code": "undecodable_media",
            "request_id": "r-1",
        }
        assert await running == Ending(1008, "16 frames in a row could not be analysed")
        assert talk.notes.codes == 17 * ["undecodable_media"]

    told(story())


def test_overload_is_said_and_skips_the_frames_of_half_a_second() -> None:
    async def story() -> None:
        talk = Talk()
        running = asyncio.create_task(talk.conversation.run())
        talk.sends(BUSY)
        talk.lets_through(2)
        await settle()
        assert talk.channel.sent[1:] == [
            {"type": "overloaded", "frame": 0, "pause_s": 0.5, "detail": "the queue is full"}
        ]
        talk.sends(GOOD, GOOD)
        await talk.clock.advance(0.4)
        assert len(talk.channel.sent) == 2
        await talk.clock.advance(0.1)
        assert [(each["frame"], each["skipped"]) for each in talk.channel.sent[2:]] == [(2, 2)]
        assert talk.skipped == ["overloaded", "overloaded"]
        running.cancel()

    told(story())


@pytest.mark.parametrize(
    ("picture", "error", "ending"),
    [
        (DOWN, "not_ready", Ending(1013, "the network does not answer")),
        (CRASH, "internal_error", Ending(1011, "the service failed; its log has the cause under this request id")),
    ],
)
def test_a_fault_of_the_service_is_told_and_ends_the_connection(picture: bytes, error: str, ending: Ending) -> None:
    async def story() -> None:
        talk = Talk()
        talk.sends(picture)
        talk.lets_through()
        assert await talk.conversation.run() == ending
        assert talk.channel.sent[-1]["code"] == error
        assert "secret" not in json.dumps(talk.channel.sent)

    told(story())


def test_an_analysis_without_end_is_given_up() -> None:
    async def story() -> None:
        talk = Talk(answer_s=0.01)
        talk.sends(GOOD)
        assert await talk.conversation.run() == Ending(1011, "a frame took longer than 0.01 s")
        assert talk.channel.sent[-1]["limit"] == {"name": "ANSWER", "value": 0.01}

    told(story())


def test_a_client_that_reads_no_answers_is_not_waited_for() -> None:
    async def story() -> None:
        talk = Talk(send_s=0.01)
        talk.channel.room.clear()
        assert await talk.conversation.run() == Ending(1008, "no answer could be sent for 0.01 s")

    told(story())


def test_a_client_that_sends_nothing_is_not_waited_for() -> None:
    async def story() -> None:
        assert await Talk(idle_s=0.01).conversation.run() == Ending(4408, "no frame has come for 0.01 s (IDLE)")

    told(story())


def test_a_server_that_stops_answers_the_frame_it_has_begun_and_no_other() -> None:
    async def story() -> None:
        talk = Talk()
        running = asyncio.create_task(talk.conversation.run())
        talk.sends(GOOD)
        await settle()
        talk.sends(GOOD, ServerStops)
        await settle()
        assert not running.done()
        talk.lets_through(2)
        assert await running == Ending(1012, "the service is shutting down")
        assert talk.analysed == [0]
        assert [each["type"] for each in talk.channel.sent] == ["ready", "frame"]

    told(story())


def test_a_client_that_leaves_takes_its_frame_with_it() -> None:
    async def story() -> None:
        before = asyncio.all_tasks()
        talk = Talk()
        running = asyncio.create_task(talk.conversation.run())
        talk.sends(GOOD)
        await settle()
        talk.sends(ClientLeft)
        with pytest.raises(ClientLeft):
            await running
        assert talk.analysed == []
        assert asyncio.all_tasks() == before

    told(story())


EVENTS = st.lists(st.sampled_from([GOOD, GOOD, BAD, BUSY, "analysed", 0.3]), max_size=80)


@given(EVENTS)
def test_every_analysed_frame_is_answered_once_and_in_order_and_the_others_are_counted(
    events: list[bytes | str | float],
) -> None:
    """An event is a frame that comes, one that is analysed, or seconds that pass; at the end a last frame comes."""

    async def story() -> None:
        talk = Talk()
        running = asyncio.create_task(talk.conversation.run())
        sent = [event for event in events if isinstance(event, bytes)] + [GOOD]
        for event in events:
            if isinstance(event, bytes):
                talk.sends(event)
            elif event == "analysed":
                talk.lets_through()
            else:
                await talk.clock.advance(float(event))
            await settle()
        talk.sends(GOOD)
        talk.lets_through(len(sent))
        for _ in range(4):  # a pause for overload, and the frame behind it
            await talk.clock.advance(1)
        answers = [each for each in talk.channel.sent if each["type"] in ("frame", "error")]
        if running.done():  # too many bad ones in a row
            assert [each["type"] for each in answers[-MOST_FAILURES:]] == MOST_FAILURES * ["error"]
            sent = sent[: answers[-1]["frame"] + 1]
        else:
            assert answers[-1]["frame"] == len(sent) - 1
            assert len(talk.skipped) == sum(each["skipped"] for each in answers)
        numbers = [each["frame"] for each in answers]
        assert numbers == sorted(set(numbers))
        assert len(answers) + sum(each["skipped"] for each in answers) == len(sent)
        assert [each["frame"] for each in answers if each["type"] == "frame"] == talk.analysed
        assert all(sent[each["frame"]] == (GOOD if each["type"] == "frame" else BAD) for each in answers)
        running.cancel()

    told(story())
