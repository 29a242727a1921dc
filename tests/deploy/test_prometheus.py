"""Rules and dashboard, judged by promtool and by a real Prometheus that scrapes a running service."""

import math
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import yaml

from tests.deploy.files import PANEL_QUERIES, PROMETHEUS, RULES, read_yaml
from tests.service.media_files import encoded
from tests.service.processes import free_port, service, wait_until_ready

QUIET_PANELS = {"Alerts"}
"""Empty when all is well."""
MEASURED_ALERTS = {"AffectErrors", "AffectSlow", "AffectQueueWait"}
"""Those that compare a measure with a bound: the measure must be there before it is too high."""


@pytest.mark.system("promtool")
@pytest.mark.parametrize("command", ["check config prometheus.yml", "test rules tests/rules_test.yml"])
def test_promtool_finds_nothing(command: str) -> None:
    done = subprocess.run(["promtool", *command.split()], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    cases = read_yaml(PROMETHEUS / "tests" / "rules_test.yml")["tests"]
    firing = {check["alertname"] for case in cases for check in case.get("alert_rule_test", []) if check["exp_alerts"]}
    assert firing == {rule["alert"] for rule in RULES if "alert" in rule}


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


def ask(url: str, path: str, **parameters: str) -> Any:
    answer = httpx2.get(f"{url}/api/v1/{path}", params=parameters).json()
    assert answer["status"] == "success", (parameters, answer)
    return answer["data"]


def answers(url: str, query: str) -> bool:
    """Whether there is a number; nothing, or 0 / 0, is none. Fails where the query is wrong."""
    result = ask(url, "query", query=query.replace("$__rate_interval", "30s"))["result"]
    return any(math.isfinite(float(sample["value"][1])) for sample in result)


def names(queries: list[str]) -> set[str]:
    return {name for query in queries for name in re.findall(r"(?:route:)?(?:affect|process)_[\w:]+", query)}


@pytest.mark.system("prometheus")
def test_prometheus_answers_every_query(tmp_path: Path, tiny_bundle_dir: Path, astronaut: np.ndarray) -> None:
    port = free_port()
    variables = {"AFFECT_PORT": str(port), "AFFECT_BUNDLES": str(tiny_bundle_dir), "AFFECT_LOG_LEVEL": "warning"}
    must_answer = {query for title, query in PANEL_QUERIES if title not in QUIET_PANELS}
    must_answer |= {rule["expr"] for rule in RULES if "record" in rule}
    must_answer |= {
        re.sub(r"\s*> [\d.]+\s*$", "", rule["expr"]) for rule in RULES if rule.get("alert") in MEASURED_ALERTS
    }
    with service(**variables, AFFECT_DEVICE="cpu") as process, prometheus(tmp_path, port) as url:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 60
        while must_answer and time.monotonic() < deadline:
            for body in (encoded(astronaut, ".png"), b"no picture"):  # rates need counters that grow
                httpx2.post(f"http://127.0.0.1:{port}/analyze/frame", files={"file": body}, timeout=20)
            must_answer = {query for query in must_answer if not answers(url, query)}
        assert not must_answer
        every_query = [query for _, query in PANEL_QUERIES] + [rule["expr"] for rule in RULES]
        for query in every_query:
            answers(url, query)
        assert names(every_query) <= set(ask(url, "label/__name__/values"))
        evaluated = [rule for group in ask(url, "rules")["groups"] for rule in group["rules"]]
        assert [rule["name"] for rule in evaluated if rule["health"] != "ok"] == []
        assert len(evaluated) == len(RULES)
