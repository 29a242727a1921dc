"""Every command that a page names runs here in a short form, and takes the arguments that the page shows."""

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks.clip import write_clip
from benchmarks.process import ServiceProcess, running_service
from tests.benchmarks.test_plots import REPORT
from tests.service.media_files import encoded
from tests.service.processes import free_port

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").glob("*.md"))]

SHORT = {
    "benchmarks": "--quick --out {new}",
    # These three are what `benchmarks --quick` runs.
    "benchmarks.forward": "--help",
    "benchmarks.service": "--help",
    "benchmarks.video": "--help",
    "benchmarks.against": f"{ROOT} --quick",
    "benchmarks.attacks": "--help",  # tests/benchmarks runs it; its bounds are of a quiet machine
    "benchmarks.cluster": "--help",  # tests/benchmarks runs it, in a process of its own
    "benchmarks.concurrency": "--clients 2 --rounds 1",
    "benchmarks.cuts": "--quick",
    "benchmarks.fairness": "--quick",
    "benchmarks.following": "{clip} --fps 2",
    "benchmarks.gpu": "--quick --device cpu --no-compile --bundle {bundle}",
    "benchmarks.live": "--quick --cameras 1",
    "benchmarks.long_job": "--minutes 1 --query fps=0.25&end_s=30",
    "benchmarks.memory": "--frames 2 --seconds 1 --runs 1",
    "benchmarks.peers": "--quick --environment {new} --install-s 0.001",  # `fer` is then told to be missing
    "benchmarks.plots": "{report} --out {new}",
    "benchmarks.steadiness": "--quick --only turns",
    "benchmarks.streams": "--help",  # its crowd of 64 faces takes a minute; see tests/benchmarks/test_streams.py
    "benchmarks.tracks": "--quick",
    # They train networks, which tests/training does on sets of a few samples.
    "benchmarks.recipes": "--help",
    "benchmarks.systems": "--help",
    "training.calibrate": "--help",
    "training.evaluate": "--help",
    "training.export": "--help",
    "training.changes": "--help",
    "training.eyes": "--help",
    "training.import_checkpoint": "--help",
    "training.graphs": "--help",
    "training.pose": "--help",
    "training.precision": "--help",
    "training.prepare": "--help",
    "training.refine": "--help",
    "training.render": "--help",
    "training.studies.agreement": "--help",
    "training.studies.baseline": "--help",
    "training.studies.failures": "--help",
    "training.studies.reasons": "--help",
    "training.studies.robustness": "--help",
    "training.studies.shifts": "--help",
    "training.studies.small_clip": "--help",
    "training.studies.symmetry": "--help",
    "training.studies.temporal": "--help",
    "training.studies.twins": "--help",
    "training.submit": "--help",
    "training.train": "--help",
    "training.generate": "--out {new} --videos 2 --frames 4 --validation 1",
}
"""Module -> the arguments with which it runs here; `--help` where it needs data that a test does not have."""

OTHER_PROGRAMS = {
    "service": "the fixture `served` starts it",
    "python -c": "test_the_example_can_be_followed runs it",
    "affect": "test_affect_takes_the_arguments_that_a_page_shows",
    "curl": "test_the_example_can_be_followed and test_a_request_is_answered send it",
    "make": "test_make_knows_the_target",
    "torchrun": "its arguments are those of training.train",
    "tensorboard": "a program of another project",
    "docker": "tests/deploy reads what it starts",
    "pip": "Python's own",
    "apt-get": "Debian's own",
    "openssl": "Debian's own",
    "chmod": "Debian's own",
    "export": "the shell's own",
    "source": "the shell's own",
    "ls": "the shell's own; what it hands to curl is test_a_request_is_answered's",
}
"""What is not a module of this project, and what tests it."""


@dataclass(frozen=True)
class Command:
    """A command on a page, without its environment."""

    page: str
    program: str
    """A module of this project, or a program."""
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.program} {shlex.join(self.arguments)}"


def command(page: str, words: list[str]) -> Command | None:
    """The command that a line of a shell gives; None for an empty line."""
    while words and (words[0] == "sudo" or re.match(r"[A-Z_]+=", words[0])):
        words = words[1:]
    match words:
        case []:
            return None
        case [python, "-m", module, *arguments] if Path(python).name.startswith("python"):
            return Command(page, module, tuple(arguments))
        case [python, "-c", *arguments] if Path(python).name.startswith("python"):
            return Command(page, "python -c", tuple(arguments))
        case [program, *arguments]:
            return Command(page, Path(program).name, tuple(arguments))
    raise AssertionError(words)


def commands(page: str, script: str) -> Iterator[Command]:
    """The commands of a script."""
    for line in script.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word != "&&":
                words.append(word)
                continue
            if found := command(page, words):
                yield found
            words = []


def documented() -> list[Command]:
    """Those in blocks of a page, and those amid its sentences, which begin with `python -m` or `make`."""
    found: list[Command] = []
    for path in PAGES:
        page, text = path.name, path.read_text(encoding="utf-8")
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
            if language == "sh" or block.startswith("make "):
                found += commands(page, block)
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        for inline in re.findall(r"`((?:python\s+-m|make)\s[^`]+)`", prose):
            found += commands(page, " ".join(inline.split()))
    return list(dict.fromkeys(found))


COMMANDS = documented()
OURS = [each for each in COMMANDS if each.program.split(".")[0] in ("benchmarks", "training")]
MADE = sorted({each.arguments[0] for each in COMMANDS if each.program == "make"})
REQUESTS = [each for each in COMMANDS if each.program == "curl"]


def test_no_command_is_left_out() -> None:
    named = {each.program for each in COMMANDS}
    assert named <= SHORT.keys() | OTHER_PROGRAMS.keys()
    assert OTHER_PROGRAMS.keys() <= named


class Parsed(Exception):
    """Raised once a command has accepted its arguments."""


def program_of(module: str) -> ModuleType:
    """The module that `python -m` runs: that of a package is its `__main__`."""
    found = importlib.import_module(module)
    return importlib.import_module(f"{module}.__main__") if hasattr(found, "__path__") else found


def parse(module: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a command parse arguments, and do no more. It exits with 2 where it does not take them."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(Parsed):
        program_of(module).main()


@pytest.mark.parametrize("shown", [each for each in OURS if len(each.arguments)], ids=str)
def test_a_command_takes_the_arguments_that_a_page_shows(shown: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    parse(shown.program, shown.arguments, monkeypatch)


@pytest.mark.parametrize("shown", [each for each in COMMANDS if each.program == "affect"], ids=str)
def test_affect_takes_the_arguments_that_a_page_shows(shown: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    parse("affect_client", shown.arguments, monkeypatch)


@pytest.mark.parametrize("shown", [each for each in COMMANDS if each.program == "torchrun"], ids=str)
def test_several_processes_take_the_arguments_of_one(shown: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shutil.which("torchrun", path=str(Path(sys.executable).parent))
    module, *arguments = shown.arguments[shown.arguments.index("--") + 1 :]
    parse(module, tuple(arguments), monkeypatch)


@pytest.mark.parametrize("target", MADE)
def test_make_knows_the_target(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with the included weights, for all commands that start one, since starting it takes seconds."""
    settings = {"AFFECT_THREADS": "1", "AFFECT_DRAIN_GRACE_S": "0"}
    settings["AFFECT_JOBS_DIR"] = str(tmp_path_factory.mktemp("jobs"))
    with running_service(port=free_port(), **settings) as process:
        yield process


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """A folder with the files that the pages' requests send."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "face.jpg").write_bytes(encoded(astronaut, ".jpg"))
    for name in ("astronaut.png", "smile.jpg", "rest.jpg"):
        (folder / name).write_bytes(encoded(astronaut, Path(name).suffix))
    write_clip(folder / "clip.mp4", 8, 10)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as `python -m benchmarks` writes it."""
    path = tmp_path_factory.mktemp("reports") / "report.md"
    path.write_text(REPORT, encoding="utf-8")
    return path


def status(main: Callable[[], None]) -> object:
    """The exit status of a command."""
    try:
        main()
    except SystemExit as ended:
        return ended.code or 0
    return 0


@pytest.mark.usefixtures("log_kept")
@pytest.mark.parametrize("module", SHORT)
def test_a_command_runs(  # noqa: PLR0917
    module: str,
    served: ServiceProcess,
    files: Path,
    report: Path,
    quick_bundle_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @contextmanager
    def already_running(*_: object, **__: object) -> Iterator[ServiceProcess]:
        yield served

    program = program_of(module)
    for each in [value for name, value in sys.modules.items() if name.startswith("benchmarks")]:
        for name, value in {"running_service": already_running, "URL": served.url}.items():
            if hasattr(each, name):
                monkeypatch.setattr(each, name, value)
    # The service is needed by others, too; tests/service/test_job_outages.py kills one amid a job.
    monkeypatch.setattr(ServiceProcess, "kill", lambda _: None)
    places = {"new": tmp_path / "new", "clip": files / "clip.mp4", "report": report, "bundle": quick_bundle_dir}
    arguments = SHORT[module].format(**places).split()
    monkeypatch.setenv("AFFECT_ENGINE", "torch")
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    assert status(program.main) == 0
    assert capsys.readouterr().out or places["new"].exists()
    assert Path(str(program.__file__)).read_text(encoding="utf-8").endswith('if __name__ == "__main__":\n    main()\n')


@pytest.mark.parametrize("shown", [each for each in COMMANDS if each.program == "python -c"], ids=str)
def test_the_example_can_be_followed(shown: Command, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", *shown.arguments], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "astronaut.png").is_file()


@pytest.mark.system("curl")
@pytest.mark.parametrize("shown", REQUESTS, ids=str)
def test_a_request_is_answered(shown: Command, served: ServiceProcess, files: Path) -> None:
    arguments = [word.replace("http://127.0.0.1:8000", served.url) for word in shown.arguments]
    assert any(word.startswith(served.url) for word in arguments)
    subprocess.run(["curl", "--fail", "-sS", *arguments], cwd=files, check=True, capture_output=True, timeout=60)
