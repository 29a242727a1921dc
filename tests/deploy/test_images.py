"""The image and the compose file keep their promises, as far as their text tells."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings, variable
from tests.deploy.files import ROOT, read_yaml

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [
    re.sub(r"\\\n\s*", "", text).partition(" ")[::2] for text in re.findall(r"^[A-Z]+ (?:.*\\\n)*.*$", DOCKERFILE, re.M)
]
COMPOSE = read_yaml(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [service for service in SERVICES.values() if "build" in service]
EACH_SERVICE = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)

[TORCH] = [
    name
    for name in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    if name.startswith("torch>")
]
SIZES = {"k": 2**10, "m": 2**20, "g": 2**30}


def default(field: str) -> Any:
    return Settings.model_fields[field].default


def arguments(instruction: str) -> list[str]:
    return [text for name, text in INSTRUCTIONS if name == instruction]


def size(text: str) -> int:
    return int(text[:-1]) * SIZES[text[-1]]


def test_the_image_is_built_with_any_engine() -> None:
    assert arguments("FROM") == ["python:3.11-slim-bookworm AS service"]
    assert not re.search(r"^# *syntax", DOCKERFILE, re.M)
    assert not any("--mount" in text for text in arguments("RUN"))
    assert arguments("ARG") == ["TORCH_INDEX"]  # no default: pip's own holds


def test_dependencies_are_installed_before_the_sources_come() -> None:
    steps = [(name, text) for name, text in INSTRUCTIONS if name in ("COPY", "RUN")]
    assert steps[0] == ("COPY", "pyproject.toml ./")
    assert "pip install --requirement" in steps[1][1]
    assert "--no-deps" in steps[-1][1]


@pytest.mark.parametrize("index", ["", "https://index.example/cpu"])
def test_another_index_is_asked_for_torch_alone(tmp_path: Path, index: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    # In the place of pip: note what it is asked for.
    shim = f'#!/bin/sh\nif [ "$1" = -m ]; then echo "$@" >> calls; else exec {sys.executable} "$@"; fi\n'
    (tmp_path / "python").write_text(shim)
    (tmp_path / "python").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TORCH_INDEX": index}
    subprocess.run(["sh", "-c", arguments("RUN")[0]], cwd=tmp_path, env=environment, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    for_torch = [f"-m pip install --no-deps --index-url {index} {TORCH}"] if index else []
    assert calls == [*for_torch, "-m pip install --requirement requirements.txt"]
    requirements = (tmp_path / "requirements.txt").read_text()
    assert TORCH in requirements
    assert "fastapi" in requirements
    assert "openvino" in requirements
    assert "pytest" not in requirements


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M))
    copied = {name for text in arguments("COPY") for name in text.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_a_number_and_asks_for_readiness() -> None:
    [user] = arguments("USER")
    assert all(int(part) > 0 for part in user.split(":"))
    [check] = arguments("HEALTHCHECK")
    assert "'/readyz'" in check
    environment = dict(pair.split("=") for text in arguments("ENV") for pair in text.split())
    assert environment["AFFECT_HOST"] == "0.0.0.0"
    assert environment["AFFECT_PORT"] == arguments("EXPOSE")[0]


def test_every_variable_is_one_of_the_service() -> None:
    known = {variable(name) for name in Settings.model_fields}
    named = set(re.findall(r"AFFECT_[A-Z_]+", DOCKERFILE + (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    assert named <= known


@EACH_SERVICE
def test_every_container_is_locked_down(service: dict[str, Any]) -> None:
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "build" in service or int(service["user"].split(":")[0]) > 0
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "ipc"}


@EACH_SERVICE
def test_no_container_takes_all_of_the_machine(service: dict[str, Any]) -> None:
    assert service["pids_limit"] == 1024
    assert service["cpus"] in (1, "${SERVICE_CPUS:-0}")
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}


@EACH_SERVICE
def test_ports_are_published_to_this_machine_only(service: dict[str, Any]) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service["ports"])


def test_published_ports_differ() -> None:
    published = [port.split(":")[1] for service in SERVICES.values() for port in service["ports"]]
    assert published == ["8000", "8001", "9090", "3000"]


@EACH_SERVICE
def test_images_have_a_version(service: dict[str, Any]) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]) or "build" in service


@EACH_SERVICE
def test_what_is_mounted_exists_and_stays_as_it_is(service: dict[str, Any]) -> None:
    mounts = [mount.split(":") for mount in service.get("volumes", ())]
    for source, _, *mode in mounts:
        assert source in COMPOSE["volumes"] or ((ROOT / source).is_dir() and mode == ["ro"])


@pytest.mark.parametrize("service", OURS, ids=lambda service: service["image"])
def test_limits_leave_room_for_the_settings(service: dict[str, Any]) -> None:
    assert int(service["stop_grace_period"].removesuffix("s")) > default("drain_s")
    [tmpfs] = service["tmpfs"]
    room = size(re.search(r"/tmp:size=(\w+)", tmpfs)[1])
    assert room >= 10 * default("max_upload_bytes")
    assert size(service["mem_limit"]) >= 4 * room


def test_the_gpu_is_asked_for_by_its_profile_only() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["affect-gpu"]
    assert [name for name, service in SERVICES.items() if "deploy" in service] == ["affect-gpu"]
    gpu = SERVICES["affect-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["environment"] == {"AFFECT_DEVICE": "cuda", "AFFECT_API_KEYS": None}


def test_keys_are_passed_through_as_they_are_set_where_compose_is_started() -> None:
    # Without a value, the variable is unset where compose's own is; with an empty one the service would not start.
    for name in ("affect", "affect-gpu"):
        assert SERVICES[name]["environment"]["AFFECT_API_KEYS"] is None


def test_prometheus_finds_each_of_them() -> None:
    [job] = read_yaml(ROOT / "deploy" / "prometheus" / "prometheus.yml")["scrape_configs"]
    [lookup] = job["dns_sd_configs"]
    assert lookup["names"] == ["affect"]
    assert str(lookup["port"]) in arguments("EXPOSE")
    for name in (name for name, service in SERVICES.items() if service in OURS):
        assert name == "affect" or SERVICES[name]["networks"]["default"]["aliases"] == ["affect"]
