"""`python -m service`: serve the bundles that the environment names."""

import signal
import sys

import uvicorn

from model_core.bundles.bundle import BundleError
from model_core.faces.detection import build_detector
from service.app import create_app
from service.loading import load_predictors
from service.logs import configure_logs
from service.settings import SettingsError, load_settings

KEEP_ALIVE_S = 120
"""Seconds before an idle connection is closed: longer than clients and proxies keep theirs (5 s in Python, 60 in nginx
and load balancers, 90 in Go). Where both close at the same moment, a request that is on its way gets no answer."""


def main() -> None:
    """Start, serve, drain on SIGTERM or SIGINT, exit with 0; exit with 1 and a line a mistake if it cannot start."""
    try:
        settings = load_settings()
        configure_logs(settings.log_format, settings.log_level)
        detector = build_detector(settings.detector)
        predictor, *replicas = load_predictors(settings, detector)
        app = create_app(settings, detector, predictor, replicas=replicas)
    except (SettingsError, BundleError, ValueError, ModuleNotFoundError) as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
    # After draining, uvicorn raises the signal again for whoever handled it before: then this ends the process well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.run(
        app,
        lifespan="on",
        host=settings.host,
        port=settings.port,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s,
    )


if __name__ == "__main__":
    main()
