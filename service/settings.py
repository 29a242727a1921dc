"""The service's settings, read once from `AFFECT_` environment variables; a wrong variable keeps it from starting.

This is the only module that reads the environment. An empty variable counts as unset, except for the API keys,
where it is an error.
"""

import os
import re
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import Limit

PREFIX = "AFFECT_"
MIN_KEY_LENGTH = 16
"""Shortest API key in characters; shorter keys could be guessed."""


class SettingsError(Exception):
    """Raised for a wrong environment; the message has one line for each mistake."""


def _references(value: object) -> object:
    """Split a comma-separated list of bundles; raises ValueError for an empty or repeated entry."""
    if not isinstance(value, str):
        return value
    references = tuple(reference.strip() for reference in value.split(","))
    for position, reference in enumerate(references, 1):
        if not reference:
            raise ValueError(f"bundle {position} of {len(references)} is empty")
        if reference in references[: position - 1]:
            raise ValueError(f"bundle {position} of {len(references)} is named twice")
    return references


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _keys(value: object) -> object:
    """Split a comma-separated list of keys. Raises ValueError for a bad key, without the key: errors are logged."""
    if not isinstance(value, str):
        return value
    keys = [key.strip() for key in value.split(",")]
    for position, key in enumerate(keys, 1):
        if not key:
            raise ValueError(f"key {position} of {len(keys)} is empty; leave the variable unset to require no key")
        if len(key) < MIN_KEY_LENGTH:
            raise ValueError(f"key {position} of {len(keys)} is shorter than {MIN_KEY_LENGTH} characters")
        if not re.fullmatch("[!-~]+", key):
            raise ValueError(
                f"key {position} of {len(keys)} contains spaces or non-ASCII characters, which a header cannot carry"
            )
    return tuple(keys)


def _origins(value: object) -> object:
    """Split a comma-separated list of origins. Raises ValueError for what is no origin, such as a URL with a path."""
    if not isinstance(value, str):
        return value
    origins = tuple(origin.strip().lower() for origin in value.split(","))
    for origin in origins:
        if not re.fullmatch(r"https?://[a-z0-9.:\[\]-]+", origin):
            raise ValueError(f"{origin!r} is no origin, such as https://example.org or http://localhost:5173")
    return origins


Name: TypeAlias = Annotated[str, Field(min_length=1)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
"""Up to about thirty years: so the date of what is kept for so long can still be written."""
Count: TypeAlias = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """The settings of the service; the field `max_pixels` is set by the variable `AFFECT_MAX_PIXELS`."""

    model_config = SettingsConfigDict(
        frozen=True, env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", hide_input_in_errors=True
    )

    host: Name = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 picks a free one.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_keys)] = Field(
        (),
        description="API keys that clients may use, separated by commas, each of at least 16 characters. "
        "If unset, no key is required.",
    )
    api_keys_file: str | None = Field(
        None,
        description="File with API keys, one a line or separated by commas, instead of AFFECT_API_KEYS; read at the "
        "start.",
    )
    protect_operations: bool = Field(
        False,
        description="If true, `/healthz`, `/readyz` and `/metrics` require an API key too. Probes, the image's health "
        "check and Prometheus must then be told to send one.",
    )
    bundles: Annotated[tuple[Name, ...], NoDecode, BeforeValidator(_references)] = Field(
        ("default",),
        min_length=1,
        description="Model bundles to serve, separated by commas: the name of a shipped bundle, a folder, or "
        "`hf:OWNER/NAME[@REVISION]` on the Hugging Face hub (extra `hub`). Each task is answered by the last bundle "
        "that supports it.",
    )
    download: bool = Field(
        False,
        description="If true, a bundle or a detector's file that is missing from the local Hugging Face cache is "
        "downloaded. Otherwise the service does not start without it.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda|cuda:\d+(,cuda:\d+)*)$",
        description="Device that runs the networks: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:N`, or "
        "several GPUs such as `cuda:0,cuda:1`, with a copy of the networks on each.",
    )
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="Inference engine: `torch` (PyTorch; extra `torch`), `openvino` (CPUs only, faster; extra "
        "`openvino`), or `auto`, which uses OpenVINO on a CPU if it is installed and PyTorch otherwise.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of the networks: `float32`; `bfloat16`, slightly less exact, and faster on CPUs "
        "that support it; `float16`, on GPUs only; or `auto`, which is `bfloat16` on a CPU that computes in it, by "
        "OpenVINO, if measurements recorded in all bundles show that their answers hardly change, and `float32` "
        "otherwise. `/models` tells which of them runs.",
    )
    detector: Name = Field(
        "auto",
        description="Face detector: `yuface` (x86-64 and Python 3.11), `yunet` (its file is taken from the Hugging "
        "Face cache), `yunet:PATH` with the path of YuNet's ONNX file, `mtcnn` (extra `mtcnn`), or `auto`, the first "
        "of yuface, yunet and mtcnn that is there.",
    )
    scan_every_s: float = Field(
        0.5,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between two searches of a whole video frame for faces; in between, the faces already "
        "found are followed. 0 searches every frame.",
    )
    max_connections: Count = Field(
        1000,
        description="Largest number of connections; for a further one the one that has been idle longest is closed, "
        "and where none is, it gets 503. If the system allows the process too few open files for so many, there may be "
        "fewer.",
    )
    max_upload_bytes: Count = Field(104_857_600, description="Largest request body, in bytes; beyond it 413.")
    max_pixels: Count = Field(50_000_000, description="Largest frame, in pixels (width times height); beyond it 413.")
    max_video_s: Seconds = Field(
        600, description="Longest part of a video that a request may analyse, in seconds; beyond it 413."
    )
    max_frames: Count = Field(
        18_000, description="Largest number of frames that a request may analyse of a video; beyond it 413."
    )
    max_wait_s: Seconds = Field(
        5,
        description="Longest expected queue wait of a picture, in seconds, unless the request says otherwise by "
        "`X-Request-Timeout-Ms`; beyond it requests are refused with 429 and Retry-After, and then a part of the "
        "further ones, until the queue is a quarter as long.",
    )
    max_video_wait_s: Seconds = Field(
        10,
        description="Longest expected queue wait of a video, in seconds (pictures go first), unless the request says "
        "otherwise by `X-Request-Timeout-Ms`; beyond it requests are refused with 429 and Retry-After, and then a "
        "part of the further ones, until the queue is a quarter as long.",
    )
    stall_s: Seconds = Field(
        30,
        description="Longest time for one forward pass or one face detection, in seconds. "
        "Beyond it the requests concerned get 503; after twice that time the process exits with status 70.",
    )
    deadline_s: Seconds = Field(60, description="Longest time for the answer to a picture, in seconds; beyond it 504.")
    video_deadline_s: Seconds = Field(
        900,
        description="Longest time for the answer to a video, in seconds; beyond it 504, or an error at the end of an "
        "answer that has already begun.",
    )
    max_batch: Count = Field(32, description="Largest number of faces in one forward pass.")
    drain_s: Count = Field(
        30,
        description="Longest time that running requests get to finish after SIGTERM, in whole seconds; what still runs "
        "then gets 503.",
    )
    drain_grace_s: float = Field(
        5,
        ge=0,
        allow_inf_nan=False,
        description="Seconds of AFFECT_DRAIN_S for which the port stays open after SIGTERM and requests are answered "
        "as ever, while `/readyz` answers 503, so that a load balancer stops sending them first.",
    )
    threads: Count | None = Field(
        None, description="CPU threads of a forward pass; if unset, `OMP_NUM_THREADS`, or else one per core."
    )
    decode_workers: Count = Field(
        2,
        description="Threads that decode media, detect faces and align them. Pictures have one more, which videos "
        "never take.",
    )
    open_videos: Count | None = Field(
        None,
        description="Largest number of videos that are read at the same time; further ones wait. Each holds a process "
        "that may take 512 MiB and 10 bytes for each of `AFFECT_MAX_PIXELS`. If unset, up to four for each of "
        "`AFFECT_DECODE_WORKERS`, as many as the memory limit has room for beside 1 GiB.",
    )
    jobs_dir: Path | None = Field(
        None,
        description="Folder in which jobs are kept: their uploads, their results and, unless AFFECT_JOBS_URL is set, "
        "their table. If unset, nothing is kept, and `Prefer: respond-async` is refused.",
    )
    jobs_url: SecretStr | None = Field(
        None,
        description="PostgreSQL database with the table of jobs, such as `postgresql://user:password@host/name`, where "
        "several replicas share AFFECT_JOBS_DIR (extra `postgres`). If unset, the table is a SQLite file in that "
        "folder.",
    )
    job_ttl_s: Seconds = Field(
        86_400,
        description="Seconds for which a job's result is kept after its end; then 410. Uploads are removed at the end "
        "of their job.",
    )
    job_timeout_s: Seconds = Field(
        21_600,
        description="Longest time for a job's upload, in seconds, beyond which 504; and again for its analysis, beyond "
        "which the job fails.",
    )
    job_workers: Count = Field(1, description="Jobs that are worked on at the same time; further ones wait.")
    job_max_queued: Count = Field(
        1000, description="Largest number of jobs that wait, those of all replicas together; a further one gets 429."
    )
    job_max_upload_bytes: Count = Field(
        2_147_483_648, description="Largest request body of a job, in bytes; beyond it 413."
    )
    job_max_video_s: Seconds = Field(
        14_400, description="Longest part of a video that a job may analyse, in seconds; beyond it the job fails."
    )
    job_max_frames: Count = Field(
        432_000, description="Largest number of frames that a job may analyse of a video; beyond it the job fails."
    )
    live_connections: Count = Field(
        32,
        description="Largest number of live connections (`/live`), each of which may hold four frames; a further one "
        "gets 429, or the close code 1013. As many again may wait for their API key to be checked.",
    )
    live_fps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        15,
        description="Frames a second that a live connection has analysed at most; of more the newest are taken, and "
        "the others are skipped.",
    )
    live_max_frame_bytes: Count = Field(
        4_194_304, description="Largest frame of a live connection, in bytes; a larger one closes it with 1009."
    )
    live_max_wait_s: Seconds = Field(
        1,
        description="Longest expected queue wait of a live frame, in seconds (pictures go first, videos after it); "
        "beyond it the frame is skipped.",
    )
    live_idle_s: Seconds = Field(
        30, description="Seconds without a frame after which a live connection is closed, with 4408."
    )
    live_max_s: Seconds = Field(
        3600, description="Longest time of a live connection, in seconds; then it is closed, with 4408."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        (),
        description="Origins, separated by commas, whose pages may open a live connection, such as "
        "`https://example.org`. The service's own host may always; a browser's page elsewhere gets 403.",
    )
    log_format: Literal["json", "console"] = Field("json", description="Format of the log: `json` or `console`.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="Lowest severity that is logged: `debug`, `info`, `warning` or `error`."
    )
    otel: bool = Field(
        False,
        description="If true, traces are sent to the OpenTelemetry collector at `OTEL_EXPORTER_OTLP_ENDPOINT`; needs "
        "the extra `otel`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_keys(cls, values: dict[str, object]) -> dict[str, object]:
        path = values.get("api_keys_file")
        if not isinstance(path, str):
            return values
        name = variable("api_keys_file")
        if values.get("api_keys"):
            raise ValueError(f"{name}: {variable('api_keys')} is set, too; use one of them")
        try:
            lines = Path(path).read_text(encoding="utf-8").replace(",", "\n").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{name}: {path} cannot be read ({type(error).__name__})") from None
        keys = [line.strip() for line in lines if line.strip()]
        if not keys:
            raise ValueError(f"{name}: {path} has no key; leave it unset to require no key")
        return values | {"api_keys": ",".join(keys)}

    @field_validator("device")
    @classmethod
    def _differ(cls, value: str) -> str:
        names = value.split(",")
        if len(set(names)) < len(names):
            raise ValueError("the same GPU is named twice")
        return value

    @field_validator("otel")
    @classmethod
    def _can_export(cls, value: bool) -> bool:
        # The framework would only warn and serve without traces.
        if value:
            try:
                import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            except ImportError:
                raise ValueError("needs the extra `otel`, which is not installed") from None
            if not (
                os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            ):
                raise ValueError("there is no collector to send to; set OTEL_EXPORTER_OTLP_ENDPOINT to its address")
        return value

    @field_validator("jobs_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        if not value.get_secret_value().startswith("postgresql://"):
            raise ValueError("must begin with postgresql://")
        if not info.data.get("jobs_dir", True):
            raise ValueError(f"the replicas have no common folder; set {variable('jobs_dir')}")
        try:
            import_module("psycopg")
        except ImportError:
            raise ValueError("needs the extra `postgres`, which is not installed") from None
        return value

    @field_validator("protect_operations")
    @classmethod
    def _needs_keys(cls, value: bool, info: ValidationInfo) -> bool:
        # Keys that were refused are not in the data; then the error about them is enough.
        if value and not info.data.get("api_keys", True):
            raise ValueError(f"there are no keys to require; set {variable('api_keys')}")
        return value

    def limit(self, field: str) -> Limit:
        """Return a limit in force, as an error names it."""
        return Limit(name=variable(field), value=getattr(self, field))

    @property
    def inference_threads(self) -> int | None:
        """CPU threads of a forward pass: AFFECT_THREADS, or OpenMP's number, which other engines do not read."""
        first, *_ = os.environ.get("OMP_NUM_THREADS", "").split(",")  # one number for each level of nesting
        return self.threads or (int(first) if re.fullmatch(r"[1-9]\d{0,5}", first.strip()) else None)

    def limits(self) -> dict[str, int | float]:
        """Return the limits in force by the name of their variable, as `/models` publishes them."""
        names = (
            "max_upload_bytes max_pixels max_video_s max_frames max_wait_s max_video_wait_s deadline_s video_deadline_s"
            " max_connections live_connections live_fps live_max_frame_bytes live_max_wait_s live_idle_s live_max_s"
        )
        of_jobs = (
            " job_max_queued job_max_upload_bytes job_max_video_s job_max_frames job_timeout_s job_ttl_s"
            if self.jobs_dir
            else ""
        )
        return {variable(name): getattr(self, name) for name in (names + of_jobs).split()}


def load_settings() -> Settings:
    """Return the settings from the environment. Raises SettingsError for unknown AFFECT_ variables and wrong values."""
    known = [variable(name) for name in Settings.model_fields]
    mistakes = [_unknown(name, known) for name in os.environ if name.upper().startswith(PREFIX)]
    mistakes = [mistake for mistake in mistakes if mistake]
    for name, value in os.environ.items():
        # Elsewhere empty means unset. Here that would open the service because a secret was not found.
        if name.upper() in (variable("api_keys"), variable("api_keys_file")) and not value:
            mistakes.append(f"{name.upper()}: is empty; leave it unset to require no key")
    try:
        settings = Settings()
    except ValidationError as error:
        # The value itself is left out, since it may be a secret and errors are logged.
        for item in error.errors():
            message = item["msg"].removeprefix("Value error, ")
            # An error of the settings as a whole names its variables itself.
            mistakes.append(f"{variable(str(item['loc'][0]))}: {message}" if item["loc"] else message)
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings


def variable(field: str) -> str:
    """Return the environment variable of a field: `max_pixels` -> `AFFECT_MAX_PIXELS`."""
    return PREFIX + field.upper()


def _unknown(name: str, known: list[str]) -> str:
    """Return an error line about an unknown variable; empty for a known one (letter case does not matter)."""
    if name.upper() in known:
        return ""
    # Stricter than the default, since the prefix that all variables share counts towards the similarity.
    nearest = get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    return f"{name}: unknown variable" + (f"; did you mean {nearest[0]}?" if nearest else "")
