import os
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.loading import choose_runtime
from service.settings import Settings, SettingsError, load_settings, variable


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("AFFECT_"):
            monkeypatch.delenv(name)


def test_defaults_are_those_of_the_contract() -> None:
    assert load_settings().model_dump() == {
        "host": "127.0.0.1",
        "port": 8000,
        "api_keys": (),
        "api_keys_file": None,
        "protect_operations": False,
        "bundles": ("default",),
        "download": False,
        "device": "auto",
        "engine": "auto",
        "precision": "auto",
        "detector": "auto",
        "scan_every_s": 0.5,
        "max_connections": 1000,
        "max_upload_bytes": 100 * 1024 * 1024,
        "max_pixels": 50_000_000,
        "max_video_s": 600,
        "max_frames": 18_000,
        "max_wait_s": 5,
        "max_video_wait_s": 10,
        "stall_s": 30,
        "deadline_s": 60,
        "video_deadline_s": 900,
        "max_batch": 32,
        "drain_s": 30,
        "drain_grace_s": 5.0,
        "threads": None,
        "decode_workers": 2,
        "open_videos": None,
        "jobs_dir": None,
        "jobs_url": None,
        "job_ttl_s": 86_400,
        "job_timeout_s": 21_600,
        "job_workers": 1,
        "job_max_queued": 1000,
        "job_max_upload_bytes": 2 * 1024**3,
        "job_max_video_s": 14_400,
        "job_max_frames": 432_000,
        "live_connections": 32,
        "live_fps": 15,
        "live_max_frame_bytes": 4 * 1024**2,
        "live_max_wait_s": 1,
        "live_idle_s": 30,
        "live_max_s": 3600,
        "allowed_origins": (),
        "log_format": "json",
        "log_level": "info",
        "otel": False,
    }


def test_keys_come_from_a_file_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{'a' * 16}\n{'b' * 16}, {'c' * 16}\n")
    monkeypatch.setenv("AFFECT_API_KEYS_FILE", str(file))
    monkeypatch.setenv("AFFECT_PROTECT_OPERATIONS", "true")
    assert [key.get_secret_value() for key in load_settings().api_keys] == ["a" * 16, "b" * 16, "c" * 16]


@pytest.mark.parametrize(
    ("content", "other", "message"),
    [
        (None, None, "AFFECT_API_KEYS_FILE: {file} cannot be read (FileNotFoundError)"),
        ("\n", None, "AFFECT_API_KEYS_FILE: {file} has no key; leave it unset to require no key"),
        ("short", None, "AFFECT_API_KEYS: key 1 of 1 is shorter than 16 characters"),
        ("a" * 16, "b" * 16, "AFFECT_API_KEYS_FILE: AFFECT_API_KEYS is set, too; use one of them"),
    ],
    ids=["missing", "empty", "short", "both"],
)
def test_a_file_of_keys_that_cannot_be_used_keeps_it_from_starting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, other: str | None, message: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("AFFECT_API_KEYS_FILE", str(file))
    if other is not None:
        monkeypatch.setenv("AFFECT_API_KEYS", other)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == message.format(file=file)


def test_every_field_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert variable("max_pixels") == "AFFECT_MAX_PIXELS"


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("AFFECT_PORT", "0", "port", 0),
        ("affect_port", "9000", "port", 9000),
        ("AFFECT_BUNDLES", " small ", "bundles", ("small",)),
        ("AFFECT_BUNDLES", "default, runs/b", "bundles", ("default", "runs/b")),
        ("AFFECT_DEVICE", "cuda:1", "device", "cuda:1"),
        ("AFFECT_DEVICE", "cuda:0,cuda:1", "device", "cuda:0,cuda:1"),
        ("AFFECT_PRECISION", "bfloat16", "precision", "bfloat16"),
        ("AFFECT_PRECISION", "float16", "precision", "float16"),
        ("AFFECT_ENGINE", "openvino", "engine", "openvino"),
        ("AFFECT_MAX_WAIT_S", "0.5", "max_wait_s", 0.5),
        ("AFFECT_THREADS", "4", "threads", 4),
        ("AFFECT_THREADS", "", "threads", None),
        ("AFFECT_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("AFFECT_LOG_FORMAT", "console", "log_format", "console"),
    ],
)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, field: str, value: object
) -> None:
    monkeypatch.setenv(name, text)
    assert getattr(load_settings(), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AFFECT_PORT", "http"),
        ("AFFECT_PORT", "65536"),
        ("AFFECT_BUNDLES", "default,"),
        ("AFFECT_BUNDLES", "default,small, default"),
        ("AFFECT_DEVICE", "gpu"),
        ("AFFECT_DEVICE", "cuda:1\n"),
        ("AFFECT_DEVICE", "cuda:0,"),
        ("AFFECT_DEVICE", "cpu,cuda:0"),
        ("AFFECT_DEVICE", "cuda:1,cuda:1"),
        ("AFFECT_PRECISION", "int8"),
        ("AFFECT_ENGINE", "onnx"),
        ("AFFECT_MAX_PIXELS", "0"),
        ("AFFECT_MAX_VIDEO_S", "inf"),
        ("AFFECT_DEADLINE_S", "nan"),
        ("AFFECT_MAX_WAIT_S", "-1"),
        ("AFFECT_JOB_TTL_S", "1e13"),
        ("AFFECT_THREADS", "0"),
        ("AFFECT_LOG_FORMAT", "xml"),
        ("AFFECT_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_does_not_repeat_it(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


def test_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_API_KEYS", " first-key-0123456, second-key-012345\n")
    keys = [key.get_secret_value() for key in load_settings().api_keys]
    assert keys == ["first-key-0123456", "second-key-012345"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; leave it unset to require no key"),
        (" ", "key 1 of 1 is empty; leave the variable unset to require no key"),
        ("first-key-0123456,,", "key 2 of 3 is empty; leave the variable unset to require no key"),
        ("first-key-0123456,fifteen-letters", "key 2 of 2 is shorter than 16 characters"),
        ("first key 0123456", "key 1 of 1 contains spaces or non-ASCII characters, which a header cannot carry"),
        ("clé-clé-clé-clé-clé", "key 1 of 1 contains spaces or non-ASCII characters, which a header cannot carry"),
    ],
)
def test_unfit_keys_are_refused_by_position(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setenv("AFFECT_API_KEYS", text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == f"AFFECT_API_KEYS: {message}"


def test_operations_cannot_be_protected_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_PROTECT_OPERATIONS", "true")
    with pytest.raises(SettingsError, match=r"^AFFECT_PROTECT_OPERATIONS: .*set AFFECT_API_KEYS$"):
        load_settings()
    monkeypatch.setenv("AFFECT_API_KEYS", "short")
    with pytest.raises(SettingsError, match=r"^AFFECT_API_KEYS: [^\n]*$"):
        load_settings()


def test_replicas_that_share_a_table_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_JOBS_URL", "postgresql://me:secret-word@host/name")
    with pytest.raises(SettingsError, match=r"^AFFECT_JOBS_URL: .*set AFFECT_JOBS_DIR$"):
        load_settings()
    monkeypatch.setenv("AFFECT_JOBS_DIR", "/jobs")
    assert "secret-word" not in repr(load_settings())
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"^AFFECT_JOBS_URL: needs the extra `postgres`, which is not installed$"):
        load_settings()
    monkeypatch.setenv("AFFECT_JOBS_URL", "sqlite:///secret-word")
    with pytest.raises(SettingsError, match=r"^AFFECT_JOBS_URL: must begin with postgresql://$"):
        load_settings()


def test_traces_need_a_collector_and_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_OTEL", "true")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with pytest.raises(SettingsError, match=r"^AFFECT_OTEL: .*set OTEL_EXPORTER_OTLP_ENDPOINT"):
        load_settings()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert load_settings().otel
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"^AFFECT_OTEL: .*the extra `otel`"):
        load_settings()


def test_an_unknown_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECT_MAX_PIXEL", "100")
    monkeypatch.setenv("AFFECT_XYZZY", "1")
    monkeypatch.setenv("AFFECT_PORT", "many")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert "AFFECT_MAX_PIXEL: unknown variable; did you mean AFFECT_MAX_PIXELS?" in lines
    assert "AFFECT_XYZZY: unknown variable" in lines
    assert len(lines) == 3


def test_limits_are_published_by_the_name_of_their_variable() -> None:
    limits = load_settings().limits()
    assert limits["AFFECT_MAX_PIXELS"] == 50_000_000
    assert all(name.startswith("AFFECT_") for name in limits)


def test_settings_are_frozen_and_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"OMP_NUM_THREADS": "3", "AFFECT_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "0"}, None),
        ({"OMP_NUM_THREADS": "many"}, None),
    ],
)
def test_openmp_says_how_many_threads_there_are(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], threads: int | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.inference_threads == threads
    assert choose_runtime(settings, "cpu", []).threads == threads
