"""The composition root: builds the app from settings and loaded parts. No other module constructs what it uses."""

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial

import cv2
import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from model_core.bundles.bundle import code_version
from model_core.faces.detection import FaceDetector
from model_core.inference.predictor import Predictor
from service.analysis.estimating import BatchedEncoder, Estimator
from service.analysis.locating import Locator, WatchedDetector
from service.analysis.pipeline import Pipeline
from service.errors import Limit
from service.http.dependencies import Context, Model
from service.http.folder import upload_folder, why_unwritable
from service.http.middleware import RequestContext, RequireKey
from service.http.openapi import complete
from service.http.problems import install_handlers
from service.http.routes import analyze, operations
from service.http.security import ApiKeys
from service.machine import free_bytes, memory_limit_bytes
from service.media.decoders import DecoderPool
from service.media.limits import DecodeLimits
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
"""Videos that are read at the same time, for each thread that decodes, unless the settings say how many."""

EXIT_HUNG = 70
"""Exit status of a process in which a thread hangs, so that a supervisor restarts it."""


def end_process() -> None:
    """End the process without waiting for its threads; called when one has hung for twice `stall_s`."""
    logger.critical("a thread hangs in the network or in face detection; the process ends", exit_status=EXIT_HUNG)
    os._exit(EXIT_HUNG)


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

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        cv2.setNumThreads(1)  # parallelism comes from the pool
        decoders = DecoderPool(
            settings.decode_workers,
            settings.max_pixels,
            on_loss=lambda reason: telemetry.decoder_losses.labels(reason).inc(),
        )
        with upload_folder() as directory, closing(decoders):
            context = partial(Context, settings, telemetry, directory=directory, limits=limits, decoders=decoders)
            telemetry.resources(partial(free_bytes, directory), memory_limit_bytes())
            if predictor is None:
                app.state.context = context(readiness=Readiness(()), model=None)
                yield
                return
            decoders.start()
            predictors = (predictor, *replicas)
            async with _serving(settings, detector, predictors, telemetry, on_hang, clock) as (readiness, model):
                readiness.require_storage(partial(why_unwritable, directory))
                app.state.context = context(readiness=readiness, model=model)
                try:
                    yield
                finally:
                    decoders.close()  # first, for threads wait for what they decode

    app = FastAPI(
        title="Facial affect service",
        version=code_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would name the host that the client claims
        telemetry=_traces(settings),
    )
    return _mount(app, settings, telemetry)


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
    pool = WorkerPool(settings.decode_workers, watchdog)
    encoders = _encoders(settings, predictors, telemetry, watchdog)
    estimator = Estimator(encoders)
    admission = _admission(settings, estimator, pool, clock)
    model = _model(settings, WatchedDetector(detector, watchdog), predictors, estimator, pool, telemetry, admission)
    try:
        yield Readiness(encoders, lambda: pool.stalled), model
    finally:
        await estimator.close()
        await pool.close()


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


def _mount(app: FastAPI, settings: Settings, telemetry: Telemetry) -> FastAPI:
    """Add routes, middleware and error handlers; if there are API keys, all routes but the open ones require one."""
    routes = list(app.router.routes)  # the framework's own
    for router in (analyze.router, operations.router):
        app.include_router(router)
        routes += router.routes
    open_routes = None
    if settings.api_keys:
        open_routes = () if settings.protect_operations else operations.OPEN_ROUTES
        app.add_middleware(RequireKey, keys=ApiKeys(settings.api_keys), open_routes=open_routes)
    complete(app.openapi(), open_routes)  # in place: the framework keeps the document that it has made
    app.add_middleware(RequestContext, telemetry=telemetry, routes=routes)
    install_handlers(app)
    return app


def _encoders(
    settings: Settings, predictors: Sequence[Predictor], telemetry: Telemetry, watchdog: Watchdog
) -> list[BatchedEncoder]:
    limits = BatchLimits(settings.max_batch, FILL_S)
    replicas = zip(*(predictor.encoders for predictor in predictors), strict=True)
    return [BatchedEncoder(each, limits, watchdog, observer=telemetry) for each in replicas]


def _admission(settings: Settings, estimator: Estimator, pool: WorkerPool, clock: Callable[[], float]) -> Admission:
    """Admission by the settings' limits; nobody is admitted to whom stalled calls leave no thread."""

    def why_blocked(lane: Lane) -> str | None:
        if estimator.blocked:
            return "the network does not answer"
        return "face detection does not answer" if pool.blocked(lane) else None

    limits_s = {Lane.INTERACTIVE: settings.max_wait_s, Lane.BULK: settings.max_video_wait_s}
    return Admission(limits_s, settings.decode_workers, why_blocked, clock)


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
    devices = [str(each.device) for each in predictors]
    options = predictor.options
    telemetry.queue_depth.set_function(lambda: estimator.queue_depth)
    for manifest in predictor.manifests:
        for device in devices:
            telemetry.model_loaded(manifest, device, options)
    fields = {Lane.INTERACTIVE: "max_wait_s", Lane.BULK: "max_video_wait_s"}
    waits = {lane: Limit(name=variable(field), value=getattr(settings, field)) for lane, field in fields.items()}
    for lane, limit in waits.items():
        telemetry.max_wait.labels(lane.label).set(limit["value"])
    locator = Locator(detector, [encoder.input for encoder in predictor.encoders], settings.scan_every_s)
    open_videos = settings.open_videos or OPEN_VIDEOS * settings.decode_workers
    pipeline = Pipeline(locator, estimator, predictor, pool, admission, waits, open_videos)
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
