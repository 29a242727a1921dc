"""What an operator may set, read once from the environment; the service does not start with a wrong variable.

This is the only module of the service that reads the environment. An empty variable counts as unset; only empty
API keys are a mistake.
"""

import os
import re
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model_core.inference.runtimes import Precision

PREFIX = "AFFECT_"
MIN_KEY_LENGTH = 16
"""Characters of an API key; below that, guessing becomes thinkable."""


class SettingsError(Exception):
    """The environment is wrong; one line for each mistake."""


def _references(value: object) -> object:
    """Several bundles are separated by commas."""
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
    """Several keys are separated by commas. No message repeats a key: they end in logs."""
    if not isinstance(value, str):
        return value
    keys = [key.strip() for key in value.split(",")]
    for position, key in enumerate(keys, 1):
        if not key:
            raise ValueError(f"key {position} of {len(keys)} is empty; leave the variable unset to ask for no key")
        if len(key) < MIN_KEY_LENGTH:
            raise ValueError(f"key {position} of {len(keys)} is shorter than {MIN_KEY_LENGTH} characters")
        if not re.fullmatch("[!-~]+", key):
            raise ValueError(f"key {position} of {len(keys)} has spaces or characters beyond ASCII, unfit for a header")
    return tuple(keys)


Name: TypeAlias = Annotated[str, Field(min_length=1)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """The knobs of the service: field `max_pixels` is the variable `AFFECT_MAX_PIXELS`."""

    model_config = SettingsConfigDict(
        frozen=True, env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", hide_input_in_errors=True
    )

    host: Name = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_keys)] = Field(
        (),
        description="Keys that clients may use, separated by commas, of at least 16 characters; unset: none is needed.",
    )
    protect_operations: bool = Field(
        False, description="Whether `/healthz`, `/readyz` and `/metrics` ask for a key too."
    )
    bundles: Annotated[tuple[Name, ...], NoDecode, BeforeValidator(_references)] = Field(
        ("default",),
        min_length=1,
        description="The bundles to serve, separated by commas: a shipped one's name, a folder, or "
        "`hf:OWNER/NAME[@REVISION]` on the Hugging Face hub. Each task is answered by the last that covers it.",
    )
    download: bool = Field(
        False, description="Whether a bundle on the hub may be downloaded; else it must be in the hub's cache."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda|cuda:\d+(,cuda:\d+)*)$",
        description="Where the networks run: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:N`, or several GPUs "
        "as `cuda:0,cuda:1`, a copy on each.",
    )
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="What runs the networks: `torch`, `openvino` (extra `openvino`; CPUs, faster), or `auto`: OpenVINO "
        "on a CPU where it is installed, else PyTorch.",
    )
    precision: Precision = Field(
        "float32",
        description="Number format of the arithmetic: `float32`; `bfloat16`, less exact, faster on CPUs that have it; "
        "`float16`, on GPUs.",
    )
    detector: Name = Field(
        "yuface",
        description="Face detector: `yuface`, `mtcnn` (extra `mtcnn`), or `yunet:PATH` with YuNet's ONNX file.",
    )
    scan_every_s: float = Field(
        0.5,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between scans of whole frames of a video; in between, faces are followed. "
        "0: scan every frame.",
    )
    max_upload_bytes: Count = Field(104_857_600, description="Largest request body, in bytes.")
    max_pixels: Count = Field(50_000_000, description="Most pixels of one frame, width times height.")
    max_video_s: Seconds = Field(600, description="Longest analysed part of a video, in seconds.")
    max_frames: Count = Field(6000, description="Most analysed frames of one video.")
    max_wait_s: Seconds = Field(
        0.25, description="Longest expected wait of a frame in the queues, in seconds; beyond it: 429 with Retry-After."
    )
    max_video_wait_s: Seconds = Field(10, description="The same of a video, which waits behind frames.")
    stall_s: Seconds = Field(
        30,
        description="Longest time of a forward pass, of a face detection, and of decoding a picture, in seconds; then "
        "its requests get 503, and after as long again the process ends with status 70.",
    )
    deadline_s: Seconds = Field(60, description="Longest time for a frame's answer, in seconds; beyond it: 504.")
    video_deadline_s: Seconds = Field(900, description="Longest time for a video's answer, in seconds; beyond it: 504.")
    max_batch: Count = Field(32, description="Most faces in one forward pass.")
    max_video_batch: Count = Field(
        8, description="Up to how many faces of videos fill a forward pass, fewer where these take more than 20 ms."
    )
    drain_s: Count = Field(30, description="Longest time that requests get to end after SIGTERM, in whole seconds.")
    threads: Count | None = Field(None, description="CPU threads of a forward pass; unset: one for each core.")
    decode_workers: Count = Field(2, description="Threads that decode, detect and align.")
    log_format: Literal["json", "console"] = Field("json", description="Format of the log: `json` or `console`.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="Least severe messages to log: `debug`, `info`, `warning` or `error`."
    )

    otel: bool = Field(
        False,
        description="Whether traces go to the collector at `OTEL_EXPORTER_OTLP_ENDPOINT`; needs the extra `otel`.",
    )

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
        # The framework would only warn, and serve without traces.
        if value:
            try:
                import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            except ImportError:
                raise ValueError("the extra `otel` of this package is not installed") from None
            if not (
                os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            ):
                raise ValueError("set OTEL_EXPORTER_OTLP_ENDPOINT to the collector's address")
        return value

    @field_validator("protect_operations")
    @classmethod
    def _needs_keys(cls, value: bool, info: ValidationInfo) -> bool:
        # Keys that were refused are not in the data; their own line is enough then.
        if value and not info.data.get("api_keys", True):
            raise ValueError(f"there is no key to ask for; set {variable('api_keys')}")
        return value

    def limits(self) -> dict[str, int | float]:
        """The limits in force, by variable, as `/models` publishes them."""
        names = ("max_upload_bytes", "max_pixels", "max_video_s", "max_frames", "max_wait_s", "max_video_wait_s")
        return {variable(name): getattr(self, name) for name in (*names, "deadline_s", "video_deadline_s")}


def load_settings() -> Settings:
    """Read the environment. Raises SettingsError for unknown AFFECT_ variables and for values that do not fit."""
    known = [variable(name) for name in Settings.model_fields]
    mistakes = [_unknown(name, known) for name in os.environ if name.upper().startswith(PREFIX)]
    mistakes = [mistake for mistake in mistakes if mistake]
    if any(name.upper() == variable("api_keys") and not value for name, value in os.environ.items()):
        # Elsewhere empty means unset. Here that would open the service because a secret was not found.
        mistakes.append(f"{variable('api_keys')}: is empty; leave it unset to ask for no key")
    try:
        settings = Settings()
    except ValidationError as error:
        # The value itself is left out: a log is no place for what may be a secret.
        mistakes += [f"{variable(str(item['loc'][0]))}: {item['msg']}" for item in error.errors()]
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings


def variable(field: str) -> str:
    """The environment variable of a field: `max_pixels` -> `AFFECT_MAX_PIXELS`."""
    return PREFIX + field.upper()


def _unknown(name: str, known: list[str]) -> str:
    """A line about a variable that sets nothing; empty for a known one (letter case does not matter)."""
    if name.upper() in known:
        return ""
    # A stricter likeness than the default: the prefix that all of them share counts as well.
    nearest = get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    return f"{name}: unknown variable" + (f"; did you mean {nearest[0]}?" if nearest else "")
