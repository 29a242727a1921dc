"""`python -m benchmarks.forward`: the forward pass of DDAMFN in several forms, beside what a matrix product allows.

Weights are random: they do not change the work. The forms take turns in every round, so that a busy moment of the
machine meets all of them; medians are compared.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchmarks.reporting import circumstances, section, table
from model_core.affect import LABEL_SETS
from model_core.inference.runtimes import CPU_OPTIONS, ConcatenatedNetwork, RuntimeOptions, build_runtime
from model_core.models import NetworkSpec, build_network

N = TypeVar("N", bound=nn.Module)

MULTIPLY_ADDS = 539.6e6
"""Of one face through DDAMFN; each is two floating point operations."""

BASELINE = "eager, NCHW"
TASKS = ("valence_arousal", "expression")

WARM_UPS = 3
"""Rounds that do not count: engines settle in their first ones."""

DEFAULT = ((1, 8, 32), 15, 1024)
QUICK = ((1, 2), 1, 128)
"""Batch sizes, rounds, and the side of the multiplied matrices."""


def settled(network: N, images: Tensor) -> N:
    """The network in evaluation mode, its norms set to what they see of some images.

    Without that, activations of random weights shrink from layer to layer, and no form could differ from another.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def forms() -> Mapping[str, Callable[[Tensor], Tensor]]:
    """Name -> function of a contiguous float [B, 3, 112, 112], for each form of one random network."""
    torch.manual_seed(0)
    spec = NetworkSpec("ddamfn", TASKS, LABEL_SETS["ferplus"])
    plain = settled(ConcatenatedNetwork(build_network(spec), TASKS).requires_grad_(False), torch.randn(8, 3, 112, 112))
    last = deepcopy(plain).to(memory_format=torch.channels_last)

    def served(options: RuntimeOptions) -> Callable[[Tensor], Tensor]:
        run = build_runtime(plain.network, TASKS, 112, torch.device("cpu"), options)
        return lambda x: torch.from_numpy(run(x))

    return {
        BASELINE: plain,
        "eager, channels_last": lambda x: last(x.contiguous(memory_format=torch.channels_last)),
        **{f"served, {options}": served(options) for options in CPU_OPTIONS},
    }


def multiplication_gflops(side: int, rounds: int) -> float:
    """Median GFLOP/s of a float32 product of two square matrices."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    seconds = [_seconds(lambda: a @ b) for _ in range(rounds + 1)][1:]
    return 2 * side**3 / median(seconds) / 1e9


def ceiling_ms(gflops: float, faces: int) -> float:
    """Milliseconds that MULTIPLY_ADDS of some faces take at a matrix product's speed."""
    return 1000 * faces * 2 * MULTIPLY_ADDS / (gflops * 1e9)


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
    rows = []
    networks = forms()
    gflops = multiplication_gflops(side, rounds)
    with torch.inference_mode():
        for size in batches:
            x = torch.randn(size, 3, 112, 112)
            work = {name: (lambda network=network, x=x: network(x)) for name, network in networks.items()}
            medians = interleaved(work, rounds)
            expected = networks[BASELINE](x)
            for name, seconds in medians.items():
                off = float((networks[name](x) - expected).abs().max())
                rows.append((size, name, 1000 * seconds, size / seconds, medians[BASELINE] / seconds, f"{off:.0e}"))
            at_best = ceiling_ms(gflops, size)
            rows.append((size, "at a matrix product's speed", at_best, 1000 * size / at_best, "-", "-"))
    header = ("batch", "form", "ms", "faces/s", "times as fast as eager NCHW", "largest difference to it")
    note = f"Medians of {rounds} rounds in which the forms take turns. float32 matrix product: {gflops:.0f} GFLOP/s."
    return section("Forward pass", table(header, rows), note)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forward", description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=list(DEFAULT[0]))
    parser.add_argument("--rounds", type=int, default=DEFAULT[1])
    parser.add_argument("--quick", action="store_true", help="one round of small batches: does it run at all?")
    args = parser.parse_args()
    print(circumstances(torch.get_num_threads()), end="\n\n")
    print(measure(*(QUICK if args.quick else (tuple(args.batches), args.rounds, DEFAULT[2]))))


if __name__ == "__main__":
    main()
