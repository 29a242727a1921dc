import json
import math
from pathlib import Path

import numpy as np

from training.measuring.figures import figures_text, write_figures


def test_what_is_not_defined_is_null(tmp_path: Path) -> None:
    figures = {"r": math.nan, "rows": [(0.5, math.inf), {"f1": np.float64("nan")}], "count": 3, "name": "NaN"}
    write_figures(tmp_path / "study.json", figures)
    text = (tmp_path / "study.json").read_text(encoding="utf-8")
    expected = {"r": None, "rows": [[0.5, None], {"f1": None}], "count": 3, "name": "NaN"}
    assert json.loads(text, parse_constant=lambda name: 1 / 0) == expected


def test_a_line_of_a_log_has_no_line_breaks() -> None:
    assert figures_text({"loss": math.nan, "epoch": 1}) == '{"loss": null, "epoch": 1}'
