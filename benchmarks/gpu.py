"""`python -m benchmarks.gpu`: does a GPU say what the CPU says, and how fast is it? All checks and times in one call.

It has not been run on a GPU yet: `--device cpu --quick` runs the same code on a CPU, with `eager` in the place of CUDA
graphs. It needs torch, numpy and this repository only. Faces are drawn, so labels on them are less sure than on people.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import torch
from torch import Tensor

from benchmarks.forward import interleaved
from benchmarks.gpu_checks import Place, agreement, drawn, place, repetition, small_memory
from benchmarks.reporting import section, table
from model_core.bundles.bundle import Bundle, load_bundle, locate_bundle
from model_core.inference.fixed_batches import FixedBatches, Forward
from model_core.inference.networks import ConcatenatedNetwork
from model_core.inference.runtimes import Precision
from model_core.inference.torch_runtime import forward_pass
from model_core.models.folding import folded
from model_core.preprocessing import to_batch

BASELINE = "eager float32, NCHW"


@dataclass(frozen=True)
class Plan:
    """The extent of a run: faces compared, batch sizes and rounds timed, torch.compile's backend or None for none."""

    faces: int = 2048
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    rounds: int = 50
    compiler: str | None = "inductor"


QUICK = Plan(3, (1,), 1, None)


@dataclass(frozen=True)
class Way:
    """A network in one number format: called in plain steps, from host memory as it is served, and compiled."""

    precision: Precision
    forward: Forward
    served: FixedBatches
    compiled: Forward | None


def ways(network: ConcatenatedNetwork, at: Place, size: int, compiler: str | None) -> list[Way]:
    """A Way for each number format of the place, for crops of `size` pixels."""
    made = []
    for precision in at.precisions:
        forward = forward_pass(deepcopy(network), at.device, precision)
        compiled = None
        if compiler:
            copy = deepcopy(network)
            compiled = forward_pass(copy, at.device, precision)
            copy.compile(backend=compiler, dynamic=False)
        made.append(Way(precision, forward, FixedBatches(forward, size, at.device, at.record), compiled))
    return made


def forms(plain: Forward, made: Sequence[Way], at: Place, images: Tensor) -> Mapping[str, Callable[[], object]]:
    """Name -> one pass over `images`, in host memory; `served` includes the copies, the others have them there."""
    near = images.to(at.device)
    standard = near.contiguous(memory_format=torch.contiguous_format)
    work: dict[str, Callable[[], object]] = {BASELINE: partial(plain, standard)}
    for way in made:
        work[f"eager {way.precision}"] = partial(way.forward, near)
        work[f"recorded {way.precision}"] = at.record(way.forward, near)
        if way.compiled:
            work[f"compiled {way.precision}"] = partial(way.compiled, near)
        work[f"served {way.precision}"] = partial(way.served, images)
    return work


def speed(network: ConcatenatedNetwork, at: Place, images: Tensor, plan: Plan) -> str:
    """The times of all forms at all batch sizes, as a section."""
    plain = forward_pass(deepcopy(network), at.device, "float32")
    made = ways(network, at, images.shape[-1], plan.compiler)
    rows: list[tuple[object, ...]] = []
    for size in plan.batches:
        work = forms(plain, made, at, images.repeat(-(-size // len(images)), 1, 1, 1)[:size])
        medians = interleaved({name: _waited(run, at) for name, run in work.items()}, plan.rounds)
        for name, seconds in medians.items():
            rows.append((size, name, 1000 * seconds, size / seconds, medians[BASELINE] / seconds))
    header = ("batch", "form", "ms", "faces/s", f"times as fast as {BASELINE}")
    note = (
        f"Medians of {plan.rounds} rounds in which the forms take turns, until the device has ended. eager: channels "
        "last, autocast below float32; recorded: that as a CUDA graph; served: padded, from host memory and back."
    )
    return section("Forward pass on the device", table(header, rows), note)


def copies(at: Place, size: int, plan: Plan) -> str:
    """Return a section with the times of copies to the device, from pageable and from pinned memory."""
    rows: list[tuple[object, ...]] = []
    for count in plan.batches:
        pageable = torch.zeros(count, 3, size, size)
        pinned = pageable.pin_memory() if at.device.type == "cuda" else pageable.clone()
        there = torch.zeros(count, 3, size, size, device=at.device)
        work: dict[str, Callable[[], object]] = {
            "pageable": partial(there.copy_, pageable),
            "pinned": partial(there.copy_, pinned, non_blocking=True),
        }
        medians = interleaved({name: _waited(run, at) for name, run in work.items()}, plan.rounds)
        gigabytes = pageable.numel() * 4 / 1e9
        rows += [(count, name, 1000 * seconds, gigabytes / seconds) for name, seconds in medians.items()]
    return section("Host to device", table(("batch", "memory", "ms", "GB/s"), rows))


def _waited(run: Callable[[], object], at: Place) -> Callable[[], object]:
    def timed() -> None:
        run()
        at.wait()

    return timed


def measure(bundle: Bundle, at: Place, plan: Plan) -> tuple[str, bool]:
    """All sections in markdown, and whether every check was passed."""
    spec = bundle.manifest.input
    crops = [cv2.resize(crop, (spec.size, spec.size)) for crop in drawn(plan.faces)]
    network = ConcatenatedNetwork(folded(bundle.network), tuple(bundle.manifest.network.widths)).eval()
    images = torch.from_numpy(to_batch(crops[:64], spec))
    checks = [agreement(bundle, at, crops), repetition(network, at, images), small_memory(at, crops[:16])]
    texts = [text for text, _ in checks] + [speed(network, at, images, plan), copies(at, spec.size, plan)]
    return "\n".join(texts), all(good for _, good in checks)


def circumstances(at: Place) -> str:
    """Device and versions, in one line."""
    name = torch.cuda.get_device_name(at.device) if at.device.type == "cuda" else platform.machine()
    return (
        f"{at.device} ({name}), torch {torch.__version__}, CUDA {torch.version.cuda}, {torch.get_num_threads()} threads"
    )


def main() -> None:
    """Command line. Exits with 1 where a check fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--bundle", default="default", help="a shipped bundle's name, or a folder")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes")
    parser.add_argument("--quick", action="store_true", help="few faces, one round: does it run at all?")
    args = parser.parse_args()
    if torch.device(args.device).type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: there is no CUDA; `--device cpu --quick` runs the same code on a CPU")
    at = place(args.device)
    if at.device.type == "cuda":  # eager passes get what recorded ones have
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    plan = QUICK if args.quick else Plan(compiler=None if args.no_compile else "inductor")
    text, good = measure(load_bundle(locate_bundle(args.bundle)), at, plan)
    report = f"# GPU\n\n{circumstances(at)}\n\n{text}"
    print(report)
    if args.out:
        args.out.write_text(report, encoding="utf-8")
    sys.exit(not good)


if __name__ == "__main__":
    main()
