"""The import of OpenVINO, an optional package, without the reports that it would send."""

import sys
from types import ModuleType
from typing import Any, cast


def import_openvino() -> Any:
    """Return the module. Raises ModuleNotFoundError, which names the extra, if it is not installed."""
    # OpenVINO reports its import and use to a server on the internet, unless this module cannot be imported.
    sys.modules["openvino_telemetry"] = cast("ModuleType", None)
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the engine openvino is not installed; install the extra `openvino`", name=error.name
        ) from error
    return openvino
