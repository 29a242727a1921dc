"""Settings become predictors: which device, engine and bundles answer."""

import importlib.util

import numpy as np
import structlog
import torch

from model_core.bundles.bundle import load_bundle
from model_core.bundles.hub import find_bundle
from model_core.faces.detection import FaceDetector, family
from model_core.inference.predictor import Predictor
from model_core.inference.runtimes import RuntimeOptions
from service.settings import Settings, SettingsError

logger = structlog.get_logger("service")


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
