"""The client against the real application, whose networks are stand-ins."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from affect_client import Affect, AffectError, FrameOptions, LiveOptions, VideoOptions
from affect_client.__main__ import main
from affect_client.commands.folder import MANIFEST
from service.http.queries import FrameQuery, LiveQuery, VideoQuery
from service.settings import Settings
from tests.service.http.serving import port_of, served
from tests.service.media_files import png


def services_table(url: str, path: Path) -> bytes:
    with path.open("rb") as file:
        answer = httpx2.post(f"{url}/analyze/video", files={"file": file}, headers={"Accept": "text/csv"})
    assert answer.status_code == 200
    return answer.content


def test_the_tables_of_the_command_are_those_of_the_service(
    url: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(clips), "--out", str(tmp_path), "--url", url]) == 1
    printed = capsys.readouterr()
    assert "2 analysed, 0 as before, 1 failed" in printed.out
    assert "broken.mp4" in printed.err
    table = (tmp_path / "clip.mp4.csv").read_bytes()
    assert table == services_table(url, clips / "clip.mp4")
    assert table.count(b"\n") == 1 + 2 + 2 + 2 + 1
    video = table.decode().splitlines()
    picture = (tmp_path / "grey.png.csv").read_text().splitlines()
    assert picture[0] == video[0]
    faces = pd.read_csv(tmp_path / "grey.png.csv")
    assert faces["valence"].tolist() == pytest.approx([0.4, 0.4])  # 102 of 255
    entries = [json.loads(line) for line in (tmp_path / MANIFEST).read_text().splitlines()]
    assert {Path(entry["file"]).name: entry["state"] for entry in entries} == {
        "clip.mp4": "done",
        "grey.png": "done",
        "broken.mp4": "failed",
    }
    assert (
        main(["analyze", str(clips / "grey.png"), str(clips / "clip.mp4"), "--out", str(tmp_path), "--url", url]) == 0
    )
    assert "0 analysed, 2 as before" in capsys.readouterr().out
    assert main(["plot", str(tmp_path / "clip.mp4.csv")]) == 0


def test_a_table_of_the_client_is_what_pandas_reads_from_the_services(url: str, clips: Path) -> None:
    with Affect(url) as affect, affect.video(clips / "clip.mp4") as frames:
        table = frames.to_pandas()
    assert_frame_equal(table, pd.read_csv(io.BytesIO(services_table(url, clips / "clip.mp4"))))
    assert frames.summary.frames_analyzed == 4
    assert [track.track_id for track in frames.summary.tracks] == [1, 2]


def test_changes_against_a_baseline(url: str, clips: Path) -> None:
    with Affect(url) as affect:
        with affect.video(clips / "clip.mp4", baseline_s=0.15) as frames:
            third = list(frames)[2]
        with pytest.raises(AffectError, match="invalid_baseline"):
            affect.frame(png(204, 96, 64), baseline=png(102, 96, 64))  # which shows two faces
    change = third.faces[0].change
    assert change is not None
    # Levels of 60 and 120 are the baseline, and 200 follows.
    assert change["valence"].value == pytest.approx((200 - (60 + 120) / 2) / 255, abs=0.01)


def test_models(url: str) -> None:
    with Affect(url) as affect:
        models = affect.models()
        picture = affect.frame(png(102, 96, 64), max_faces=1)
    assert models.model == picture.model
    assert len(models.model.units) == 12
    assert models.labels[:2] == ("neutral", "happiness")
    assert models.limits == Settings().limits()
    assert len(picture.faces) == 1


def test_a_parameter_that_the_service_does_not_know_is_refused(url: str) -> None:
    with Affect(url) as affect, pytest.raises(AffectError, match=r"blur.*invalid_parameter"):
        affect.frame(png(102), blur=True)  # type: ignore[call-arg]


def test_parameters_are_the_services() -> None:
    assert FrameOptions.__optional_keys__ == FrameQuery.model_fields.keys()
    assert VideoOptions.__optional_keys__ == VideoQuery.model_fields.keys()
    assert LiveOptions.__optional_keys__ == LiveQuery.model_fields.keys()


def test_live_answers_are_the_services() -> None:
    levels = [51, 102, 204]
    with served(Settings(live_fps=1000, api_keys=("a-key-of-16-chars",))) as server:
        with Affect(f"http://127.0.0.1:{port_of(server)}", "a-key-of-16-chars") as affect:
            one_by_one = threading.Semaphore(1)

            def pictures() -> Iterator[bytes]:
                for level in levels:
                    assert one_by_one.acquire(timeout=20)
                    yield png(level)

            valences = []
            with affect.live(pictures(), max_faces=1) as answers:
                assert answers.limits["AFFECT_LIVE_FPS"] == 1000
                for answer in answers:
                    assert (answer.skipped, answer.faces[0].track_id) == (0, 1)
                    valences.append(answer.faces[0].valence)
                    one_by_one.release()
            assert valences == pytest.approx([0.2, 0.4, 0.8])
        with Affect(f"http://127.0.0.1:{port_of(server)}", "another-key-of-16") as stranger:
            with pytest.raises(AffectError) as caught:
                list(stranger.live([png(51)]))
            assert caught.value.code == "unauthorized"
