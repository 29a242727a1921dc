"""`python -m training.studies.twins`: the test pictures that show a photograph of the training or validation split.

Figures on them are too good. The table that it writes is for `training.evaluate --groups FILE --group-by twin`, which
measures the other test pictures by themselves.
"""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np

from training.data.twins import TWIN_CORRELATION, twins_in_earlier_splits
from training.datasets import READERS, DatasetError, OverlappingReader, build_reader
from training.runs.command_line import CommandParser, fail, share


def find_twins(reader: OverlappingReader, root: Path, least_correlation: float = TWIN_CORRELATION) -> dict[str, bool]:
    """Return for the name of each test picture whether an earlier split has a twin of it. Raises DatasetError."""
    records = list(reader.faces(root))
    pictures = np.stack([reader.picture(record) for record in records])
    twins = twins_in_earlier_splits(pictures, [record.split for record in records], least_correlation)
    return {record.name: bool(twin) for record, twin in zip(records, twins, strict=True) if record.split == "test"}


def main() -> None:
    """Command line."""
    overlapping = [name for name in READERS if isinstance(build_reader(name), OverlappingReader)]
    parser = CommandParser(prog="python -m training.studies.twins", description=__doc__)
    parser.add_argument("--dataset", default="ferplus", choices=overlapping)
    parser.add_argument("--root", required=True, type=Path, help="where the data set lies")
    parser.add_argument("--out", required=True, type=Path, help="CSV file with the columns name and twin (yes or no)")
    parser.add_argument("--twin-correlation", type=share, default=TWIN_CORRELATION, metavar="R")
    args = parser.parse_args()
    reader = build_reader(args.dataset)
    assert isinstance(reader, OverlappingReader)
    try:
        twins = find_twins(reader, args.root, args.twin_correlation)
        partial = args.out.with_name(f"{args.out.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as table:
            writer = csv.writer(table)
            writer.writerow(["name", "twin"])
            writer.writerows((name, "yes" if twin else "no") for name, twin in twins.items())
        os.replace(partial, args.out)
    except (DatasetError, OSError) as error:
        fail(error)
    counts = Counter(twins.values())
    print(f"{args.out}: {counts[True]} of {counts.total()} test pictures have a twin in an earlier split")


if __name__ == "__main__":
    main()
