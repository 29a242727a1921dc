"""`python -m benchmarks.cluster`: replicas on Ray Serve, their throughput and what is lost when one of them is killed.

Needs the extra `cluster`. Everything runs on this machine, so two replicas share the cores of one.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.concurrency import pictures
from benchmarks.load import Answers, closed_loop
from benchmarks.reporting import circumstances, section, table

PORT = 8190
APPLICATION = "affect"

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to Ray's makers
    "RAY_AUTH_MODE": "disabled",  # the cluster lives on this machine only, as long as the measurement
    "RAY_SERVE_LOG_TO_STDERR": "0",
}


@dataclass(frozen=True)
class Plan:
    """Extent of a measurement: clients, and seconds of each load."""

    clients: int = 8
    load_s: float = 10


QUICK = Plan(2, 2)


@contextmanager
def cluster(port: int) -> Iterator[str]:
    """A Ray cluster of this machine with Serve's proxy; yields the URL at which it answers."""
    os.environ.update(ENVIRONMENT)
    import ray
    from ray import serve

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def deploy(replicas: int) -> None:
    """Serve so many replicas, and return when all are ready."""
    from ray import serve

    from service.cluster import Replica

    fixed = Replica.options(num_replicas=replicas, autoscaling_config=None, ray_actor_options={"num_cpus": 1})
    serve.run(fixed.bind(), name=APPLICATION)


def replica_processes() -> list[int]:
    """Return the ids of the processes that are replicas, in ascending order."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue  # it has ended
        if command.startswith(b"ray::ServeReplica:"):
            found.append(int(path.parent.name))
    return sorted(found)


async def killed_under_load(url: str, content: list[bytes], plan: Plan) -> Answers:
    """Return the answers of clients while one replica is killed after a third of the time."""
    load = asyncio.create_task(closed_loop(content, plan.clients, plan.load_s, url))
    await asyncio.sleep(plan.load_s / 3)
    os.kill(replica_processes()[0], signal.SIGKILL)
    return await load


def rows(results: dict[str, Answers]) -> Iterator[tuple[object, ...]]:
    """Yield a table's rows: the faces a second, and the answers by kind."""
    for name, answers in results.items():
        yield (
            name,
            answers.faces_per_s(),
            answers.statuses[200],
            answers.statuses[429],
            answers.of_class(5),
            sum(answers.failures.values()),
        )


def measure(url: str, plan: Plan) -> dict[str, Answers]:
    """Return the answers under each load."""
    content = pictures(4)
    results = {}
    for count in (1, 2):
        deploy(count)
        name = f"{count} replica{'s' * (count > 1)}"
        results[name] = asyncio.run(closed_loop(content, plan.clients, plan.load_s, url))
    results["2 replicas, one is killed"] = asyncio.run(killed_under_load(url, content, plan))
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    parser.add_argument("--port", type=int, default=PORT, help=f"port of Ray's proxy (default {PORT})")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    with cluster(options.port) as url:
        results = measure(url, plan)
    header = ("load", "faces/s", "answered", "refused (429)", "failed (5xx)", "no answer")
    title = f"Replicas on Ray Serve, {plan.clients} clients"
    print(section(title, circumstances(os.cpu_count() or 1), table(header, list(rows(results)))))


if __name__ == "__main__":
    main()
