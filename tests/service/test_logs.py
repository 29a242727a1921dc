"""What the log says, and what it keeps to itself."""

import subprocess
import sys

LOGGED = """
import logging
from service.logs import configure_logs
configure_logs("json", "debug")
for name in ("uvicorn.error", "websockets.server", "httptools"):
    logging.getLogger(name).debug("< x-api-key: a-secret")
logging.getLogger("service.jobs").debug("a job waits")
logging.getLogger("websockets.server").warning("a library warns")
"""


def test_headers_and_messages_that_libraries_tell_of_are_not_logged_at_debug() -> None:
    run = subprocess.run([sys.executable, "-c", LOGGED], capture_output=True, text=True, check=True)
    assert "a-secret" not in run.stderr
    assert "a job waits" in run.stderr
    assert "a library warns" in run.stderr
