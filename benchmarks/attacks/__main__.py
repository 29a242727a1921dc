"""`python -m benchmarks.attacks`: damaged files, broken requests, slow clients and bombs against the service.

It starts the service itself, with its default settings unless told otherwise, or takes one on this machine by `--url`;
it refuses any other host. /healthz is asked twenty times a second meanwhile. Every answer must be one that a service
may give to a bad request, honest large files must pass, and the process must live, log no error, and end as small as it
began. Exit status 1: a bound was broken.
"""

import argparse
import asyncio
import json
import re
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from random import Random
from tempfile import TemporaryFile
from typing import IO
from urllib.parse import urlsplit

import httpx2
import torch

from benchmarks.attacks.answers import Part
from benchmarks.attacks.bombs import MOST_FRAMES, Bomb, bombs, long_film
from benchmarks.attacks.clients import RETRIES, SLOW_WAYS, Address, Uploads, exchange, hold, in_turns, leave_early
from benchmarks.attacks.framing import broken_requests, damaged_request, file_part, form, request
from benchmarks.attacks.groups import MemoryGroup, memory_group
from benchmarks.attacks.live import (
    HELD_WAYS,
    attack_live,
    camera,
    damaged_conversation,
    fill_places,
    hold_live,
    live_attacks,
)
from benchmarks.attacks.mutations import mutated
from benchmarks.attacks.seeds import VIDEO_ROUTE, Media, photographs, whole_files
from benchmarks.attacks.watching import Footprint, Watch, footprint
from benchmarks.process import running_service
from benchmarks.reporting import circumstances, section, table
from service.scheduling.pool import REST_S

HEAD_S = 12.0
"""Seconds after which the service has closed a connection whose request has no end of its headers, and 2 s more."""

SETTLE_S = 20.0
"""Longest time until nothing of the attack is in flight any more."""

READY_S = 600.0
"""Longest time in which the service is ready: an attack may run beside other work, at the lowest priority."""

SKIPS = 2

SETTLED = 0.01
"""Share by which a tour of whole files may still enlarge the resident memory of a service that has settled."""

LIVE_AT_ONCE = 8
"""Live connections that are attacked at a time."""

PARTS = ("files", "requests", "live", "slow", "bombs", "skips")


@dataclass(frozen=True)
class Plan:
    """Extent of an attack."""

    bodies: int = 5000
    """Damaged files."""
    requests: int = 500
    """Damaged requests; as many connections are broken off."""
    clients: int = 4
    """Clients that send files at a time."""
    flood: int = 100_000
    """Frames of a flood on a live connection."""
    slow: int = 300
    """Connections that are held open."""
    slow_live: int = 20
    """Live connections that are held open."""
    hold_s: float = 15.0
    at_once: int = 20
    """Copies of a bomb that are sent together."""
    rounds: int = 4
    """Times that each whole file is sent in a tour of them; there are tours before the attack, and one after it."""
    tours: int = 6
    """Most tours before the attack: it begins after one that leaves hardly any memory taken."""
    rest_s: float = 2 * REST_S
    """Seconds without a request after which memory is compared: at rest the service gives back what it has freed."""
    frames: int = MOST_FRAMES
    """Frames of the long film."""
    quick: bool = False
    """True for small files alone."""
    seed: int = 0
    only: tuple[str, ...] = PARTS
    """Parts of the attack; whole files are sent before and after in any case."""


QUICK = Plan(
    bodies=60,
    requests=30,
    flood=5000,
    slow=20,
    slow_live=5,
    hold_s=0.5,
    rounds=1,
    tours=1,
    rest_s=0,
    frames=10_000,
    quick=True,
)


@dataclass(frozen=True)
class Bounds:
    """What must hold; None where a quick run is too short to tell, or a busy machine would decide."""

    growth: float | None = 0.05
    """Share by which resident memory may be larger at the end than at the beginning."""
    health_s: float | None = 0.2
    """Longest answer of /healthz, in seconds."""
    beside_s: float | None = 1.0
    """99th percentile of pictures beside two long skips, in seconds."""
    bomb_mb: float = 1000.0
    """Memory that one bomb may take, in MB."""
    descriptors: int = 4
    """Descriptors by which the service may have more at the end."""


QUICK_BOUNDS = Bounds(growth=None, health_s=None, beside_s=None)


@dataclass
class Report:
    """The outcome of an attack."""

    parts: list[Part] = field(default_factory=list)
    begin: Footprint | None = None
    """After the tours of whole files; None for a service of which only the address is known."""
    end: Footprint | None = None
    """After everything, and one more tour."""
    beside_s: float = 0.0
    """99th percentile of the answers to pictures beside long skips, in seconds."""
    lost_decoders: dict[str, int] = field(default_factory=dict)
    """Decoder processes that had to be given up, by the reason."""
    kills: int = 0
    """Processes that the system ended for lack of memory."""
    errors: list[str] = field(default_factory=list)
    """Lines of the service's log, which has errors alone."""
    broken: list[str] = field(default_factory=list)
    """Bounds that do not hold."""


class Attack:
    """All parts, against one service."""

    def __init__(self, url: str, pid: int | None, plan: Plan, keep: Path | None) -> None:
        parts = urlsplit(url)
        self._address: Address = (parts.hostname or "", parts.port or 80)
        self._url = url
        self._pid = pid
        self._plan = plan
        self._keep = keep
        self._whole = whole_files()
        self._picture = self._whole[0].content
        self.report = Report()

    async def run(self) -> None:
        """Attack, and fill the report."""
        self._watch = Watch(*self._address, self._pid)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx2.AsyncClient(base_url=self._url, timeout=900, limits=limits) as self._http:
            with self._watch:
                lost = await self._lost_decoders()
                self.report.begin = await self._settled()
                for name, attack in self._attacks().items():
                    if name in self._plan.only:
                        await attack()
                self.report.end = await self._tour("whole files again")
                now = await self._lost_decoders()
                self.report.lost_decoders = {reason: count - lost.get(reason, 0) for reason, count in now.items()}

    def _attacks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {
            "files": self._damaged_files,
            "requests": self._broken_requests,
            "live": self._live,
            "slow": self._slow_clients,
            "bombs": self._bombs,
            "skips": self._long_skips,
        }

    @asynccontextmanager
    async def _part(self, name: str) -> AsyncIterator[Part]:
        """Measure a part of the attack."""
        part = Part(name)
        self.report.parts.append(part)
        before = self._footprint()
        part.begin_mb = before.resident_mb if before else 0.0
        self._watch.seen()
        started = time.perf_counter()
        yield part
        part.seconds = time.perf_counter() - started
        seen = self._watch.seen()
        part.health_s = seen.slowest_s
        part.peak_mb = max(seen.peak_mb, part.begin_mb)
        if seen.failures:
            part.faults.append(f"/healthz failed {seen.failures} times")
        print("\n  ".join([f"{name}: {part.seconds:.1f} s", *part.faults]), file=sys.stderr, flush=True)
        if self._pid is not None and not Path(f"/proc/{self._pid}").exists():
            raise SystemExit(f"{name}: the service's process has ended\n" + "\n".join(part.faults))

    async def _settled(self) -> Footprint | None:
        """Send whole files until the service has taken the memory that it works in, and return what it holds then.

        One tour is not enough: which threads take which files, and in which batches faces come together, is chance.
        """
        held = await self._tour("whole files")
        for number in range(2, self._plan.tours + 1):
            before = held
            held = await self._tour(f"whole files, tour {number}")
            if before is None or held is None or held.resident_mb <= before.resident_mb * (1 + SETTLED):
                break
        return held

    async def _tour(self, name: str) -> Footprint | None:
        """Send whole files, which must all be answered, wait until nothing is in flight, and return what is held then.

        Photographs of many sizes are among them, and several are sent at a time, once as many as ever come together.
        """
        async with self._part(name) as part:
            uploads = self._uploads(part)
            others = [] if self._plan.quick else photographs()
            sent = self._plan.rounds * [*self._whole, *others]

            async def send(media: Media) -> None:
                answer = await uploads.send(media)
                if answer.status != 200:
                    part.faults.append(f"{media.name}: {answer.label}, though it is whole")

            await in_turns(len(sent), self._plan.clients, lambda number: send(sent[number]))
            await in_turns(len(others), self._plan.at_once, lambda number: send(others[number]))
            end_s = time.monotonic() + SETTLE_S
            while await self._in_flight() and time.monotonic() < end_s:
                await asyncio.sleep(0.1)
            if left := await self._in_flight():
                part.faults.append(f"{left:g} requests are in flight that nobody waits for")
            await asyncio.sleep(self._plan.rest_s)
        return self._footprint()

    async def _damaged_files(self) -> None:
        async with self._part("damaged files") as part:
            uploads = self._uploads(part)

            async def send(number: int) -> None:
                # Each file has a generator of its own, so that it is the same in whatever order they are sent.
                rng = Random(f"{self._plan.seed}:{number}")
                media = mutated(rng.choice(self._whole), self._whole, rng)
                await uploads.send(Media(f"{number}: {media.name}", media.route, media.content), rng)

            await in_turns(self._plan.bodies, self._plan.clients, send)

    async def _broken_requests(self) -> None:
        whole = request(form(file_part(self._picture)))
        named = list(broken_requests(self._picture).items())
        for number in range(self._plan.requests):
            named.append((f"damaged request {number}", damaged_request(self._picture, self._rng(number))))
        async with self._part("broken requests") as part:

            async def send(number: int) -> None:
                name, content = named[number]
                for answer in await exchange(self._address, content):
                    part.count(answer, name)

            await in_turns(len(named), 40, send)
        async with self._part("clients that leave") as part:
            await in_turns(self._plan.requests, 40, lambda number: leave_early(self._address, whole, self._rng(number)))

    async def _live(self) -> None:
        """Attack live connections in every way, after which an honest one must be served."""
        attacks = list(live_attacks(self._picture, self._plan.flood).items())
        for number in range(self._plan.requests):
            attack = damaged_conversation(self._picture, self._rng(number))
            attacks.append((f"damaged conversation {number}", attack))
        async with self._part("live connections") as part:

            async def send(number: int) -> None:
                await attack_live(self._address, *attacks[number], part)

            await in_turns(len(attacks), LIVE_AT_ONCE, send)
            part.count(await camera(self._address, self._picture), "a picture")
        async with self._part("more live connections than may be") as part:
            await fill_places(self._address, part)
            part.count(await camera(self._address, self._picture), "a picture")
        async with self._part("slow live connections") as part:
            ways = [HELD_WAYS[number % len(HELD_WAYS)] for number in range(self._plan.slow_live)]
            held = (hold_live(self._address, way, self._picture, self._plan.hold_s) for way in ways)
            holding = asyncio.gather(*held)
            while not holding.done():
                part.count(await camera(self._address, self._picture), "a picture")
                await asyncio.sleep(0.1)
            await holding

    async def _slow_clients(self) -> None:
        """Hold connections open in every way, and send pictures beside them, which must be answered."""
        content = form(file_part(self._picture))
        ways = [SLOW_WAYS[number % len(SLOW_WAYS)] for number in range(self._plan.slow)]
        async with self._part("slow clients") as part:
            holding = asyncio.gather(*(hold(self._address, way, content, self._plan.hold_s) for way in ways))
            uploads = self._uploads(part)
            while not holding.done():
                await uploads.send(self._whole[0])
                await asyncio.sleep(0.1)
            for way, ended in zip(ways, await holding, strict=True):
                part.add(f"{way}: {ended}")
            if self._plan.hold_s > HEAD_S:
                left = sum(part.answers.get(f"{way}: open", 0) for way in ("silent", "slow head"))
                part.faults += [f"{left} connections without the end of their headers are open"] if left else []

    async def _bombs(self) -> None:
        """Send each bomb alone, then many copies together; in a quick run, all bombs together."""
        made = bombs(self._plan.quick)
        for bomb in made:
            async with self._part(bomb.media.name) as part:
                await self._blow([bomb], part)
        if self._plan.quick:
            async with self._part("all bombs at once") as part:
                await self._blow(made, part)
            return
        for bomb in made:
            async with self._part(f"{self._plan.at_once} times {bomb.media.name}") as part:
                await self._blow(self._plan.at_once * [bomb], part)

    async def _blow(self, sent: Sequence[Bomb], part: Part) -> None:
        """Send bombs together; of several some may be refused with 429, and a lack may be told."""
        uploads = self._uploads(part)
        alone = len(sent) == 1
        calls = (uploads.send(bomb.media, retries=RETRIES if alone else 0) for bomb in sent)
        for bomb, answer in zip(sent, await asyncio.gather(*calls), strict=True):
            allowed = bomb.expected if alone else bomb.expected | {429, 503, 507}
            if not answer.fault and answer.status not in allowed:
                part.faults.append(f"{bomb.media.name}: {answer.label}, not one of {sorted(allowed)}")

    async def _long_skips(self) -> None:
        """Send pictures while films are read of which hardly a frame is asked for."""
        seconds: list[float] = []
        film = Media("honest MP4 of many frames", f"{VIDEO_ROUTE}?fps=0.05", long_film(self._plan.frames))
        async with self._part(f"{self._plan.frames} frames, {SKIPS} times, and pictures beside") as part:
            uploads = self._uploads(part)
            films = asyncio.gather(*(uploads.send(film) for _ in range(SKIPS)))
            while not films.done():
                started = time.perf_counter()
                await uploads.send(self._whole[0])
                seconds.append(time.perf_counter() - started)
                await asyncio.sleep(0.05)
            part.faults += [f"{answer.label} of a film" for answer in await films if answer.status != 200]
        self.report.beside_s = statistics.quantiles(seconds, n=100)[-1] if len(seconds) > 1 else sum(seconds)

    def _uploads(self, part: Part) -> Uploads:
        return Uploads(self._http, part, self._keep)

    def _rng(self, number: int) -> Random:
        return Random(f"{self._plan.seed}:request {number}")

    def _footprint(self) -> Footprint | None:
        return None if self._pid is None else footprint(self._pid)

    async def _in_flight(self) -> float:
        """Return the number of requests that are being answered, without the one that asks."""
        return sum(value for route, value in await self._metric("affect_in_flight") if "/analyze" in route)

    async def _lost_decoders(self) -> dict[str, int]:
        found = await self._metric("affect_decoder_losses_total")
        return {labels.partition('"')[2].rstrip('"'): int(value) for labels, value in found}

    async def _metric(self, name: str) -> list[tuple[str, float]]:
        """Return the values of a metric, each with its labels."""
        text = (await self._http.get("/metrics")).text
        return [(labels, float(value)) for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.M)]


def check(report: Report, bounds: Bounds) -> list[str]:
    """Return the bounds that a report breaks, each in a line."""
    broken = [f"{part.name}: {fault}" for part in report.parts for fault in part.faults]
    for part in report.parts:
        if bounds.health_s is not None and part.health_s > bounds.health_s:
            broken.append(f"{part.name}: /healthz took {part.health_s:.2f} s, more than {bounds.health_s:g}")
    if bounds.beside_s is not None and report.beside_s > bounds.beside_s:
        broken.append(f"pictures beside long skips took {report.beside_s:.2f} s, more than {bounds.beside_s:g}")
    if report.kills:
        broken.append(f"the system ended {report.kills} processes for lack of memory")
    broken += [f"the service logged {line[:2000]}" for line in report.errors]
    return broken + _too_large(report, bounds)


def _too_large(report: Report, bounds: Bounds) -> list[str]:
    begin, end = report.begin, report.end
    if begin is None or end is None:
        return []
    broken = [
        f"{part.name}: {part.peak_mb - part.begin_mb:.0f} MB more, above {bounds.bomb_mb:g}"
        for part in report.parts
        if part.peak_mb - part.begin_mb > bounds.bomb_mb and sum(part.answers.values()) == 1
    ]
    if bounds.growth is not None and end.resident_mb > begin.resident_mb * (1 + bounds.growth):
        broken.append(f"resident memory grew from {begin.resident_mb:.0f} to {end.resident_mb:.0f} MB")
    if end.descriptors > begin.descriptors + bounds.descriptors:
        broken.append(f"open files grew from {begin.descriptors} to {end.descriptors}")
    return broken


def rendered(report: Report) -> str:
    """Return the report as a markdown section."""
    header = ("part", "answers", "200", "4xx", "of them 429", "5xx", "none", "sent again", "faults", "s")
    rows = [
        (
            part.name,
            sum(part.answers.values()),
            *(part.starting_with(digits) for digits in ("2", "4", "429", "5")),
            sum(count for label, count in part.answers.items() if not label[0].isdigit()),
            part.retried,
            len(part.faults),
            part.seconds,
        )
        for part in report.parts
    ]
    costs = [
        (part.name, 1000 * part.health_s, part.begin_mb, part.peak_mb, part.peak_mb - part.begin_mb)
        for part in report.parts
    ]
    labels: Counter[str] = Counter()
    for part in report.parts:
        labels.update(part.answers)
    memory = "The process is not ours: its memory was not looked at."
    if report.begin and report.end:
        sizes = [
            f"{name} {each.resident_mb:.0f} MB in {each.processes} processes ({each.service_mb:.0f} MB the service), "
            f"{each.descriptors} open files"
            for name, each in (("At the beginning:", report.begin), ("at the end:", report.end))
        ]
        memory = "; ".join(sizes) + "."
    lost = ", ".join(f"{reason} {count}" for reason, count in report.lost_decoders.items())
    return section(
        "Attacks",
        table(header, rows),
        table(("part", "slowest /healthz ms", "MB before", "MB at most", "difference"), costs),
        table(("answer", "times"), labels.most_common()),
        f"{memory} Decoders given up: {lost or 'none'}. Pictures beside long skips: 99 % within "
        f"{report.beside_s:.2f} s. Processes that the system ended for lack of memory: {report.kills}.",
        "All bounds hold." if not report.broken else "\n".join(f"* {line}" for line in report.broken),
    )


@dataclass(frozen=True)
class Target:
    """The service that is attacked. Of one that we did not start, only the address is known."""

    url: str
    pid: int | None = None
    group: MemoryGroup | None = None
    log: IO[bytes] | None = None
    """What it writes."""

    def kills(self) -> int:
        """Return how many of its processes the system has ended for lack of memory."""
        return self.group.kills() if self.group else 0

    def errors(self) -> list[str]:
        """Return the lines of its log."""
        if self.log is None:
            return []
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace").splitlines()


@contextmanager
def service(url: str | None, memory: int | None, variables: Mapping[str, str]) -> Iterator[Target]:
    """Give a service that is there, or one that is started, in a memory group if one is wanted and can be made."""
    if url is not None:
        yield Target(url)
        return
    with memory_group(memory) if memory else nullcontext() as group, TemporaryFile("w+b") as log:
        if memory:
            print(f"memory: {'a group of at most ' + str(memory) + ' bytes' if group else 'no group can be made here'}")
        settings = {"AFFECT_LOG_LEVEL": "error", **variables}
        prefix = group.prefix if group else ()
        with running_service(prefix=prefix, log=log, ready_s=READY_S, **settings) as process:
            yield Target(process.url, process.pid, group, log)


def loopback(url: str) -> str:
    """Return an address if it is one of this machine. Raises ArgumentTypeError for any other."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname or "", parts.port or 80, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        found = []
    if parts.scheme != "http" or not found or not all(ip_address(each[4][0]).is_loopback for each in found):
        raise argparse.ArgumentTypeError("attacks are for a service on this machine: http://127.0.0.1:PORT")
    return url.rstrip("/")


def size(text: str) -> int:
    """Return the bytes that `4G` or `512M` means. Raises ArgumentTypeError for anything else."""
    found = re.fullmatch(r"(\d+)([GM])", text)
    if found is None:
        raise argparse.ArgumentTypeError("a size is a number and G or M, as in 4G")
    return int(found[1]) * {"G": 2**30, "M": 2**20}[found[2]]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--url", type=loopback, help="a service on this machine; by default one is started")
    parser.add_argument("--bodies", type=int, default=Plan.bodies, help="damaged files")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of the attack")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--memory", type=size, metavar="4G", help="start the service in a memory cgroup of this size")
    parser.add_argument(
        "--set", action="append", default=[], metavar="AFFECT_NAME=VALUE", help="a variable of the service"
    )
    parser.add_argument("--out", type=Path, help="also write the figures to this file, as JSON")
    parser.add_argument("--keep", type=Path, help="folder for files whose answers are faults")
    parser.add_argument("--quick", action="store_true", help="seconds of each part; times and growth are not judged")
    return parser.parse_args(words)


def main() -> None:
    """Command line."""
    args = arguments()
    plan = replace(QUICK if args.quick else Plan(bodies=args.bodies), seed=args.seed, only=tuple(args.only))
    bounds = QUICK_BOUNDS if args.quick else Bounds()
    print(circumstances(torch.get_num_threads()), end="\n\n")
    variables = dict(pair.split("=", 1) for pair in args.set)
    with service(args.url, args.memory, variables) as target:
        attack = Attack(target.url, target.pid, plan, args.keep)
        asyncio.run(attack.run())
        report = attack.report
        report.kills = target.kills()
        report.errors = target.errors()
    report.broken = check(report, bounds)
    print(rendered(report))
    if args.out is not None:
        figures = {"plan": asdict(plan), "bounds": asdict(bounds), "report": asdict(report)}
        args.out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if report.broken:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
