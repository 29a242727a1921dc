"""Dependencies of the routes.

They are coroutines although nothing is awaited: the framework would run a plain function in a thread.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from model_core.inference.predictor import Predictor
from service.analysis.pipeline import Pipeline
from service.errors import NotFound, NotReady
from service.http.security import ApiKeys, Origins
from service.jobs.store import JobStore
from service.jobs.worker import JobWorker
from service.live.places import Places
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
    """The networks that compute an answer, and one with `temporal=off`."""


@dataclass(frozen=True)
class Jobs:
    """The jobs that a service keeps, and its own worker on them."""

    store: JobStore
    worker: JobWorker


@dataclass(frozen=True)
class Live:
    """The limits and keys that live connections share."""

    open: Places
    unidentified: Places
    """For clients whose key comes as a message, until it has come."""
    keys: ApiKeys | None
    """None where no key is required."""
    origins: Origins


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
    live: Live
    jobs: Jobs | None = None
    """None where no jobs are kept."""


async def _context(request: HTTPConnection) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]


async def _model(context: ContextDep) -> Model:
    if context.model is None:
        raise NotReady("no model is loaded")
    return context.model


ModelDep = Annotated[Model, Depends(_model)]


async def _jobs(context: ContextDep) -> Jobs:
    if context.jobs is None:
        raise NotFound("there is no such job")
    return context.jobs


JobsDep = Annotated[Jobs, Depends(_jobs)]


async def _caller(request: HTTPConnection) -> str:
    return str(getattr(request.state, "caller", ""))


Caller = Annotated[str, Depends(_caller)]
"""Digest of the request's API key; empty where no key is required."""


async def _request_id(request: HTTPConnection) -> str:
    return str(request.state.request_id)


RequestId = Annotated[str, Depends(_request_id)]
