"""`protocol.json`: what a system reached under the challenge's protocol, on which data, and how it was asked."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from model_core.affect import Task
from training.video.predictions import ProtocolError
from training.video.thresholds import Thresholds

RESULT = "protocol.json"
FORMAT = 2

_Measures = dict[str, int | float | dict[str, int | float]]
_Interval = tuple[float, float]
_Intervals = dict[str, _Interval | dict[str, _Interval]]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class CalibratedResult:
    """What calibrated outputs reached. Plain JSON values, those of `protocol.Measured`.

    Units are decided at 0.5, and tuned at the thresholds of the calibration.
    """

    measures: dict[Task, _Measures]
    intervals: dict[Task, _Intervals] = field(default_factory=dict)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ProtocolResult:
    """What raw outputs reached, as the paper reports them, and calibrated ones apart. Plain JSON values."""

    system: str
    """Its name in a table."""
    data: str
    """What it was measured on, for people."""
    config: dict[str, Any]
    """How it was trained and asked; free."""
    measures: dict[Task, _Measures]
    """Of raw outputs, those of `protocol.Measured`."""
    intervals: dict[Task, _Intervals] = field(default_factory=dict)
    """Of the measures, at the same keys."""
    thresholds: Thresholds | None = None
    """Those of the tuned measures of raw outputs, with the videos that they were tuned on."""
    calibrated: CalibratedResult | None = None
    """None where the run has no calibration."""
    format: int = FORMAT


_ADAPTER = TypeAdapter(ProtocolResult)


def write_result(folder: Path, result: ProtocolResult) -> Path:
    """Write `protocol.json` into a run's folder, whole or not at all; one that is there is replaced.

    Raises ValueError for a number that JSON lacks, and TypeError for a value of `config` that it lacks.
    """
    path = folder / RESULT
    partial = path.with_name(f".{RESULT}.{os.getpid()}.partial")
    text = json.dumps(asdict(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def read_result(folder: Path) -> ProtocolResult:
    """Read a run's `protocol.json`. Raises ProtocolError where it is missing, damaged or of another format."""
    path = folder / RESULT
    try:
        result = _ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise ProtocolError(f"{path} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ProtocolError(f"{path} is not a result of the protocol ({place}: {first['msg']})") from error
    if result.format != FORMAT:
        raise ProtocolError(f"{path} has format {result.format}, expected {FORMAT}: run training.evaluate again")
    return result
