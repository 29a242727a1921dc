"""The pages in a real Chromium: pictures, videos, a camera, files that are saved, keys, problems, phones."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Semaphore

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from model_core.affect import ACTION_UNITS, LEARNED_TASKS
from model_core.baseline import Comparison
from model_core.calibration import Calibration, ChangeLimits
from model_core.faces.geometry import Crop
from model_core.inference.encoder import Features
from tests.service.fakes import FakePredictor
from tests.service.media_files import grey, png, remuxed, video

pytestmark = pytest.mark.system("chromium")

KEY = "a-key-of-the-tests"
Open = Callable[..., Page]
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.body.querySelectorAll('*')]
    .filter(each => each.getBoundingClientRect().right > innerWidth).map(each => each.outerHTML.slice(0, 100))"""
"""The elements that make a page scroll sideways."""
ACCESSIBILITY = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
NOWHERE = """() => {
    const address = new URL('nowhere', location).href.replace('http', 'ws');
    globalThis.WebSocket = class extends WebSocket { constructor() { super(address); } };
}"""
"""Every WebSocket is opened where there is none."""


ASKING = """() => {
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) => new Promise((resolve) => {
        globalThis.allow = async () => { globalThis.given = await ask(wanted); resolve(given); };
    });
}"""
"""The camera is there once the page's `allow` is called, as if a person had been asked."""

TRACKS = """async () => {
    const { Timeline } = await import('./page/timeline.js');
    const timeline = new Timeline(() => {}), offered = [];
    timeline.begin();
    for (const [time_s, track_id] of [[0, 1], [5, null], [70, null], [80, 2]]) {
        timeline.add({ time_s, frame: 0, faces: track_id === null ? [] : [{ track_id, quality: {} }] });
        timeline.series.forget(time_s - 60);
        offered.push([timeline.track, document.getElementById('track').textContent]);
    }
    return offered;
}"""
"""The track that a camera's timeline shows, and those that it offers, as one face leaves and another one comes."""


class SteppedPredictor(FakePredictor):
    """Answers as many faces as it is allowed to, and waits before the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = Semaphore(0)

    def features(self, crops: Sequence[Crop]) -> list[Features]:
        for _ in crops:
            assert self.allowed.acquire(timeout=20)
        return super().features(crops)


def comparing() -> FakePredictor:
    """A predictor whose bundle has limits of changes: 0.5 of valence, and log-odds of 0.6 of units."""
    predictor = FakePredictor()
    limits = ChangeLimits({"valence": 0.5, "arousal": 0.5}, dict.fromkeys(ACTION_UNITS, 0.6))
    predictor.everything.comparison = Comparison.of(LEARNED_TASKS, Calibration(change_limits=limits))
    return predictor


def choose(page: Page, file: Path | dict[str, object]) -> None:
    page.get_by_label("A picture or a video").set_input_files(file)


def picture(level: int) -> dict[str, object]:
    return {"name": "grey.png", "mimeType": "image/png", "buffer": png(level)}


def faults_of(page: Page, *parts: str) -> list[str]:
    """What axe-core finds that is serious in a page, or in parts of it, as `rule: element`."""
    context = {"include": [[part] for part in parts or ("html",)]}
    found = Axe().run(page, context=context, options=ACCESSIBILITY).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {node['html'][:120]}" for each in serious for node in each["nodes"]]


def analysed(page: Page, clip: Path) -> None:
    choose(page, clip)
    expect(page.get_by_role("status")).to_have_text("The video is analysed.")


def saved(page: Page, name: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_a_picture_shows_its_faces(open_page: Open) -> None:
    page = open_page()
    choose(page, picture(204))
    expect(page.get_by_role("status")).to_have_text("One face was found.")
    panel = page.get_by_role("complementary", name="Face")
    expect(panel).to_contain_text("Face 1 of 1")
    expect(panel.get_by_role("row", name="happiness 0.80")).to_be_visible()
    expect(panel.get_by_role("img", name="Valence 0.80, arousal -0.80")).to_be_visible()
    expect(panel.get_by_role("row", name="AU12 lip corner puller 0.80 0.50 active")).to_be_visible()
    expect(panel).to_contain_text("Derived: learned from labels that a rule or another model made")
    expect(panel).to_contain_text("Learned from people's annotations (fake 7)")
    # A plane of one grey level has no detail.
    expect(panel).to_contain_text(re.compile("Not reliable: .* because .*it is blurred"))
    face = page.get_by_role("button", name="Face 1: happiness 0.80, valence 0.80, arousal -0.80, not reliable")
    for _ in range(20):
        if face.evaluate("face => face === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(face).to_be_focused()
    box, canvas = face.bounding_box(), page.locator("#picture-canvas").bounding_box()
    assert box is not None
    assert canvas is not None
    scale = canvas["width"] / 64
    assert (box["x"] - canvas["x"], box["width"]) == pytest.approx((8 * scale, 32 * scale), abs=1)
    assert faults_of(page) == []


def test_a_picture_without_faces_says_so(open_page: Open) -> None:
    page = open_page()
    choose(page, picture(0))
    expect(page.get_by_role("status")).to_have_text("No faces were found.")
    expect(page.get_by_role("complementary")).to_have_text("No face was found in this picture.")


def test_a_problem_is_shown_as_the_service_tells_it(open_page: Open) -> None:
    page = open_page()
    choose(page, {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"})
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Unsupported media type")
    expect(alert).to_contain_text(re.compile("Request [0-9a-f]{32}"))
    page.get_by_text("Options").click()
    page.get_by_label("Most faces").fill("65")
    choose(page, picture(204))
    expect(alert).to_contain_text("max_faces")


def test_a_file_beyond_the_limit_is_not_sent(open_page: Open) -> None:
    page = open_page(max_upload_bytes=100)
    expect(page.get_by_role("contentinfo")).to_contain_text("fake 7")
    choose(page, {"name": "large.png", "mimeType": "image/png", "buffer": b"0" * 101})
    expect(page.get_by_role("alert")).to_contain_text("The file has 101 bytes; this service takes up to 100.")


def test_a_busy_service_is_asked_once_more_when_it_says(open_page: Open) -> None:
    page = open_page()
    asked: list[str] = []

    def refuse(route: object) -> None:
        asked.append("refused")
        problem = '{"title": "Overloaded", "detail": "too many requests", "request_id": "r-1"}'
        headers = {"Retry-After": "20", "Content-Type": "application/problem+json"}
        route.fulfill(status=429, headers=headers, body=problem)  # type: ignore[attr-defined]

    page.clock.install()
    page.route("**/analyze/frame", refuse, times=1)
    choose(page, picture(204))
    expect(page.get_by_role("status")).to_have_text("Overloaded: trying once more in 20 s.")
    page.clock.run_for(13_000)
    expect(page.locator("#countdown")).to_have_text("7 s")
    assert len(asked) == 1
    page.clock.run_for(7_000)
    expect(page.get_by_role("status")).to_have_text("One face was found.")
    page.route("**/analyze/frame", refuse)
    choose(page, picture(204))
    expect(page.get_by_role("status")).to_have_text("Overloaded: trying once more in 20 s.")
    page.clock.run_for(20_000)
    expect(page.get_by_role("alert")).to_contain_text("too many requests")
    assert len(asked) == 3


def test_a_video_fills_the_plots_and_its_moments_are_shown(open_page: Open, clip: Path) -> None:
    page = open_page()
    analysed(page, clip)
    player = page.locator("#player")
    page.get_by_label("Moment").fill("1")
    expect(page.locator("#moment-text")).to_have_text("1.00 s")
    assert player.evaluate("player => player.currentTime") == pytest.approx(1)
    panel = page.get_by_role("complementary")
    expect(panel).to_contain_text("Track 1 at 1.00 s")
    valence = float(re.search(r"Valence (\d\.\d\d)", panel.inner_text())[1])
    assert valence == pytest.approx(80 / 255, abs=0.02)  # the eleventh frame
    # The other way round: a click in the plots moves the player.
    plane = page.locator("#plots .nsewdrag").first
    box = plane.bounding_box()
    assert box is not None
    middle = {"x": box["width"] / 2, "y": box["height"] / 2}
    plane.hover(position=middle)
    expect(page.locator("#plots .hoverlayer")).to_contain_text("track 1")
    plane.click(position=middle)
    expect(page.locator("#moment-text")).to_have_text(re.compile(r"1\.[45]0 s"))
    expect(page.get_by_role("row", name=re.compile("Track 1 0.00 to 2.90 s"))).to_be_visible()


def test_a_picture_is_compared_with_the_same_person_at_rest(open_page: Open) -> None:
    page = open_page(predictor=comparing())
    page.get_by_text("Options").click()
    page.get_by_label("The same person at rest").set_input_files(
        {"name": "rest.png", "mimeType": "image/png", "buffer": png(51)}
    )
    choose(page, picture(204))
    expect(page.get_by_role("status")).to_have_text("One face was found.")
    changes = page.get_by_role("table", name="Change")
    expect(changes.get_by_role("row", name="valence +0.60 rose")).to_be_visible()
    expect(changes.get_by_role("row", name="arousal \u22120.60 no")).to_be_visible()
    # Log-odds of ln 4 against -ln 4 differ by 2.8, and the limit is 0.6.
    expect(changes.get_by_role("row", name="AU12 lip corner puller +0.60 rose")).to_be_visible()
    expect(changes.get_by_role("row", name="AU1 inner brow raiser +0.00 no")).to_be_visible()
    note = page.locator("#picture-note")
    expect(note).to_have_text(re.compile(r"^Compared with the face in rest\.png\. .*there the face is not reliable \("))
    assert faults_of(page) == []
    page.get_by_label("The same person at rest").set_input_files(picture(230))
    choose(page, picture(204))
    expect(note).to_contain_text("AU12 is active, so that the face may not be at rest")
    page.get_by_role("button", name="Do not compare").click()
    choose(page, picture(204))
    expect(note).to_be_empty()
    expect(changes).to_have_count(0)


def test_a_video_is_compared_with_its_first_seconds(open_page: Open, clip: Path) -> None:
    page = open_page(predictor=comparing())
    page.get_by_text("Options").click()
    rest = page.get_by_label("Seconds at rest at the beginning of each track")
    rest.fill("0.5")
    analysed(page, clip)
    expect(page.get_by_role("table", name="Change")).to_have_count(0)
    page.get_by_label("Moment").fill("2.9")
    expect(page.get_by_role("row", name=re.compile(r"^AU12 lip corner puller \+0\.2\d rose"))).to_be_visible()
    # Of 25 compared frames the eleven from level 98 on: log-odds of -0.47 against -1.09 of the first five.
    rises = page.get_by_role("row", name=re.compile("Track 1 0.00 to 2.90 s")).get_by_role("cell").last
    expect(rises).to_have_text(re.compile(r"^AU12 \(4\d %\)$"))
    assert saved(page, "Table (CSV)")[1].splitlines()[0].endswith(b",AU26_change,AU26_rose")
    assert page.evaluate(TOO_WIDE) == []
    rest.fill("60")
    analysed(page, clip)
    expect(rises).to_have_text("not compared: it ended before its first seconds were over")


def test_a_video_without_faces_has_no_plots(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    choose(page, video(tmp_path / "dark.webm", [grey(0, (96, 64))] * 10, "libvpx", fps=10))
    expect(page.get_by_role("status")).to_have_text("The video is analysed. No face was found.")
    expect(page.get_by_role("heading", name="Video: dark.webm")).to_be_visible()
    expect(page.locator("#timeline")).to_be_hidden()
    expect(page.get_by_role("button", name="Marks (CSV)")).to_be_visible()
    expect(page.get_by_role("button", name="Plots (PNG)")).to_have_count(0)


def test_a_video_that_is_refused_has_no_player(open_page: Open) -> None:
    page = open_page()
    choose(page, {"name": "broken.mp4", "mimeType": "video/mp4", "buffer": b"no video"})
    expect(page.get_by_role("alert")).to_contain_text("Unsupported media type")
    expect(page.get_by_label("Result")).to_be_hidden()


def test_marks_and_plots_can_be_saved(open_page: Open, clip: Path) -> None:
    page = open_page()
    analysed(page, clip)
    page.get_by_label("Moment").fill("0.5")
    page.get_by_label("Label").fill('says "hello", <b>')
    page.get_by_role("button", name="Mark an event here").click()
    page.get_by_role("button", name="Exclude from here").click()
    page.get_by_label("Moment").fill("1.5")
    expect(page.locator("#moment-text")).to_have_text("1.50 s")
    page.get_by_role("button", name="End the range that begins at 0.5 s").click()
    page.get_by_label("Label").fill("=1+1")
    page.get_by_role("button", name="Mark an event here").click()
    name, marks = saved(page, "Marks (CSV)")
    assert name == "clip-marks.csv"
    assert marks.decode().splitlines() == [
        "kind,start_s,end_s,label",
        'event,0.5,0.5,"says ""hello"", <b>"',
        "exclude,0.5,1.5,",
        "event,1.5,1.5,'=1+1",
    ]
    page.get_by_role("button", name="Remove 1.5 s: =1+1").click()
    expect(page.get_by_role("list", name="Marks").get_by_role("listitem")).to_have_count(2)
    assert saved(page, "Plots (PNG)")[1].startswith(b"\x89PNG")
    name, drawn = saved(page, "Plots (SVG)")
    assert name == "clip.svg"
    assert b"<svg" in drawn
    assert b"says" in drawn


def test_the_saved_files_are_the_service_s_own(open_page: Open, clip: Path) -> None:
    page = open_page()
    page.get_by_text("Options").click()
    page.get_by_label("Analysed frames a second").fill("5")
    page.get_by_label("From (s)").fill("0.5")
    page.get_by_label("Smoothing").select_option("causal")
    analysed(page, clip)
    address = page.url + "analyze/video?fps=5&start_s=0.5&smoothing=causal"

    def asked(media_type: str, query: str = "") -> bytes:
        files = {"file": clip.read_bytes()}
        return httpx2.post(address + query, files=files, headers={"Accept": media_type}).content

    name, table = saved(page, "Table (CSV)")
    assert name == "clip.csv"
    assert table == asked("text/csv")
    assert table.count(b"\n") == 14  # a header, and 13 frames from 0.5 s on
    page.get_by_label("Columns").select_option("fex")
    assert saved(page, "Table (CSV)")[1] == asked("text/csv", "&columns=fex")
    name, stream = saved(page, "NDJSON, as received")
    assert name == "clip.ndjson"
    of_frames = [line for line in asked("application/x-ndjson").splitlines() if line.startswith(b'{"type":"frame"')]
    assert [line for line in stream.splitlines() if line.startswith(b'{"type":"frame"')] == of_frames


def noted(address: str, clip: Path) -> str:
    """The service's own answer to a clip, as NDJSON, with a note in its first object."""
    stream = httpx2.post(address, files={"file": clip.read_bytes()}, headers={"Accept": "application/x-ndjson"}).text
    start, rest = stream.split("\n", 1)
    told = json.loads(start) | {"notes": ["these numbers are to be read with care"]}
    return f"{json.dumps(told)}\n{rest}"


def test_a_video_without_a_player_and_plots_is_moved_through_by_the_slider(open_page: Open, clip: Path) -> None:
    page = open_page()
    answer = noted(page.url + "analyze/video", clip)
    page.route("**/analyze/video", lambda route: route.fulfill(content_type="application/x-ndjson", body=answer))
    page.route("**/plotly.min.js", lambda route: route.fulfill(status=404))
    choose(page, remuxed(clip, clip.with_suffix(".avi"), form="avi"))
    expect(page.get_by_role("status")).to_have_text("The video is analysed.")
    expect(page.locator("#player-note")).to_contain_text("This browser cannot play the file.")
    expect(page.locator("#analysis-note")).to_have_text("these numbers are to be read with care")
    expect(page.get_by_text("Plots need plotly")).to_be_visible()
    expect(page.get_by_role("button", name="Marks (CSV)")).to_be_visible()
    expect(page.get_by_role("button", name="Plots (PNG)")).to_have_count(0)
    page.get_by_label("Moment").fill("2")
    expect(page.get_by_role("complementary")).to_contain_text("Track 1 at 2.00 s")


def test_progress_is_shown_and_stop_ends_the_work(open_page: Open, clip: Path) -> None:
    predictor = SteppedPredictor()
    page = open_page(predictor=predictor)
    try:
        choose(page, clip)
        expect(page.get_by_role("status")).to_have_text("Analysing clip.webm.")
        predictor.allowed.release(20)  # of 30 frames, ten of which are a second
        expect(page.locator("#countdown")).to_have_text("1 of 3 s")
        expect(page.locator("#face")).to_contain_text("Track 1 at 0.00 s")
        # It would take the place of the analysis.
        expect(page.get_by_role("button", name="Table (CSV)")).to_be_disabled()
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("status")).to_have_text("Stopped.")
        predictor.allowed.release(4)  # what is being computed
        left = 'affect_rejected_total{reason="client_gone"} 1.0'
        for _ in range(400):
            if left in httpx2.get(page.url + "metrics").text:
                break
            page.wait_for_timeout(50)
        else:
            pytest.fail("the service did not see that its client had left")
    finally:
        predictor.allowed.release(100)
    assert sum(predictor.batches) <= 24
    # What came before is there, and can be saved.
    expect(page.get_by_role("button", name="Table (CSV)")).to_be_enabled()
    name, stream = saved(page, "NDJSON, as received")
    assert name == "clip.ndjson"
    assert 11 <= stream.count(b'"type":"frame"') <= 24


def test_a_video_in_place_of_another_offers_nothing_before_its_own_end(open_page: Open, clip: Path) -> None:
    predictor = SteppedPredictor()
    page = open_page(predictor=predictor)
    try:
        choose(page, clip)
        predictor.allowed.release(15)  # of 30 frames, ten of which are a second
        expect(page.locator("#countdown")).to_have_text("1 of 3 s")
        choose(page, clip)
        expect(page.locator("#countdown")).to_have_text("")
        predictor.allowed.release(20)
        expect(page.locator("#countdown")).to_have_text("1 of 3 s")
        expect(page.locator("#downloads button")).to_have_count(0)
    finally:
        predictor.allowed.release(100)
    expect(page.get_by_role("status")).to_have_text("The video is analysed.")
    assert saved(page, "NDJSON, as received")[1].count(b'"type":"frame"') == 30


def test_a_key_is_asked_for_and_kept_by_the_page_alone(open_page: Open) -> None:
    page = open_page(api_keys=KEY)
    field = page.get_by_label("Key of this service")
    expect(field).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("Unauthorized")
    assert faults_of(page) == []
    field.fill("wrong")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("alert")).to_contain_text("Unauthorized")
    field.fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("contentinfo")).to_contain_text("fake 7")
    choose(page, picture(204))
    expect(page.get_by_role("status")).to_have_text("One face was found.")
    kept = page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert kept == '[{},{},""]'
    page.reload()
    expect(field).to_be_visible()
    expect(field).to_have_value("")


def test_a_camera_is_analysed_until_it_is_stopped(open_page: Open) -> None:
    page = open_page(api_keys=KEY)
    page.get_by_label("Key of this service").fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("contentinfo")).to_contain_text("fake 7")
    page.get_by_text("Options").click()
    page.get_by_label("Most faces").fill("2")
    with page.expect_websocket() as channel:
        page.get_by_role("button", name="use the camera").click()
    assert channel.value.url.endswith("/live?max_faces=2")
    expect(page.get_by_role("status")).to_have_text("The camera is being analysed.")
    panel = page.get_by_role("complementary")
    expect(panel).to_contain_text(re.compile(r"Track 1 at \d+\.\d\d s"))
    # Chromium takes the levels of the file for those from 16 to 235, so 204 is 219 of 255.
    expect(panel.get_by_role("row", name=re.compile(r"happiness 0\.8[567]"))).to_be_visible()
    expect(page.locator("#live-rate")).to_have_text(re.compile(r"\d+\.\d"))
    expect(page.locator("#live-skipped")).to_have_text(re.compile(r"\d+"))
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_have_text("The camera is off.")
    assert page.locator("#camera-picture").evaluate("video => video.srcObject") is None
    assert "affect_live_connections 0.0" in httpx2.get(page.url + "metrics").text


def test_a_face_that_comes_when_another_was_forgotten_is_shown(open_page: Open) -> None:
    assert open_page().evaluate(TRACKS) == [[1, "Track 1"], [1, "Track 1"], [1, "Track 1"], [2, "Track 2"]]


def test_a_camera_that_is_allowed_after_the_person_has_stopped_stays_off(open_page: Open) -> None:
    page = open_page()
    page.evaluate(ASKING)
    page.get_by_role("button", name="use the camera").click()
    expect(page.get_by_role("status")).to_have_text("The camera is being analysed.")
    page.get_by_role("button", name="Stop").click()
    page.evaluate("() => allow()")
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    assert page.evaluate("() => given.getTracks().map(track => track.readyState)") == ["ended"]
    expect(page.locator("#live")).to_be_hidden()


def test_a_service_without_room_for_a_camera_says_so(open_page: Open) -> None:
    page = open_page()
    page.evaluate(NOWHERE)
    page.get_by_role("button", name="use the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("No live channel")


def test_a_phone_is_wide_enough_and_dark_is_readable(open_page: Open, clip: Path) -> None:
    page = open_page(width=360)
    page.emulate_media(color_scheme="dark")
    choose(page, picture(204))
    expect(page.locator("#face")).to_contain_text("AU12")
    assert page.evaluate(TOO_WIDE) == []
    analysed(page, clip)
    expect(page.locator("#face")).to_contain_text("AU12")
    assert page.evaluate(TOO_WIDE) == []
    assert faults_of(page) == []


def test_the_api_is_described_and_can_be_tried(open_page: Open) -> None:
    page = open_page("/docs", api_keys=KEY)
    page.get_by_label("Key of this service").fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    route = page.get_by_role("region", name="POST /analyze/frame")
    expect(route.get_by_role("row", name=re.compile("max_faces query integer, at least 1, at most 64, default 16")))
    expect(page.get_by_role("heading", name="FaceOut")).to_be_visible()
    route.get_by_text("Try it").click()
    route.get_by_label("max_faces").fill("3")
    route.get_by_label("file", exact=True).set_input_files(picture(204))
    route.get_by_role("button", name="Send").click()
    expect(route.get_by_role("status")).to_have_text("Answered with status 200.")
    expect(route.locator("pre", has_text='"valence": 0.8')).to_be_visible()
    expect(route.locator("pre", has_text="curl -F 'file=@grey.png' ")).to_contain_text("analyze/frame?max_faces=3")
    assert faults_of(page, "header", "#contents", "#operations > :first-child", "#schemas > :first-child") == []
    assert page.evaluate(TOO_WIDE) == []


def test_a_trial_in_place_of_another_can_be_stopped(open_page: Open, clip: Path) -> None:
    predictor = SteppedPredictor()
    page = open_page("/docs", predictor=predictor)
    route = page.get_by_role("region", name="POST /analyze/video")
    try:
        route.get_by_text("Try it").click()
        route.get_by_label("file", exact=True).set_input_files(clip)
        for _ in range(2):
            route.get_by_role("button", name="Send").click()
        page.wait_for_timeout(200)  # until the first one has ended, of which nothing is to be seen
        expect(route.get_by_role("status")).to_have_text("Sent.")
        route.get_by_role("button", name="Stop").click()
        expect(route.get_by_role("status")).to_have_text("Stopped.")
        expect(route.get_by_role("button", name="Stop")).to_be_hidden()
    finally:
        predictor.allowed.release(100)
