"""What drift is judged by, counted by hand."""

import asyncio
import re
from functools import partial

import pytest

from model_core.affect import Affect, Expression
from model_core.faces.quality import Quality
from service.telemetry import Telemetry


def face(valence: float, *reasons: str, face_px: int = 100) -> tuple[Affect, Quality]:
    expression = Expression("happiness", {"happiness": 0.75, "neutral": 0.25})
    return Affect(valence=valence, arousal=0.0, expression=expression), Quality(face_px, 0.5, reasons)


def numbers(telemetry: Telemetry) -> dict[str, float]:
    lines = re.findall(r"^(affect_\S+) (\S+)$", telemetry.render().decode(), re.M)
    return {name: float(value) for name, value in lines}


def test_faces_and_their_doubts() -> None:
    telemetry = Telemetry()
    telemetry.frame("/analyze/frame", [face(0.5), face(-0.6, "small", "blurred", face_px=20), face(-0.6, "small")])
    telemetry.frame("/analyze/video", [])
    found = numbers(telemetry)
    assert found['affect_faces_total{reliable="true"}'] == 1
    assert found['affect_faces_total{reliable="false"}'] == 2
    assert found['affect_face_doubts_total{reason="small"}'] == 2
    assert found['affect_face_doubts_total{reason="blurred"}'] == 1
    assert found['affect_faces_per_frame_bucket{le="0.0"}'] == 1  # frames without a face
    assert found["affect_faces_per_frame_count"] == 2
    assert found['affect_face_size_pixels_bucket{le="24.0"}'] == 1
    assert found["affect_face_size_pixels_sum"] == 220
    assert found['affect_valence_bucket{le="-0.5"}'] == 2
    assert found['affect_valence_bucket{le="0.5"}'] == 3
    assert found["affect_expression_confidence_sum"] == 2.25


def test_shares_are_known_before_the_first_doubt() -> None:
    assert numbers(Telemetry())['affect_faces_total{reliable="false"}'] == 0


def test_a_face_without_valence_is_not_in_its_distribution() -> None:
    telemetry = Telemetry()
    telemetry.frame("/analyze/frame", [(Affect(), Quality(50, 0.5))])
    found = numbers(telemetry)
    assert found["affect_valence_count"] == 0
    assert found['affect_faces_total{reliable="true"}'] == 1


def test_resources_are_asked_for_at_each_scrape() -> None:
    telemetry, room = Telemetry(), iter([10, 7])
    telemetry.resources(lambda: next(room), 4096)
    assert [numbers(telemetry)["affect_temp_free_bytes"] for _ in range(2)] == [10, 7]
    assert numbers(Telemetry())["affect_memory_limit_bytes"] == 0
    telemetry.resources(lambda: 0, 4096)
    assert numbers(telemetry)["affect_memory_limit_bytes"] == 4096


def test_the_memory_of_each_gpu_is_asked_for_at_each_scrape() -> None:
    telemetry, held = Telemetry(), {"cuda:0": 512, "cuda:1": 1024}
    for device in held:
        telemetry.device_used(device, partial(held.__getitem__, device))
    for _ in range(2):
        found = numbers(telemetry)
        assert {device: found[f'affect_device_memory_bytes{{device="{device}"}}'] for device in held} == held
        held["cuda:1"] += 64


def test_metrics_are_rendered_once_for_all_who_ask_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    rendered: list[str] = []

    def rendered_as(exposition: str) -> tuple[bytes, str]:
        rendered.append(exposition)
        return str(len(rendered)).encode(), exposition

    monkeypatch.setattr(telemetry, "rendered_as", rendered_as)

    async def story() -> list[tuple[bytes, str]]:
        together = await asyncio.gather(*(telemetry.exposed_as(form) for form in ("a", "b", "a", "a")))
        return [*together, await telemetry.exposed_as("a")]

    assert asyncio.run(story()) == [(b"1", "a"), (b"2", "b"), (b"1", "a"), (b"1", "a"), (b"3", "a")]
    assert rendered == ["a", "b", "a"]
