"""`protocol.json`: the result of a system under the challenge's protocol, with its data and configuration."""

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
    """The result of a system's calibrated outputs, as plain JSON values.

    Action units are decided at 0.5; the tuned measures decide them at the thresholds of the calibration.
    """

    measures: dict[Task, _Measures]
    """The measures of `protocol.Measured`."""
    intervals: dict[Task, _Intervals] = field(default_factory=dict)
    """The intervals of `protocol.Measured`."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ProtocolResult:
    """The result of a system, raw as the paper reports it and calibrated beside it, as plain JSON values."""

    system: str
    """Name of the system in a table."""
    data: str
    """Description, for people, of the data it was measured on."""
    config: dict[str, Any]
    """Its configuration, in any form."""
    measures: dict[Task, _Measures]
    """The measures of `protocol.Measured`, of raw outputs."""
    intervals: dict[Task, _Intervals] = field(default_factory=dict)
    """The intervals of `protocol.Measured`, of raw outputs."""
    thresholds: Thresholds | None = None
    """The thresholds of the tuned measures of raw outputs, with the videos that they were tuned on."""
    calibrated: CalibratedResult | None = None
    """The result of calibrated outputs; None where the run has no calibration."""
    format: int = FORMAT
    """Version of the file format."""


_ADAPTER = TypeAdapter(ProtocolResult)


def write_result(folder: Path, result: ProtocolResult) -> Path:
    """Write `protocol.json` into a run's folder, atomically; an earlier one is replaced.

    Raises ValueError for a number, and TypeError for a value of `config`, that JSON cannot express.
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
