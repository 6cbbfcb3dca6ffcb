"""Who is told of exchanges, and when."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from proxy.core.errors import Origin, UpstreamError
from proxy.core.incident import Incident
from proxy.operate.incidents import Entry
from proxy.operate.metrics import Metrics
from proxy.operate.observer import Operator
from proxy.operate.record import Record
from tests.playbook import ledger
from tests.upstreams import PATIENCE


class Told:
    """A log that keeps the references it was told."""

    def __init__(self) -> None:
        self.references: list[str] = []

    def exchange(self, record: Record) -> None:
        self.references.append(record.reference)

    def say(self, event: str, *, urgent: bool = False, **fields: object) -> None:
        raise NotImplementedError

    def bug(self, event: str, reference: str) -> None:
        raise NotImplementedError


def record(reference: str, *incidents: Incident) -> Record:
    return Record(
        reference=reference,
        method="POST",
        path="/v1/chat/completions",
        surface="chat",
        credentials="client",
        status_out=200,
        incidents=list(incidents),
    )


def incident() -> Incident:
    errors = ledger("chat")
    errors.answer(UpstreamError(origin=Origin.HTTP, status=500))
    return errors.incidents[0]


@pytest.fixture
async def told() -> tuple[Operator, Told, CollectorRegistry, list[Entry]]:
    registry, log, kept = CollectorRegistry(), Told(), list[Entry]()
    return Operator(log, Metrics(registry), kept.append, "masked"), log, registry, kept


def count(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


async def test_exchanges_are_told_of_together_and_each_once(
    told: tuple[Operator, Told, CollectorRegistry, list[Entry]],
) -> None:
    operator, log, registry, kept = told
    for reference in "abc":
        operator.began()
        operator.ended(record(reference))
    operator.began()
    assert log.references == []
    async with asyncio.timeout(PATIENCE):
        while not log.references:
            await asyncio.sleep(0.001)
    assert log.references == ["a", "b", "c"]
    assert count(registry, "discreet_requests_total", surface="chat", status="200") == 3
    assert count(registry, "discreet_endings_total", surface="chat", ending="answered") == 3
    assert count(registry, "discreet_exchanges_in_flight") == 1
    operator.tell()
    assert log.references == ["a", "b", "c"]
    assert count(registry, "discreet_requests_total", surface="chat", status="200") == 3
    assert kept == []


async def test_an_error_is_told_of_at_once(
    told: tuple[Operator, Told, CollectorRegistry, list[Entry]],
) -> None:
    operator, log, registry, kept = told
    operator.began()
    operator.ended(record("a"))
    operator.began()
    operator.ended(record("b", incident()))
    assert log.references == ["a", "b"]
    assert [entry["reference"] for entry in kept] == ["b"]
    assert count(registry, "discreet_exchanges_in_flight") == 0


async def test_a_stream_that_only_began_is_counted_soon(
    told: tuple[Operator, Told, CollectorRegistry, list[Entry]],
) -> None:
    operator, _, registry, _ = told
    operator.began()
    async with asyncio.timeout(PATIENCE):
        while not count(registry, "discreet_exchanges_in_flight"):
            await asyncio.sleep(0.001)
