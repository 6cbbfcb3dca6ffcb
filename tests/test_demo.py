"""The demo and its faulty provider."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from rich.cells import cell_len

from proxy.demo import play_all
from proxy.demo.outcome import Count, Outcome, count, is_open_ended
from proxy.demo.provider import providing
from proxy.demo.scenarios import BY_NAME, SCENARIOS, Scenario
from proxy.demo.transcript import Close, read
from proxy.demo.view import View

PATHS = ("/v1/responses", "/v1/chat/completions")


@asynccontextmanager
async def running(*arguments: str, **environ: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdout=PIPE, stderr=PIPE, env=os.environ | environ
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def demo(**environ: str) -> tuple[int | None, str]:
    async with running("proxy", "demo", **environ) as process:
        out, err = await process.communicate()
        assert err == b""
        return process.returncode, out.decode()


async def printed_until(process: Process, mark: str) -> str:
    assert process.stdout is not None
    text = ""
    while mark not in text:
        line = await process.stdout.readline()
        assert line, f"{mark!r} was never printed"
        text += line.decode()
    return text


@pytest.fixture(scope="module")
def shown() -> str:
    code, out = asyncio.run(demo(COLUMNS="80"))
    assert code == 0
    return out


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    async def collect() -> list[Outcome]:
        return [outcome async for outcome in play_all(io.StringIO())]

    return asyncio.run(collect())


def outcome_of(outcomes: list[Outcome], name: str) -> Outcome:
    return next(one for one in outcomes if one.scenario.name == name)


# What it shows


def test_it_fits_80_columns(shown: str) -> None:
    assert max(map(cell_len, shown.splitlines())) == 80


async def test_it_uses_more_columns_where_there_are_more() -> None:
    code, out = await demo(COLUMNS="120")
    assert code == 0
    assert max(map(cell_len, out.splitlines())) == 120


def test_a_pipe_gets_no_colours(shown: str) -> None:
    assert "\x1b" not in shown


async def test_it_runs_where_output_is_ascii() -> None:
    code, out = await demo(PYTHONIOENCODING="ascii", COLUMNS="80")
    assert code == 0
    assert out.isascii()


async def test_it_heeds_no_setting_of_the_environment() -> None:
    code, _ = await demo(DISCREET_MAPPINGS="/no/such/file", DISCREET_ADMIN="nonsense")
    assert code == 0


def test_it_ends_in_the_count(shown: str, outcomes: list[Outcome]) -> None:
    before = count(outcomes).leaks[0]
    assert re.search(rf"clients read +{before} +0 ", shown)
    assert f"identical, {len(outcomes[-1].got.body):,} bytes" in shown


def test_it_shows_the_line_of_the_log_that_joins_both_sides(shown: str) -> None:
    assert len(re.findall(r"reference (\w{16})", shown)) > 5
    logged = re.search(r"^ +(\w{16})  upstream_unavailable", shown, re.MULTILINE)
    assert logged is not None
    assert shown.count(logged[1]) == 2


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_what_leaks_is_shown_on_the_left_and_never_on_the_right(
    scenario: Scenario, outcomes: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    View(out).show(outcome_of(outcomes, scenario.name))
    halves = [line.split("│") for line in out.getvalue().splitlines() if "│" in line]
    left, right = ("".join("".join(half).split()) for half in zip(*halves, strict=True))
    for leak in ("".join(leak.split()) for leak in scenario.leaks):
        assert leak in left
        assert leak not in right


# What it counts


def test_more_than_a_dozen_leaks_before_and_none_after(outcomes: list[Outcome]) -> None:
    counted = count(outcomes)
    assert counted.leaks[0] > 12
    assert counted.leaks[1] == 0
    assert counted.is_good


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_the_provider_really_delivers_every_leak(
    scenario: Scenario, outcomes: list[Outcome]
) -> None:
    assert outcome_of(outcomes, scenario.name).leaks_before == len(scenario.leaks)


def test_a_proxy_that_passes_everything_on_is_found_out(outcomes: list[Outcome]) -> None:
    passed = [Outcome(one.scenario, one.said, one.said) for one in outcomes]
    counted = count(passed)
    assert counted.leaks[1] >= counted.leaks[0] > 0
    assert counted.open_ended == (3, 3)
    assert not counted.is_good


@pytest.mark.parametrize(
    "counted",
    [
        Count(leaks=(9, 1), open_ended=(3, 0), untouched=True),
        Count(leaks=(9, 0), open_ended=(3, 1), untouched=True),
        Count(leaks=(9, 0), open_ended=(3, 0), untouched=False),
    ],
)
def test_one_broken_promise_is_enough(counted: Count) -> None:
    assert not counted.is_good


# What the provider does


def test_the_healthy_stream_is_byte_identical(outcomes: list[Outcome]) -> None:
    healthy = outcome_of(outcomes, "healthy")
    assert healthy.said.body == healthy.got.body
    assert healthy.said.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("name", "close"),
    [("cut", Close.CUT), ("silent-stop", Close.ENDED), ("hang", Close.SILENT)],
)
def test_an_answer_that_just_stops_gets_an_ending(
    name: str, close: Close, outcomes: list[Outcome]
) -> None:
    stopped = outcome_of(outcomes, name)
    assert stopped.said.close is close
    assert is_open_ended(stopped.said)
    assert not is_open_ended(stopped.got)
    assert read(stopped.got).text == read(stopped.said).text


def test_a_failed_tool_leaves_the_answer_whole(outcomes: list[Outcome]) -> None:
    failed = outcome_of(outcomes, "failed-tool")
    said, got = read(failed.said), read(failed.got)
    assert (got.text, got.events) == (said.text, ["response.completed"])
    assert got.tool_error != said.tool_error


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_scenario_plays_on_both_apis(
    path: str, scenario: Scenario, *, stream: bool
) -> None:
    asked = {"model": scenario.name, "stream": stream}
    async with (
        providing() as url,
        aiohttp.ClientSession() as session,
        session.post(url + path, json=asked) as response,
    ):
        streamed = stream and scenario.body is None
        assert (response.content_type == "text/event-stream") is streamed
        if streamed or response.content_type != "application/json":
            return
        whole = scenario.name not in {"cut", "silent-stop", "hang"}
        if whole:
            failed = scenario.body is not None or scenario.error is not None
            assert ((await response.json()).get("error") is not None) is failed


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": "no-such"}'])
async def test_an_unknown_model_is_told_the_scenarios(path: str, body: bytes) -> None:
    async with (
        providing() as url,
        aiohttp.ClientSession() as session,
        session.post(url + path, data=body) as response,
    ):
        assert response.status == 404
        message = (await response.json())["error"]["message"]
        assert all(name in message for name in BY_NAME)


async def test_the_models_are_the_scenarios() -> None:
    async with (
        providing() as url,
        aiohttp.ClientSession() as session,
        session.get(url + "/v1/models") as response,
    ):
        models = await response.json()
    assert [model["id"] for model in models["data"]] == list(BY_NAME)


# Both servers, to try


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_serve_prints_what_to_try_and_ends_cleanly(stop: signal.Signals) -> None:
    async with running("proxy", "demo", "--serve", COLUMNS="80") as process:
        out = await printed_until(process, "Ctrl-C")
        proxy, provider = re.findall(r"^the (?:proxy|bare provider) +(http\S+)$", out, re.MULTILINE)
        assert all(name in out for name in BY_NAME)
        assert f"curl -i {proxy}/responses" in out
        statuses = []
        async with aiohttp.ClientSession() as session:
            for base in (provider, proxy):
                asked = {"model": "error-in-200"}
                async with session.post(f"{base}/chat/completions", json=asked) as response:
                    statuses.append(response.status)
        assert statuses == [200, 429]
        process.send_signal(stop)
        _, err = await process.communicate()
        assert process.returncode == 0
        assert b"Traceback" not in err


async def test_serve_ends_while_an_answer_hangs() -> None:
    async with running("proxy", "demo", "--serve") as process, aiohttp.ClientSession() as session:
        out = await printed_until(process, "Ctrl-C")
        provider = re.search(r"bare provider +(\S+)", out)
        assert provider is not None
        hanging = {"model": "hang", "stream": True}
        async with session.post(f"{provider[1]}/responses", json=hanging):
            process.send_signal(signal.SIGINT)
            await process.communicate()
        assert process.returncode == 0


async def test_the_provider_runs_on_its_own() -> None:
    arguments = ("proxy.demo.provider", "--listen", "127.0.0.1:0")
    async with running(*arguments) as process, aiohttp.ClientSession() as session:
        out = await printed_until(process, "ready: ")
        async with session.get(out.split()[-1] + "/v1/models") as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")


@pytest.mark.parametrize("address", ["9000", ":9000", "127.0.0.1:", "127.0.0.1:x"])
async def test_the_provider_says_what_is_wrong_with_its_address(address: str) -> None:
    async with running("proxy.demo.provider", "--listen", address) as process:
        _, err = await process.communicate()
    assert process.returncode == 2
    assert b"HOST:PORT" in err
