"""`affect annotate`: the video with its analysis drawn on it, or with all faces hidden.

The video is made by a job of the service, which is deleted when its result is here; Ctrl-C cancels it.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from affect_client.affect import Affect, VideoOptions
from affect_client.commands.analyze import TRUNCATED
from affect_client.errors import AffectError
from affect_client.jobs import Job

MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
"""The service's media type by the suffix of the result."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the result, FILE.mp4 or FILE.webm")
    parser.add_argument("--blur", action="store_true", help="make every face one plain colour")
    parser.add_argument("--no-boxes", action="store_true", help="draw nothing")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the service (%(default)s)")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="file that holds the API key")


def run(arguments: argparse.Namespace) -> int:
    """Write the video; return 1 where it cannot be made, and 130 after Ctrl-C."""
    media_type = MEDIA_TYPES.get(arguments.out.suffix.lower())
    if media_type is None:
        print(f"affect annotate: {arguments.out}: its name must end with {' or '.join(MEDIA_TYPES)}", file=sys.stderr)
        return 1
    options = VideoOptions(blur="faces" if arguments.blur else "none", boxes="off" if arguments.no_boxes else "on")
    try:
        key = arguments.key_file and arguments.key_file.read_text(encoding="utf-8").strip()
        with Affect(arguments.url, key) as affect:
            return _save(affect.job(arguments.video, media_type, **options), arguments.out)
    except (AffectError, OSError, ValueError) as error:
        print(f"affect annotate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("affect annotate: interrupted", file=sys.stderr)
        return 130


def _save(job: Job, out: Path) -> int:
    """Wait for a job, and save its result; whatever happens, nothing of it stays with the service."""
    try:
        with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| [{elapsed}<{remaining}]", disable=None) as bar:

            def report(share: float) -> None:
                bar.update(100 * share - bar.n)

            status = job.wait(progress=report)
        if status.state != "succeeded":
            print(f"affect annotate: the job was {status.state}", file=sys.stderr)
            return 1
        job.save(out)
    finally:
        job.delete()
    if status.truncated:
        print(f"{out}: {TRUNCATED}", file=sys.stderr)
    print(out)
    return 0
