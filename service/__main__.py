"""`python -m service`: serve the bundles that the environment names."""

import importlib.util
import signal
import sys

import numpy as np
import structlog
import torch
import uvicorn

from model_core.bundles.bundle import BundleError, load_bundle
from model_core.bundles.hub import find_bundle
from model_core.faces.detection import FaceDetector, build_detector, family
from model_core.inference.predictor import Predictor
from model_core.inference.runtimes import RuntimeOptions
from service.app import create_app
from service.logs import configure_logs
from service.settings import Settings, SettingsError, load_settings

logger = structlog.get_logger("service")

KEEP_ALIVE_S = 120
"""Seconds before an idle connection is closed: longer than clients and proxies keep theirs (5 s in Python, 60 in nginx
and load balancers, 90 in Go). Where both close at the same moment, a request that is on its way gets no answer."""


def choose_device(name: str, engine: str = "auto") -> torch.device:
    """`auto` takes a GPU if there is one that the engine can use. Raises SettingsError for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if engine != "openvino" and torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"AFFECT_DEVICE: {name} was asked for, and {torch.cuda.device_count()} GPUs are visible")
    return device


def choose_runtime(settings: Settings, device: torch.device) -> RuntimeOptions:
    """The engine and the number format as set; the engine `auto` is OpenVINO on a CPU where it is installed."""
    if settings.engine != "auto":
        return RuntimeOptions(settings.engine, settings.precision)
    faster = device.type == "cpu" and importlib.util.find_spec("openvino") is not None
    return RuntimeOptions("openvino" if faster else "torch", settings.precision)


def load_predictors(settings: Settings, detector: FaceDetector) -> list[Predictor]:
    """The configured bundles on each of the devices; warns of one whose crops came from another detector, or is idle.

    Raises SettingsError, BundleError, and what build_runtime raises.
    """
    devices = [choose_device(name, settings.engine) for name in settings.device.split(",")]
    options = choose_runtime(settings, devices[0])
    if settings.threads:
        torch.set_num_threads(settings.threads)
    paths = [find_bundle(name, download=settings.download) for name in settings.bundles]
    # Read for each device: a network moves to its device.
    predictors = [Predictor([load_bundle(path) for path in paths], device, options) for device in devices]
    for predictor in predictors:
        warm_up(predictor)
    _tell(predictors, detector, settings)
    return predictors


def _tell(predictors: list[Predictor], detector: FaceDetector, settings: Settings) -> None:
    """What is served, and what is odd about it, in the log."""
    predictor = predictors[0]
    runs = {"device": ",".join(str(each.device) for each in predictors), "engine": predictor.options.engine}
    asked_for = {"device_asked_for": settings.device, "engine_asked_for": settings.engine}
    for manifest in predictor.idle:
        logger.warning("bundle not loaded: later ones cover all its tasks", bundle=manifest.name)
    for manifest in predictor.manifests:
        if family(manifest.detector) != family(detector.name):
            logger.warning(
                "detector differs",
                bundle=manifest.name,
                bundle_prepared_with=manifest.detector,
                serving_with=detector.name,
            )
        tasks = [task for task, other in predictor.everything.tasks.items() if other is manifest]
        precision = predictor.options.precision
        logger.info("bundle loaded", bundle=manifest.name, answers=tasks, precision=precision, **runs, **asked_for)


def warm_up(predictor: Predictor) -> None:
    """Engines are slow in their first passes, from which the queue would expect long waits."""
    for encoder in predictor.encoders:
        size = encoder.input.size
        for _ in range(3):
            encoder.features([np.zeros((size, size, 3), dtype=np.uint8)])


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
