"""Prometheus metrics with bounded labels, and clocks for the stages of a request, which also go to its trace."""

import asyncio
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
_JOB_SECONDS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14_400, 28_800)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SHARES = tuple(i / 10 for i in range(1, 11))
_PIXELS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
_VALENCES = tuple(i / 4 for i in range(-3, 5))


class Telemetry:
    """All metrics of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._exposing: dict[str, asyncio.Task[tuple[bytes, str]]] = {}
        """What is about to be rendered, by its format."""
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
        self.connections_refused = counter(
            "affect_connections_refused", "Connections beyond AFFECT_MAX_CONNECTIONS, which were refused."
        )
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
        self._add_resources()
        self._add_faces()
        self._add_jobs()
        self._add_live()

    def _add_resources(self) -> None:
        """Make the metrics of what is loaded, and of memory and room."""
        gauge = partial(Gauge, registry=self.registry)
        self.model_info = gauge(
            "affect_model_info", "Loaded bundles.", ["bundle", "version", "device", "engine", "precision"]
        )
        self.device_memory = gauge(
            "affect_device_memory_bytes",
            "Memory of a GPU that the process holds, without that of CUDA itself.",
            ["device"],
        )
        self.temp_free = gauge("affect_temp_free_bytes", "Room for uploads in the temporary folder.")
        self.memory_limit = gauge("affect_memory_limit_bytes", "Memory that the process and its children may use.")

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

    def _add_jobs(self) -> None:
        """Make the metrics of `jobs_counted`, `jobs_waited` and `job_ended`."""
        self.jobs = Gauge(
            "affect_jobs", "Jobs in the table, which several processes may share.", ["state"], registry=self.registry
        )
        self.job_oldest = Gauge(
            "affect_job_oldest_queued_seconds",
            "Time for which the oldest job that waits has done so; 0 where none waits.",
            registry=self.registry,
        )
        self.job_seconds = Histogram(
            "affect_job_seconds",
            "Time from a job's last claim to its end, of those that this process ended.",
            ["state"],
            buckets=_JOB_SECONDS,
            registry=self.registry,
        )
        for state in ("succeeded", "failed"):  # so that the first failure is a growth
            self.job_seconds.labels(state)

    def decoder_lost(self, reason: str) -> None:
        """Record that a process that decodes had to be given up: `crashed`, `slow` or `memory`."""
        self.decoder_losses.labels(reason).inc()

    def _add_live(self) -> None:
        """Make the metrics of live connections; their frames also count among those of all routes."""
        self.live_connections = Gauge(
            "affect_live_connections",
            "Open live connections, without those whose key is awaited.",
            registry=self.registry,
        )
        self.live_skipped = Counter(
            "affect_live_skipped",
            "Frames of live connections that were not analysed: a newer one came (newer), there were more than allowed "
            "(rate), or the service had no time (overloaded).",
            ["reason"],
            registry=self.registry,
        )
        for reason in ("newer", "rate", "overloaded"):  # so that they are 0 before the first
            self.live_skipped.labels(reason)
        self.live_failures = Counter(
            "affect_live_failures",
            "Frames of live connections that could not be analysed, by the error's code.",
            ["reason"],
            registry=self.registry,
        )
        self.live_seconds = Histogram(
            "affect_live_seconds",
            "Time from the arrival of a live frame to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def live_answered(self, seconds: float) -> None:
        """Record that a live frame was answered, so many seconds after it came."""
        self.live_seconds.observe(seconds)

    def live_failed(self, code: str) -> None:
        """Record that a live frame could not be analysed, for an error of this code."""
        self.live_failures.labels(code).inc()

    def live_frame_skipped(self, reason: str) -> None:
        """Record that a live frame was not analysed."""
        self.live_skipped.labels(reason).inc()

    def jobs_counted(self, counts: Mapping[str, int]) -> None:
        """Publish how many jobs there are in each state."""
        for state, number in counts.items():
            self.jobs.labels(state).set(number)

    def jobs_waited(self, seconds: float) -> None:
        """Publish for how long the oldest job that waits has done so."""
        self.job_oldest.set(seconds)

    def job_ended(self, state: str, seconds: float) -> None:
        """Record the end of a job, so many seconds after it was claimed."""
        self.job_seconds.labels(state).observe(seconds)

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return self.rendered_as("text/plain;version=0.0.4")[0]

    def rendered_as(self, exposition: str) -> tuple[bytes, str]:
        """Return all metrics in a format of Prometheus, by its media type and version, and their content type."""
        encode, content_type = choose_encoder(exposition)
        return encode(self.registry), content_type

    async def exposed_as(self, exposition: str) -> tuple[bytes, str]:
        """Return the same, rendered once for all who ask in the same turn of the event loop, since it takes a while."""
        if exposition not in self._exposing:
            self._exposing[exposition] = asyncio.create_task(self._next_exposed(exposition))
        return await asyncio.shield(self._exposing[exposition])

    async def _next_exposed(self, exposition: str) -> tuple[bytes, str]:
        del self._exposing[exposition]  # whoever asks from now on gets what is rendered from now on
        return self.rendered_as(exposition)

    def model_loaded(self, manifest: BundleManifest, device: str, options: RuntimeOptions) -> None:
        """Publish a loaded bundle."""
        self.model_info.labels(manifest.name, manifest.version, device, options.engine, options.precision).set(1)

    def device_used(self, device: str, held: Callable[[], float]) -> None:
        """Publish the bytes that the process holds of a GPU's memory; `held` is called at each scrape."""
        self.device_memory.labels(device).set_function(held)

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
