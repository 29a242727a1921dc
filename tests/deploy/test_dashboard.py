"""The dashboard and what provisions it agree; its queries are put to a real Prometheus in test_prometheus.py."""

from itertools import combinations
from typing import Any

import pytest

from tests.deploy.files import DASHBOARD, GRAFANA, PANEL_QUERIES, PROMETHEUS, ROOT, read_yaml

PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
COMPOSE = read_yaml(ROOT / "docker-compose.yml")["services"]
[SOURCE] = read_yaml(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_is_explained_and_asks_the_provisioned_source(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    reference = {"type": SOURCE["type"], "uid": SOURCE["uid"]}
    assert panel["datasource"] == reference
    assert panel["targets"]
    assert all(target["datasource"] == reference for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_panels_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for a, b in combinations((panel["gridPos"] for panel in PANELS), 2):
        apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_x or apart_y, (a, b)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_it_shows_what_matters() -> None:
    queries = " ".join(query for _, query in PANEL_QUERIES)
    for metric in (
        "affect_requests_total affect_request_seconds_bucket affect_stage_seconds_bucket affect_batch_size_sum "
        "affect_queue_depth affect_queue_wait_seconds_bucket affect_rejected_total affect_in_flight "
        "affect_faces_per_frame_sum affect_frames_total affect_predictions_total affect_expression_confidence_bucket "
        "affect_model_info process_resident_memory_bytes process_cpu_seconds_total ALERTS affect_temp_free_bytes "
        "affect_memory_limit_bytes affect_faces_total affect_face_doubts_total affect_face_size_pixels_bucket "
        "affect_jobs affect_job_seconds_count affect_job_oldest_queued_seconds "
        "affect_valence_bucket share:affect_drift:ratio6h slo:affect_budget_burn:rate1h "
        "affect_live_connections affect_live_skipped_total affect_live_failures_total affect_live_seconds_bucket"
    ).split():
        assert metric in queries, metric


def test_grafana_finds_its_files_and_prometheus() -> None:
    mounts = dict(mount.split(":")[:2] for mount in COMPOSE["grafana"]["volumes"])
    [provider] = read_yaml(GRAFANA / "provisioning" / "dashboards" / "affect.yml")["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/affect.json"
    assert SOURCE["url"] == "http://prometheus:9090"
    interval = read_yaml(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert SOURCE["jsonData"]["timeInterval"] == interval
