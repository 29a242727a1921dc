"""`affect convert`: a result of a video in the format of another program, which goes on working with it."""

import argparse
import json
import sys
from pathlib import Path

from affect_client.bids import NAME, physio
from affect_client.commands.arguments import number
from affect_client.elan import eaf
from affect_client.files import require_another, write_whole
from affect_client.intervals import IntervalRules
from affect_client.numbers import FINITE, NOT_NEGATIVE, PROBABILITY, SAMPLING_HZ
from affect_client.recordings import Recording, read_recording
from affect_client.results import TRUNCATED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the formats, each with its own arguments."""
    formats = parser.add_subparsers(required=True, metavar="FORMAT")
    bids = formats.add_parser("bids", help="for BIDS: one person's estimates at regular times, with a JSON file")
    elan = formats.add_parser("eaf", help="for ELAN: intervals of each unit and expression above a threshold")
    for each in (bids, elan):
        each.add_argument("file", type=Path, help="a result of a video: NDJSON, JSON, Parquet, or CSV (native columns)")
    bids.add_argument("--out", type=Path, required=True, metavar="sub-LABEL_task-LABEL_physio.tsv.gz")
    bids.add_argument("--track", type=int, metavar="ID", help="the person; needed where there are several")
    bids.add_argument(
        "--sampling-hz", type=number(SAMPLING_HZ), metavar="HZ", help="samples a second (the analysed frames')"
    )
    bids.add_argument(
        "--start-time-s",
        type=number(FINITE),
        default=0.0,
        metavar="S",
        help="0 s of the video, since the acquisition began (0)",
    )
    bids.set_defaults(convert=_to_bids)
    rules = IntervalRules()
    elan.add_argument("--out", type=Path, metavar="EAF", help="the annotations (FILE with the suffix .eaf)")
    elan.add_argument("--media", type=Path, metavar="VIDEO", help="the video, to which the annotations are linked")
    elan.add_argument("--unit-threshold", type=number(PROBABILITY), metavar="P", help="of all units (each unit's own)")
    elan.add_argument(
        "--expression-threshold",
        type=number(PROBABILITY),
        default=rules.expression_threshold,
        metavar="P",
        help="(%(default)s)",
    )
    elan.add_argument(
        "--min-duration-s",
        type=number(NOT_NEGATIVE),
        default=0.0,
        metavar="S",
        help="leave out shorter intervals (%(default)s)",
    )
    elan.add_argument(
        "--max-gap-s",
        type=number(NOT_NEGATIVE),
        default=0.0,
        metavar="S",
        help="join intervals with at most this between (%(default)s)",
    )
    elan.set_defaults(convert=_to_eaf)


def run(arguments: argparse.Namespace) -> int:
    """Write the files and print their names. Raises MissingExtra, OSError and ValueError."""
    recording = read_recording(arguments.file)
    for path in arguments.convert(recording, arguments):
        print(path)
    if recording.truncated:
        print(f"{arguments.file}: {TRUNCATED}", file=sys.stderr)
    return 0


def _to_bids(recording: Recording, arguments: argparse.Namespace) -> list[Path]:
    out: Path = arguments.out
    if NAME.fullmatch(out.name) is None:
        raise ValueError(f"{out.name}: BIDS asks for a name like sub-01_task-talk_physio.tsv.gz")
    track_id = arguments.track
    if track_id is None:
        if len(recording.tracks) > 1:
            told = ", ".join(map(str, sorted(recording.tracks)))
            raise ValueError(f"there are several tracks ({told}); name the one of this person with --track")
        [track_id] = recording.tracks
    converted = physio(recording, track_id, sampling_hz=arguments.sampling_hz, start_time_s=arguments.start_time_s)
    require_another(out, arguments.file)
    sidecar = out.with_name(out.name.removesuffix(".tsv.gz") + ".json")
    require_another(sidecar, arguments.file)
    write_whole(sidecar, [json.dumps(converted.sidecar, indent=2).encode() + b"\n"])
    write_whole(out, [converted.table])
    return [out, sidecar]


def _to_eaf(recording: Recording, arguments: argparse.Namespace) -> list[Path]:
    out: Path = arguments.out or arguments.file.with_suffix(".eaf")
    if arguments.out is None and out.exists():
        raise ValueError(f"{out}: is there already, and may have been edited; --out {out} replaces it")
    require_another(out, arguments.file)
    media: Path | None = arguments.media
    if media is not None and not media.is_file():
        raise ValueError(f"{media}: there is no such video")
    rules = IntervalRules(
        unit_threshold=arguments.unit_threshold,
        expression_threshold=arguments.expression_threshold,
        min_duration_s=arguments.min_duration_s,
        max_gap_s=arguments.max_gap_s,
    )
    write_whole(out, [eaf(recording, rules, media=media, folder=out.parent)])
    return [out]
