"""Health, readiness, models and metrics."""

from fastapi import APIRouter, Depends, Request, Response

from service.http.dependencies import ContextDep, ModelDep
from service.http.negotiation import exposition, json_allowed, no_parameters
from service.http.openapi import problems
from service.http.queries import video_fps
from service.output.bundles import describe_bundle
from service.output.schemas import Health, ModelsResponse

router = APIRouter(dependencies=[Depends(no_parameters)])

OPEN_ROUTES = ("/healthz", "/readyz", "/metrics")
"""What probes and Prometheus ask for without a key, unless told otherwise."""


@router.get("/healthz", dependencies=[Depends(json_allowed)], responses=problems(406, 422))
async def healthz() -> Health:
    """The process lives."""
    return Health()


@router.get("/readyz", dependencies=[Depends(json_allowed)], responses=problems(406, 422, 503))
async def readyz(context: ContextDep) -> Health:
    """200 only while a recent real forward pass succeeded."""
    await context.readiness.require()
    return Health()


@router.get("/models", dependencies=[Depends(json_allowed)], responses=problems(406, 422, 503))
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


@router.get(
    "/metrics",
    response_class=Response,
    responses=problems(406, 422) | {200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
)
async def metrics(request: Request, context: ContextDep) -> Response:
    """Prometheus exposition, in the version that the client asks for."""
    content, content_type = await context.telemetry.exposed_as(exposition(request))
    return Response(content, headers={"Content-Type": content_type})
