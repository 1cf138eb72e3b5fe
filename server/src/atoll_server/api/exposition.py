# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads of a server. Everything is gathered when it asks; requests alone are counted as they come.

Labels are closed sets, and the ids of sandboxes that run: a limited number of series, which end with the sandbox.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from atoll_server.engine.engine import Engine
from atoll_server.engine.model import Sandbox, Usage
from atoll_server.engine.pool import ShapeStatistics
from atoll_server.engine.pool_plan import Shape
from atoll_server.engine.statistics import EngineStatistics

SANDBOX_SERIES_LIMIT = 1000
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class Exposition:
    """The server's own numbers, and those of whatever else `registry` holds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests: Counter[tuple[str, str, str]] = Counter()

    def note_request(self, method: str, route: str, status: str) -> None:
        """Count one answer. `route` is a path as it was declared, never as it was asked for."""
        word = method if method in _METHODS else "other"
        self._requests[word, route, status] += 1

    async def render(self, engine: Engine) -> bytes:
        """Everything, as Prometheus reads it. Made on a thread: many sandboxes make it some hundred thousand bytes."""
        usages = await engine.usages(SANDBOX_SERIES_LIMIT)
        gathered = Gathered(dict(self._requests), engine.statistics(), engine.pool()[1], usages)
        return await asyncio.to_thread(self._render, gathered)

    def _render(self, gathered: Gathered) -> bytes:
        own = CollectorRegistry(auto_describe=False)
        own.register(gathered)
        return generate_latest(self._registry) + generate_latest(own)


@dataclass(frozen=True, eq=False)
class Gathered(Collector):
    """What was counted, and what the engine said, at one moment."""

    requests: Mapping[tuple[str, str, str], int]
    statistics: EngineStatistics
    pool: Sequence[ShapeStatistics]
    usages: Sequence[tuple[Sandbox, Usage]]

    def collect(self) -> Iterator[Metric]:
        yield _render_requests(self.requests)
        yield from _render_statistics(self.statistics)
        yield from _render_pool(self.pool)
        yield from _render_usages(self.usages)


def _render_requests(requests: Mapping[tuple[str, str, str], int]) -> Metric:
    family = CounterMetricFamily(
        "atoll_http_requests",
        "Requests, by what was asked for and what was answered",
        labels=("method", "route", "status"),
    )
    for labels, count in requests.items():
        family.add_metric(labels, count)
    return family


def _render_statistics(statistics: EngineStatistics) -> Iterator[Metric]:
    there = GaugeMetricFamily("atoll_sandboxes", "Sandboxes now", labels=("state", "runtime"))
    for (state, kind), count in statistics.sandboxes.items():
        there.add_metric((state.value, kind.value), count)
    created = CounterMetricFamily("atoll_sandboxes_created", "Created", labels=("runtime",))
    for kind, count in statistics.created.items():
        created.add_metric((kind.value,), count)
    ended = CounterMetricFamily("atoll_sandboxes_ended", "Ended", labels=("cause", "runtime"))
    for (cause, kind), count in statistics.ended.items():
        ended.add_metric((cause.value, kind.value), count)
    execs = HistogramMetricFamily(
        "atoll_exec_seconds", "Commands, from the request to their end", labels=("runtime",)
    )
    for kind, durations in statistics.execs.items():
        execs.add_metric(
            (kind.value,), _buckets(durations.bounds, durations.counts), durations.total
        )
    yield from (there, created, ended, execs)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """As Prometheus has them: each counts all that were shorter, too."""
    names = (*(f"{bound:g}" for bound in bounds), "+Inf")
    return [(name, float(sum(counts[: place + 1]))) for place, name in enumerate(names)]


_POOL_NOW = (
    ("idle", "Sandboxes that wait to be taken"),
    ("building", "Sandboxes being built ahead"),
    ("target", "How many should wait"),
)
_POOL_COUNTS = (
    ("hits", "Requests that were given one"),
    ("misses", "Requests that found none"),
    ("built", "Built ahead"),
    ("failed", "Could not be built"),
    ("died", "Died waiting"),
    ("retired", "Ended unused"),
)


def _render_pool(shapes: Sequence[ShapeStatistics]) -> Iterator[Metric]:
    labels = ("image", "runtime", "memory_mb", "disk_mb", "open_files", "network")
    families: list[tuple[str, GaugeMetricFamily | CounterMetricFamily]] = [
        *(
            (name, GaugeMetricFamily(f"atoll_pool_{name}", text, labels=labels))
            for name, text in _POOL_NOW
        ),
        *(
            (name, CounterMetricFamily(f"atoll_pool_{name}", text, labels=labels))
            for name, text in _POOL_COUNTS
        ),
    ]
    for name, family in families:
        for it in shapes:
            family.add_metric(_labels_of(it.shape), getattr(it, name))
        yield family


def _labels_of(shape: Shape) -> tuple[str, ...]:
    """All that tells one shape from another, or there would be two numbers under one name."""
    sizes = (shape.memory_mb, shape.disk_mb, shape.open_files)
    network = "yes" if shape.network else "none"
    return (shape.image, shape.runtime.value, *map(str, sizes), network)


def _render_usages(usages: Sequence[tuple[Sandbox, Usage]]) -> Iterator[Metric]:
    labels = ("sandbox", "runtime")
    cpu = CounterMetricFamily("atoll_sandbox_cpu_seconds", "Processor time used", labels=labels)
    kills = CounterMetricFamily("atoll_sandbox_oom_kills", "Killed for memory", labels=labels)
    gauges = {
        name: GaugeMetricFamily(f"atoll_sandbox_{name}", text, labels=labels)
        for name, text in _SANDBOX_NOW
    }
    for sandbox, used in usages:
        values = (sandbox.id, sandbox.runtime.value)
        cpu.add_metric(values, used.cpu)
        kills.add_metric(values, used.oom_kills)
        for name, number in _numbers_now(used).items():
            gauges[name].add_metric(values, number)
    yield from (cpu, kills, *gauges.values())


_SANDBOX_NOW = (
    ("cpu_limit", "Processors it may use at once"),
    ("memory_bytes", "Memory, caches included"),
    ("memory_held_bytes", "Memory that cannot be taken back"),
    ("memory_limit_bytes", "Memory it may have"),
    ("processes", "Processes and threads"),
    ("processes_limit", "Processes and threads it may have"),
    ("disk_bytes", "Disk that it takes on the host"),
    ("disk_limit_bytes", "Disk it may take"),
    ("uptime_seconds", "Since it was given to whoever created it"),
)


def _numbers_now(used: Usage) -> dict[str, float]:
    return {
        "cpu_limit": used.cpu_limit,
        "memory_bytes": used.memory,
        "memory_held_bytes": used.memory_held,
        "memory_limit_bytes": used.memory_limit,
        "processes": used.processes,
        "processes_limit": used.processes_limit,
        "disk_bytes": used.disk,
        "disk_limit_bytes": used.disk_limit,
        "uptime_seconds": used.uptime,
    }
