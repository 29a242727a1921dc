"""`affect annotate`: the video with its analysis drawn on it, or with all faces hidden.

The video is made by a job of the service, which is deleted when its result is here; Ctrl-C cancels it. A service that
is started again goes on with it, and is waited for.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from affect_client.affect import Affect, VideoOptions
from affect_client.commands.analyze import PATIENCE
from affect_client.commands.arguments import add_service, api_key
from affect_client.errors import AffectError
from affect_client.files import PartialFile, require_another
from affect_client.jobs import Job
from affect_client.results import TRUNCATED

MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
"""The service's media type by the suffix of the result."""

OF_THE_WAY = (None, 429, 503)
"""Statuses of errors on the way to a job, which say nothing about the job itself: no answer, or a service too busy."""


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
    require_another(out, arguments.video)
    with PartialFile(out):
        pass  # a result that cannot be written is told now, not after the work
    options = VideoOptions(blur="faces" if arguments.blur else "none", boxes="off" if arguments.no_boxes else "on")
    key = api_key(arguments)
    with Affect(arguments.url, key) as affect:
        job_id = affect.job(arguments.video, media_type, **options).id  # somebody has just typed the address
    with Affect(arguments.url, key, retry=PATIENCE) as affect:
        return _save(affect.find_job(job_id), out)


def _save(job: Job, out: Path) -> int:
    """Wait for a job, save its result, and delete it.

    It stays only where its result could not be fetched: then its id is told.
    """
    try:
        with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| [{elapsed}<{remaining}]", disable=None) as bar:

            def report(share: float) -> None:
                bar.update(100 * share - bar.n)

            status = job.wait(progress=report)
        if status.state == "succeeded":
            job.save(out)
    except (AffectError, OSError) as error:
        if isinstance(error, AffectError) and error.status not in OF_THE_WAY:
            _delete(job)
        else:  # it goes on, or its result is there
            _tell_where_it_is(job)
        raise
    except BaseException:
        _delete(job)
        raise
    _delete(job)
    if status.state != "succeeded":
        print(f"affect annotate: the job was {status.state}", file=sys.stderr)
        return 1
    if status.truncated:
        print(f"{out}: {TRUNCATED}", file=sys.stderr)
    print(out)
    return 0


def _delete(job: Job) -> None:
    try:
        job.delete()
    except AffectError:
        _tell_where_it_is(job)


def _tell_where_it_is(job: Job) -> None:
    told = f"the job stays with the service for now, and its result can be fetched: find_job({job.id!r}).save(FILE)"
    print(f"affect annotate: {told}", file=sys.stderr)
