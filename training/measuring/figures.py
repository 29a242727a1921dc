"""Figures as JSON: numbers that are not defined, such as the correlation with a constant, are null."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures into a file as JSON. See `figures_text`."""
    path.write_text(figures_text(figures, indent=2) + "\n", encoding="utf-8")


def figures_text(figures: Mapping[str, Any], indent: int | None = None) -> str:
    """Return figures as JSON, in which a number that is not finite is null: JSON has neither NaN nor infinity."""
    return json.dumps(_defined(figures), indent=indent, allow_nan=False)


def _defined(value: Any) -> Any:
    """Return a copy of a value of mappings, sequences and numbers in which None stands for what is not finite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: _defined(each) for name, each in value.items()}
        case list() | tuple():
            return [_defined(each) for each in value]
    return value
