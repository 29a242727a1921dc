"""The outcome of an attack, the bounds that it must keep, and both as text."""

from collections import Counter
from dataclasses import dataclass, field

from benchmarks.attacks.answers import Part
from benchmarks.attacks.watching import Footprint
from benchmarks.reporting import section, table


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
