"""The service in a thread: an app by uvicorn's protocols, or behind its own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.http.connections import ConnectionLimits, server_options
from service.http.dependencies import Context
from service.readiness import Readiness
from service.server import DrainingServer
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.scheduling.clocks import wait_for


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of an app that runs in a thread, by uvicorn's protocols."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        # Who connects before it has started waits in the socket's queue.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def served(
    settings: Settings | None = None,
    predictor: FakePredictor | None = None,
    detector: FakeDetector | None = None,
    **limits: float,
) -> Iterator[uvicorn.Server]:
    settings = settings or Settings()
    app = create_app(settings, detector or FakeDetector(face_at(8, 8, 32)), predictor or FakePredictor())

    def count_refused() -> None:
        app.state.context.telemetry.connections_refused.inc()

    options = server_options(ConnectionLimits(**limits), settings.live_max_frame_bytes, count_refused)
    config = uvicorn.Config(app, port=0, lifespan="on", log_config=None, **options)
    server = DrainingServer(config, lambda: readiness_of(app).drain(), grace_s=0, drain_s=20)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield server
    finally:
        server.should_exit = True
        thread.join(30)


def readiness_of(app: FastAPI) -> Readiness:
    """Known once the app has started."""
    context: Context = app.state.context
    return context.readiness


def port_of(server: uvicorn.Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])
