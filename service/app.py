"""The composition root: settings and loaded parts become an app. Nothing else constructs what it uses."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from model_core.bundle import code_version
from model_core.detection import FaceDetector
from model_core.faces import Crop
from model_core.predictor import Predictor
from service.batch_contract import BatchLimits
from service.batching import Batcher
from service.decode_limits import DecodeLimits
from service.errors import Limit
from service.estimating import Estimate, estimator
from service.lanes import Lane
from service.locating import Locator, WatchedDetector
from service.middleware import RequestContext, RequireKey
from service.openapi import complete
from service.pipeline import Pipeline
from service.problems import install_handlers
from service.readiness import Readiness
from service.rendering import describe_tasks
from service.routes import analyze, operations
from service.routes.dependencies import Context, Model
from service.schemas import ModelInfo
from service.security import ApiKeys
from service.settings import Settings, variable
from service.telemetry import Telemetry
from service.workers import WorkerPool

logger = structlog.get_logger("service")

EXIT_HUNG = 70
"""Exit status of a process in which a thread hangs: only a supervisor's restart helps."""


def end_process() -> None:
    """What becomes of a thread that hangs for twice `stall_s`: an end of the process that waits for no thread."""
    logger.critical("a thread hangs, in the network or before it; the process ends", exit_status=EXIT_HUNG)
    os._exit(EXIT_HUNG)


def create_app(
    settings: Settings,
    detector: FaceDetector,
    predictor: Predictor | None,
    on_hang: Callable[[], None] = end_process,
) -> FastAPI:
    """An app around a detector and a predictor; without a predictor it lives, and says that it is not ready."""
    telemetry = Telemetry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        cv2.setNumThreads(1)  # parallelism comes from the pool
        with TemporaryDirectory(prefix="affect-") as directory:
            if predictor is None:
                app.state.context = Context(settings, telemetry, Readiness(None), Path(directory), None)
                yield
                return
            watched = WatchedDetector(detector)
            pool = WorkerPool(settings.decode_workers, settings.stall_s, watched.call_of, on_hang)
            blank = _blank(predictor)
            readiness = Readiness(lambda: batcher.submit(blank), lambda: batcher.stalled, lambda: pool.stalled)
            batcher = _batcher(settings, predictor, readiness, telemetry, on_hang)
            model = _model(settings, watched, predictor, batcher, pool, telemetry)
            app.state.context = Context(settings, telemetry, readiness, Path(directory), model)
            try:
                yield
            finally:
                await batcher.close()
                await pool.close()

    app = FastAPI(
        title="Facial affect service",
        version=code_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=_traces(settings),
    )
    _mount(app, settings, telemetry)
    return app


def _traces(settings: Settings) -> TelemetryConfig:
    """One span a request, probes apart; the framework exports it to where the OTEL_ variables say."""
    return {
        "tracing": settings.otel,
        "auto_configure": settings.otel,
        "operation_spans": False,  # the stages are in the request's span
        "metrics": False,  # they are at /metrics
        "logs": False,
        "exclude": lambda scope: scope["path"] in operations.OPEN_ROUTES,
    }


def _mount(app: FastAPI, settings: Settings, telemetry: Telemetry) -> None:
    """The routes and what stands around them; with API keys all routes but the open ones are closed."""
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


def _batcher(
    settings: Settings,
    predictor: Predictor,
    readiness: Readiness,
    telemetry: Telemetry,
    on_hang: Callable[[], None],
) -> Batcher[Crop, Estimate]:
    batcher = Batcher[Crop, Estimate](
        estimator(predictor, readiness.succeeded),
        BatchLimits(settings.max_batch, settings.max_video_batch, settings.max_wait_s, settings.stall_s),
        observer=telemetry,
        on_hang=on_hang,
    )
    telemetry.queue_depth.set_function(lambda: batcher.queue_depth)
    return batcher


def _model(
    settings: Settings,
    detector: FaceDetector,
    predictor: Predictor,
    batcher: Batcher[Crop, Estimate],
    pool: WorkerPool,
    telemetry: Telemetry,
) -> Model:
    manifest, device, options = predictor.manifest, str(predictor.device), predictor.options
    telemetry.model_loaded(manifest, device, options)
    limits = DecodeLimits(settings.max_pixels, settings.max_video_s, settings.max_frames)
    locator = Locator(detector, manifest.input, limits, settings.scan_every_s)
    fields = {Lane.INTERACTIVE: "max_wait_s", Lane.BULK: "max_video_wait_s"}
    waits = {lane: Limit(name=variable(field), value=getattr(settings, field)) for lane, field in fields.items()}
    pipeline = Pipeline(locator, batcher, pool, predictor.affects, telemetry, waits)
    info = ModelInfo(
        device=device,
        engine=options.engine,
        precision=options.precision,
        detector=detector.name,
        tasks=describe_tasks(manifest),
    )
    return Model(pipeline, (manifest,), info)


def _blank(predictor: Predictor) -> Crop:
    size = predictor.manifest.input.size
    return np.zeros((size, size, 3), dtype=np.uint8)
