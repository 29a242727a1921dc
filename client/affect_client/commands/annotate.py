"""`affect annotate`: the video with its analysis drawn on it, or with all faces hidden.

The video is made by a job of the service, which is deleted when its result is here; Ctrl-C cancels it.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from affect_client.affect import Affect, VideoOptions
from affect_client.commands.analyze import TRUNCATED
from affect_client.commands.arguments import add_service, api_key
from affect_client.files import PartialFile
from affect_client.jobs import Job

MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
"""The service's media type by the suffix of the result."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("video", type=Path, metavar="VIDEO")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the result, FILE.mp4 or FILE.webm")
    parser.add_argument("--blur", action="store_true", help="make every face one plain colour")
    parser.add_argument("--no-boxes", action="store_true", help="draw nothing")
    add_service(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the video; return 1 where the job gives none. Raises AffectError, OSError and ValueError."""
    out: Path = arguments.out
    media_type = MEDIA_TYPES.get(out.suffix.lower())
    if media_type is None:
        raise ValueError(f"{out}: its name must end with {' or '.join(MEDIA_TYPES)}")
    with PartialFile(out):
        pass  # a result that cannot be written is told now, not after the work
    options = VideoOptions(blur="faces" if arguments.blur else "none", boxes="off" if arguments.no_boxes else "on")
    with Affect(arguments.url, api_key(arguments)) as affect:
        return _save(affect.job(arguments.video, media_type, **options), out)


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
