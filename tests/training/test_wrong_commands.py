"""Each wrong command ends with one line on standard error that names what is wrong, and with status 1 or 2."""

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes import write_ferplus
from tests.training.conftest import FinishedRun
from training.generate import Plan, generate


@dataclass(frozen=True)
class Wrong:
    """A wrong command. status: 2 for arguments that cannot be, 1 for what shows later. message: part of its line."""

    command: str
    status: int
    message: str


EXPORT = "export --name n --version 1 --licence MIT --data-terms t"
TRAIN = "train --config {config} --run {new}"
VIDEO = "train --config paper/ddamfn_fc_va.toml --run {new} --set data.cache={new}"

COMMANDS = [
    Wrong("prepare", 2, "required: --dataset, --root, --out"),
    Wrong("prepare --dataset ferminus --root {ferplus} --out {new}", 2, "invalid choice: 'ferminus'"),
    Wrong("prepare --dataset ferplus --root {nowhere} --out {new}", 1, "FER+ expects"),
    Wrong("prepare --dataset ferplus --root {ferplus} --out {prepared}", 1, "exists; choose another folder"),
    Wrong("prepare --dataset ferplus --root {ferplus} --out {new} --size 0", 2, "argument --size: 0 is less than 16"),
    Wrong("prepare --dataset ferplus --root {ferplus} --out {new} --workers 0", 2, "--workers: 0 is less than 1"),
    Wrong("prepare --dataset ferplus --root {ferplus} --out {new} --detector eagle", 1, "unknown face detector"),
    Wrong("prepare --dataset ferplus --root {ferplus} --out {new} --min-confidence 7", 2, "7 is not between 0 and 1"),
    Wrong("prepare --dataset ferplus --root {ferplus} --out {new} --teacher {nowhere}", 1, "{nowhere} cannot be read"),
    Wrong("prepare --dataset ferplus --root {ferplus} --out {new} --teacher {page}", 1, "{page} is a web page (HTML)"),
    Wrong("train --config {nowhere} --run {new}", 1, "{nowhere} does not exist, and what ships is"),
    Wrong("train --config {page} --run {new}", 1, "{page} is not TOML"),
    Wrong(f"{TRAIN} --set optimizer.rate", 1, "--set takes table.key=value, got 'optimizer.rate'"),
    Wrong(f"{TRAIN} --set optimizer.rate=fast", 1, "optimizer.rate: Input should be a valid number"),
    Wrong(f"{TRAIN} --set optimizer.rate=-1", 1, "optimizer.rate: Input should be greater than 0"),
    Wrong(f"{TRAIN} --set optimizer.speed=1", 1, "optimizer.speed: Extra inputs are not permitted"),
    Wrong(f"{TRAIN} --set data.prepared={{nowhere}}", 1, "{nowhere}"),
    Wrong(f"{TRAIN} --set network.start_from={{nowhere}}", 1, "{nowhere} does not exist"),
    Wrong(f"{TRAIN} --set network.start_from={{page}}", 1, "{page} is not a checkpoint of plain tensors"),
    Wrong(f"{TRAIN} --device abacus", 1, "--device abacus: PyTorch knows no such device"),
    Wrong("train --config {config} --run {page}", 1, "{page}"),
    Wrong("train --config {config} --run {run} --set optimizer.rate=0.5", 1, "another configuration (optimizer.rate)"),
    Wrong(f"{VIDEO} --set data.root={{nowhere}}", 1, "{nowhere} is missing: Aff-Wild2 expects a folder there"),
    Wrong(f"{VIDEO} --set data.root={{videos}} --set encoder.bundle=nowhere", 1, "no bundle 'nowhere'"),
    Wrong("pose --root {nowhere}", 1, "pictures.jsonl with a line for each picture"),
    Wrong("changes --run {nowhere} --prepared {prepared}", 1, "best.pt does not exist"),
    Wrong("changes --run {run} --prepared {prepared}", 1, "does not hold sittings of rendered faces"),
    Wrong("eyes --run {nowhere} --prepared {prepared}", 1, "best.pt does not exist"),
    Wrong("eyes --run {run} --prepared {nowhere}", 1, "{nowhere}"),
    Wrong("calibrate --run {nowhere}", 1, "best.pt does not exist"),
    Wrong("calibrate --run {run}", 1, "a run on still pictures is calibrated with --prepared"),
    Wrong("calibrate --run {run} --prepared {nowhere}", 1, "{nowhere}"),
    Wrong("evaluate", 2, "one of the arguments --prepared --run --table is required"),
    Wrong("evaluate --table {run}", 1, "protocol.json cannot be read"),
    Wrong("evaluate --run {run}", 1, "is a run on still pictures"),
    Wrong("evaluate --run {run} --out {new}", 2, "--out goes with --prepared"),
    Wrong("evaluate --prepared {prepared} --submission {new}", 2, "--submission goes with --run"),
    Wrong("evaluate --prepared {nowhere} --model {run}", 1, "{nowhere}"),
    Wrong("evaluate --prepared {prepared} --model nowhere", 1, "no bundle 'nowhere'"),
    Wrong("evaluate --prepared {prepared} --model {run} --resamples -1", 2, "--resamples: -1 is less than 0"),
    Wrong("evaluate --prepared {prepared} --model {run} --group-by age", 2, "--groups and --group-by go together"),
    Wrong("evaluate --prepared {prepared} --model {run} --out {nowhere}/q.json", 1, "{nowhere} is no folder"),
    Wrong(f"{EXPORT} --run {{run}} --out {{new}}", 1, "has no calibration: run training.calibrate first"),
    Wrong(f"{EXPORT} --run {{run}} --out {{run}} --uncalibrated", 1, "exists; choose another folder"),
    Wrong(f"{EXPORT} --run {{run}} --out {{new}} --uncalibrated --quality {{nowhere}}", 1, "No such file"),
    Wrong(f"{EXPORT} --run {{run}} --out {{new}} --uncalibrated --quality {{page}}", 1, "{page} is not JSON"),
    Wrong("submit --run {run} --frames {videos} --out {new}", 1, "is a run on still pictures"),
    Wrong("submit --run {nowhere} --frames {videos} --out {new}", 1, "best.pt does not exist"),
    Wrong("submit --run {run} --frames {videos} --out {page}", 1, "{page} exists; choose another name"),
    Wrong("import_checkpoint {nowhere} --out {new}", 1, "{nowhere} does not exist"),
    Wrong("import_checkpoint {page} --out {new}", 1, "{page} is a web page (HTML)"),
    Wrong("import_checkpoint {pointer} --out {new}", 1, "{pointer} is a pointer of Git LFS"),
    Wrong("generate --out {run}", 1, "exists; choose another folder"),
    Wrong("generate --out {new} --videos 1", 1, "leave a split without videos"),
    Wrong("generate --out {new} --seed=-1", 1, "a seed is at least 0, not -1"),
    Wrong("studies.small_clip --root {nowhere} --out {new}", 1, "{nowhere} is missing"),
    Wrong("studies.small_clip --root {videos} --out {new} --steps 0", 2, "--steps: 0 is less than 1"),
    Wrong("studies.small_clip --root {videos} --out {new} --held-out 2", 1, "a share of 2.0 of 3 videos"),
    Wrong("studies.robustness --prepared {nowhere} --model {run}", 1, "{nowhere}"),
    Wrong("studies.robustness --prepared {prepared} --model {run} --limit 0", 2, "--limit: 0 is less than 1"),
    Wrong("studies.robustness --prepared {prepared} --model {run} --out {nowhere}/a", 1, "{nowhere} is no folder"),
    Wrong("studies.agreement --prepared {prepared} --model {run} --limit 0", 2, "--limit: 0 is less than 1"),
    Wrong("studies.temporal --prepared {prepared} --model {run} --tracks 0", 2, "--tracks: 0 is less than 1"),
    Wrong("studies.temporal --prepared {prepared} --model nowhere", 1, "no bundle 'nowhere'"),
    Wrong("studies.agreement --prepared {nowhere} --model {run}", 1, "{nowhere}"),
    Wrong("studies.failures --picture {nowhere} --model {run}", 1, "{nowhere}"),
]


@pytest.fixture(scope="module")
def places(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the commands name: data sets and runs that are in order, and files that are something else."""
    folder = tmp_path_factory.mktemp("wrong")
    generate(Plan(videos=4, frames=2, validation=1), folder / "videos")
    write_ferplus(folder / "ferplus", [])
    (folder / "page").write_text("<html>Not found</html>")
    (folder / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 16777216\n")
    own = {name: folder / name for name in ("videos", "ferplus", "page", "pointer", "nowhere")}
    return own | {"prepared": finished.prepared, "config": finished.config, "run": finished.folder}


@pytest.mark.parametrize("wrong", COMMANDS, ids=lambda wrong: wrong.command)
def test_a_wrong_command_is_one_line(
    wrong: Wrong,
    places: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    given = places | {"new": tmp_path / "new"}
    module, *arguments = (word.format(**given) for word in wrong.command.split())
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"training.{module}").main()
    written = capfd.readouterr().err
    if isinstance(caught.value.code, str):  # Python writes such a code to standard error, and ends with status 1
        status, written = 1, f"{written}{caught.value.code}\n"
    else:
        status = caught.value.code
    assert status == wrong.status
    assert written.count("\n") == 1, written
    assert written.startswith("error: ")
    assert wrong.message.format(**given) in written
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("arguments", "status"), [(["--run", "nowhere"], 1), ([], 2)])
def test_the_process_ends_so_too(arguments: list[str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training.calibrate", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
