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

[TORCH] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"][
    "torch"
]
SIZES = {"k": 2**10, "m": 2**20, "g": 2**30}


def default(field: str) -> Any:
    return Settings.model_fields[field].default


def arguments(instruction: str) -> list[str]:
    return [text for name, text in INSTRUCTIONS if name == instruction]


def size(text: str) -> int:
    return int(text[:-1]) * SIZES[text[-1]]


def stage(wanted: str) -> list[tuple[str, str]]:
    """The instructions of a stage, after its FROM."""
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for name, text in INSTRUCTIONS:
        if name == "FROM":
            current = found[text.split(" AS ")[1]] = []
        current.append((name, text))
    return found[wanted][1:]


def test_the_image_is_built_with_any_engine() -> None:
    assert not re.search(r"^# *syntax", DOCKERFILE, re.M)
    assert not any("--mount" in text for text in arguments("RUN"))
    # The base can be pinned by digest, and torch's index has no default: pip's own holds.
    assert arguments("ARG") == ["BASE=python:3.11-slim-bookworm", "TORCH_INDEX"]
    assert arguments("FROM") == [
        "${BASE} AS packages",
        "packages AS wheel",
        "packages AS service",
        "packages AS slim",
    ]


def test_dependencies_are_installed_before_the_sources_come() -> None:
    steps = [(name, text) for name, text in stage("packages") if name in ("COPY", "RUN")]
    assert steps == [
        ("RUN", "install -d -o 10001 -g 10001 /jobs"),
        ("COPY", "pyproject.toml constraints.txt ./"),
        ("RUN", "python -m pip install --no-deps --require-hashes --requirement constraints.txt"),
    ]
    service = [text for name, text in stage("service") if name in ("COPY", "RUN")]
    assert service[0] == "constraints-torch.txt ./"
    assert "torch.txt" in service[1]
    assert service[2:] == ["--from=wheel /wheel /wheel", "python -m pip install --no-deps /wheel/*.whl"]


def test_the_slim_image_is_made_without_torch() -> None:
    steps = [text for name in ("packages", "wheel", "slim") for _, text in stage(name)]
    assert not any("torch" in text for text in steps)
    assert "--from=wheel /wheel /wheel" in steps


def run_shell(folder: Path, command: str, **environment: str) -> list[str]:
    """What a RUN instruction asks of pip, which is replaced, as one line for each call."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    # In the place of pip: note what it is asked for.
    shim = f'#!/bin/sh\nif [ "$1" = -m ]; then echo "$@" >> calls; else exec {sys.executable} "$@"; fi\n'
    (folder / "python").write_text(shim)
    (folder / "python").chmod(0o755)
    subprocess.run(
        ["sh", "-c", command], cwd=folder, env={"PATH": f"{folder}:/usr/bin:/bin", **environment}, check=True
    )
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("index", ["", "https://index.example/cpu"])
def test_another_index_is_asked_for_torch_alone(tmp_path: Path, index: str) -> None:
    command = next(text for name, text in stage("service") if name == "RUN")
    calls = run_shell(tmp_path, command, TORCH_INDEX=index)
    wanted = "--constraint constraints-torch.txt --requirement torch.txt"
    from_there = [f"-m pip install --no-deps --index-url {index} {wanted}"] if index else []
    assert calls == [*from_there, f"-m pip install {wanted}"]
    assert (tmp_path / "torch.txt").read_text() == f"{TORCH}\n"


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M))
    copied = {name for text in arguments("COPY") if "--from" not in text for name in text.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_a_number_and_asks_for_readiness() -> None:
    for name in ("service", "slim"):
        [user] = [text for instruction, text in stage(name) if instruction == "USER"]
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
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", ()))


def test_published_ports_differ() -> None:
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", ())]
    assert published == ["8000", "8001", "8002", "9090", "3000"]


@EACH_SERVICE
def test_images_have_a_version(service: dict[str, Any]) -> None:
    assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]) or "build" in service


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


def test_a_cpu_is_served_without_torch_and_a_gpu_with_it() -> None:
    targets = {name: SERVICES[name]["build"]["target"] for name in ("affect", "affect-gpu")}
    assert targets == {"affect": "slim", "affect-gpu": "service"}
    assert SERVICES["replica"]["build"] == SERVICES["affect"]["build"]


def test_profiles_are_asked_for() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles.pop("affect-gpu") == ["gpu"]
    assert profiles == {name: ["replicas"] for name in ("replica", "proxy", "postgres")}
    gpu = SERVICES["affect-gpu"]
    assert gpu["environment"] == {"AFFECT_DEVICE": "cuda", "AFFECT_API_KEYS": None}
    assert [device["driver"] for device in gpu["deploy"]["resources"]["reservations"]["devices"]] == ["nvidia"]


def test_replicas_share_their_jobs() -> None:
    replica = SERVICES["replica"]
    user, password = (SERVICES["postgres"]["environment"][f"POSTGRES_{name}"] for name in ("USER", "PASSWORD"))
    assert replica["environment"]["AFFECT_JOBS_URL"] == f"postgresql://{user}:{password}@postgres/affect"
    assert replica["environment"]["AFFECT_JOBS_DIR"] == "/jobs"
    assert replica["volumes"] == ["jobs:/jobs"]
    # A volume that is mounted there for the first time gets its owner.
    assert "install -d -o 10001 -g 10001 /jobs" in [text for name, text in stage("packages") if name == "RUN"]


def test_the_proxy_lets_the_largest_upload_and_the_longest_answer_pass() -> None:
    config = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    found = dict(re.findall(r"^\s+(\w+) ([^;]+);", config, re.M))
    assert size(found["client_max_body_size"]) >= default("job_max_upload_bytes")
    assert float(found["proxy_read_timeout"].removesuffix("s")) >= default("video_deadline_s")
    assert (found["proxy_buffering"], found["proxy_request_buffering"]) == ("off", "off")
    assert "http://replica:8000" in config  # by which Docker names all of that service, and no other


@pytest.mark.system("nginx")
def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    config = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    path = tmp_path / "nginx.conf"
    path.write_text(config.replace("/tmp/", f"{tmp_path}/"), encoding="utf-8")
    subprocess.run(["nginx", "-t", "-q", "-c", path], check=True, timeout=20)


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
