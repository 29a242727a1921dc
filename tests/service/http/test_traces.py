"""Traces: off by default; on, one span a request that reaches the collector."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import structlog
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import png

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Paths and content types of what a collector has been sent."""
    requests = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers["Content-Type"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield requests
        server.shutdown()
        thread.join()


def service(settings: Settings) -> TestClient:
    return TestClient(create_app(settings, FakeDetector(face_at(8, 8, 32)), FakePredictor()))


def test_one_span_a_request_reaches_the_collector_if_it_is_asked_for(received: list[tuple[str, str]]) -> None:
    spans = InMemorySpanExporter()
    with (
        service(Settings(otel=True)) as client,
        structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as log,
    ):
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(spans))
        stages = client.post("/analyze/frame", files={"file": png(100)}, headers=PARENT).json()["timings_ms"]
        client.get("/readyz")
    [span] = spans.get_finished_spans()
    assert (span.name, span.kind) == ("POST /analyze/frame", trace.SpanKind.SERVER)
    assert trace.format_trace_id(span.context.trace_id) == TRACE
    assert span.attributes["http.response.status_code"] == 200
    measured = {name: spent for name, spent in span.attributes.items() if name.startswith("affect.")}
    assert measured == {f"affect.{name}_s": pytest.approx(spent / 1000, abs=1e-5) for name, spent in stages.items()}
    assert [line.get("trace_id") for line in log] == [TRACE, None]
    assert received == [("/v1/traces", "application/x-protobuf")]

    spans.clear()
    with service(Settings()) as client:  # although this process has a tracer by now
        assert client.post("/analyze/frame", files={"file": png(100)}, headers=PARENT).status_code == 200
    assert spans.get_finished_spans() == ()
