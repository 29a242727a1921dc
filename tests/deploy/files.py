"""What is deployed, read from its files."""

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "affect.json").read_text(encoding="utf-8"))
PANEL_QUERIES: list[tuple[str, str]] = [
    (panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]
]
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted(PROMETHEUS.glob("rules/*.yml"))
    for group in read_yaml(path)["groups"]
    for rule in group["rules"]
]
