"""The structure that the packages promise, checked on their sources. Each rule is shown to be able to fail."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model_core", "training", "service")
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}

MAX_FUNCTION_LINES = 40
MAX_MODULE_LINES = 250
MAX_PARAMETERS = 7

FORBIDDEN_IMPORTS = {
    "model_core": {"service", "training", "fastapi", "starlette", "pydantic", "pydantic_settings"},
    "training": {"service", "fastapi", "starlette"},
    "service": {"training"},
}
WEB_FRAMEWORKS = {"fastapi", "starlette"}
WEB_MODULES = ("service/app.py", "service/http/")
READS_ENVIRONMENT = "service/settings.py"

Definition = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[str, str], list[str]]


def imported_packages(path: str, tree: ast.AST) -> Iterator[str]:
    """Top-level packages that a module imports, wherever the import stands; relative ones are resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = path.split("/")[: -node.level] if node.level else []
            modules = [node.module] if node.module else [name.name for name in node.names]
            yield from ((home + module.split("."))[0] for module in modules)


def functions(tree: ast.AST) -> Iterator[Definition]:
    return (node for node in ast.walk(tree) if isinstance(node, Definition))


def directions(path: str, source: str) -> list[str]:
    """service -> model_core <- training, and no web framework below the service."""
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


def functions_are_short(path: str, source: str) -> list[str]:
    """No function above the limit, docstring included."""
    lengths = ((node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions(ast.parse(source)))
    return [f"{name} has {length} lines" for name, length in lengths if length > MAX_FUNCTION_LINES]


def modules_are_short(path: str, source: str) -> list[str]:
    """No module above the limit."""
    length = len(source.splitlines())
    return [f"it has {length} lines"] if length > MAX_MODULE_LINES else []


def parameters_are_few(path: str, source: str) -> list[str]:
    """No function with more parameters than the limit, `self` and `cls` apart."""
    breaches = []
    for node in functions(ast.parse(source)):
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > MAX_PARAMETERS:
            breaches.append(f"{node.name} has {count} parameters")
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
    functions_are_short,
    modules_are_short,
    parameters_are_few,
    public_names_are_explained,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    breaches = [f"{path}: {breach}" for path, source in SOURCES.items() for breach in rule(path, source)]
    assert not breaches, "\n".join(breaches)


def test_every_package_is_looked_at() -> None:
    for package in PACKAGES:
        assert f"{package}/__init__.py" in SOURCES


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES
MANY = ", ".join(f"p{i}" for i in range(MAX_PARAMETERS + 1))


@pytest.mark.parametrize(
    ("rule", "path", "source", "breach"),
    [
        (directions, "service/a.py", "from training.runs.loop import encode", "imports training"),
        (directions, "training/a.py", "def f():\n    import service.app", "imports service"),
        (directions, "model_core/a.py", "import pydantic", "imports pydantic"),
        (directions, "model_core/models/a.py", "from fastapi import FastAPI", "imports fastapi"),
        (directions, "model_core/models/a.py", "from ... import training", "imports training"),
        (web_framework_stays_at_the_edge, "service/analysis/pipeline.py", "import fastapi", "imports fastapi"),
        (web_framework_stays_at_the_edge, "training/a.py", "from starlette.types import Send", "imports starlette"),
        (environment_is_read_once, "service/app.py", "import os\nos.environ['A']", "line 2 reads os.environ"),
        (environment_is_read_once, "training/a.py", "from os import getenv", "line 1 imports getenv"),
        (functions_are_short, "training/a.py", LONG_FUNCTION, "f has 41 lines"),
        (functions_are_short, "training/a.py", "async " + LONG_FUNCTION, "f has 41 lines"),
        (modules_are_short, "training/a.py", "x = 1\n" * 251, "it has 251 lines"),
        (parameters_are_few, "training/a.py", f"def f({MANY}): ...", "f has 8 parameters"),
        (parameters_are_few, "training/a.py", f"class A:\n    def f(self, *, {MANY}): ...", "f has 8 parameters"),
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
        (functions_are_short, "training/a.py", LONG_FUNCTION.removesuffix("    x = 1\n")),
        (modules_are_short, "training/a.py", "x = 1\n" * 250),
        (parameters_are_few, "training/a.py", "class A:\n    def f(self, a, b, c, d, e, f, g): ..."),
        (public_names_are_explained, "training/a.py", '"""A."""\ndef _f(): ...\nclass _A: ...'),
    ],
)
def test_what_is_allowed_is_not_a_breach(rule: Rule, path: str, source: str) -> None:
    assert rule(path, source) == []
