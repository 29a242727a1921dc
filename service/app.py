"""The composition root: builds the app from settings and loaded parts. No other module constructs what it uses."""

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from functools import cache, partial
from typing import Any

import cv2
import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from model_core.bundles.bundle import code_version
from model_core.faces.detection import FaceDetector
from model_core.faces.tracking import prepare_tracking
from model_core.inference.predictor import Predictor
from service.analysis.estimating import BatchedEncoder, Estimator
from service.analysis.locating import Locator, WatchedDetector
from service.analysis.pipeline import Pipeline
from service.errors import Limit
from service.http.dependencies import Context, Jobs, Live, Model
from service.http.folder import upload_folder, why_unwritable
from service.http.jobs import VideoJobs
from service.http.middleware import HeadAsGet, RequestContext, RequireKey
from service.http.openapi import complete
from service.http.problems import install_handlers
from service.http.routes import analyze, jobs, live, operations, page
from service.http.security import ApiKeys, Origins
from service.http.websockets import PATH as LIVE_PATH
from service.jobs.worker import JobWorker
from service.live.places import Places
from service.loading import open_jobs
from service.machine import free_bytes, give_freed_memory_back, memory_limit_bytes
from service.media.decoders import DecoderPool, RendererPool
from service.media.limits import DecodeLimits
from service.media.worker import file_memory_bytes
from service.output.annotation.video import Studio
from service.output.bundles import describe_tasks
from service.output.schemas import ModelInfo
from service.readiness import Readiness
from service.scheduling.admission import Admission
from service.scheduling.lanes import Lane
from service.scheduling.pool import WorkerPool
from service.scheduling.replica import BatchLimits
from service.scheduling.watchdog import Watchdog
from service.settings import Settings, variable
from service.telemetry import Telemetry

logger = structlog.get_logger("service")

FILL_S = 0.02
"""Seconds up to which a forward pass is filled with a video's faces, or with many faces of one picture: no more than a
picture takes itself on two cores, for a picture may come at its start and wait for its end."""

OPEN_VIDEOS = 4
"""Most videos that are read at the same time, for each thread that decodes, unless the settings say how many."""

SERVICE_BYTES = 1024**3
"""Memory that the processes of open videos leave to the service itself, and to pictures."""

TITLE = "Facial affect service"
ROUTERS = (analyze.router, jobs.router, live.router, operations.router, page.router)

EXIT_HUNG = 70
"""Exit status of a process in which a thread hangs, so that a supervisor restarts it."""


def end_process() -> None:
    """End the process without waiting for its threads; called when one has hung for twice `stall_s`."""
    logger.critical("a thread hangs in the network or in face detection; the process ends", exit_status=EXIT_HUNG)
    os._exit(EXIT_HUNG)


@cache
def _document(open_routes: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the OpenAPI document; `open_routes` are those that require no key, None if no route requires one.

    It is made once in a process, since that takes longer than everything else that an app consists of.
    """
    app = FastAPI(title=TITLE, version=code_version())
    for router in ROUTERS:
        app.include_router(router)
    document = app.openapi()
    complete(document, open_routes)
    return document


class _App(FastAPI):
    """An app whose OpenAPI document is complete, and shared by the apps of a process."""

    open_routes: tuple[str, ...] | None = None

    def openapi(self) -> dict[str, Any]:
        return _document(self.open_routes)


def create_app(
    settings: Settings,
    detector: FaceDetector,
    predictor: Predictor | None,
    on_hang: Callable[[], None] = end_process,
    replicas: Sequence[Predictor] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> FastAPI:
    """An app around a detector and a predictor, `replicas` being the same on further devices.

    Without a predictor it lives, and says that it is not ready. `on_hang`: for a call that outlasts twice `stall_s`.
    `clock` gives the seconds that requests are admitted by.
    """
    telemetry = Telemetry()
    limits = DecodeLimits(settings.max_pixels, settings.max_video_s, settings.max_frames)
    keys = ApiKeys(settings.api_keys) if settings.api_keys else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        cv2.setNumThreads(1)  # parallelism comes from the pool
        decoders = DecoderPool(settings.decode_workers, settings.max_pixels, on_loss=telemetry.decoder_lost)
        with upload_folder() as directory, closing(decoders):
            context = partial(
                Context,
                settings,
                telemetry,
                directory=directory,
                limits=limits,
                decoders=decoders,
                live=_live(settings, telemetry, keys),
            )
            telemetry.resources(partial(free_bytes, directory), memory_limit_bytes())
            if predictor is None:
                app.state.context = context(readiness=Readiness(()), model=None)
                yield
                return
            decoders.start()
            predictors = (predictor, *replicas)
            async with _serving(settings, detector, predictors, telemetry, on_hang, clock) as (readiness, model):
                readiness.require_storage(partial(why_unwritable, directory))
                try:
                    async with _jobs(settings, model, decoders, telemetry, readiness) as jobs:
                        app.state.context = context(readiness=readiness, model=model, jobs=jobs)
                        yield
                finally:
                    decoders.close()  # before the threads end, for they wait for what it decodes

    app = _App(
        title=TITLE,
        version=code_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would name the host that the client claims
        telemetry=_traces(settings),
    )
    return _mount(app, settings, telemetry, keys)


@asynccontextmanager
async def _serving(
    settings: Settings,
    detector: FaceDetector,
    predictors: Sequence[Predictor],
    telemetry: Telemetry,
    on_hang: Callable[[], None],
    clock: Callable[[], float],
) -> AsyncIterator[tuple[Readiness, Model]]:
    """The threads that work, from the first request to the last."""
    watchdog = Watchdog(settings.stall_s, on_hang)
    pool = WorkerPool(settings.decode_workers, watchdog, at_rest=give_freed_memory_back)
    encoders = _encoders(settings, predictors, telemetry, watchdog)
    estimator = Estimator(encoders)
    admission = _admission(settings, estimator, pool, clock)
    model = _model(settings, WatchedDetector(detector, watchdog), predictors, estimator, pool, telemetry, admission)
    pool.run(prepare_tracking, Lane.BULK)
    try:
        yield Readiness(encoders, lambda: pool.stalled), model
    finally:
        await estimator.close()
        await pool.close()


@asynccontextmanager
async def _jobs(
    settings: Settings, model: Model, decoders: DecoderPool, telemetry: Telemetry, readiness: Readiness
) -> AsyncIterator[Jobs | None]:
    """The jobs, and a worker on them; None where no folder is set for them."""
    store = open_jobs(settings)
    if store is None:
        yield None
        return
    with ExitStack() as stack:
        stack.enter_context(closing(store))
        limits = DecodeLimits(
            settings.max_pixels,
            settings.job_max_video_s,
            settings.job_max_frames,
            variable("job_max_video_s"),
            variable("job_max_frames"),
        )
        renderers = stack.enter_context(closing(RendererPool(settings.max_pixels, telemetry.decoder_lost)))
        max_upload = settings.limit("job_max_upload_bytes")
        studio = Studio(model.pipeline, decoders, renderers, limits, max_upload, store.files.scratch)
        analysis = VideoJobs(model, studio, telemetry)
        time_limit = settings.limit("job_timeout_s")
        worker = JobWorker(
            store, analysis, telemetry, time_limit, settings.job_workers, may_claim=lambda: not readiness.draining
        )
        async with worker:
            yield Jobs(store, worker)


def _live(settings: Settings, telemetry: Telemetry, keys: ApiKeys | None) -> Live:
    """Return what live connections share."""
    most = settings.limit("live_connections")
    places = Places(most, telemetry.live_connections.set)
    return Live(places, Places(most), keys, Origins(settings.allowed_origins))


def _traces(settings: Settings) -> TelemetryConfig:
    """Return the tracing options: one span for each request except probes, exported as the OTEL_ variables say."""
    return {
        "tracing": settings.otel,
        "auto_configure": settings.otel,
        "operation_spans": False,  # the stages are in the request's span
        "metrics": False,  # they are at /metrics
        "logs": False,
        "exclude": lambda scope: scope["path"] in operations.OPEN_ROUTES,
    }


def _mount(app: _App, settings: Settings, telemetry: Telemetry, keys: ApiKeys | None) -> FastAPI:
    """Add routes, middleware and error handlers; if there are API keys, all routes but the open ones require one."""
    routes = list(app.router.routes)  # the framework's own
    for router in ROUTERS:
        app.include_router(router)
        routes += router.routes
    if keys is not None:
        app.open_routes = page.OPEN_ROUTES + (() if settings.protect_operations else operations.OPEN_ROUTES)
        app.add_middleware(RequireKey, keys=keys, open_routes=app.open_routes, asking_routes=(LIVE_PATH,))
    app.openapi()  # no request has to wait until it is made
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestContext, telemetry=telemetry, routes=routes)
    install_handlers(app)
    return app


def _encoders(
    settings: Settings, predictors: Sequence[Predictor], telemetry: Telemetry, watchdog: Watchdog
) -> list[BatchedEncoder]:
    limits = BatchLimits(settings.max_batch, FILL_S)
    replicas = zip(*(predictor.encoders for predictor in predictors), strict=True)
    return [BatchedEncoder(each, limits, watchdog, observer=telemetry) for each in replicas]


def _wait_limits(settings: Settings) -> dict[Lane, Limit]:
    names = {Lane.INTERACTIVE: "max_wait_s", Lane.LIVE: "live_max_wait_s", Lane.BULK: "max_video_wait_s"}
    return {lane: settings.limit(name) for lane, name in names.items()}


def _admission(settings: Settings, estimator: Estimator, pool: WorkerPool, clock: Callable[[], float]) -> Admission:
    """Admission by the settings' limits; nobody is admitted to whom stalled calls leave no thread."""

    def why_blocked(lane: Lane) -> str | None:
        if estimator.blocked:
            return "the network does not answer"
        return "face detection does not answer" if pool.blocked(lane) else None

    limits_s = {lane: float(limit["value"]) for lane, limit in _wait_limits(settings).items()}
    return Admission(limits_s, settings.decode_workers, why_blocked, clock)


def open_videos(settings: Settings) -> int:
    """Return how many videos may be read at the same time: one for each thread, and more as far as memory goes."""
    if settings.open_videos is not None:
        return settings.open_videos
    room = (memory_limit_bytes() - SERVICE_BYTES) // file_memory_bytes("video", settings.max_pixels)
    return max(settings.decode_workers, min(room, OPEN_VIDEOS * settings.decode_workers))


def _model(
    settings: Settings,
    detector: FaceDetector,
    predictors: Sequence[Predictor],
    estimator: Estimator,
    pool: WorkerPool,
    telemetry: Telemetry,
    admission: Admission,
) -> Model:
    predictor = predictors[0]
    devices = [each.device for each in predictors]
    options = predictor.options
    telemetry.queue_depth.set_function(lambda: estimator.queue_depth)
    for manifest in predictor.manifests:
        for device in devices:
            telemetry.model_loaded(manifest, device, options)
    for device in devices:
        if device.startswith("cuda"):
            from model_core.inference.torch_runtime import held_bytes  # torch, which only GPUs need

            telemetry.device_used(device, partial(held_bytes, device))
    waits = _wait_limits(settings)
    for lane, limit in waits.items():
        telemetry.max_wait.labels(lane.label).set(limit["value"])
    locator = Locator(detector, [encoder.input for encoder in predictor.encoders], settings.scan_every_s)
    pipeline = Pipeline(locator, estimator, predictor, pool, admission, waits, open_videos(settings))
    info, framewise = (
        ModelInfo(
            device=",".join(devices),
            engine=options.engine,
            precision=options.precision,
            detector=detector.name,
            tasks=describe_tasks(reader.tasks),
        )
        for reader in (predictor.everything, predictor.framewise)
    )
    return Model(pipeline, predictor, info, framewise)
