import os
import subprocess
import sys
from pathlib import Path

DETECT_WITHOUT_NETWORK = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise AssertionError(event)

sys.addaudithook(refuse)
import skimage.data
from model_core.faces.detection import build_detector
print(len(build_detector("mtcnn").detect(skimage.data.astronaut())))
"""


def test_it_needs_no_network_and_its_first_import_warns_of_nothing(tmp_path: Path) -> None:
    # Without compiled modules, so that the package's sources are compiled as on a fresh installation.
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    warnings = ("-W", "error::SyntaxWarning", "-W", "error::DeprecationWarning")
    command = [sys.executable, *warnings, "-c", DETECT_WITHOUT_NETWORK]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, check=False, env=environment, cwd=root, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
