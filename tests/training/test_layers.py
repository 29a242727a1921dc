"""Imports between the folders of training go down only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TRAINING = Path(__file__).parents[2] / "training"

LAYERS = (
    {"datasets"},
    {"data", "generated"},
    {"targets"},
    {"measuring"},
    {"runs"},
    {"importing", "video"},
    {"studies"},
)
"""From the bottom up. A folder imports from itself and from lower layers; the commands import from all of them."""


def imported_folders(source: str) -> Iterator[str]:
    """The folders of training that a module imports from."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name.split(".")[1] for name in names if name.startswith("training."))


def breaches(folder: str, source: str) -> list[str]:
    """The folders that a module of `folder` imports from and must not."""
    [height] = [number for number, layer in enumerate(LAYERS) if folder in layer]
    allowed = set().union(*LAYERS[:height], {folder})
    return sorted(set(imported_folders(source)) - allowed)


@pytest.mark.parametrize("path", sorted(TRAINING.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_module_imports_from_below(path: Path) -> None:
    assert breaches(path.parent.name, path.read_text()) == []


def test_a_breach_is_seen() -> None:
    assert breaches("data", "from training.runs.processes import Processes") == ["runs"]
    assert breaches("data", "def f():\n    import training.measuring.report") == ["measuring"]
    assert breaches("runs", "from training.data.batches import Batch\nfrom training.runs.run import Run") == []
