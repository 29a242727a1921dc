"""Rules and dashboard, judged by promtool and by a real Prometheus that scrapes a running service."""

import math
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx2
import numpy as np
import pytest
import yaml
from websockets.sync.client import connect

from benchmarks.clip import write_clip
from tests.deploy.files import PANEL_QUERIES, PROMETHEUS, ROOT, RULES, read_yaml
from tests.service.media_files import encoded
from tests.service.processes import free_port, service, wait_until_ready

QUIET_PANELS = {"Alerts"}
"""Empty when all is well."""
WEEK_OLD = re.compile(r"offset 1w|offset 6h|(?:ratio|increase)1w")
"""In queries that a new Prometheus cannot answer yet."""
TESTS = sorted(path.name for path in (PROMETHEUS / "tests").glob("*.yml"))
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")


@pytest.mark.system("promtool")
@pytest.mark.parametrize("command", ["check config prometheus.yml", *(f"test rules tests/{name}" for name in TESTS)])
def test_promtool_finds_nothing(command: str) -> None:
    done = subprocess.run(["promtool", *command.split()], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_one_case_and_rests_in_another() -> None:
    cases = [case for name in TESTS for case in read_yaml(PROMETHEUS / "tests" / name)["tests"]]
    checks = [check for case in cases for check in case.get("alert_rule_test", [])]
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == ALERTS.keys()
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == ALERTS.keys()


def test_a_lone_video_fires_no_alert() -> None:
    [case] = [
        case
        for case in read_yaml(PROMETHEUS / "tests" / "rules_test.yml")["tests"]
        if "one video alone" in case["name"]
    ]
    checks = [check for check in case["promql_expr_test"] if check["expr"] == "ALERTS"]
    assert len(checks) == 3
    assert all(check["exp_samples"] == [] for check in checks)


def test_every_alert_has_a_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.M | re.S)
    assert [name for name, _ in sections] == list(ALERTS)
    for name, text in sections:
        assert ALERTS[name]["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert text.count("**Meaning.**") == 1
        assert "**Look" in text
        assert "**Do.**" in text or "**Look and do.**" in text


def test_the_runbook_names_panels_and_metrics_that_exist() -> None:
    titles = {title for title, _ in PANEL_QUERIES}
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", RUNBOOK))
    assert {"Errors", "Queue wait"} <= named
    assert {name for name in named if not any(title.startswith(name) for title in titles)} == set()


@contextmanager
def prometheus(folder: Path, service_port: int) -> Iterator[str]:
    """The URL of a server with the shipped configuration, but quicker, and with an address instead of a name."""
    configuration = read_yaml(PROMETHEUS / "prometheus.yml")
    configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    configuration["rule_files"] = [str(PROMETHEUS / name) for name in configuration["rule_files"]]
    [job] = configuration["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{service_port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=log) as process,
    ):
        try:
            wait_until_ready(process, f"http://{address}", "/-/ready")
            yield f"http://{address}"
        finally:
            process.kill()


CLIENT = httpx2.Client()  # one takes 20 ms to make


def ask(url: str, path: str, **parameters: str) -> Any:
    answer = CLIENT.get(f"{url}/api/v1/{path}", params=parameters).json()
    assert answer["status"] == "success", (parameters, answer)
    return answer["data"]


def answers(url: str, query: str) -> bool:
    """Whether there is a number; nothing, or 0 / 0, is none. Fails where the query is wrong."""
    result = ask(url, "query", query=query.replace("$__rate_interval", "30s"))["result"]
    return any(math.isfinite(float(sample["value"][1])) for sample in result)


def names(queries: list[str]) -> set[str]:
    return {name for query in queries for name in re.findall(r"(?:[a-z]+:)?(?:affect|process)_[\w:]+", query)}


@pytest.mark.system("prometheus")
def test_prometheus_answers_every_query(tmp_path: Path, tiny_bundle_dir: Path, astronaut: np.ndarray) -> None:
    write_clip(tmp_path / "clip.mp4", 2, 10)
    small = cv2.resize(astronaut, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)  # a face of 19 pixels is doubted
    sent = [("/analyze/frame", body) for body in (encoded(astronaut, ".png"), encoded(small, ".png"), b"no picture")]
    sent.append(("/analyze/video", (tmp_path / "clip.mp4").read_bytes()))
    port = free_port()
    variables = {"AFFECT_PORT": str(port), "AFFECT_BUNDLES": str(tiny_bundle_dir), "AFFECT_LOG_LEVEL": "warning"}
    variables["AFFECT_JOBS_DIR"] = str(tmp_path / "jobs")
    must_answer = {query for title, query in PANEL_QUERIES if title not in QUIET_PANELS}
    must_answer |= {rule["expr"] for rule in RULES if "record" in rule}
    must_answer = {query for query in must_answer if not WEEK_OLD.search(query)}
    with service(**variables, AFFECT_DEVICE="cpu") as process, prometheus(tmp_path, port) as url:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 60
        while must_answer and time.monotonic() < deadline:
            for path, body in sent:  # rates need counters that grow
                httpx2.post(f"http://127.0.0.1:{port}{path}", files={"file": body}, timeout=20)
            with connect(f"ws://127.0.0.1:{port}/live") as live:
                for frame in (encoded(astronaut, ".png"), b"no picture"):
                    live.recv(timeout=20)  # that it is ready, and then the answer
                    live.send(frame)
                live.recv(timeout=20)
            must_answer = {query for query in must_answer if not answers(url, query)}
        assert not must_answer
        every_query = [query for _, query in PANEL_QUERIES] + [rule["expr"] for rule in RULES]
        for query in every_query:
            answers(url, query)
        known = set(ask(url, "label/__name__/values"))
        assert {name for name in names(every_query) - known if not WEEK_OLD.search(name)} == set()
        evaluated = [rule for group in ask(url, "rules")["groups"] for rule in group["rules"]]
        assert [rule["name"] for rule in evaluated if rule["health"] != "ok"] == []
        assert len(evaluated) == len(RULES)
