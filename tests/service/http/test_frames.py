"""POST /analyze/frame to the contract, with numbers that follow from the picture's grey level."""

from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pillow_heif import register_heif_opener

from model_core.faces.geometry import Point
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import encoded, pillow, png

register_heif_opener()  # for writing


def post(client: TestClient, content: bytes, **options: object) -> dict:
    response = client.post("/analyze/frame", files={"file": ("x.bin", content)}, **options)
    assert response.status_code == 200, response.text
    return response.json()


def test_answer_has_the_contracts_shape(client: TestClient) -> None:
    document = post(client, png(204))
    assert set(document) == {"request_id", "model", "image", "faces", "timings_ms"}
    assert document["image"] == {"width": 64, "height": 48}
    [face] = document["faces"]
    assert face["box"] == {"x": 8.0, "y": 8.0, "width": 32.0, "height": 32.0}
    assert face["detection_confidence"] == 0.9
    assert face["landmarks"]["left_eye"] == pytest.approx([17.6, 20.8])
    # Its landmarks are symmetric and upright.
    assert face["pose"]["yaw"] == pytest.approx(0, abs=1e-6)
    assert face["pose"]["roll"] == pytest.approx(0, abs=1e-6)
    assert abs(face["pose"]["pitch"]) < 10
    assert face["valence"] == pytest.approx(0.8)
    assert face["arousal"] == pytest.approx(-0.8)
    assert face["expression"]["label"] == "happiness"
    assert face["expression"]["probabilities"]["happiness"] == pytest.approx(0.8)
    assert face["action_units"]["AU12"] == {"probability": pytest.approx(0.8), "active": True}
    assert face["action_units"]["AU1"] == {"probability": 0.0, "active": False}
    assert face["quality"] == {"face_px": 32, "sharpness": 0.0, "reliable": False, "reasons": ["blurred"]}
    stages = {"decode", "detect", "align", "queue", "predict", "track", "render", "total"}
    assert set(document["timings_ms"]) == stages


def test_answer_says_what_computed_it(client: TestClient) -> None:
    model = post(client, png(204))["model"]
    assert (model["device"], model["engine"], model["precision"]) == ("cpu", "torch", "float32")
    assert model["detector"] == "fake-1"
    assert model["tasks"]["expression"] == {
        "bundle": "fake",
        "version": "7",
        "sha256": "0" * 64,
        "reference": "annotated",
        "calibrated": False,
    }
    assert model["tasks"]["valence_arousal"]["reference"] == "derived"
    assert model["tasks"]["action_units"]["units"]["AU12"] == {"name": "lip corner puller", "threshold": 0.5}


def test_a_face_in_profile_and_one_beyond_the_edge_say_so(client: TestClient, detector: FakeDetector) -> None:
    face = face_at(4, 4, 40)
    across = face.box.x + 0.85 * face.box.width
    profile = replace(face, landmarks=replace(face.landmarks, nose=Point(across, face.landmarks.nose.y)))
    detector.faces = [profile, face_at(-20, 4, 38)]  # more than half of the second is outside
    seen, cut = post(client, png(204))["faces"]
    assert seen["pose"]["yaw"] > 40
    assert seen["quality"]["reasons"] == ["blurred", "turned"]
    assert cut["quality"]["reasons"] == ["blurred", "outside"]


def test_no_face_is_an_empty_list(client: TestClient) -> None:
    assert post(client, png(0))["faces"] == []


def test_max_faces_and_min_confidence_reach_the_detector(client: TestClient, detector: FakeDetector) -> None:
    detector.faces = [face_at(0, 0, 40, 0.9), face_at(20, 10, 30, 0.7), face_at(5, 5, 20, 0.4)]
    assert len(post(client, png(100))["faces"]) == 2
    assert len(post(client, png(100), params={"min_confidence": 0.1})["faces"]) == 3
    assert len(post(client, png(100), params={"max_faces": 1})["faces"]) == 1


def test_a_face_without_a_pose_is_left_out(client: TestClient, detector: FakeDetector) -> None:
    detector.faces = [face_at(8, 8, 0), face_at(8, 8, 32)]
    assert len(post(client, png(100))["faces"]) == 1


def test_raw_body_gives_the_same_answer(client: TestClient) -> None:
    raw = client.post("/analyze/frame", content=png(204), headers={"content-type": "image/png"})
    assert raw.status_code == 200
    assert raw.json()["faces"] == post(client, png(204))["faces"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_formats(client: TestClient, suffix: str) -> None:
    content = encoded(np.full((48, 64, 3), 153, np.uint8), suffix)
    assert post(client, content)["faces"][0]["valence"] == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize(
    ("image", "form", "level"),
    [
        (Image.new("L", (64, 48), 153), "PNG", 0.6),
        (Image.new("I;16", (64, 48), 153 * 257), "PNG", 0.6),
        (Image.new("RGBA", (64, 48), (153, 153, 153, 255)), "PNG", 0.6),
        (Image.new("LA", (64, 48), (153, 255)), "PNG", 0.6),
        (Image.new("CMYK", (64, 48), (0, 0, 0, 102)), "JPEG", 0.6),
        (Image.new("RGB", (64, 48), (153, 153, 153)), "HEIF", 0.6),
        (Image.new("RGB", (64, 48), (153, 153, 153)), "AVIF", 0.6),
    ],
    ids=["grey", "16-bit", "alpha", "grey-alpha", "cmyk", "heic", "avif"],
)
def test_pixel_formats(client: TestClient, image: Image.Image, form: str, level: float) -> None:
    assert post(client, pillow(image, form))["faces"][0]["valence"] == pytest.approx(level, abs=0.02)


def test_exif_orientation_is_applied(client: TestClient) -> None:
    image = Image.new("RGB", (64, 48), (153, 153, 153))
    exif = image.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    assert post(client, pillow(image, "JPEG", exif=exif))["image"] == {"width": 48, "height": 64}


def test_one_pixel_is_a_picture(client: TestClient) -> None:
    assert post(client, png(200, 1, 1))["image"] == {"width": 1, "height": 1}


def test_request_id_is_echoed_if_sane(client: TestClient) -> None:
    response = client.post("/analyze/frame", files={"file": png(9)}, headers={"X-Request-ID": "abc-1"})
    assert response.headers["X-Request-ID"] == response.json()["request_id"] == "abc-1"
    response = client.get("/healthz", headers={"X-Request-ID": "a b" * 40})
    assert len(response.headers["X-Request-ID"]) == 32


def test_server_timing_tells_the_stages(client: TestClient) -> None:
    response = client.post("/analyze/frame", files={"file": png(204)})
    stages = response.json()["timings_ms"]
    assert response.headers["Server-Timing"] == ", ".join(f"{name};dur={spent}" for name, spent in stages.items())


def test_no_prediction_without_faces(client: TestClient, predictor: FakePredictor) -> None:
    post(client, png(0))
    assert predictor.batches == []
