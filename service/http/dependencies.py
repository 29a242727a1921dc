"""Dependencies of the routes.

They are coroutines although nothing is awaited: the framework would run a plain function in a thread.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from model_core.inference.predictor import Predictor
from service.analysis.pipeline import Pipeline
from service.errors import NotReady
from service.media.decoders import DecoderPool
from service.media.limits import DecodeLimits
from service.output.schemas import ModelInfo
from service.readiness import Readiness
from service.settings import Settings
from service.telemetry import Telemetry


@dataclass(frozen=True)
class Model:
    """The loaded model behind a pipeline, as routes describe it."""

    pipeline: Pipeline
    predictor: Predictor
    info: ModelInfo
    framewise: ModelInfo
    """What computed an answer, and one with `temporal=off`."""


@dataclass(frozen=True)
class Context:
    """Everything that lives as long as the app. model is None where no bundle is loaded."""

    settings: Settings
    telemetry: Telemetry
    readiness: Readiness
    directory: Path
    """Private folder for uploads that need a name."""
    limits: DecodeLimits
    decoders: DecoderPool
    """The processes in which uploads are decoded."""
    model: Model | None


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]


async def _model(context: ContextDep) -> Model:
    if context.model is None:
        raise NotReady("no model is loaded")
    return context.model


ModelDep = Annotated[Model, Depends(_model)]


async def _request_id(request: Request) -> str:
    return str(request.state.request_id)


RequestId = Annotated[str, Depends(_request_id)]
