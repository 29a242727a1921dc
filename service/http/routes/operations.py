"""Health, readiness, models and metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.http.dependencies import ContextDep, ModelDep
from service.http.openapi import problems
from service.http.queries import video_fps
from service.output.bundles import describe_bundle
from service.output.schemas import Health, ModelsResponse

router = APIRouter()

OPEN_ROUTES = ("/healthz", "/readyz", "/metrics")
"""What probes and Prometheus ask for without a key, unless told otherwise."""


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives."""
    return Health()


@router.get("/readyz", responses=problems(503))
async def readyz(context: ContextDep) -> Health:
    """200 only while a recent real forward pass succeeded."""
    await context.readiness.require()
    return Health()


@router.get("/models", responses=problems(503))
async def models(context: ContextDep, model: ModelDep) -> ModelsResponse:
    """The loaded bundles with their labels, input contract, calibration and measured quality; the limits in force."""
    return ModelsResponse(
        device=model.info.device,
        engine=model.info.engine,
        precision=model.info.precision,
        detector=model.info.detector,
        bundles=[describe_bundle(manifest, model.predictor.everything.tasks) for manifest in model.predictor.manifests],
        video_fps=video_fps(model.predictor.everything),
        limits=context.settings.limits(),
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(context: ContextDep) -> Response:
    """Prometheus exposition."""
    return Response(context.telemetry.render(), media_type=CONTENT_TYPE_LATEST)
