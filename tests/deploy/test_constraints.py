"""The versions that the image is built with."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
SERVING = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["project"]["dependencies"],
    *(requirement for extra in ("web", "page", "openvino", "postgres") for requirement in EXTRAS[extra]),
]
FILES = {"constraints.txt": SERVING, "constraints-torch.txt": EXTRAS["torch"]}
IMAGE = {"python_version": "3.11", "platform_machine": "x86_64"}
"""What markers say of the image."""


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pinned(text: str) -> dict[str, str]:
    """The version of each package."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.M)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("name", FILES)
def test_every_line_pins_a_version_and_names_no_place(name: str) -> None:
    text = text_of(name)
    assert not re.search(r"://|--(index|extra|find|trusted)|@|/", text)
    requirements = re.findall(r"^[^\s#].*$", text, re.M)
    assert len(requirements) == len(pinned(text)) > 5


@pytest.mark.parametrize("name", FILES)
def test_versions_are_within_the_bounds_of_the_project(name: str) -> None:
    versions = pinned(text_of(name))
    for requirement in map(Requirement, FILES[name]):
        if requirement.marker is not None and not requirement.marker.evaluate(IMAGE):
            continue
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_what_serves_has_hashes_and_no_torch() -> None:
    text = text_of("constraints.txt").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", line) for line in lines)
    assert "torch" not in pinned(text)


def test_both_files_agree() -> None:
    serving, torch = (pinned(text_of(name)) for name in FILES)
    assert {name: torch[name] for name in serving.keys() & torch} == {
        name: serving[name] for name in serving.keys() & torch
    }


def test_wrong_lines_would_be_noticed() -> None:
    assert pinned("Torch==2.0 ; python_version > '3'\nnumpy>=2\nscipy==1.17.1 \\\n    --hash=sha256:00") == {
        "torch": "2.0",
        "scipy": "1.17.1",
    }
