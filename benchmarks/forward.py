"""`python -m benchmarks.forward`: the forward pass of the included network in several forms.

Each reads a face as often as the service does: once, and as its mirror image, too, where the bundle averages both. (Of
oriented faces the service reads a tenth both ways, which is not counted.) Beside them stands what a matrix product of
this machine allows. The forms take turns in every round, so that a busy moment of the machine
meets all of them; medians are compared.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from statistics import median

import cv2
import numpy as np
import torch
from skimage import data
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reporting import circumstances, section, table
from model_core.bundles.bundle import Bundle, load_bundle, locate_bundle
from model_core.inference.networks import ConcatenatedNetwork, cpu_runtimes
from model_core.inference.runtimes import CPU_OPTIONS, Runtime
from model_core.preprocessing import InputSpec, to_batch

BASELINE = "eager, NCHW"

WARM_UPS = 3
"""Rounds that do not count: engines settle in their first ones."""

DEFAULT = ((1, 8, 32), 15, 1024)
QUICK = ((1,), 1, 128)
"""Batch sizes, rounds, and the side of the multiplied matrices."""


def faces(count: int, spec: InputSpec) -> Tensor:
    """Float [count, 3, S, S]: different views of one face, prepared as the network expects them."""
    photo = cv2.resize(data.astronaut()[:256, 96:352], (spec.size, spec.size), interpolation=cv2.INTER_AREA)
    crops = [np.roll(photo, (i, -i), axis=(0, 1)) for i in range(count)]
    return torch.from_numpy(to_batch(crops, spec))


def forms(bundle: Bundle) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """Name -> function of a contiguous float [B, 3, S, S], for each form of a bundle's network."""
    tasks, size = bundle.manifest.network.tasks, bundle.manifest.input.size
    read = with_mirror_image if bundle.manifest.input.with_mirror_image else lambda network: network
    plain = ConcatenatedNetwork(bundle.network, tasks).eval()
    runtimes = cpu_runtimes(bundle.network, tasks, size)
    last = deepcopy(plain).to(memory_format=torch.channels_last)

    def served(run: Runtime) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.from_numpy(run(x.numpy()))

    networks = {
        BASELINE: plain,
        "eager, channels_last": lambda x: last(x.contiguous(memory_format=torch.channels_last)),
        **{f"served, {options}": served(run) for options, run in zip(CPU_OPTIONS, runtimes, strict=True)},
    }
    return {name: read(network) for name, network in networks.items()}


def with_mirror_image(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the mean of a network's outputs for faces and for their mirror images, all in one batch."""

    def read(x: Tensor) -> Tensor:
        return network(torch.cat([x, x.flip(3)])).unflatten(0, (2, len(x))).mean(dim=0)

    return read


def operations(network: Callable[[Tensor], object], image: Tensor) -> int:
    """Floating point operations of a network's convolutions and matrix products for an input, two a multiply-add."""
    with FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops()


def multiplication_gflops(side: int, rounds: int) -> float:
    """Median GFLOP/s of a float32 product of two square matrices."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    seconds = [_seconds(lambda: a @ b) for _ in range(rounds + 1)][1:]
    return 2 * side**3 / median(seconds) / 1e9


def ceiling_ms(gflops: float, flop: float) -> float:
    """Milliseconds that some floating point operations take at a matrix product's speed."""
    return 1000 * flop / (gflops * 1e9)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each piece of work over rounds in which all take turns, after WARM_UPS."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(WARM_UPS + rounds):
        for name, run in work.items():
            seconds[name].append(_seconds(run))
    return {name: median(values[WARM_UPS:]) for name, values in seconds.items()}


def measure(batches: tuple[int, ...], rounds: int, side: int) -> str:
    """The markdown section."""
    rows: list[tuple[object, ...]] = []
    bundle = load_bundle(locate_bundle("default"))
    networks, manifest = forms(bundle), bundle.manifest
    gflops = multiplication_gflops(side, rounds)
    with torch.inference_mode():
        flop = operations(networks[BASELINE], faces(1, manifest.input))
        for size in batches:
            x = faces(size, manifest.input)
            work = {name: (lambda network=network, x=x: network(x)) for name, network in networks.items()}
            medians = interleaved(work, rounds)
            expected = networks[BASELINE](x)
            for name, seconds in medians.items():
                off = float((networks[name](x) - expected).abs().max())
                rows.append((size, name, 1000 * seconds, size / seconds, medians[BASELINE] / seconds, f"{off:.0e}"))
            at_best = ceiling_ms(gflops, size * flop)
            rows.append((size, "at a matrix product's speed", at_best, 1000 * size / at_best, "-", "-"))
    header = ("batch", "form", "ms", "faces/s", "times as fast as eager NCHW", "largest difference to it")
    note = (
        f"{manifest.name}, version {manifest.version}: {flop / 2e6:.0f} million multiply-adds a face. Medians of "
        f"{rounds} rounds in which the forms take turns. float32 matrix product: {gflops:.0f} GFLOP/s."
    )
    return section("Forward pass", table(header, rows), note)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forward", description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=list(DEFAULT[0]))
    parser.add_argument("--rounds", type=int, default=DEFAULT[1])
    parser.add_argument("--quick", action="store_true", help="one round of single faces: does it run at all?")
    args = parser.parse_args()
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(*(QUICK if args.quick else (tuple(args.batches), args.rounds, DEFAULT[2]))))


if __name__ == "__main__":
    main()
