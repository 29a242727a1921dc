"""The service on a port of this process, so that a test holds its parts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from service.__main__ import bound
from service.app import create_app
from service.http.connections import ConnectionLimits, server_options
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.processes import wait_until_ready


@contextmanager
def served(predictor: FakePredictor, **settings: object) -> Iterator[str]:
    """Yield the address of a service that finds one face of 32 pixels in every frame that is not black."""
    app_settings = Settings(**settings)
    app = create_app(app_settings, FakeDetector(face_at(8, 8, 32)), predictor)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        timeout_graceful_shutdown=5,
        **server_options(ConnectionLimits(), app_settings.live_max_frame_bytes, lambda: None),
    )
    server = uvicorn.Server(config)
    with bound("127.0.0.1", 0) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until_ready(None, address, "/healthz")
            yield address
        finally:
            server.should_exit = True
            thread.join()
