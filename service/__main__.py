"""`python -m service`: serve the bundles that the environment names."""

import signal
import sys

import structlog
import torch
import uvicorn

from model_core.bundle import BundleError, load_bundle
from model_core.detection import FaceDetector, build_detector, family
from model_core.hub import find_bundle
from model_core.predictor import Predictor
from model_core.runtimes import Engine, RuntimeOptions
from service.app import create_app
from service.logs import configure_logs
from service.settings import Settings, SettingsError, load_settings

logger = structlog.get_logger("service")


def choose_device(name: str, engine: Engine = "torch") -> torch.device:
    """`auto` takes a GPU if there is one that the engine can use. Raises SettingsError for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if engine == "torch" and torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"AFFECT_DEVICE: {name} was asked for, and {torch.cuda.device_count()} GPUs are visible")
    return device


def load_predictors(settings: Settings, detector: FaceDetector) -> list[Predictor]:
    """The configured bundles on each of the devices; warns of one whose crops came from another detector, or is idle.

    Raises SettingsError, BundleError, and what build_runtime raises.
    """
    options = RuntimeOptions(settings.engine, settings.precision)
    devices = [choose_device(name, settings.engine) for name in settings.device.split(",")]
    if settings.threads:
        torch.set_num_threads(settings.threads)
    paths = [find_bundle(name, download=settings.download) for name in settings.bundles]
    # Read for each device: a network moves to its device.
    predictors = [Predictor([load_bundle(path) for path in paths], device, options) for device in devices]
    _tell(predictors[0], detector, ",".join(map(str, devices)), settings.device)
    return predictors


def _tell(predictor: Predictor, detector: FaceDetector, found: str, asked_for: str) -> None:
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
        logger.info("bundle loaded", bundle=manifest.name, answers=tasks, device=found, asked_for=asked_for)


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
        timeout_graceful_shutdown=settings.drain_s,
    )


if __name__ == "__main__":
    main()
