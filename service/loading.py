"""Loads predictors by the settings: chooses device and engine, and finds the bundles."""

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
    """Return the device of a setting; `auto` takes a GPU if there is one that the engine can use.

    Raises SettingsError for a GPU that does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if engine != "openvino" and torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"AFFECT_DEVICE: {name} was requested, but {torch.cuda.device_count()} GPUs are visible")
    return device


def choose_runtime(settings: Settings, device: torch.device) -> RuntimeOptions:
    """Return the engine and number format of the settings; `auto` takes OpenVINO on a CPU if it is installed."""
    if settings.engine != "auto":
        return RuntimeOptions(settings.engine, settings.precision)
    faster = device.type == "cpu" and importlib.util.find_spec("openvino") is not None
    return RuntimeOptions("openvino" if faster else "torch", settings.precision)


def load_predictors(settings: Settings, detector: FaceDetector) -> list[Predictor]:
    """Load the configured bundles, once for each device, and run their first passes.

    Logs a warning for a bundle that was trained on crops of another detector, and for one that answers no task. Raises
    SettingsError, BundleError, and what build_runtime raises.
    """
    devices = [choose_device(name, settings.engine) for name in settings.device.split(",")]
    options = choose_runtime(settings, devices[0])
    if settings.threads:
        torch.set_num_threads(settings.threads)
    paths = [find_bundle(name, download=settings.download) for name in settings.bundles]
    # They are read for each device, since a network moves to its device.
    predictors = [Predictor([load_bundle(path) for path in paths], device, options) for device in devices]
    for predictor in predictors:
        warm_up(predictor)
    _log_bundles(predictors, detector, settings)
    return predictors


def _log_bundles(predictors: list[Predictor], detector: FaceDetector, settings: Settings) -> None:
    """Log which bundles are served, and warn about unusual ones."""
    predictor = predictors[0]
    runs = {"device": ",".join(str(each.device) for each in predictors), "engine": predictor.options.engine}
    asked_for = {"device_asked_for": settings.device, "engine_asked_for": settings.engine}
    for manifest in predictor.idle:
        logger.warning("bundle not loaded: later ones support all its tasks", bundle=manifest.name)
    for manifest in predictor.manifests:
        if family(manifest.detector) != family(detector.name):
            logger.warning(
                "the bundle was trained on crops of another detector",
                bundle=manifest.name,
                bundle_prepared_with=manifest.detector,
                serving_with=detector.name,
            )
        tasks = [task for task, other in predictor.everything.tasks.items() if other is manifest]
        precision = predictor.options.precision
        logger.info("bundle loaded", bundle=manifest.name, answers=tasks, precision=precision, **runs, **asked_for)


def warm_up(predictor: Predictor) -> None:
    """Run the first passes, which are slow: the queue would expect long waits from them."""
    for encoder in predictor.encoders:
        size = encoder.input.size
        for _ in range(3):
            encoder.features([np.zeros((size, size, 3), dtype=np.uint8)])
