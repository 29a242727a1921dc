"""Prometheus metrics with bounded labels, and clocks for the stages of a request, which also go to its trace."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from opentelemetry import trace
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from model_core.affect import Affect
from model_core.bundles.manifest import BundleManifest
from model_core.faces.quality import Quality
from model_core.inference.runtimes import RuntimeOptions

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SHARES = tuple(i / 10 for i in range(1, 11))
_PIXELS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
_VALENCES = tuple(i / 4 for i in range(-3, 5))


class Telemetry:
    """All metrics of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.requests = counter("affect_requests", "Answered requests.", ["route", "status"])
        self.request_seconds = histogram(
            "affect_request_seconds",
            "Time from the start of a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
        )
        self.in_flight = gauge("affect_in_flight", "Requests being answered.", ["route"])
        self.rejected = counter("affect_rejected", "Requests that ended with an error, by its code.", ["reason"])
        self.cut_off = counter(
            "affect_cut_off",
            "Answers that failed after their status, 200, was sent, by the error's code.",
            ["route", "reason"],
        )
        self.stage_seconds = histogram(
            "affect_stage_seconds", "Time in a stage of the pipeline.", ["stage"], buckets=_SECONDS
        )
        self.decoder_losses = counter(
            "affect_decoder_losses",
            "Decoder processes that a file crashed, kept from getting on, or took too much memory.",
            ["reason"],
        )
        for reason in ("crashed", "slow", "memory"):  # so that they are 0 before the first
            self.decoder_losses.labels(reason)
        self.batch_size = histogram("affect_batch_size", "Faces in a forward pass.", buckets=_SIZES)
        self.batch_retries = counter(
            "affect_batch_retries", "Forward passes that failed and were tried again in halves."
        )
        self.queue_depth = gauge("affect_queue_depth", "Faces waiting for a forward pass.")
        self.queue_wait = histogram(
            "affect_queue_wait_seconds",
            "Time a face waited for its batch: interactive is a picture's, bulk a video's.",
            ["lane"],
            buckets=_SECONDS,
        )
        self.max_wait = gauge(
            "affect_max_wait_seconds",
            "Longest expected queue wait of a request that is admitted, as it is set.",
            ["lane"],
        )
        self.model_info = gauge(
            "affect_model_info", "Loaded bundles.", ["bundle", "version", "device", "engine", "precision"]
        )
        self.temp_free = gauge("affect_temp_free_bytes", "Room for uploads in the temporary folder.")
        self.memory_limit = gauge("affect_memory_limit_bytes", "Memory that the process and its children may use.")
        self._add_faces()

    def _add_faces(self) -> None:
        """Make the metrics of what `frame` records."""
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.faces_per_frame = histogram("affect_faces_per_frame", "Faces found in a frame.", buckets=(0, *_SIZES))
        self.frames = counter("affect_frames", "Analysed frames.", ["route"])
        self.faces = counter(
            "affect_faces", "Analysed faces, by whether there is no reason to doubt them.", ["reliable"]
        )
        for reliable in ("true", "false"):  # so that shares are known before the first doubt
            self.faces.labels(reliable)
        self.doubts = counter(
            "affect_face_doubts", "Reasons to doubt an analysed face; it may have several.", ["reason"]
        )
        self.face_size = histogram("affect_face_size_pixels", "Shorter side of a face's box.", buckets=_PIXELS)
        self.valence = histogram("affect_valence", "Estimated valence.", buckets=_VALENCES)
        self.predictions = counter("affect_predictions", "Faces by top expression.", ["expression"])
        self.confidence = histogram(
            "affect_expression_confidence", "Probability of the top expression.", buckets=_SHARES
        )

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return self.rendered_as("text/plain;version=0.0.4")[0]

    def rendered_as(self, exposition: str) -> tuple[bytes, str]:
        """Return all metrics in a format of Prometheus, by its media type and version, and their content type."""
        encode, content_type = choose_encoder(exposition)
        return encode(self.registry), content_type

    def model_loaded(self, manifest: BundleManifest, device: str, options: RuntimeOptions) -> None:
        """Publish a loaded bundle."""
        self.model_info.labels(manifest.name, manifest.version, device, options.engine, options.precision).set(1)

    def resources(self, temp_free: Callable[[], float], memory_limit: int) -> None:
        """Publish what the machine grants, in bytes; `temp_free` is called at each scrape, and must not raise."""
        self.temp_free.set_function(temp_free)
        self.memory_limit.set(memory_limit)

    def batch(self, size: int, wait_s: Mapping[str, Sequence[float]], run_s: float) -> None:
        """Record a forward pass of `size` faces, and the seconds that they waited, by lane; called by the batcher."""
        self.batch_size.observe(size)
        self.stage_seconds.labels("predict").observe(run_s)
        for lane, waits in wait_s.items():
            for seconds in waits:
                self.queue_wait.labels(lane).observe(seconds)

    def halved(self, size: int) -> None:
        """Record that a forward pass of `size` faces failed and is retried in halves; called by the batcher."""
        self.batch_retries.inc()

    def frame(self, route: str, faces: Sequence[tuple[Affect, Quality]]) -> None:
        """Record an analysed frame with its faces. Only sums over all requests are kept."""
        self.frames.labels(route).inc()
        self.faces_per_frame.observe(len(faces))
        for affect, quality in faces:
            self.faces.labels("true" if quality.reliable else "false").inc()
            for reason in quality.reasons:
                self.doubts.labels(reason).inc()
            self.face_size.observe(quality.face_px)
            if affect.valence is not None:
                self.valence.observe(affect.valence)
            if affect.expression:
                self.predictions.labels(affect.expression.label).inc()
                self.confidence.observe(affect.expression.probabilities[affect.expression.label])


class StageClock:
    """Measures the stages of one request, also for the stage histogram, and counts its analysed frames."""

    def __init__(self, telemetry: Telemetry, route: str) -> None:
        """`route`: the label under which frames are counted, such as `/analyze/video`."""
        self._telemetry = telemetry
        self._route = route
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(name, time.perf_counter() - started)

    def observe(self, name: str, seconds: float) -> None:
        """Record a stage of this request that was measured elsewhere."""
        self.add(name, seconds)
        self._telemetry.stage_seconds.labels(name).observe(seconds)

    def add(self, name: str, seconds: float) -> None:
        """Add time to this request only, for a stage that it shared with others."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def count_frame(self, faces: Sequence[tuple[Affect, Quality]]) -> None:
        """Record an analysed frame with the estimates for its faces, and their quality."""
        self._telemetry.frame(self._route, faces)

    def timings(self) -> dict[str, float]:
        """Return seconds by stage so far, and `total`; they become attributes of the request's span."""
        seconds = {**self._seconds, "total": time.perf_counter() - self._started}
        trace.get_current_span().set_attributes({f"affect.{stage}_s": spent for stage, spent in seconds.items()})
        return seconds


def trace_id() -> str | None:
    """Return the id of the current request's trace, 32 hexadecimal digits; None if it is not traced."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else None
