import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_core.affect import ACTION_UNITS
from tests.training.sequences import of_units
from training.video.predictions import ProtocolError
from training.video.protocol import measure
from training.video.result import CalibratedResult, ProtocolResult, read_result, write_result
from training.video.thresholds import tune_thresholds


def measured() -> ProtocolResult:
    videos = [of_units(np.array([0.2, 0.4, 0.9]), np.array([0.0, 1, 1]), video) for video in "abc"]
    tuned = tune_thresholds(videos[:1], "grid")
    found = measure(videos[1:], tuned, resamples=5)
    config: dict[str, Any] = {"window": 10, "optimizer": {"rate": 1e-5}}
    calibrated = CalibratedResult(found.measures, found.intervals)
    return ProtocolResult("DDAMFN + LSTM", "generated", config, found.measures, found.intervals, tuned, calibrated)


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_result(tmp_path, measured())
    document = json.loads(path.read_text())
    assert path == tmp_path / "protocol.json"
    assert document["system"] == "DDAMFN + LSTM"
    assert document["config"] == {"window": 10, "optimizer": {"rate": 1e-5}}
    assert document["measures"]["action_units"]["p_au_tuned"] == 1.0
    assert document["intervals"]["action_units"]["p_au_tuned"] == [1.0, 1.0]
    assert document["thresholds"] == {"units": dict.fromkeys(ACTION_UNITS, 0.4), "method": "grid", "tuned_on": ["a"]}
    assert document["calibrated"] == {"measures": document["measures"], "intervals": document["intervals"]}
    again = read_result(tmp_path)
    write_result(tmp_path, again)
    assert json.loads(path.read_text()) == document
    assert isinstance(again.measures["action_units"]["p_au"], float)
    assert isinstance(again.measures["action_units"]["frames"], int)
    assert [each.name for each in tmp_path.iterdir()] == ["protocol.json"]


numbers = st.integers(0, 9) | st.floats(allow_nan=False, allow_infinity=False)
tree = st.dictionaries(st.text(max_size=3), numbers | st.dictionaries(st.text(max_size=3), numbers), max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(system=st.text(), config=st.dictionaries(st.text(), st.none() | st.text() | numbers), measures=tree)
def test_any_result(tmp_path: Path, system: str, config: dict[str, Any], measures: dict[str, Any]) -> None:
    result = ProtocolResult(system, "data", config, {"expression": measures})
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result


def test_what_json_lacks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path, ProtocolResult("a", "b", {}, {"expression": {"p_expr": float("nan")}}))
    with pytest.raises(TypeError):
        write_result(tmp_path, ProtocolResult("a", "b", {"path": tmp_path}, {}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measures": None}, r"\(measures: "),
        ({"measures": {"emotion": {}}}, r"measures\.emotion"),
        ({"measures": {"expression": {"p_expr": "high"}}}, r"measures\.expression\.p_expr"),
        ({"intervals": {"expression": {"p_expr": [0.1]}}}, r"intervals\.expression\.p_expr"),
        ({"thresholds": {"units": {"AU1": 0.5}, "method": "grid", "tuned_on": ["a"]}}, "must name the units"),
        ({"other": 1}, r"\(other: "),
        ({"calibrated": {"measures": {"expression": {"p_expr": "high"}}}}, r"calibrated\.measures\.expression\.p_expr"),
        ({"format": 1}, "has format 1, expected 2: run training.evaluate again"),
    ],
)
def test_a_damaged_document_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_result(tmp_path, measured())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ProtocolError, match=message) as refusal:
        read_result(tmp_path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_document(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match=r"protocol\.json cannot be read \(No such file"):
        read_result(tmp_path)
    (tmp_path / "protocol.json").write_text("{")
    with pytest.raises(ProtocolError, match="is not a result of the protocol"):
        read_result(tmp_path)
