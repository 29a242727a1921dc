"""Opens what the settings name: predictors, for which it chooses device and engine and finds bundles, and jobs."""

import ctypes
import importlib.util
from collections.abc import Sequence

import numpy as np
import structlog
from sqlalchemy.exc import SQLAlchemyError

from model_core.bundles.bundle import BundleError, open_bundle
from model_core.bundles.hub import find_bundle
from model_core.bundles.manifest import BundleManifest
from model_core.faces.detection import DetectorUnavailable, FaceDetector, build_detector, family
from model_core.faces.detection.yunet_file import FILE, REPOSITORY, REVISION
from model_core.inference.openvino_runtime import has_bfloat16
from model_core.inference.predictor import Predictor
from model_core.inference.runtimes import DeviceMemoryError, RuntimeOptions
from service.jobs.store import JobStore
from service.settings import Settings, SettingsError, variable

LOADING_ERRORS = (SettingsError, BundleError, DeviceMemoryError, ValueError, ModuleNotFoundError)
"""Errors of settings, bundles and engines; their messages are for the operator."""

logger = structlog.get_logger("service")


def choose_device(name: str, engine: str = "auto") -> str:
    """Return the device of a setting, by torch's name; `auto` takes a GPU if there is one that the engine can use.

    Raises SettingsError for a GPU that does not exist, or that nothing installed can use.
    """
    if name == "auto":
        return "cuda" if engine != "openvino" and _gpu_count() else "cpu"
    if name == "cpu":
        return name
    if importlib.util.find_spec("torch") is None:
        raise SettingsError(f"{variable('device')}: {name} needs PyTorch; install the extra `torch`")
    count = _gpu_count()
    number = int(name.partition(":")[2] or 0)
    if number >= count:
        raise SettingsError(f"{variable('device')}: {name} was requested, but {count} GPUs are visible")
    return name


def _gpu_count() -> int:
    """Return the number of GPUs that torch sees. It is imported only where there is a driver, for that takes long."""
    try:
        ctypes.CDLL("libcuda.so.1")
        import torch
    except (OSError, ModuleNotFoundError):
        return 0
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose_runtime(settings: Settings, device: str, manifests: Sequence[BundleManifest]) -> RuntimeOptions:
    """Return the engine and number format of the settings, for bundles on a device.

    The engine `auto` is OpenVINO on a CPU if it is installed. The precision `auto` is bfloat16 if a CPU has it and all
    bundles have passed the gate for it with that engine. Raises ModuleNotFoundError for an engine that is missing.
    """
    engine = settings.engine
    if engine == "auto":
        engine = "openvino" if device == "cpu" and importlib.util.find_spec("openvino") is not None else "torch"
    precision = settings.precision
    if precision == "auto":
        precision = "bfloat16" if engine == "openvino" and _pass_the_gate(manifests) else "float32"
    return RuntimeOptions(engine, precision, settings.inference_threads)


def _pass_the_gate(manifests: Sequence[BundleManifest]) -> bool:
    """Return True if OpenVINO's answers in bfloat16 hardly change, by all bundles, and this CPU computes in it."""
    gates = [manifest.precision_gate for manifest in manifests]
    if not all(gate is not None and gate.engine == "openvino" and gate.passed for gate in gates):
        return False
    return has_bfloat16()


def load_detector(settings: Settings) -> FaceDetector:
    """Return the configured face detector. Raises LOADING_ERRORS; the message has the commands that help."""
    try:
        return build_detector(settings.detector, download=settings.download)
    except DetectorUnavailable as error:
        helps = (
            f"fetch YuNet's file once: hf download {REPOSITORY} {FILE} --revision {REVISION}",
            f"or let the service fetch it: {variable('download')}=true python -m service",
        )
        raise DetectorUnavailable("\n".join([str(error), *helps])) from error


def load_predictors(settings: Settings, detector: FaceDetector) -> list[Predictor]:
    """Load the configured bundles, once for each device, and run their first passes.

    Logs a warning for a bundle that was trained on crops of another detector, and for one that answers no task. Raises
    LOADING_ERRORS.
    """
    devices = [choose_device(name, settings.engine) for name in settings.device.split(",")]
    paths = [find_bundle(name, download=settings.download) for name in settings.bundles]
    # They are read for each device, since a network moves to its device.
    bundles = [[open_bundle(path) for path in paths] for _ in devices]
    options = choose_runtime(settings, devices[0], [bundle.manifest for bundle in bundles[0]])
    predictors = [Predictor(each, device, options) for each, device in zip(bundles, devices, strict=True)]
    for predictor in predictors:
        warm_up(predictor)
    _log_bundles(predictors, detector, settings)
    return predictors


def open_jobs(settings: Settings) -> JobStore | None:
    """Open the folder and the table of jobs; None where none are kept. Raises SettingsError if that fails."""
    if settings.jobs_dir is None:
        return None
    url = None if settings.jobs_url is None else settings.jobs_url.get_secret_value()
    try:
        most_queued = settings.limit("job_max_queued")
        return JobStore(settings.jobs_dir, url, ttl_s=settings.job_ttl_s, most_queued=most_queued)
    except OSError as error:
        raise SettingsError(f"AFFECT_JOBS_DIR: no jobs can be kept there ({error.strerror})") from None
    except SQLAlchemyError as error:
        name = "AFFECT_JOBS_DIR" if url is None else "AFFECT_JOBS_URL"
        raise SettingsError(f"{name}: the table of jobs cannot be opened ({type(error).__name__})") from None


def _log_bundles(predictors: list[Predictor], detector: FaceDetector, settings: Settings) -> None:
    """Log which bundles are served, and warn about unusual ones."""
    predictor = predictors[0]
    logger.info("face detector loaded", detector=detector.name, asked_for=settings.detector)
    runs = {"device": ",".join(each.device for each in predictors), "engine": predictor.options.engine}
    asked_for = {
        "device_asked_for": settings.device,
        "engine_asked_for": settings.engine,
        "precision_asked_for": settings.precision,
    }
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
