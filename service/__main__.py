"""`python -m service`: serves the bundles that the environment names; `--help` lists the settings."""

import signal
import socket
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import structlog
import uvicorn

from model_core.faces.detection import FaceDetector
from model_core.inference.predictor import Predictor
from service.loading import LOADING_ERRORS, load_detector, load_predictors, open_jobs
from service.logs import configure_logs
from service.machine import exempt_loaded_objects, keep_little_freed_memory
from service.server import DrainingServer
from service.settings import Settings, load_settings, variable

KEEP_ALIVE_S = 120
"""Seconds before an idle connection is closed: longer than clients and proxies keep theirs (5 s in Python, 60 s in
nginx and load balancers, 90 s in Go). If both close it at the same moment, a request on its way gets no answer."""

logger = structlog.get_logger("service")


class CannotStart(Exception):
    """The machine lacks something that the service needs; the message is one line."""


def main() -> None:
    """Serve until SIGTERM or SIGINT, finish running requests, and exit with 0.

    Exits with 1 and one line for each mistake if the service cannot start, with 2 for arguments other than `--help`.
    """
    if arguments := sys.argv[1:]:
        _explain(arguments)
    with ExitStack() as stack:
        try:
            settings = load_settings()
            configure_logs(settings.log_format, settings.log_level)
            keep_little_freed_memory()
            # What can be found out at once is, for loading takes long.
            _require_temporary_folder()
            if (jobs := open_jobs(settings)) is not None:
                jobs.close()
            listener = stack.enter_context(bound(settings.host, settings.port))
            _log_start(settings, listener)
            detector, (predictor, *replicas) = _loaded(settings)
            from service.app import create_app
            from service.http.connections import ConnectionLimits, most_connections, server_options

            # /models tells how many there may be indeed.
            settings = settings.model_copy(update={"max_connections": most_connections(settings.max_connections)})
            app = create_app(settings, detector, predictor, replicas=replicas)
            exempt_loaded_objects()
        except (CannotStart, *LOADING_ERRORS) as error:
            sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))

        def stop_being_ready() -> None:
            app.state.context.readiness.drain()

        def count_refused() -> None:
            app.state.context.telemetry.connections_refused.inc()

        # After draining, uvicorn raises the signal again for its previous handler, which then ends the process with 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
        limits = ConnectionLimits(most=settings.max_connections)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            **server_options(limits, settings.live_max_frame_bytes, count_refused),
        )
        DrainingServer(config, stop_being_ready, settings.drain_grace_s, settings.drain_s).run(sockets=[listener])


def _loaded(settings: Settings) -> tuple[FaceDetector, list[Predictor]]:
    """Load the models in a thread, and import meanwhile what serves them: each takes about a second, on one core."""
    detector = load_detector(settings)
    with ThreadPoolExecutor(1, thread_name_prefix="loading") as executor:
        loading = executor.submit(load_predictors, settings, detector)
        import service.app
        import service.http.connections  # noqa: F401

        return detector, loading.result()


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, and listens once the service can answer. Raises CannotStart."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            stack.pop_all()
    except OSError as error:
        names = f"{variable('host')}={host} and {variable('port')}={port}"
        raise CannotStart(f"{names} cannot be listened on: {error.strerror}") from None
    return listener


def _require_temporary_folder() -> None:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"an upload")
    except OSError as error:
        raise CannotStart(
            f"no temporary folder can be written ({error.strerror}); set TMPDIR to one that can"
        ) from None


def _log_start(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    keys = f"one of {len(settings.api_keys)}" if settings.api_keys else "not required"
    logger.info("loading the models", host=host, port=port, bundles=settings.bundles, api_key=keys)


def _explain(arguments: list[str]) -> None:
    """Print the settings and exit, with an error unless that was asked for."""
    if not {"-h", "--help"} & set(arguments):
        sys.stderr.write(
            f"error: unknown argument {arguments[0]!r}; the service is configured by environment variables\n"
        )
        sys.exit(2)
    lines = ["usage: python -m service", "", "The service is configured by environment variables:"]
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default in (None, ()) else field.default
        shown = ",".join(default) if isinstance(default, tuple) else default
        description = textwrap.fill(field.description or "", 100, initial_indent="    ", subsequent_indent="    ")
        lines += ["", f"{variable(name)} (default: {shown})", description]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0)


if __name__ == "__main__":
    main()
