"""`python -m service`: serves the bundles that the environment names."""

import asyncio
import signal
import sys
from typing import cast

import uvicorn

from model_core.bundles.bundle import BundleError
from model_core.faces.detection import build_detector
from service.app import create_app
from service.http.connections import ConnectionLimits, limited, most_connections
from service.loading import load_predictors
from service.logs import configure_logs
from service.settings import SettingsError, load_settings

KEEP_ALIVE_S = 120
"""Seconds before an idle connection is closed: longer than clients and proxies keep theirs (5 s in Python, 60 s in
nginx and load balancers, 90 s in Go). If both close it at the same moment, a request on its way gets no answer."""


def main() -> None:
    """Serve until SIGTERM or SIGINT, finish running requests, and exit with 0.

    Exits with 1 and one line for each mistake if the service cannot start.
    """
    try:
        settings = load_settings()
        configure_logs(settings.log_format, settings.log_level)
        detector = build_detector(settings.detector)
        predictor, *replicas = load_predictors(settings, detector)
        app = create_app(settings, detector, predictor, replicas=replicas)
    except (SettingsError, BundleError, ValueError, ModuleNotFoundError) as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    # After draining, uvicorn raises the signal again for its previous handler, which then ends the process with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    limits = ConnectionLimits(most=most_connections(settings.max_connections))
    uvicorn.run(
        app,
        lifespan="on",
        host=settings.host,
        port=settings.port,
        log_config=None,
        server_header=False,
        http=cast("type[asyncio.Protocol]", limited(limits)),  # which uvicorn only calls
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s,
    )


if __name__ == "__main__":
    main()
