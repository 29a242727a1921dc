"""The structure that the packages promise, checked on their sources. Each rule is shown to be able to fail."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"model_core": ROOT, "training": ROOT, "service": ROOT, "affect_client": ROOT / "client"}
"""The folder that each package lies in."""
SOURCES = {
    path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
    for package, folder in PACKAGES.items()
    for path in sorted((folder / package).rglob("*.py"))
}

FORBIDDEN_IMPORTS = {
    "model_core": {"service", "training", "affect_client", "fastapi", "starlette", "pydantic", "pydantic_settings"},
    "training": {"service", "affect_client", "fastapi", "starlette"},
    "service": {"training", "affect_client"},
    "affect_client": {"service", "model_core", "training", "fastapi", "starlette", "pydantic", "torch", "numpy"},
}
WEB_FRAMEWORKS = {"fastapi", "starlette"}
WEB_MODULES = ("service/app.py", "service/http/")
NEEDS_TORCH = (
    "model_core/models/",
    "model_core/losses.py",
    "model_core/bundles/restoring.py",
    "model_core/inference/fixed_batches.py",
    "model_core/inference/networks.py",
    "model_core/inference/torch_runtime.py",
    "training/",
)
WITHOUT_TORCH = ("model_core/models/__init__.py", "model_core/models/spec.py")
READS_ENVIRONMENT = "service/settings.py"

FLOORS = {
    "service": (
        ("errors", "settings", "telemetry", "logs", "machine"),
        ("scheduling",),
        ("media",),
        ("analysis",),
        ("output", "readiness", "web"),
        ("jobs", "live"),
        ("http",),
        ("loading", "app", "server", "cluster", "__main__"),
    ),
    "model_core": (
        ("affect", "preprocessing", "calibration", "baseline", "losses", "metrics", "openvino_package", "faces"),
        ("models",),
        ("bundles",),
        ("inference",),
    ),
    "training": (
        ("datasets",),
        ("data", "generated", "refinement", "rendered"),
        ("targets",),
        ("measuring",),
        ("runs",),
        ("video", "importing"),
        ("studies",),
        (
            "prepare",
            "train",
            "calibrate",
            "changes",
            "eyes",
            "evaluate",
            "export",
            "import_checkpoint",
            "generate",
            "refine",
            "graphs",
            "pose",
            "precision",
            "render",
            "submit",
        ),
    ),
    "affect_client": (
        ("closeable", "errors", "faces", "numbers"),
        ("columns",),
        ("results",),
        ("connection", "files", "progress", "recordings"),
        ("videos", "jobs", "live", "intervals"),
        ("bids", "elan", "lsl"),
        ("affect",),
        ("commands",),
        ("__main__",),
    ),
}
"""The folders and modules of each package, from the lowest floor up."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[str, str], list[str]]


class Floor(NamedTuple):
    """A module's package, its folder in it, and how high that lies."""

    package: str
    folder: str
    level: int


def floor_of(module: str) -> Floor | None:
    """service.media.videos -> service, media, 2; None for what is on no floor."""
    package, _, rest = module.partition(".")
    folder = rest.partition(".")[0]
    for level, folders in enumerate(FLOORS.get(package, ())):
        if folder in folders:
            return Floor(package, folder, level)
    return None


def imported_modules(path: str, tree: ast.AST) -> Iterator[str]:
    """Modules that a module imports, wherever the import stands; relative ones are resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = path.split("/")[: -node.level] if node.level else []
            base = [*home, *(node.module or "").split(".")] if node.module else home
            # Only `from package import name` names a folder by what is imported.
            names = [name.name for name in node.names] if len(base) < 2 else [""]
            yield from (".".join(filter(None, [*base, name])) for name in names)


def imported_packages(path: str, tree: ast.AST) -> Iterator[str]:
    """Top-level packages that a module imports."""
    return (module.split(".")[0] for module in imported_modules(path, tree))


def directions(path: str, source: str) -> list[str]:
    """service -> model_core <- training, no web framework below the service, and a client that knows none of them."""
    forbidden = FORBIDDEN_IMPORTS[path.split("/", maxsplit=1)[0]]
    return [f"imports {name}" for name in imported_packages(path, ast.parse(source)) if name in forbidden]


def web_framework_stays_at_the_edge(path: str, source: str) -> list[str]:
    """FastAPI and Starlette are known to a few modules of the service only."""
    if path.startswith(WEB_MODULES):
        return []
    return [f"imports {name}" for name in imported_packages(path, ast.parse(source)) if name in WEB_FRAMEWORKS]


def environment_is_read_once(path: str, source: str) -> list[str]:
    """Only the service's settings read the environment."""
    names = {"environ", "environb", "getenv", "getenvb"}
    if path == READS_ENVIRONMENT:
        return []
    breaches = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os":
            breaches.append(f"line {node.lineno} reads os.{node.attr}")
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            breaches += [f"line {node.lineno} imports {name.name}" for name in node.names if name.name in names]
    return breaches


def torch_is_imported_where_it_works(path: str, source: str) -> list[str]:
    """Modules outside NEEDS_TORCH import it, and those modules, on demand only, for OpenVINO serves without torch."""
    if path.startswith(NEEDS_TORCH) and path not in WITHOUT_TORCH:
        return []
    at_once = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [module for node in at_once for module in imported_modules(path, node)]
    files = {module: f"{module.replace('.', '/')}.py" for module in modules}
    return [
        f"imports {module}"
        for module, file in files.items()
        if module.split(".")[0] == "torch" or (file.startswith(NEEDS_TORCH) and file not in WITHOUT_TORCH)
    ]


def imports_go_down(path: str, source: str) -> list[str]:
    """Within a package a module imports nothing of a higher floor; FLOORS has them."""
    own = floor_of(path.removesuffix(".py").replace("/", "."))
    breaches = []
    for module in imported_modules(path, ast.parse(source)):
        other = floor_of(module)
        if own and other and own.package == other.package and other.level > own.level:
            breaches.append(f"imports {module}")
    return breaches


def public_names_are_explained(path: str, source: str) -> list[str]:
    """A docstring for every module, and every public class, function and method at module or class level."""
    tree = ast.parse(source)
    breaches = [] if ast.get_docstring(tree) or not source.strip() else ["the module has no docstring"]

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, Definition | ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    breaches.append(f"{prefix}{node.name} has no docstring")
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{node.name}.")

    visit(tree.body, "")
    return breaches


RULES: tuple[Rule, ...] = (
    directions,
    web_framework_stays_at_the_edge,
    environment_is_read_once,
    torch_is_imported_where_it_works,
    imports_go_down,
    public_names_are_explained,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    breaches = [f"{path}: {breach}" for path, source in SOURCES.items() for breach in rule(path, source)]
    assert not breaches, "\n".join(breaches)


def test_every_package_is_looked_at() -> None:
    for package in PACKAGES:
        assert f"{package}/__init__.py" in SOURCES


def test_every_module_is_on_a_floor() -> None:
    modules = [path for path in SOURCES if path.split("/")[1] != "__init__.py"]
    assert [path for path in modules if floor_of(path.removesuffix(".py").replace("/", ".")) is None] == []


@pytest.mark.parametrize(
    ("rule", "path", "source", "breach"),
    [
        (directions, "service/a.py", "from training.runs.network import NetworkRun", "imports training"),
        (directions, "training/a.py", "def f():\n    import service.app", "imports service"),
        (directions, "model_core/a.py", "import pydantic", "imports pydantic"),
        (directions, "affect_client/a.py", "def f():\n    import service.app", "imports service"),
        (directions, "affect_client/a.py", "import torch", "imports torch"),
        (directions, "service/a.py", "from affect_client import Affect", "imports affect_client"),
        (directions, "model_core/models/a.py", "from fastapi import FastAPI", "imports fastapi"),
        (directions, "model_core/models/a.py", "from ... import training", "imports training"),
        (web_framework_stays_at_the_edge, "service/analysis/pipeline.py", "import fastapi", "imports fastapi"),
        (web_framework_stays_at_the_edge, "training/a.py", "from starlette.types import Send", "imports starlette"),
        (environment_is_read_once, "service/app.py", "import os\nos.environ['A']", "line 2 reads os.environ"),
        (environment_is_read_once, "training/a.py", "from os import getenv", "line 1 imports getenv"),
        (torch_is_imported_where_it_works, "service/a.py", "import torch.nn", "imports torch.nn"),
        (torch_is_imported_where_it_works, "model_core/models/spec.py", "from torch import nn", "imports torch.nn"),
        (
            torch_is_imported_where_it_works,
            "model_core/inference/encoder.py",
            "from model_core.inference.networks import shared_network",
            "imports model_core.inference.networks",
        ),
        (
            imports_go_down,
            "service/media/a.py",
            "import service.analysis.pipeline",
            "imports service.analysis.pipeline",
        ),
        (
            imports_go_down,
            "affect_client/videos.py",
            "from affect_client.affect import Affect",
            "imports affect_client.affect",
        ),
        (imports_go_down, "service/errors.py", "from service.http import problems", "imports service.http"),
        (imports_go_down, "service/output/a.py", "from service.app import create_app", "imports service.app"),
        (
            imports_go_down,
            "model_core/models/a.py",
            "from model_core.bundles.hub import x",
            "imports model_core.bundles.hub",
        ),
        (imports_go_down, "training/data/a.py", "from training.train import main", "imports training.train"),
        (
            imports_go_down,
            "training/targets/a.py",
            "def f():\n    import training.importing.pickled_module",
            "imports training.importing.pickled_module",
        ),
        (
            imports_go_down,
            "training/runs/a.py",
            "from training.video.run import SequenceRun",
            "imports training.video.run",
        ),
        (public_names_are_explained, "training/a.py", "x = 1", "the module has no docstring"),
        (public_names_are_explained, "training/a.py", '"""A."""\ndef f(): ...', "f has no docstring"),
        (
            public_names_are_explained,
            "training/a.py",
            '"""A."""\nclass A:\n    """A."""\n    def f(self): ...',
            "A.f has no docstring",
        ),
    ],
)
def test_a_breach_is_seen(rule: Rule, path: str, source: str, breach: str) -> None:
    assert rule(path, source) == [breach]


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (directions, "service/a.py", "from model_core.faces.geometry import Box"),
        (directions, "training/a.py", "from .loop import encode\nimport pydantic"),
        (web_framework_stays_at_the_edge, "service/http/routes/a.py", "import fastapi"),
        (environment_is_read_once, "service/settings.py", "import os\nos.environ['A']"),
        (environment_is_read_once, "training/a.py", "import os\nos.fsync(1)"),
        (torch_is_imported_where_it_works, "model_core/models/heads.py", "from torch import nn"),
        (torch_is_imported_where_it_works, "service/a.py", "def f():\n    import torch"),
        (torch_is_imported_where_it_works, "service/a.py", "from model_core.models.spec import NetworkSpec"),
        (imports_go_down, "service/analysis/a.py", "from service.media.videos import Window\nimport service.errors"),
        (imports_go_down, "service/analysis/a.py", "from service.analysis.results import FrameResult"),
        (imports_go_down, "service/app.py", "from service.http.routes import analyze"),
        (imports_go_down, "training/runs/a.py", "from training.data.batches import Batch\nimport training.runs.run"),
        (public_names_are_explained, "training/a.py", '"""A."""\ndef _f(): ...\nclass _A: ...'),
    ],
)
def test_what_is_allowed_is_not_a_breach(rule: Rule, path: str, source: str) -> None:
    assert rule(path, source) == []
