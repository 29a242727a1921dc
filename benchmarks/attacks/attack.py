"""All parts of an attack, one after the other, against one service."""

import asyncio
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import httpx2

from benchmarks.attacks.answers import Part
from benchmarks.attacks.bombs import Bomb, bombs, long_film
from benchmarks.attacks.clients import RETRIES, SLOW_WAYS, Address, Uploads, exchange, hold, in_turns, leave_early
from benchmarks.attacks.framing import broken_requests, damaged_request, file_part, form, request
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
from benchmarks.attacks.plan import Plan
from benchmarks.attacks.report import Report
from benchmarks.attacks.seeds import VIDEO_ROUTE, Media, photographs, whole_files
from benchmarks.attacks.watching import Footprint, Watch, footprint

HEAD_S = 12.0
"""Seconds after which the service has closed a connection whose request has no end of its headers, and 2 s more."""

SETTLE_S = 20.0
"""Longest time until nothing of the attack is in flight any more."""

SKIPS = 2

SETTLED = 0.01
"""Share by which a tour of whole files may still enlarge the resident memory of a service that has settled."""

LIVE_AT_ONCE = 8
"""Live connections that are attacked at a time."""


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
