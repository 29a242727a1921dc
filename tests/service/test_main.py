"""`python -m service` as an operator meets it: a process that starts, answers, drains, or says why not."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from model_core.bundles.bundle import MANIFEST, Bundle
from model_core.bundles.manifest import PrecisionGate
from model_core.faces.detection import DetectorUnavailable, build_detector
from model_core.inference.runtimes import RuntimeOptions
from service import __main__ as command
from service import loading
from service.__main__ import KEEP_ALIVE_S
from service.app import create_app
from service.loading import choose_device, choose_runtime, load_predictors
from service.settings import Settings, SettingsError
from tests.service.fakes import FakeDetector, FakePredictor
from tests.service.processes import free_port, service, wait_until_ready
from tests.tiny_bundles import TinyBackbone, tiny_bundle


def test_serves_and_drains_on_sigterm(tiny_bundle_dir: Path, astronaut_png: bytes) -> None:
    port = free_port()
    variables = {"AFFECT_PORT": str(port), "AFFECT_BUNDLES": str(tiny_bundle_dir), "AFFECT_DRAIN_GRACE_S": "0"}
    with service(**variables, AFFECT_DEVICE="cpu") as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, url)
        answer = httpx2.post(f"{url}/analyze/frame", files={"file": astronaut_png}, timeout=20)
        assert len(answer.json()["faces"]) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        log = process.stderr.read()
    assert answer.json()["request_id"] in log  # one JSON line a request, with its id
    assert '"route": "/analyze/frame"' in log


def test_readiness_falls_before_the_port_closes_and_what_is_cut_off_is_told(tiny_bundle_dir: Path) -> None:
    port = free_port()
    variables = {"AFFECT_PORT": str(port), "AFFECT_BUNDLES": str(tiny_bundle_dir), "AFFECT_DEVICE": "cpu"}
    with service(**variables, AFFECT_DRAIN_S="2", AFFECT_DRAIN_GRACE_S="1") as process:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as upload:
            upload.sendall(b"POST /analyze/video HTTP/1.1\r\nHost: x\r\nContent-Type: video/mp4\r\n")
            upload.sendall(b"Content-Length: 1000\r\n\r\nonly a part of it")
            process.send_signal(signal.SIGTERM)
            wait_for_status(f"http://127.0.0.1:{port}/readyz", 503)
            assert httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200  # the port is open all the while
            answer = upload.makefile("rb").read().decode()
        assert process.wait(20) == 0
    assert answer.startswith("HTTP/1.1 503 ")
    assert "application/problem+json" in answer
    assert json.loads(answer.split("\r\n\r\n", 1)[1])["code"] == "draining"


def wait_for_status(url: str, status: int) -> None:
    end_s = time.monotonic() + 20
    while httpx2.get(url).status_code != status:
        assert time.monotonic() < end_s


def test_help_lists_the_settings_and_starts_nothing() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "service", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "AFFECT_MAX_WAIT_S (default: 5)\n    Longest expected queue wait" in shown.stdout
    assert shown.stdout.count("\nAFFECT_") == len(Settings.model_fields)


def test_an_argument_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["service", "--port=80"])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: unknown argument '--port=80'")


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The message with which the service refuses to start, before it loads anything."""
    monkeypatch.setattr(sys, "argv", ["service"])
    monkeypatch.setattr(command, "configure_logs", lambda *_: None)
    monkeypatch.setattr(command, "load_predictors", lambda *_: pytest.fail("the models are loaded"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        command.main()
    return str(caught.value.code)


def test_a_port_in_use_is_told_before_the_models_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = refused(monkeypatch, AFFECT_PORT=str(port))
    expected = f"error: AFFECT_HOST=127.0.0.1 and AFFECT_PORT={port} cannot be listened on: Address already in use"
    assert message == expected


def test_a_missing_temporary_folder_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    message = refused(monkeypatch)
    assert message == (
        "error: no temporary folder can be written (No such file or directory); set TMPDIR to one that can"
    )


def test_jobs_that_cannot_be_kept_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    variables = {"AFFECT_PORT": "0", "AFFECT_JOBS_DIR": str(tmp_path / "file" / "jobs")}
    assert refused(monkeypatch, **variables) == "error: AFFECT_JOBS_DIR: no jobs can be kept there (Not a directory)"
    variables |= {"AFFECT_JOBS_DIR": str(tmp_path), "AFFECT_JOBS_URL": "postgresql://me:secret-word@127.0.0.1:1/none"}
    message = refused(monkeypatch, **variables)
    assert message == "error: AFFECT_JOBS_URL: the table of jobs cannot be opened (OperationalError)"


@pytest.mark.parametrize(("keys", "told"), [((), "not required"), (("a" * 16, "b" * 16), "one of 2")])
def test_the_log_says_once_whether_a_key_is_required(keys: tuple[str, ...], told: str) -> None:
    with capture_logs() as logs, command.bound("127.0.0.1", 0) as listener:
        command._log_start(Settings(api_keys=keys), listener)
    [entry] = logs
    assert (entry["event"], entry["api_key"], entry["bundles"]) == ("loading the models", told, ("default",))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AFFECT_BUNDLES": "nowhere"}, "no bundle 'nowhere'"),
        ({"AFFECT_BUNDLES": "default,nowhere"}, "no bundle 'nowhere'"),
        ({"AFFECT_BUNDLES": "default,default"}, "bundle 2 of 2 is named twice"),
        ({"AFFECT_BUNDLES": "hf:no-such/bundle"}, "bundle.json is not in the hub's cache"),
        ({"AFFECT_PROT": "80"}, "did you mean AFFECT_PORT"),
        ({"AFFECT_PORT": "many"}, "AFFECT_PORT"),
        ({"AFFECT_DETECTOR": "eagle"}, "unknown face detector 'eagle'"),
        ({"AFFECT_DETECTOR": "yunet:/no/such.onnx"}, "file /no/such.onnx cannot be read: No such file or directory"),
        ({"AFFECT_DETECTOR": f"yunet:{__file__}"}, "is not a YuNet network"),
        ({"AFFECT_DEVICE": "cuda:7"}, "AFFECT_DEVICE"),
    ],
    ids=[
        "bundle",
        "second bundle",
        "bundle twice",
        "hub",
        "mistyped",
        "value",
        "detector",
        "no file",
        "no network",
        "gpu",
    ],
)
def test_refuses_to_start_with_a_line_that_says_why(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["service"])
    monkeypatch.setattr(command, "configure_logs", lambda *_: None)
    monkeypatch.setenv("AFFECT_PORT", "0")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        command.main()
    line = str(caught.value.code)
    assert line.startswith("error: ")
    assert message in line
    assert len(line.splitlines()) == 1


def test_without_any_detector_the_start_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, **_: object) -> None:
        raise DetectorUnavailable("there is no face detector: none is installed")

    monkeypatch.setattr(loading, "build_detector", absent)
    assert refused(monkeypatch, AFFECT_PORT="0").splitlines() == [
        "error: there is no face detector: none is installed",
        "error: fetch YuNet's file once: hf download opencv/face_detection_yunet face_detection_yunet_2023mar.onnx "
        "--revision 3cc26e7f1014a5ee5d74a42acee58bafc9d0a310",
        "error: or let the service fetch it: AFFECT_DOWNLOAD=true python -m service",
    ]


def test_the_log_says_which_detector_is_there(tiny_bundle_dir: Path) -> None:
    with capture_logs() as logs:
        load_predictors(Settings(bundles=(str(tiny_bundle_dir),), engine="torch"), FakeDetector())
    [told] = [entry for entry in logs if entry["event"] == "face detector loaded"]
    assert (told["detector"], told["asked_for"]) == ("fake-1", "auto")


def test_a_refusal_is_one_line_of_the_process_and_its_status() -> None:
    with service(AFFECT_BUNDLES="nowhere", AFFECT_PORT="0") as process:
        assert process.wait(30) == 1
        [started, line] = process.stderr.read().splitlines()
    assert json.loads(started)["event"] == "loading the models"
    assert line.startswith("error: there is no bundle 'nowhere'")


@pytest.mark.parametrize(("name", "warned"), [("yuface-1", False), ("yuface", False), ("yunet-0123abcd", True)])
def test_a_bundle_that_knows_other_crops_is_told(tiny_bundle_dir: Path, name: str, warned: bool) -> None:
    detector = FakeDetector()
    detector.name = name
    with capture_logs() as logs:
        load_predictors(Settings(bundles=(str(tiny_bundle_dir),), engine="torch"), detector)
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["serving_with"] for entry in warnings] == [name] * warned


def test_several_bundles_are_loaded_and_one_that_answers_nothing_is_not(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_bundle_dir, tmp_path / "other")
    manifest = json.loads((other / MANIFEST).read_text())
    (other / MANIFEST).write_text(json.dumps(manifest | {"name": "other"}))
    with capture_logs() as logs:
        settings = Settings(bundles=(str(tiny_bundle_dir), str(other)), engine="torch")
        [predictor] = load_predictors(settings, FakeDetector())
    assert [bundle.name for bundle in predictor.manifests] == ["other"]
    [idle] = [entry for entry in logs if entry["event"].startswith("bundle not loaded")]
    assert idle["bundle"] == "tests-only-untrained"
    [loaded] = [entry for entry in logs if entry["event"] == "bundle loaded"]
    assert (loaded["bundle"], loaded["answers"]) == ("other", ["valence_arousal", "expression", "action_units"])


def test_a_detectors_file_is_not_told_to_clients(yunet_file: Path, tmp_path: Path, astronaut_png: bytes) -> None:
    path = tmp_path / "secret.onnx"
    path.symlink_to(yunet_file)
    settings = Settings(detector=f"yunet:{path}")
    with TestClient(create_app(settings, build_detector(settings.detector), FakePredictor())) as client:
        answers = [client.post("/analyze/frame", files={"file": astronaut_png})]
        answers += [client.get(route) for route in ("/models", "/healthz", "/readyz", "/metrics")]
    assert answers[0].json()["model"]["detector"].startswith("yunet-")
    assert len(answers[0].json()["faces"]) == 1
    assert not any("secret" in answer.text or str(tmp_path) in answer.text for answer in answers)


def test_auto_takes_what_there_is() -> None:
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SettingsError, match="cuda:99"):
        choose_device("cuda:99")


def test_a_gpu_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SettingsError, match="AFFECT_DEVICE: cuda:1 needs PyTorch; install the extra `torch`"):
        choose_device("cuda:1")
    assert choose_device("auto") == "cpu"


@pytest.mark.parametrize(
    ("engine", "device", "installed", "chosen"),
    [
        ("auto", "cpu", True, "openvino"),
        ("auto", "cpu", False, "torch"),
        ("auto", "cuda", True, "torch"),
        ("torch", "cpu", True, "torch"),
        ("openvino", "cpu", False, "openvino"),  # the predictor says what is missing
    ],
)
def test_the_engine_is_the_fastest_there_is(
    monkeypatch: pytest.MonkeyPatch, engine: Any, device: str, installed: bool, chosen: Any
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "openvino", None)
    settings = Settings(engine=engine, precision="bfloat16", threads=3)
    assert choose_runtime(settings, device, []) == RuntimeOptions(chosen, "bfloat16", threads=3)


@pytest.mark.parametrize(
    ("engine", "same_label", "hardware", "chosen"),
    [
        ("openvino", 0.995, True, "bfloat16"),
        ("openvino", 0.995, False, "float32"),
        ("openvino", 0.9949, True, "float32"),
        ("torch", 0.995, True, "float32"),  # which was not measured
    ],
)
def test_bfloat16_is_chosen_where_it_is_fast_and_changes_little(
    monkeypatch: pytest.MonkeyPatch, engine: Any, same_label: float, hardware: bool, chosen: Any
) -> None:
    monkeypatch.setattr(loading, "has_bfloat16", lambda: hardware)
    passed = replace(tiny_bundle("passed", "expression", backbone=TinyBackbone()).manifest, precision_gate=GATE)
    judged = replace(passed, precision_gate=replace(GATE, same_label=same_label))
    unknown = replace(passed, precision_gate=None)
    settings = Settings(engine=engine)
    assert choose_runtime(settings, "cpu", [passed, judged]).precision == chosen
    assert choose_runtime(settings, "cpu", [passed, unknown]).precision == "float32"
    pinned = [choose_runtime(Settings(engine=engine, precision=each), "cpu", [judged]).precision for each in PINNED]
    assert pinned == PINNED


GATE = PrecisionGate("bfloat16", "openvino", "1", "a set", 10, 0.999, 0.001, 0.01, 0.0)
PINNED = ["float32", "bfloat16"]


class ChosenPredictor(FakePredictor):
    """Is told its engine, and does not need it."""

    def __init__(self, bundles: Sequence[Bundle], device: str, options: RuntimeOptions) -> None:
        super().__init__()
        self.options, self.idle = options, ()


def test_what_was_chosen_is_logged_and_told(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, detector = Settings(bundles=(str(tiny_bundle_dir),), device="cpu"), FakeDetector()
    monkeypatch.setattr(loading, "Predictor", ChosenPredictor)
    with capture_logs() as logs:
        [predictor] = load_predictors(settings, detector)
    [entry] = [entry for entry in logs if entry["event"] == "bundle loaded"]
    assert (entry["engine"], entry["engine_asked_for"]) == ("openvino", "auto")
    with TestClient(create_app(settings, detector, predictor)) as client:
        assert client.get("/models").json()["engine"] == "openvino"


def test_connections_outlive_their_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}
    monkeypatch.setattr(command, "load_predictors", lambda *_: [FakePredictor()])
    monkeypatch.setattr(sys, "argv", ["service"])
    monkeypatch.setenv("AFFECT_PORT", "0")
    monkeypatch.setattr(command.DrainingServer, "run", lambda server, sockets: options.update(vars(server.config)))
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setattr(command, "configure_logs", lambda *_: None)
    command.main()
    assert options["timeout_keep_alive"] == KEEP_ALIVE_S
    # What closes at the same moment as the client does loses requests: clients in Python, nginx, Go.
    assert max(httpx2.Limits().keepalive_expiry, 60, 90) < KEEP_ALIVE_S
