"""The leak suite: a canary in every place where an upstream can say something, and none comes out.

Every case of the corpus goes through the whole proxy over real sockets.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.corpus.case import CASES, STREAMS, Case
from tests.corpus.conftest import Tally
from tests.corpus.core import by, by_event, play, singly, without_comments
from tests.corpus.planting import (
    CANARIES,
    STRANGER,
    all_at_once,
    count,
    error_headers,
    one_by_one,
)
from tests.corpus.wire import Said, Stage, said_by
from tests.proxies import events_of

BODIES = tuple(case for case in CASES if not case.is_stream and not case.passes)

# Above it, byte by byte takes longer than the rest of the suite.
_SHORT = 500


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_no_canary_passes_the_proxy(case: Case, proxy: Stage, tally: Tally) -> None:
    leaks = []
    for planted in all_at_once(case):
        for pieces in chunkings(planted.body):
            said = surrounded(said_by(case, pieces))
            answer, _ = await proxy.ask(case, said)
            found = count(answer.raw)
            if answer.status >= 400:
                found += answer.raw.count(STRANGER.encode())
            tally.exchanges += 1
            tally.canaries += planted.canaries + count(repr(said.headers).encode())
            tally.leaks += found
            if found:
                leaks.append((planted.where, answer.raw))
    assert leaks == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", BODIES, ids=str)
async def test_no_single_canary_passes_the_proxy(case: Case, proxy: Stage, tally: Tally) -> None:
    leaks = []
    for planted in one_by_one(case):
        answer, _ = await proxy.ask(case, said_by(case, [planted.body]))
        found = count(answer.raw)
        tally.exchanges += 1
        tally.canaries += planted.canaries
        tally.leaks += found
        if found:
            leaks.append((planted.where, answer.raw))
    assert leaks == []


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_no_canary_passes_a_stream_that_has_begun(case: Case, tally: Tally) -> None:
    leaks = []
    for planted in (*one_by_one(case), *all_at_once(case)):
        for pieces in (by(11, planted.body), by_event(planted.body), [planted.body]):
            out, _ = play(case, pieces)
            found = count(out)
            tally.exchanges += 1
            tally.canaries += planted.canaries
            tally.leaks += found
            if found:
                leaks.append((planted.where, out))
    assert leaks == []


@pytest.mark.parametrize("case", [c for c in STREAMS if c.passes], ids=str)
def test_noise_between_the_events_changes_none(case: Case) -> None:
    (_, _, noisy) = all_at_once(case)
    out, _ = play(case, by(11, noisy.body))
    ordinary = events_of(without_comments(case.body))
    assert events_of(out)[: len(ordinary)] == ordinary


def test_a_canary_that_passed_would_be_seen() -> None:
    assert all(count(canary.encode()) == 1 for canary in CANARIES)
    assert count(b"SK-CANARY7F3K and 10.203.113.77") == 2


def chunkings(body: bytes) -> list[list[bytes]]:
    every = [by_event(body), by(max(7, len(body) // 50), body)]
    if len(body) < _SHORT:
        every.append(singly(body))
    return every


def surrounded(said: Said) -> Said:
    """Add canaries to the status line, the headers and the trailers."""
    headers = [*said.headers, *error_headers(), ("x-trace", STRANGER)]
    if said.status >= 300:
        kept = dict(said.headers)
        headers = [(name, f"{value} {CANARIES[0]}") for name, value in kept.items()]
        headers += error_headers()
        headers += [
            (f"x-{CANARIES[5]}", "1"),
            ("retry-after", CANARIES[1]),
            ("x-ratelimit-limit-requests", CANARIES[1]),
            ("x-ratelimit-canary7f3k", "12"),
            ("x-should-retry", CANARIES[1]),
        ]
    trailers = [("x-trailer", CANARIES[2]), (CANARIES[5], "1")]
    return replace(said, headers=headers, reason=CANARIES[5], trailers=trailers)
