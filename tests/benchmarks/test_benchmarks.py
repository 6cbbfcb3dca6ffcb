"""The benchmark runs from end to end, and would notice an answer that did not come whole."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from tests.benchmarks.__main__ import benchmark
from tests.benchmarks.answers import NO_STAMP, Api, Script, body, events, script_of
from tests.benchmarks.contestants import Contestant, Running, contestants, discreet, provider
from tests.benchmarks.http import LAST_CHUNK, BrokenError, chunk, unchunk
from tests.benchmarks.load import Answer, Judge, connected
from tests.benchmarks.loop import Connection, Loop
from tests.benchmarks.measure import Cost, memory, run
from tests.benchmarks.report import WIDTH
from tests.benchmarks.rounds import FIRST, Results
from tests.benchmarks.scale import points
from tests.benchmarks.workers import Comparison, compare
from tests.benchmarks.workloads import OTHERS, QUICK, WORKLOADS, Workload
from tests.upstreams import Upstream, Visit

TINY: Final = replace(
    QUICK,
    workloads=tuple(replace(one, connections=4) for one in (*WORKLOADS, OTHERS[0])),
    rounds=1,
    seconds=0.1,
    paced=0.1,
    sequential=2,
    open_streams=5,
    idle=Script("chat", rate=20.0),
    memory_rounds=1,
    workers_slices=1,
    starts=0,
)
HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SCRIPT: Final = Script("chat", 10)
FRAMED: Final = chunk(body(SCRIPT)) + LAST_CHUNK


def test_it_measures_from_end_to_end() -> None:
    out = io.StringIO()
    console = Console(file=out, width=WIDTH)
    told = benchmark(console, TINY, None, "direct", "naive", "discreet")
    assert told["missing"] == {}
    assert told["results"]["failures"] == []
    for name in ("naive", "discreet"):
        costs = told["results"]["costs"][name]
        assert set(costs) == {*(workload.name for workload in TINY.workloads), FIRST}
        assert all(cost["count"] > 0 and cost["cpu"] > 0 for (cost,) in costs.values())
        assert told["results"]["memory"][name]
    lines = out.getvalue().splitlines()
    assert any("discreet" in line for line in lines)
    compared = [line for line in lines if "--workers 2" in line]
    assert len(compared) == (1 if len(os.sched_getaffinity(0)) > 1 else 0)
    assert max(map(len, lines)) <= WIDTH


def test_workers_are_compared_in_turn(tmp_path: Path) -> None:
    policy = os.sched_getscheduler(0)
    with provider(tmp_path) as upstream:
        found = compare(2, upstream, tmp_path)
        assert os.sched_getscheduler(upstream.pid or 0) == os.sched_getscheduler(0) == policy
    if len(os.sched_getaffinity(0)) == 1:
        assert found is None
        return
    assert found is not None
    assert len(found.one) == len(found.two) == len(found.one_loop) == len(found.two_loops) == 2
    assert min(found.gain or 0, found.most, found.ends, *found.rates) > 0


def test_a_comparison_with_a_failure_has_no_figure() -> None:
    whole, broken = Cost(8, 1.0, 1.0), Cost(0, 1.0, 1.0, failures=1, first_failure="no answer")
    assert Comparison([whole], [Cost(16, 1.0, 2.0)]).gain == pytest.approx(2.0)
    failed = Comparison([broken], [whole])
    assert failed.gain is None
    assert Results(workers=failed).failures() == ["one worker: 1 failures; no answer"]


def test_a_contestant_that_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    found, missing = contestants("naive", "nginx")
    assert [one.name for one in found] == ["naive"]
    assert set(missing) == {"nginx"}


@pytest.mark.parametrize("api", ["chat", "padded", "responses"])
@pytest.mark.parametrize("rate", [0.0, 200.0])
def test_its_streams_are_healthy_and_come_whole(api: Api, rate: float, tmp_path: Path) -> None:
    script = Script(api, 10, rate)
    with (
        provider(tmp_path) as upstream,
        discreet(upstream.port, tmp_path) as running,
        connected(running.port, 2) as load,
    ):
        if rate:
            judge, answers = load.pace(script, 0.01, _nothing, _nothing)
            assert all(list(answer.delays(0, answer.times[-1] + 1)) for answer in answers)
        else:
            judge = load.saturate(script, 0.1)
    assert judge.failures == 0, judge.first_failure
    lines = (tmp_path / "discreet.log").read_text().splitlines()
    endings = [line["ending"] for line in map(json.loads, lines) if "ending" in line]
    assert endings == ["answered"] * judge.whole


def _nothing() -> None:
    """Watch nothing."""


def test_a_loop_calls_each_in_its_turn_and_none_too_early() -> None:
    loop, begins = Loop(), time.monotonic()
    dues = [begins + delay for delay in (0.003, 0.001, 0.0015, 0.001, -1.0)]
    called: list[tuple[float, float]] = []

    def note(due: float) -> None:
        called.append((due, time.monotonic()))

    for due in dues:
        loop.call_at(due, partial(note, due))
    loop.call_at(begins + 0.004, loop.stop)
    loop.run()
    loop.close()
    assert [due for due, _ in called] == sorted(dues)
    assert all(at >= due for due, at in called)


def test_what_a_socket_does_not_take_at_once_is_sent_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    loop, got = Loop(), bytearray()
    sent = os.urandom(8 * 2**20)

    class Taking(Connection):
        def received(self, data: bytes) -> None:
            got.extend(data)

        def closed(self) -> None:
            loop.stop()

    class Sending(Connection):
        def closed(self) -> None:
            raise AssertionError

    sending = Sending(loop, ours)
    Taking(loop, theirs)
    sending.send(sent[:-5])
    sending.send(sent[-5:])

    def close_when_all_came() -> None:
        if len(got) == len(sent):
            sending.close()
        else:
            loop.call_at(time.monotonic() + 0.001, close_when_all_came)

    close_when_all_came()
    loop.run()
    loop.close()
    assert got == sent


def test_both_sides_make_the_same_of_a_target() -> None:
    script = Script("responses", 20, 12.5, 300)
    assert script_of(script.target) == script


@pytest.mark.parametrize("count", [10, 50])
@pytest.mark.parametrize("api", ["chat", "padded", "responses"])
def test_a_stream_has_as_many_events_as_it_says(api: Api, count: int) -> None:
    assert body(Script(api, count)).count(b"\n\n") == count


def test_a_chat_chunk_has_about_250_bytes() -> None:
    assert 240 <= len(events(Script("chat", 50))[20]) <= 260


def _judged(framed: bytes, script: Script = SCRIPT) -> Judge:
    """Judge an answer that comes in pieces of 100 bytes."""
    judge, answer = Judge(script), Answer()
    whole = HEAD + framed
    ended = [answer.feed(whole[at : at + 100]) for at in range(0, len(whole), 100)]
    assert ended == [False] * (len(ended) - 1) + [True]
    judge.judge(answer)
    return judge


def test_a_whole_body_counts_however_it_is_chunked() -> None:
    for size in (1, 7, 1000, 1_000_000):
        whole = body(SCRIPT)
        pieces = (chunk(whole[at : at + size]) for at in range(0, len(whole), size))
        assert _judged(b"".join(pieces) + LAST_CHUNK).whole == 1


def test_stamps_of_a_paced_stream_are_no_difference() -> None:
    stamped = body(SCRIPT).replace(NO_STAMP, b"@" + b"1234567890123456789")
    framed = chunk(stamped) + LAST_CHUNK
    assert _judged(framed, replace(SCRIPT, rate=1.0)).whole == 1
    assert _judged(framed).failures == 1


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"".join(events(SCRIPT)[:-1]), id="the last event is missing"),
        pytest.param(b"".join(events(SCRIPT)[:4] + events(SCRIPT)[5:]), id="an event is missing"),
        pytest.param(body(SCRIPT).replace(b" proxy", b" PROXY"), id="a word is another"),
        pytest.param(body(SCRIPT) + b": \n\n", id="more than was sent"),
    ],
)
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_broken_body_is_a_failure(broken: bytes, rate: float) -> None:
    judge = _judged(chunk(broken) + LAST_CHUNK, replace(SCRIPT, rate=rate))
    assert (judge.whole, judge.failures) == (0, 1)
    assert judge.first_failure


def test_a_broken_body_is_a_failure_after_whole_ones_too() -> None:
    framed = chunk(body(SCRIPT)) + LAST_CHUNK
    judge = _judged(framed)
    answer = Answer()
    answer.feed(HEAD + framed.replace(b"stop", b"pots"))
    judge.judge(answer)
    assert (judge.whole, judge.failures) == (1, 1)


@pytest.mark.parametrize(
    ("pieces", "whole", "failures"),
    [
        pytest.param([HEAD + FRAMED], 1, 0, id="at once"),
        pytest.param([HEAD.replace(b"OK", b"Fine\r\nX: y") + FRAMED], 1, 0, id="another head"),
        pytest.param([HEAD, FRAMED], 1, 0, id="in pieces"),
        pytest.param([HEAD, HEAD + FRAMED], 0, 1, id="with two heads"),
        pytest.param([HEAD + FRAMED[1:]], 0, 1, id="without its first byte"),
        pytest.param([HEAD + b"1" + FRAMED], 0, 1, id="with a byte before it"),
        pytest.param([HEAD + FRAMED[:-1]], 0, 0, id="not ended"),
        pytest.param([HEAD.replace(b"200", b"503") + FRAMED], 0, 1, id="another status"),
    ],
)
def test_an_answer_after_a_whole_one_is_judged_by_all_of_it(
    pieces: list[bytes], whole: int, failures: int
) -> None:
    judge, answer = _judged(FRAMED), Answer()
    ended = [judge.takes(answer, piece) for piece in pieces]
    assert (judge.whole, judge.failures) == (1 + whole, failures)
    assert ended == [False] * (len(pieces) - 1) + [whole + failures > 0]


def test_another_status_is_a_failure() -> None:
    judge, answer = Judge(SCRIPT), Answer()
    answer.feed(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}")
    judge.judge(answer)
    assert judge.first_failure == "HTTP/1.1 503 No"


@pytest.mark.parametrize("framed", [b"zz\r\n", b"3\r\nabc\r\n0\r\nx", b"3\r\nabc\r\n"])
def test_broken_chunks_are_no_body(framed: bytes) -> None:
    with pytest.raises(BrokenError):
        unchunk(framed)


async def test_a_connection_that_closes_in_the_middle_is_a_failure() -> None:
    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(HEAD, chunk(events(SCRIPT)[0]))
        visit.close()

    def asked(port: int) -> Judge:
        with connected(port, 1) as load:
            return load.saturate(SCRIPT, 0.1)

    async with Upstream(script) as upstream:
        judge = await asyncio.to_thread(asked, upstream.port)
    assert (judge.whole, judge.failures) == (0, 1)
    assert "closed" in judge.first_failure


async def test_paced_streams_that_all_fail_are_an_invalid_run(tmp_path: Path) -> None:
    async def script(visit: Visit) -> None:
        await visit.body()
        visit.close()

    paced = Workload("W", "", Script("chat", rate=100.0), 3, "event")
    async with Upstream(script) as upstream:
        broken = Running(upstream.port, os.getpid())
        cost = await asyncio.to_thread(run, paced, 0.05, broken, broken)
        contestant = Contestant("broken", "", lambda *_: nullcontext(broken))
        taken = await asyncio.to_thread(memory, 3, paced.script, contestant, broken, tmp_path)
    assert (cost.failures, cost.each, taken) == (3, None, None)


def _took(*microseconds: float) -> list[Cost]:
    return [Cost(count=1, seconds=1.0, cpu=each / 1e6) for each in microseconds]


def test_a_curve_tells_what_each_further_unit_took() -> None:
    costs = {10: _took(290.0, 300.0, 800.0), 110: _took(500.0), 1010: _took(4300.0)}
    further = [point.each for point in points(costs, further=True)]
    assert further == [None, pytest.approx(2.0), pytest.approx(4.0)]
    whole = [point.each for point in points(costs, further=False)]
    assert whole == [pytest.approx(300.0), pytest.approx(500.0), pytest.approx(4300.0)]


def test_ratios_are_taken_within_a_round() -> None:
    naive = [Cost(1, 1.0, cpu) for cpu in (1.0, 2.0, 4.0)]
    ours = [Cost(1, 1.0, cpu) for cpu in (1.5, 3.0, 6.0)]
    results = Results(costs={"naive": {"W1": naive}, "discreet": {"W1": ours}})
    assert results.ratio("discreet", "W1") == pytest.approx(1.5)
    assert results.median("discreet", "W1") == pytest.approx(3e6)


def test_a_run_with_a_failure_has_no_figure() -> None:
    ours = [Cost(1, 1.0, 1.0), Cost(1, 1.0, 1.0, failures=1, first_failure="byte 7 of 9")]
    results = Results(costs={"discreet": {"W1": ours}})
    assert results.median("discreet", "W1") is None
    assert results.failures() == ["discreet, W1: 1 failures; byte 7 of 9"]
